"""Settings of training: what is refused, sizes, and the learning rate over time."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from layerlab.errors import UserError
from layerlab.segmentation.settings import LONGEST, Settings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("widths", ()),
        ("widths", (8, 0)),
        ("widths", (10**9,)),
        ("widths", (2,) * 11),
        ("widths", 8),
        ("widths", ("8",)),
        ("skips", 3),
        ("skips", (1, 2)),
        ("dropout", 1.0),
        ("dropout", float("nan")),
        ("size", 0),
        ("size", 64.0),
        ("resize", 1),
        ("batch", 0),
        ("batch", True),
        ("epochs", 0),
        ("learning_rate", 0.0),
        ("learning_rate", float("inf")),
        ("weight_decay", -1.0),
        ("dice_share", 1.5),
        ("weights", "heavy"),
        ("weights", ()),
        ("weights", (0.0, 0.0)),
        ("weights", (1.0, -1.0)),
        ("weights", (1.0, float("nan"))),
        ("augment", "some"),
        ("patience", 0),
        ("threads", 0),
    ],
)
def test_wrong_values_are_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"setting {name}: expected"):
        Settings(**{name: value})


def test_settings_survive_json() -> None:
    settings = Settings(skips=("off", "add", "gate"), weights=(1.0, 2.0), patience=None)
    lists = {
        name: list(value) if isinstance(value, tuple) else value for name, value in asdict(settings).items()
    }
    assert Settings(**lists) == settings
    assert hash(Settings(**lists)) == hash(settings)


def test_working_sizes() -> None:
    settings = Settings(size=32)
    assert settings.working_size(640, 480) == (43, 32)
    assert settings.working_size(1, 1) == (32, 32)
    assert settings.working_size(10_000, 10) == (LONGEST * 32, 1)
    assert Settings(size=32, resize=False).working_size(640, 480) == (640, 480)


def test_the_rate_rises_once_and_falls_once() -> None:
    settings = Settings(learning_rate=0.1)
    rates = [settings.rate(step / 1000) for step in range(1001)]
    top = rates.index(max(rates))
    assert top == 50
    assert max(rates) == pytest.approx(0.1)
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert min(rates) > 0
