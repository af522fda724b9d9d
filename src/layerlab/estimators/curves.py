"""Variance and signal-to-noise against the probability mu of a 1, from values of f that are already there.

All bits get the same mu. Another mu weighs the same outcomes differently, so f is not called again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from layerlab.errors import UserError
from layerlab.estimators.enumeration import Moments, Progress
from layerlab.estimators.space import Space
from layerlab.estimators.variance import Exact, antithetic, best_baseline, leave_one_out, with_baseline

NAMES = ("reinforce", "mean", "optimal", "leave-one-out", "arm", "disarm")
"""What `against_mu` knows; "mean" and "optimal" with the baseline known, as the limit of estimating it."""


@dataclass(frozen=True)
class Curves:
    """Exact curves over mu.

    Attributes:
        mu: probabilities of a 1.
        samples: evaluations an estimate.
        gradient: length of the gradient of E f at each mu.
        variance: trace of the variance at each mu, by estimator.
    """

    mu: tuple[float, ...]
    samples: int
    gradient: tuple[float, ...]
    variance: dict[str, tuple[float, ...]]

    def signal_to_noise(self, name: str) -> tuple[float, ...]:
        """``|gradient| / sqrt(trace of the variance)`` of one estimator; infinite without variance, NaN for 0 / 0."""
        return tuple(signal_to_noise(g, v) for g, v in zip(self.gradient, self.variance[name], strict=True))


def signal_to_noise(gradient: float, variance: float) -> float:
    """``gradient / sqrt(variance)``; infinite without variance, NaN for 0 / 0.

    >>> signal_to_noise(1.0, 4.0), signal_to_noise(1.0, 0.0)
    (0.5, inf)
    """
    if variance == 0:
        return math.nan if gradient == 0 else math.inf
    return gradient / math.sqrt(variance)


def exact_variances(
    values: Tensor, moments: Moments, samples: int, names: Sequence[str] = NAMES
) -> dict[str, Exact]:
    """Exact means and variances by name; "arm" and "disarm" for bits only.

    Args:
        values: of every outcome, see `layerlab.estimators.enumeration.tabulate`.
        moments: made of them.
        samples: evaluations an estimate; leave-one-out and the pairs need 2 and are left out below.
        names: of `NAMES`.

    Raises:
        UserError: an unknown name.

    >>> space = Space.parse(bits=1)
    >>> values = torch.tensor([0.0, 1.0], dtype=torch.float64)
    >>> found = exact_variances(values, Moments.of(space, values, space.default()), 2)
    >>> {name: exact.trace for name, exact in found.items()}["leave-one-out"]
    0.0625
    """
    if unknown := [name for name in names if name not in NAMES]:
        raise UserError(f"there is no exact variance of {unknown[0]!r}; there are {', '.join(NAMES)}")
    ways: dict[str, Callable[[], Exact]] = {
        "reinforce": lambda: with_baseline(moments, 0.0, samples),
        "mean": lambda: with_baseline(moments, moments.mean, samples),
        "optimal": lambda: with_baseline(moments, best_baseline(moments), samples),
    }
    if samples >= 2:
        ways["leave-one-out"] = lambda: leave_one_out(moments, samples)
        if moments.space.kind == "bits":
            ways["arm"] = lambda: antithetic(values, moments, samples, "arm")
            ways["disarm"] = lambda: antithetic(values, moments, samples, "disarm")
    return {name: ways[name]() for name in names if name in ways}


def against_mu(
    space: Space,
    values: Tensor,
    samples: int,
    mu: Sequence[float] | None = None,
    names: Sequence[str] = NAMES,
    progress: Progress | None = None,
) -> Curves:
    """The exact variance of estimators with all bits at the same mu, for many mu.

    Args:
        space: of bits.
        values: of every outcome, see `layerlab.estimators.enumeration.tabulate`.
        samples: evaluations an estimate.
        mu: probabilities strictly between 0 and 1; 49 from 0.02 to 0.98 by default, 25 beyond 16 bits.
        names: of `NAMES`.
        progress: told after every mu.

    Raises:
        UserError: no bits, a mu of 0 or 1, or an unknown name.

    >>> toy = torch.tensor([0.0, 1.0], dtype=torch.float64)
    >>> curves = against_mu(Space.parse(bits=1), toy, 1, [0.25, 0.75], ["reinforce", "mean"])
    >>> [round(value, 4) for value in curves.variance["reinforce"]]  # mu (1 - mu)^3
    [0.1055, 0.0117]
    """
    if space.kind != "bits":
        raise UserError(f"a curve against mu is one of bits, not of {space.describe()}")
    grid = default_grid(space) if mu is None else tuple(mu)
    gradient: list[float] = []
    variance: dict[str, list[float]] = {}
    for position, chance in enumerate(grid, 1):
        moments = Moments.of(space, values, space.at_probability(chance))
        gradient.append(float(moments.gradient().norm()))
        for name, exact in exact_variances(values, moments, samples, names).items():
            variance.setdefault(name, []).append(exact.trace)
        if progress is not None:
            progress(position / len(grid), f"variance at mu = {chance:.2f}")
    return Curves(grid, samples, tuple(gradient), {name: tuple(found) for name, found in variance.items()})


def default_grid(space: Space) -> tuple[float, ...]:
    """Probabilities from 0.02 to 0.98 with 1/2 in the middle."""
    count = 49 if space.size <= 16 else 25
    return tuple(round(x, 6) for x in torch.linspace(0.02, 0.98, count, dtype=torch.float64).tolist())
