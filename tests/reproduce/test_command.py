"""The command: how much it asks for, what it refuses, and the bar with the time left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from layerlab.cli import progress
from layerlab.reproduce import CHAPTERS, DEFAULT, FULL, QUICK, Amount, Step


@pytest.mark.parametrize(
    ("arguments", "amount"),
    [
        ((), DEFAULT),
        (("--quick",), QUICK),
        (("--full",), FULL),
        (("--seeds", 5), replace(DEFAULT, seeds=5, trainings=5)),
        (("--quick", "--seeds", 7), replace(QUICK, seeds=7, papers=None, trainings=7)),
    ],
)
def test_how_much(
    cli: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[Any, ...],
    amount: Amount,
) -> None:
    asked: list[dict[str, Any]] = []

    def recorded(out: Path, **options: Any) -> Any:
        asked.append({"out": out, **options})
        return out / "report.html", {"findings": [], "parts": [], "hold": 0, "refuted": 0, "of": 0}

    monkeypatch.setattr("layerlab.reproduce.reproduce", recorded)
    assert cli("reproduce", "--out", tmp_path, *arguments).status == 0
    (options,) = asked
    assert (options["amount"], options["out"], options["only"]) == (amount, tmp_path, ())


def test_bad_arguments_are_one_line(cli: Callable[..., Any], tmp_path: Path) -> None:
    shown = cli("reproduce", "--out", tmp_path / "out", "--only", "vision")
    assert (shown.status, shown.out) == (2, "")
    assert shown.err == f"error: unknown chapter 'vision'; expected one of {', '.join(CHAPTERS)}\n"
    assert cli("reproduce", "--seeds", 1).status == 2
    both = cli("reproduce", "--quick", "--full", "--out", tmp_path / "out")
    assert (both.status, both.out) == (2, "") and "exclude each other" in both.err
    assert "Example: layerlab reproduce" in cli("reproduce", "--help").out


def test_the_bar_is_told_every_cell() -> None:
    steps = [Step("claims", {"a": 1.0, "b": 3.0}, 1), Step("race", {"gcn": 2.0}, 2)]
    assert [step.total for step in steps] == [4.0, 4.0]
    with progress.plan(steps, 2) as report:
        for title, name in (("claims", "a"), ("claims", "b"), ("race", "gcn"), ("race", "gcn")):
            report(title, {"contestant": name})


@pytest.mark.parametrize(
    ("done", "elapsed", "left"),
    [
        # Twice as slow as thought: at first hardly believed, then more and more.
        (0, 0.0, "5 min left"),
        (10, 10.0, "7 min left"),
        (300, 300.0, "5 min left"),
        (590, 300.0, "5 s left"),
        (600, 300.0, "0 s left"),
    ],
)
def test_the_time_left_learns_from_the_machine(done: float, elapsed: float, left: str) -> None:
    assert progress.time_left(600, done, elapsed, 2) == left
