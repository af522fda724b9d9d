"""`layerlab estimator optimise` as a shell sees it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "parity.py"
FUNCTIONS = Path(__file__).parents[1] / "estimators" / "optimise" / "functions_to_optimise.py"
Cli = Callable[..., Any]


def test_the_example_finds_the_optimum_and_says_where_everything_is(cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "run"
    given = ("estimator", "optimise", f"{EXAMPLE}:f", "--bits", "6", "--budget", "2000", "--out", out)
    done = cli(*given, "--report")
    assert done.status == 0, done.err
    assert done.err.splitlines()[0].startswith("runs the code of")
    assert f"every evaluation: {out / 'evaluations.jsonl'}" in done.err
    assert (
        "1 (proved: nothing is left)" in done.out and "every sample that there is was evaluated" in done.out
    )
    page = (out / "report.html").read_text()
    assert "best so far" in page and "Optimisation of parity.py:f (run)" in page
    again = cli(*given)
    assert again.status == 2 and "--resume goes on with it" in again.err
    resumed = cli(*given, "--resume", "--json")
    record = json.loads(resumed.out)
    assert record["best"]["value"] == 1.0 and record["counts"]["called"] == 0
    assert (
        record["estimator"]["why"] and record["environment"]["torch"] and record["settings"]["budget"] == 2000
    )


def test_minimising_categories_and_real_numbers(cli: Cli, tmp_path: Path) -> None:
    given = ("estimator", "optimise", f"{FUNCTIONS}:ones", "--minimise", "--budget", "300", "--json")
    categories = json.loads(cli(*given, "--categories", "5x4", "--out", tmp_path / "a").out)
    assert categories["best"]["sample"] == [0] * 5
    real = json.loads(cli(*given, "--gaussian", "3", "--out", tmp_path / "b").out)
    assert real["best"]["value"] < -10 and len(real["best"]["sample"]) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--bits", "8", "--budget", "0"), "budget of at least 1"),
        (("--bits", "0"), "at least one variable"),
        ((), "exactly one|--bits N"),
        (("--bits", "8", "--timeout", "0"), "time limit above 0"),
        (("--bits", "8", "--estimator", "magic"), "there is no estimator"),
        (("--bits", "8", "--out", f"{EXAMPLE}"), "it is a file"),
        (("--bits", "8", "--resume"), "no such folder"),
    ],
)
def test_wrong_options_are_one_line(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = cli("estimator", "optimise", f"{FUNCTIONS}:ones", *arguments)
    assert done.status == 2 and done.out == ""
    error = done.err.splitlines()[-1]
    assert error.startswith("error: ") and any(part in error for part in message.split("|"))


def test_a_failure_names_the_sample_and_what_is_kept(cli: Cli, tmp_path: Path) -> None:
    given = (
        "estimator",
        "optimise",
        f"{FUNCTIONS}:broken_once",
        "--bits",
        "10",
        "--single",
        "--budget",
        "300",
    )
    done = cli(*given, "--out", tmp_path / "a")
    assert done.status == 2
    assert "f raised ValueError: nine; evaluation" in done.err and "evaluations are kept in" in done.err
    batch = cli(*(word for word in given if word != "--single"), "--out", tmp_path / "c")
    assert batch.status == 2 and "a function of one sample needs --single" in batch.err
    worst = cli(*given, "--out", tmp_path / "b", "--failures", "worst")
    assert worst.status == 0 and "counted as the worst value" in worst.out
    assert worst.err.count("note: an evaluation failed") == 1


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_told_before_anything_is_paid_for(
    cli: Cli, tmp_path: Path
) -> None:
    tmp_path.chmod(0o500)
    done = cli("estimator", "optimise", f"{FUNCTIONS}:ones", "--bits", "8", "--out", tmp_path / "run")
    tmp_path.chmod(0o700)
    assert done.status == 2 and "choose another --out" in done.err
