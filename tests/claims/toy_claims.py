"""A claim to try the mechanism on, and what makes outcomes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from layerlab.claims import (
    Claim,
    Falsifier,
    Measurement,
    Outcome,
    Slack,
    exact,
)

SLACK = Slack(0.125, "for the test", scale=1.0)


def outcome(relation: Any, measured: float, bound: float, slack: Slack = SLACK) -> Outcome:
    return Outcome(relation, Measurement(measured, bound, slack), seed=0)


def measure(
    subject: float, generator: np.random.Generator, *, double: Callable[[float], float] = lambda x: 2 * x
) -> Measurement:
    """2x <= 2 for x <= 1, plus a draw that has nothing to do with it."""
    if subject < 0:
        return Measurement.unmet_because("x is negative")
    return Measurement(double(subject), 2.0, exact(f"drew {generator.random()}"))


def claim(**changes: Any) -> Claim:
    fields: dict[str, Any] = {
        "id": "test.twice",
        "title": "Twice",
        "source": "nowhere",
        "statement": "2x ≤ 2",
        "hypotheses": ("x ≥ 0",),
        "relation": "<=",
        "measure": measure,
        "subjects": {"half": lambda: 0.5, "one": lambda: 1.0},
        "falsifiers": {
            "triple": Falsifier("3x for 2x", lambda: 1.0, replaces={"double": lambda x: 3 * x}),
            "negative": Falsifier("x < 0", lambda: -1.0, expected="hypotheses unmet"),
        },
    }
    return Claim(**{**fields, **changes})
