"""The log of evaluations survives kills, and never mixes the values of two functions."""

from __future__ import annotations

from pathlib import Path

import pytest

from layerlab.errors import UserError
from layerlab.estimators.evaluation.log import Entry, EvaluationLog

HEADER = {"function": "a.py:f", "space": (3, 2), "code": "1"}


def logged(path: Path, *entries: Entry) -> None:
    with EvaluationLog(path, HEADER) as log:
        log.append(entries)


def test_what_was_appended_comes_back_in_the_order_of_its_numbers(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    # Workers end in any order.
    logged(
        path,
        Entry(2, '"01"', 0.1 + 0.2, 1.0),
        Entry(1, '"01"', 7.0, 1.0),
        Entry(3, "[1,2]", None, 2.0, 'a "b"'),
    )
    with EvaluationLog(path, HEADER) as log:
        assert log.lines == 3
        assert log.noisy
        first, second, third = log.take('"01"'), log.take('"01"'), log.take('"01"')
        assert first is not None and second is not None and third is None
        assert (first.value, second.value) == (7.0, 0.1 + 0.2)
        assert log.take("[1,2]") == Entry(3, "[1,2]", None, 2.0, 'a "b"')


def test_appending_goes_on_where_it_ended(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    logged(path, Entry(1, '"01"', 1.0, 1.0))
    logged(path, Entry(2, '"11"', 2.0, 1.0))
    assert len(path.read_text().splitlines()) == 3
    with EvaluationLog(path, HEADER) as log:
        assert log.lines == 2


@pytest.mark.parametrize("torn", [1, 20])
def test_a_torn_last_line_is_taken_off_and_the_rest_kept(tmp_path: Path, torn: int) -> None:
    path = tmp_path / "log.jsonl"
    logged(path, Entry(1, '"01"', 1.0, 1.0), Entry(2, '"11"', 2.0, 1.0))
    path.write_bytes(path.read_bytes()[:-torn])
    with EvaluationLog(path, HEADER) as log:
        assert log.torn and log.lines == 1
        log.append([Entry(2, '"11"', 2.0, 1.0)])
    with EvaluationLog(path, HEADER) as log:
        assert not log.torn and log.lines == 2


def test_a_log_that_was_killed_in_its_first_line_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"format": "layer')
    logged(path, Entry(1, '"01"', 1.0, 1.0))
    with EvaluationLog(path, HEADER) as log:
        assert log.lines == 1


@pytest.mark.parametrize(
    "line",
    [
        "nonsense",
        '{"n": 1, "sample": [36893488147419103232], "value": 1.0, "seconds": 1}',
        "[1]",
        '{"n": 1, "sample": "01", "value": null, "seconds": 1}',
        '{"n": 1, "value": 2}',
    ],
)
def test_a_damaged_line_in_the_middle_is_refused_with_its_number(tmp_path: Path, line: str) -> None:
    path = tmp_path / "log.jsonl"
    logged(path, Entry(1, '"01"', 1.0, 1.0))
    path.write_text(path.read_text() + line + "\n" + Entry(2, '"11"', 1.0, 1.0).line() + "\n")
    with pytest.raises(UserError, match=r"log\.jsonl:3: .*remove"):
        EvaluationLog(path, HEADER)


def test_the_log_of_another_function_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    logged(path, Entry(1, '"01"', 1.0, 1.0))
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"another function: 'a\.py:f', not 'b\.py:f'"):
        EvaluationLog(path, HEADER | {"function": "b.py:f"})
    assert path.read_bytes() == before


def test_a_file_that_is_no_log_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"x": 1}\n')
    with pytest.raises(UserError, match="expected a log of evaluations"):
        EvaluationLog(path, HEADER)
    assert path.read_text() == '{"x": 1}\n'


def test_two_runs_cannot_write_one_log(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with EvaluationLog(path, HEADER), pytest.raises(UserError, match="another run"):
        EvaluationLog(path, HEADER)
    logged(path)


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be written"):
        EvaluationLog(tmp_path / "missing" / "log.jsonl", HEADER)
