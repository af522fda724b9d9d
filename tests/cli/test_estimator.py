"""`layerlab estimator inspect` as a shell sees it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PARITY = Path(__file__).parents[2] / "examples" / "parity.py"
GIVEN = Path(__file__).parent / "given_functions.py"
RAISING = 2 + GIVEN.read_text().splitlines().index("def raising(x: torch.Tensor) -> torch.Tensor:")
Cli = Callable[..., Any]


def inspect(cli: Cli, *arguments: Any) -> Any:
    return cli("estimator", "inspect", *arguments, "--repetitions", 50)


def record(cli: Cli, *arguments: Any) -> dict[str, Any]:
    done = inspect(cli, *arguments, "--json")
    assert done.status == 0, done.err
    return json.loads(done.out)


def test_the_example_in_the_terminal(cli: Cli) -> None:
    done = inspect(cli, f"{PARITY}:f", "--bits", 6, "--probability", 0.8)
    assert done.status == 0
    assert done.err.splitlines() == [
        f"runs the code of {PARITY} and calls its f(); no other code than this is executed"
    ]
    assert "6 bits, each 1 with probability 0.8; variance at 64 evaluations an estimate" in done.out
    assert done.out.count("▸") == 1 and "leave-one-out, normalised, BIASED" in done.out
    assert "64 outcomes, each evaluated once" in done.out
    assert "left out: constant (it needs a baseline: give one with --baseline)" in done.out
    last = done.out.strip().splitlines()[-1]
    assert last.startswith("take ") and last.endswith("times that of reinforce.")


def test_the_documents_toy_says_what_the_mean_is_worth(cli: Cli) -> None:
    out = inspect(cli, f"{PARITY}:toy", "--bits", 1, "--probability", 0.8).out
    assert "worse than none here, even when it is known: 9 times the variance of reinforce" in out
    assert "best constant baseline here is 0.2, where the mean of f is 0.8" in out
    assert "closed\u00a0form" in out


@pytest.mark.parametrize("columns", [60, 80, 110])
def test_narrow_terminals_keep_what_matters(cli: Cli, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    out = inspect(cli, f"{PARITY}:trap", "--bits", 4).out
    assert "relative" in out and "bias" in out and ("own time" in out) is False
    assert all(len(line) <= columns for line in out.splitlines())
    header = next(line for line in out.splitlines() if line.startswith("┃ estimator"))
    assert ("variance" in header) is (columns >= 80)


def test_json_report_and_the_same_again(cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "look"
    found = record(cli, f"{PARITY}:onemax", "--bits", 5, "--report", "--out", out)
    assert found["report"] == str(out / "report.html") and found["recommendation"]["name"]
    assert found["space"] == {"kind": "bits", "option": "--bits 5", "words": "5 bits", "outcomes": 32}
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count("<figure") == 3 and "Bias and cost" in page and "leave-one-out" in page
    held = json.loads((out / "run.json").read_text())
    assert held["results"]["recommendation"] == found["recommendation"]
    other = inspect(cli, f"{PARITY}:onemax", "--bits", 5, "--seed", 1, "--out", out)
    assert other.status == 2 and "seed is 0 there and 1 here" in other.err


@pytest.mark.parametrize(
    ("arguments", "figures", "words"),
    [
        (["noisy", "--bits", 4], 3, "f is not deterministic"),
        (["matches", "--categories", "2x3"], 1, "2 variables of 3 values"),
        (["bowl", "--gaussian", 2], 1, "means only"),
        (["onemax", "--bits", 4, "--sample-parameters", 3], 3, "3 random parameters"),
        (["onemax", "--bits", 4, "--samples", 1], 3, "at 1 evaluation an estimate"),
        (["onemax", "--bits", 30, "--no-curve"], 1, "30 bits"),
    ],
)
def test_pages(cli: Cli, tmp_path: Path, arguments: list[Any], figures: int, words: str) -> None:
    done = inspect(cli, f"{GIVEN}:{arguments[0]}", *arguments[1:], "--out", tmp_path / "look")
    assert done.status == 0, done.err
    page = (tmp_path / "look" / "report.html").read_text(encoding="utf-8")
    assert page.count("<figure") == figures and words in page
    assert words in done.out


def test_what_the_function_prints_does_not_spoil_the_json(cli: Cli) -> None:
    done = inspect(cli, f"{GIVEN}:talkative", "--bits", 3, "--json")
    assert json.loads(done.out)["space"]["words"] == "3 bits" and "looking at 8" in done.err


def test_a_function_of_one_sample(cli: Cli) -> None:
    found = record(cli, f"{GIVEN}:one", "--bits", 3, "--single")
    assert found["f"]["mean"] == pytest.approx(2.5)
    refused = inspect(cli, f"{GIVEN}:one", "--bits", 3)
    assert refused.status == 2 and "--single" in refused.err


def test_parameters_from_a_file(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "held.json"
    path.write_text('{"probabilities": [0.1, 0.2, 0.3]}')
    found = record(cli, f"{GIVEN}:onemax", "--bits", 3, "--parameters", path)
    assert found["f"]["mean"] == pytest.approx(0.6) and found["mu"] is None
    assert found["where"] == "parameters as given"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["onemax"], "expected one of --bits N"),
        (["onemax", "--bits", 3, "--gaussian", 2], "got 2 of them"),
        (["onemax", "--bits", 0], "at least one variable, got 0"),
        (["onemax", "--categories", "4"], "DIMSxK, such as 4x8"),
        (["onemax", "--bits", 3, "--probability", 0], "strictly between 0 and 1"),
        (["onemax", "--bits", 3, "--probability", 1], "strictly between 0 and 1"),
        (["onemax", "--gaussian", 3, "--probability", 0.5], "give --parameters FILE"),
        (["onemax", "--bits", 3, "--parameters", "none.json"], "none.json: there is no such file"),
        (["onemax", "--bits", 3, "--probability", 0.5, "--sample-parameters", 2], "--sample-parameters"),
        (["onemax", "--bits", 3, "--estimators", "arms"], "there is no estimator 'arms'; there are"),
        (["nan", "--bits", 3], "f returned nan for sample"),
        (["column", "--bits", 3], "add .squeeze(-1)"),
        (["raising", "--bits", 3], f"{GIVEN}:{RAISING}: f raised RuntimeError: no such luck"),
        (["silent", "--bits", 3], "f returned None"),
        (["not_a_function", "--bits", 3], "is of type int; expected a function"),
        (["missing", "--bits", 3], "has no 'missing'"),
    ],
)
def test_bad_input_is_told_in_one_line(cli: Cli, tmp_path: Path, arguments: list[Any], words: str) -> None:
    out = tmp_path / "look"
    done = inspect(cli, f"{GIVEN}:{arguments[0]}", *arguments[1:], "--out", out)
    assert done.status == 2 and done.out == ""
    assert done.err.strip().splitlines()[-1].startswith("error: ") and words in done.err
    assert not out.exists()  # Nothing half-written is left.


def test_no_such_file(cli: Cli) -> None:
    done = inspect(cli, "nowhere.py:f", "--bits", 3)
    assert done.status == 2 and "nowhere.py: no such file" in done.err


def test_processes_give_the_same_figures_and_a_hanging_one_is_ended(cli: Cli) -> None:
    here, there = (record(cli, f"{GIVEN}:talkative", "--bits", 4, "--workers", workers) for workers in (0, 2))
    for found in (here, there):
        for entry in found["estimators"]:
            del entry["overhead_seconds"]
    assert here["estimators"] == there["estimators"]
    hung = inspect(cli, f"{GIVEN}:hanging", "--bits", 4, "--timeout", 0.5)
    assert hung.status == 2 and "took longer than 1 s (--timeout, of 0.5 s for each of 2 samples)" in hung.err
    assert "one of 2 samples, the first of them [0, 0" in hung.err
    refused = inspect(cli, f"{GIVEN}:onemax", "--bits", 4, "--timeout", 0)
    assert refused.status == 2 and "time limit above 0 s" in refused.err


def test_one_sample_where_leave_one_out_needs_two_is_refused(cli: Cli) -> None:
    refused = inspect(cli, f"{GIVEN}:onemax", "--bits", 4, "--samples", 1, "--estimators", "leave-one-out")
    assert refused.status == 2 and refused.out == ""
    assert "leave-one-out: it needs at least 2 evaluations an estimate" in refused.err.splitlines()[-1]
    partly = inspect(cli, f"{GIVEN}:onemax", "--bits", 4, "--samples", 1, "--estimators", "reinforce,arm")
    assert partly.status == 0 and "left out: arm" in partly.out


def test_a_gradient_of_rounding_is_written_as_0(cli: Cli) -> None:
    out = inspect(cli, f"{GIVEN}:unlike", "--categories", "4x6").out
    assert "the gradient is 0 at these parameters" in out and "gradient: length 0 (exact)" in out
