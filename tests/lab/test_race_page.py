"""The page of a race: drawn from records alone, the same bytes every time, for every kind of race."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from layerlab.errors import UserError
from layerlab.lab.race import cell_key, summarise
from layerlab.lab.records import RunFolder, create_run, open_run
from layerlab.lab.report import race as drawn
from layerlab.lab.report.page import write
from layerlab.lab.report.race import interval, name_of, number, race_page


def cell(name: str, seed: int, accuracy: float, metric: str = "test_accuracy") -> dict[str, Any]:
    rising = [accuracy * share for share in (0.5, 0.8, 1.0)]
    return {
        "contestant": name,
        "seed": seed,
        "metrics": {metric: accuracy, "validation_accuracy": accuracy},
        "parameters": 1234,
        "step_seconds": 0.0125,
        "seconds": 2.0 + seed,
        "settings": {"model": name, "hidden": 16 if name == "gcn" else 8, "monitor": None},
        "curves": {"validation_accuracy": rising},
    }


def raced(
    path: Path,
    scores: Mapping[str, Sequence[float]],
    metric: str = "test_accuracy",
    *,
    data: str = "club",
    extra: Sequence[dict[str, Any]] = (),
) -> RunFolder:
    """A finished race with made-up scores."""
    run = create_run(path, "race", ["layerlab", "graph", "race", data], {"protocol": "random"})
    cells = {}
    for name, values in scores.items():
        for seed, value in enumerate(values):
            cells[cell_key(name, seed)] = cell(name, seed, value, metric)
    for key, record in cells.items():
        run.write_cell(key, record)
    for record in extra:
        run.write_cell(cell_key(record["contestant"], record["seed"]), record)
    seeds = list(range(len(next(iter(scores.values())))))
    run.finish({"data": data, "protocol": "random", "seeds": seeds, **summarise(cells, metric)})
    return run


def page_of(run: RunFolder) -> str:
    return write(race_page(run), run.path / "report.html").read_text(encoding="utf-8")


def words(page: str) -> str:
    body = re.sub(r"<(style|script)\b.*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


SCORES = {"gcn": (0.81, 0.82, 0.83), "mlp": (0.55, 0.57, 0.59)}


def test_the_page_has_the_numbers_of_the_race(tmp_path: Path) -> None:
    text = words(page_of(raced(tmp_path / "race", SCORES)))
    for expected in (
        "Race on club",
        "Protocol: random",
        "GCN, the best mean 82.0 %",
        "of training 18 s",
        "Test accuracy, per cent, over 3 seeds",
        "GCN 82.00 1.00 79.52 to 84.48 1,234 12.5 9.0",
        "MLP 57.00 2.00 52.03 to 61.97 1,234 12.5 9.0",
        "GCN − MLP +25.00 +22.52 to +27.48 3 of 3",
        "hidden 16 8",
        "layerlab graph race club",
    ):
        assert expected in text, expected


def test_it_is_drawn_again_from_the_records(tmp_path: Path) -> None:
    first = page_of(raced(tmp_path / "race", SCORES))
    assert page_of(open_run(tmp_path / "race")) == first


def test_the_worse_first_gives_negative_differences(tmp_path: Path) -> None:
    text = words(page_of(raced(tmp_path / "race", dict(reversed(SCORES.items())))))
    assert "GCN, the best mean 82.0 %" in text
    assert "MLP − GCN −25.00 −27.48 to −22.52 0 of 3" in text


def test_one_seed_has_no_spread_and_no_differences(tmp_path: Path) -> None:
    page = page_of(raced(tmp_path / "race", {"gcn": (0.8,), "mlp": (0.5,)}))
    text = words(page)
    assert "GCN 80.00 – – 1,234" in text
    assert "Paired differences" not in text
    assert not re.search(r"\bnan\b", page, flags=re.IGNORECASE)


def test_one_contestant_has_nobody_to_differ_from(tmp_path: Path) -> None:
    assert "Paired differences" not in words(page_of(raced(tmp_path / "race", {"gcn": (0.8, 0.7)})))


def test_a_race_without_test_nodes_is_told_as_validation(tmp_path: Path) -> None:
    page = page_of(raced(tmp_path / "race", SCORES, "validation_accuracy"))
    assert "Validation accuracy, per cent, over 3 seeds" in words(page)
    assert "test accuracy" not in page.lower()


def test_records_of_a_wider_race_are_left_out(tmp_path: Path) -> None:
    narrow = page_of(raced(tmp_path / "narrow", SCORES))
    others = [cell("gat", 0, 0.99), cell("gcn", 7, 0.01), {**cell("gcn", 8, 0.5), "settings": None}]
    wide = raced(tmp_path / "wide", SCORES, extra=others)
    assert set(drawn.cells_of(wide, wide.meta["results"])) == {
        f"{n}-000{s}" for n in ("gcn", "mlp") for s in range(3)
    }
    undated = re.compile(r"20\d\d-\d\d-\d\dT[\d:+]+")
    assert undated.sub("", page_of(wide)) == undated.sub("", narrow)


def test_a_name_is_no_markup(tmp_path: Path) -> None:
    page = page_of(raced(tmp_path / "race", SCORES, data="<script>alert(1)</script>"))
    assert "<script>alert" not in page
    assert "<script>alert(1)</script>" in html.unescape(page)


def test_an_unfinished_race_has_no_page(tmp_path: Path) -> None:
    run = create_run(tmp_path / "race", "race", "layerlab graph race club", {"protocol": "random"})
    with pytest.raises(UserError, match="not finished; run its command again"):
        race_page(run)


@pytest.mark.parametrize("field", ["settings", "curves"])
def test_a_damaged_record_is_named(tmp_path: Path, field: str) -> None:
    run = raced(tmp_path / "race", SCORES)
    record = cell("gcn", 1, 0.8)
    del record[field]
    run.write_cell("gcn-0001", record)
    with pytest.raises(UserError, match="'gcn-0001' has no settings or no curves; remove it"):
        race_page(run)


def test_numbers_are_written_with_a_minus_and_sorted_as_numbers() -> None:
    assert (number(-1.234, 1).text, number(-1.234, 1).sort) == ("−1.2", -1.234)
    assert number(1.234, 2, sign=True).text == "+1.23"
    assert number(float("nan"), 1).text == "–"
    assert number(None, 1).text == "–"  # type: ignore[arg-type]
    assert interval(-0.5, 1.25, 1, sign=True).text == "−0.5 to +1.2"
    assert interval(-0.5, 1.25, 1).sort == -0.5
    assert interval(None, 1.0, 1).text == interval(float("nan"), 1.0, 1).text == "–"


def test_a_contestant_is_called_by_its_label_or_in_capitals() -> None:
    assert (name_of("gcn"), name_of("gcn", {"gcn": "Graph"}), name_of("sgc", {"gcn": "Graph"})) == (
        "GCN",
        "Graph",
        "SGC",
    )
