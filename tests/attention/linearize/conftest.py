"""What the tests of linearization share: a clock that says what they want, and short fits."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from layerlab.attention.linearize import linearization
from layerlab.attention.linearize.candidates import Clock, Speed
from layerlab.attention.linearize.linearization import Linearization, Settings, linearize
from layerlab.lab.models.subject import load_subject

GIVEN = Path(__file__).parent / "given.py"


@pytest.fixture
def faster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linear attention pays at every length; maps are fitted in a moment."""
    monkeypatch.setattr(Clock, "speed", lambda self, name, call: Speed(name, 2.0, 4, 64))
    monkeypatch.setattr(linearization, "load_a_core", lambda: None)
    fit = functools.partial(linearization.fit_hedgehog, steps=60)
    monkeypatch.setattr(linearization, "fit_hedgehog", fit)


@pytest.fixture
def made() -> Callable[..., Linearization]:
    """``made("model", max_error=0.1)`` is the linearization of a model of given.py."""

    def run(factory: str = "model", **settings: Any) -> Linearization:
        asked = Settings(**settings)
        return linearize(load_subject(f"{GIVEN}:{factory}", asked.request()), asked)

    return run
