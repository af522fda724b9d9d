"""When two trainings are the same."""

from __future__ import annotations

from typing import Any

import pytest


def expect_the_same(found: dict[str, Any], alone: dict[str, Any]) -> None:
    """Curves and weights to what float32 sums in another order leave."""
    assert found["best"] == alone["best"]
    for mine, theirs in zip(found["history"], alone["history"], strict=True):
        assert mine == pytest.approx(theirs, rel=1e-5)
    # An Adam step of a gradient near zero turns on its last bits.
    assert found["weights"] == pytest.approx(alone["weights"], rel=1e-3, abs=1e-4)
