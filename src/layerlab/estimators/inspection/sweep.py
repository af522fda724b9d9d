"""Variance against mu for the record: exact from the table, or measured at a few mu."""

from __future__ import annotations

import math
from typing import Any

from layerlab.estimators.calls import Calls, Table
from layerlab.estimators.curves import against_mu, signal_to_noise
from layerlab.estimators.enumeration import Progress
from layerlab.estimators.estimation import with_options
from layerlab.estimators.space import Space
from layerlab.estimators.trials import run

_EXACT = ("reinforce", "mean", "optimal", "leave-one-out", "disarm")
_MEASURED = ("reinforce", "optimal", "leave-one-out", "disarm")
_GRID = (0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95)
_SHARE = 4  # of the repetitions, at each mu

# The limits of two baselines, as their rows are called.
_LABELS = {"mean": "mean, known", "optimal": "optimal, known"}


def sweep(
    space: Space, f: Calls | Table, samples: int, repetitions: int, seed: int, progress: Progress | None
) -> dict[str, Any] | None:
    """Curves with all bits at the same mu; None where nothing can be compared.

    Returns:
        "how", "mu", "gradient" (length, by mu), "estimators": name, "variance", "low", "high", "signal_to_noise".
    """
    if isinstance(f, Table):
        found = against_mu(space, f.held, samples, names=_EXACT, progress=progress)
        return {
            "how": "exact",
            "mu": list(found.mu),
            "gradient": list(found.gradient),
            "estimators": [
                {
                    "name": _LABELS.get(name, name),
                    "variance": list(curve),
                    "low": None,
                    "high": None,
                    "signal_to_noise": list(found.signal_to_noise(name)),
                }
                for name, curve in found.variance.items()
            ],
        }
    names = _MEASURED if samples >= 2 else ("reinforce",)
    estimators = [with_options(name) for name in names]
    rows: dict[str, list[tuple[float, float, float]]] = {name: [] for name in names}
    lengths = []
    for position, mu in enumerate(_GRID, 1):
        family = space.family(space.at_probability(mu))
        count = max(8, repetitions // _SHARE)
        trials = run(estimators, f, family, samples, count, seed + position)
        for name, one in zip(names, trials, strict=True):
            rows[name].append((one.variance.mean, max(0.0, one.variance.low), one.variance.high))
        quietest = min(trials, key=lambda one: one.variance.mean)
        squared = quietest.estimates.mean(0).square().sum() - quietest.variance.mean / count
        lengths.append(math.sqrt(max(0.0, float(squared))))
        if progress is not None:
            progress(position / len(_GRID), f"variance at mu = {mu:g}")
    return {
        "how": "measured",
        "mu": list(_GRID),
        "gradient": lengths,
        "estimators": [
            {
                "name": name,
                "variance": [middle for middle, _, _ in found],
                "low": [low for _, low, _ in found],
                "high": [high for _, _, high in found],
                "signal_to_noise": [
                    signal_to_noise(length, middle)
                    for length, (middle, _, _) in zip(lengths, found, strict=True)
                ],
            }
            for name, found in rows.items()
        ],
    }
