"""How far a measurement may lie beyond its bound, and why: never by guess."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

_EPSILON = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}


class DefectiveClaimError(RuntimeError):
    """A claim that could not fail, or is malformed: a mistake of its author, never of a user."""


@dataclass(frozen=True)
class Slack:
    """How far a measurement may lie beyond its bound, and why.

    Args:
        value: finite and not negative, in the unit of the measured value.
        reason: where it comes from; a slack without a reason is refused.
        scale: the size of the numbers that were compared. Needed where the bound is 0 (a deviation), since
            only it can tell whether the slack is so wide that everything would pass.

    Raises:
        DefectiveClaimError: the value is negative or not finite, or the reason is empty.

    >>> Slack(0.5, " ")
    Traceback (most recent call last):
    layerlab.claims.slack.DefectiveClaimError: a slack of 0.5 needs a reason
    """

    value: float
    reason: str
    scale: float | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.value) and self.value >= 0):
            raise DefectiveClaimError(f"a slack is finite and not negative, got {self.value}")
        if not self.reason.strip():
            raise DefectiveClaimError(f"a slack of {self.value} needs a reason")
        if self.scale is not None and not (math.isfinite(self.scale) and self.scale >= 0):
            raise DefectiveClaimError(f"the scale of a slack is finite and not negative, got {self.scale}")


def exact(reason: str) -> Slack:
    """No slack: integers or truth values are compared, and nothing is rounded.

    >>> exact("counts of components").value
    0.0
    """
    return Slack(0.0, f"exact: {reason}")


def rounding(dtype: Any, size: int, scale: float, *, condition: float = 1.0) -> Slack:
    """Slack for rounding: epsilon(dtype) · size · condition · scale.

    A sum or dot product of ``size`` terms is off by at most size · u / (1 − size · u) times the sum of the
    absolute terms, u = epsilon / 2, whatever the order of summation (Higham, Accuracy and Stability of
    Numerical Algorithms, 2nd ed., section 3.1); epsilon · size is above that as long as it is at most 1. A
    symmetric eigenvalue solver of that size is off by a modest multiple of epsilon · norm.

    Args:
        dtype: torch or numpy dtype, or its name: float64, float32, float16, bfloat16.
        size: the longest chain of roundings on which the result depends (terms of a sum, rows of a matrix).
        scale: the size of the numbers compared (of a norm, of a sum of absolute terms).
        condition: by how much the computation after it amplifies an error in its input.

    Raises:
        DefectiveClaimError: an unknown dtype, a size or a condition below 1, or a product of epsilon, size
            and condition of 1 or more, of which nothing can be concluded.

    >>> rounding("float64", size=100, scale=2.0).value == 2.0**-52 * 100 * 2.0
    True
    """
    name = str(getattr(dtype, "__name__", dtype)).removeprefix("torch.")
    if name not in _EPSILON:
        raise DefectiveClaimError(f"rounding is known for {', '.join(_EPSILON)}, not for {name}")
    if size < 1 or not condition >= 1:
        raise DefectiveClaimError(f"size and condition are at least 1, got {size} and {condition}")
    relative = _EPSILON[name] * size * condition
    if not relative < 1:
        raise DefectiveClaimError(f"{name} says nothing at size {size}, condition {condition:.3g}: widen it")
    amplified = f", amplified by {condition:.3g}" if condition > 1 else ""
    reason = f"rounding of {name}: {size} operations on numbers of size {scale:.3g}{amplified}"
    return Slack(relative * scale, reason, scale)


def confidence(deviation: float, n: int, level: float) -> Slack:
    """Slack of a mean of n independent samples: z(level) · deviation / √n, two-sided.

    By the central limit theorem. n and level are fixed before sampling: no optional stopping.

    Args:
        deviation: standard deviation of one sample (its closed form where there is one).
        n: number of samples, at least 30.
        level: probability that a true statement passes; 0.5 < level < 1. Take it near 1 (0.999999): the
            check is repeated on every machine.

    Raises:
        DefectiveClaimError: n below 30, or a level outside its range.

    >>> round(confidence(2.0, n=10_000, level=0.95).value, 4)
    0.0392
    """
    if n < 30:
        raise DefectiveClaimError(f"the central limit theorem needs n >= 30, got {n}")
    if not 0.5 < level < 1:
        raise DefectiveClaimError(f"a confidence level lies between 0.5 and 1, got {level}")
    half_width = NormalDist().inv_cdf((1 + level) / 2) * deviation / math.sqrt(n)
    return Slack(half_width, f"{level:.10g} confidence with n = {n} fixed in advance", deviation)
