"""The bars: what they say where a person is looking, and nothing elsewhere."""

from __future__ import annotations

import io
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from layerlab.cli import progress
from layerlab.reproduce import Step


class Terminal(io.StringIO):
    """What a person looks at."""

    def isatty(self) -> bool:
        return True


def _epochs() -> None:
    with progress.epochs("gcn") as report:
        report(3, 7, {"loss": 0.5, "validation_accuracy": 0.25, "test_accuracy": 1.0})


def _share() -> None:
    with progress.share("reading [b]") as report:
        report(0.25, "3 of 12")


def _race() -> None:
    with progress.race("cora", ["gcn", "gat"], 4) as report:
        for accuracy in (0.5, 0.75):
            report({"contestant": "gat", "metrics": {"validation_accuracy": accuracy}})


def _plan() -> None:
    with progress.plan([Step("claims", {"x": 30.0, "y": 10.0}, 1)], 1) as report:
        report("claims", {"contestant": "x"})


def _parts() -> None:
    with progress.parts("digits", ["a", "b"], lambda key: (0.5, f"{key}: half")) as done:
        done("a")
        time.sleep(1.2)


def _each() -> None:
    assert list(progress.each([1, 2], lambda piece: f"piece {piece}")) == [1, 2]


BARS = [
    (_epochs, ["gcn", "3/7", "loss 0.500  validation accuracy 0.250"]),
    (_share, ["reading [b]", "25%", "3 of 12"]),
    (_race, ["cora: gcn", "0/4", "cora: gat", "2/4", "mean accuracy 62.5 %"]),
    (_plan, ["claims 1/2", "75%", "left", "x"]),
    (_parts, ["digits", "75%", "b: half"]),
    (_each, ["piece 2", "2/2"]),
]


@contextmanager
def looking(patch: pytest.MonkeyPatch, stream: io.StringIO) -> Iterator[None]:
    with patch.context() as inside:
        inside.setattr(sys, "stderr", stream)
        inside.setenv("TERM", "xterm")
        inside.setenv("COLUMNS", "160")
        yield


@pytest.mark.parametrize(("show", "words"), BARS)
def test_a_bar_says_how_far_it_is(show: Any, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    with looking(monkeypatch, stream):
        show()
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    assert [word for word in words if word not in shown] == []


@pytest.mark.parametrize("show", [_epochs, _share, _race, _plan, _each])
def test_nobody_is_looking(
    show: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stream = io.StringIO()
    with looking(monkeypatch, stream):
        show()
    assert stream.getvalue() == ""
    assert capsys.readouterr().out == ""
