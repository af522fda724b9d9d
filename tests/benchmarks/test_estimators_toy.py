"""The picture of the variance on the course's toy: the one in the documentation is the one that is drawn."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_the_picture_in_the_documentation_is_the_one_that_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    toy = importlib.import_module("estimators_toy")
    drawn = toy.picture()
    # Words and ticks; the last digits of a line may depend on the machine.
    kept = toy.FIGURE.read_text(encoding="utf-8")
    assert re.findall(r">([^<]+)<", kept) == re.findall(r">([^<]+)<", drawn)
    assert kept.count("<path") == drawn.count("<path") >= 4
    for words in ("none", "mean, known", "optimal, known: 0", "leave-one-out", "μ = 2/3"):
        assert words in drawn
