"""From which lag on a gradient through time is lost, or too large."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Verdict = Literal["healthy", "vanishing", "exploding"]

_FARTHEST = 1000
_LEAST_POINTS = 3


@dataclass(frozen=True)
class Horizon:
    """Where a curve passes a threshold.

    Attributes:
        first: the first lag at which it is beyond; None where it never is, nor would be within 1000 sequences.
        settled: the first lag from which on it stays beyond up to the end of the sequence; None where it does not.
        extrapolated: whether the two lie behind the end of the sequence, on the line through the logarithms of the
            second half of the curve (least squares); rounded up.
    """

    first: int | None
    settled: int | None
    extrapolated: bool = False


def below(curve: Values, threshold: float) -> Horizon:
    """Where σ falls below ``threshold``.

    Args:
        curve: (T), log σ at lags 0, …, T − 1; NaN behind the end.
        threshold: of σ.

    >>> below(np.log([1.0, 0.5, 0.009, 0.02, 0.008, 0.007]), 0.01)
    Horizon(first=2, settled=4, extrapolated=False)
    >>> below(np.log(0.5) * np.arange(6), 1e-3)
    Horizon(first=10, settled=10, extrapolated=True)
    """
    curve = curve[~np.isnan(curve)]
    beyond = curve < math.log(threshold)
    if beyond.any():
        inside = np.flatnonzero(~beyond)
        settled = None if inside[-1] == len(curve) - 1 else int(inside[-1]) + 1
        return Horizon(int(np.argmax(beyond)), settled)
    slope, level = _line(curve)
    if not slope < 0:
        return Horizon(None, None)
    reached = (math.log(threshold) - level) / slope
    if reached > _FARTHEST * len(curve):
        return Horizon(None, None)
    lag = max(math.ceil(reached - 1e-9), len(curve))
    return Horizon(lag, lag, extrapolated=True)


def above(curve: Values, threshold: float) -> Horizon:
    """Where σ rises above ``threshold``; as `below`.

    >>> above(np.log([1.0, 5.0, 25.0]), 10.0)
    Horizon(first=2, settled=2, extrapolated=False)
    """
    return below(-curve, 1 / threshold)


def rate(curve: Values) -> float:
    """The slope of log σ over the second half of the curve, for one step; NaN for fewer than 3 finite lags.

    >>> round(float(rate(np.log(0.5) * np.arange(6)) / np.log(2)), 6)
    -1.0
    """
    return _line(curve)[0]


def verdict(curve: Values, threshold: float) -> Verdict:
    """ "exploding" where σ exceeds 1/threshold at any lag, else "vanishing" where it is below threshold at the last.

    >>> verdict(np.array([0.0, -9.0]), 0.01), verdict(np.array([0.0, 9.0, 0.0]), 0.01)
    ('vanishing', 'exploding')
    """
    curve = curve[~np.isnan(curve)]
    if curve.max() > -math.log(threshold):
        return "exploding"
    return "vanishing" if curve[-1] < math.log(threshold) else "healthy"


def _line(curve: Values) -> tuple[float, float]:
    lags = np.arange(len(curve))
    chosen = (lags >= (len(curve) - 1) / 2) & np.isfinite(curve)
    if chosen.sum() < _LEAST_POINTS:
        return math.nan, math.nan
    slope, level = np.polyfit(lags[chosen], curve[chosen], 1)
    return float(slope), float(level)
