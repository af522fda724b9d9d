"""`layerlab estimator policy` as a shell sees it."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from layerlab.cli import progress

CHOICE = f"{Path(__file__).parents[1] / 'estimators' / 'policy' / 'given_environments.py'}:Choice"
Cli = Callable[..., Any]
SMALL = ("--steps", 160, "--batch", 8, "--hidden", 8, "--episodes", 10, "--jobs", 1)


def test_a_policy_is_trained_told_and_not_trained_twice(cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "run"
    asked = ("estimator", "policy", CHOICE, *SMALL, "--seeds", 2, "--first-seed", 5, "--out", out)
    done = cli(*asked, "--baseline", "mean,value", "--target", 3, "--report")
    assert done.status == 0, done.err
    assert "runs the code of" in done.err and f"report: {out / 'report.html'}" in done.err
    assert "10 fresh episodes (sampled actions), 2 seeds, solved at 3" in done.out
    assert "mean - value" in done.out and "on the same batches" in done.out
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "Variance of the gradient against steps" in page and "Returns against steps" in page
    again = cli(*asked, "--baseline", "mean,value", "--target", 3, "--json")
    found = json.loads(again.out)
    assert list(found["evaluation"]) == ["mean-0005", "mean-0006", "value-0005", "value-0006"]
    assert found["report"] is None and found["contestants"]["value"]["n"] == 2
    assert found["relative_variance"]["value"]["none"] == 1
    other = cli(*asked, "--deterministic")
    assert other.status == 2 and "another run" in other.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["Cartpole-v1"], "did you mean CartPole-v1"),
        (["CartPole-v1", "--baseline", "mean,best"], "unknown baseline 'best'"),
        (["CartPole-v1", "--baseline", "mean,mean"], "each baseline once"),
        (["CartPole-v1", "--hidden", "wide"], "such as 64,64, got 'wide'"),
        (["CartPole-v1", "--option", "gravity"], "as NAME=VALUE, got 'gravity'"),
        (["CartPole-v1", "--option", "gravity=1"], "unexpected keyword argument 'gravity'"),
        (["CartPole-v1", "--vectorisation", "gpu"], "unknown vectorisation 'gpu'"),
        (["FrozenLake-v1", "--vectorisation", "vector"], "no vectorised form of its own"),
        (["CartPole-v1", "--gae", "0.9", "--baseline", "none"], "need the baseline 'value'"),
    ],
)
def test_wrong_questions(cli: Cli, tmp_path: Path, arguments: list[str], words: str) -> None:
    done = cli("estimator", "policy", *arguments, "--out", tmp_path / "run")
    assert done.status == 2 and words in done.err and not (tmp_path / "run").exists()


def test_the_bar_reads_what_other_processes_leave_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    looked: list[str] = []

    def look(key: str) -> tuple[float, str]:
        looked.append(key)
        return 0.5, f"{key} at half"

    with progress.parts("training", ["a", "b"], look) as done:
        done("a")
        deadline = time.monotonic() + 20
        while "b at half" not in screen.getvalue() and time.monotonic() < deadline:
            time.sleep(0.05)
    assert set(looked) == {"b"} and "75%" in screen.getvalue()
