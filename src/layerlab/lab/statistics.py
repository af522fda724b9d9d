"""Means, intervals and paired differences over seeds. n is fixed before a race starts: nobody peeks and stops."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from layerlab.errors import UserError


@dataclass(frozen=True)
class Estimate:
    """A mean over n independent repetitions, with Student's interval.

    ``mean +- t(level, n - 1) * sd / sqrt(n)``; sd is the sample standard deviation (n - 1). With n = 1 there is no
    sd and no interval: they are NaN.
    """

    n: int
    mean: float
    sd: float
    low: float
    high: float

    def contains(self, value: float) -> bool:
        """Whether the interval covers ``value`` (never, when there is no interval)."""
        return self.low <= value <= self.high


def estimate(values: Sequence[float], level: float = 0.95) -> Estimate:
    """Mean, sd and two-sided Student interval of independent repetitions.

    Args:
        values: n >= 1 finite numbers.
        level: the interval's confidence.

    Raises:
        UserError: no values, a value that is not finite, or a level that is not a share (95 instead of 0.95).

    >>> e = estimate([1.0, 2.0, 3.0])
    >>> e.mean, e.sd, round(e.high, 3)
    (2.0, 1.0, 4.484)
    """
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.size == 0 or not np.isfinite(numbers).all():
        raise UserError(f"expected at least one value, all finite, got {list(values)}")
    if not 0 < level < 1:
        raise UserError(f"expected a confidence between 0 and 1, got {level}")
    # Measured from the first value, equal values have exactly the sd 0, and a large common part costs no digits.
    n, offsets = numbers.size, numbers - numbers[0]
    mean = float(numbers[0] + offsets.mean())
    if n == 1:
        return Estimate(1, mean, math.nan, math.nan, math.nan)
    sd = float(offsets.std(ddof=1))
    half = float(stdtrit(n - 1, 0.5 + level / 2)) * sd / math.sqrt(n)
    return Estimate(n, mean, sd, mean - half, mean + half)


def single_run_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Where one further repetition falls: ``mean +- t(level, n - 1) * sd * sqrt(1 + 1/n)``.

    This, and not the interval of the mean, is what somebody's single run is to be compared with. It takes the
    repetitions to be normal.

    Args:
        values: n >= 2 finite numbers.
        level: the share of single runs that it covers.

    Raises:
        UserError: fewer than two values, or a value that is not finite.

    >>> low, high = single_run_interval([1.0, 2.0, 3.0])
    >>> round(low, 3), round(high, 3)
    (-2.968, 6.968)
    """
    of_mean = estimate(values, level)
    if of_mean.n < 2:
        raise UserError("one repetition tells nothing of the next; expected at least two")
    half = (of_mean.high - of_mean.mean) * math.sqrt(of_mean.n + 1)
    return of_mean.mean - half, of_mean.mean + half


def paired_difference(left: Sequence[float], right: Sequence[float], level: float = 0.95) -> Estimate:
    """`estimate` of ``left[i] - right[i]``: two models on the same splits and seeds.

    The variation that both share (an easy split, a lucky one) cancels, so the interval is narrower than that of two
    separate samples, and it is the right one.

    >>> paired_difference([0.8, 0.7, 0.9], [0.7, 0.6, 0.8]).sd < 1e-9
    True
    """
    if len(left) != len(right):
        raise UserError(f"expected as many values on both sides, got {len(left)} and {len(right)}")
    return estimate(np.subtract(np.asarray(left, float), np.asarray(right, float)).tolist(), level)
