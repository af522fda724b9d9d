"""`optimise` with its defaults, and plain REINFORCE: the same machinery without what we add."""

from __future__ import annotations

from typing import Any

import torch

from estimators_bench.functions import Problem
from layerlab.estimators.optimise import optimise
from layerlab.estimators.space import Space

OURS, PLAIN = "layerlab", "plain REINFORCE"
PLAIN_SETTINGS: dict[str, Any] = {
    "estimator": "reinforce",
    "natural": False,
    "fitness": "value",
    "restarts": False,
}
SETTINGS: dict[str, dict[str, Any]] = {OURS: {}, PLAIN: PLAIN_SETTINGS}


def space_of(problem: Problem) -> Space:
    """The space of a problem's arguments."""
    if problem.kind == "bits":
        return Space.parse(bits=problem.size)
    if problem.kind == "categories":
        return Space.parse(categories=f"{problem.size}x{problem.values}")
    return Space.parse(gaussian=problem.size)


def run(problem: Problem, name: str, seed: int) -> list[float]:
    """The best value after each evaluation; called in another process."""
    function = problem.make()
    curve: list[float] = []

    def recorded(x: torch.Tensor) -> torch.Tensor:
        values = function(x)
        for value in values.tolist():
            curve.append(max(value, curve[-1]) if curve else value)
        return values

    found = optimise(recorded, space_of(problem), budget=problem.budget, seed=seed, **SETTINGS[name])
    # Ours are the evaluations that were made, not those that were announced.
    if len(curve) > problem.budget or curve[-1] != found.value:
        raise AssertionError(f"{name} spent {len(curve)} of {problem.budget} evaluations, best {found.value}")
    return curve
