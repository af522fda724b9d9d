"""Paired timings in blocks, medians and their ratios with bootstrap intervals, and growth exponents."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

# A block of steps of one runner lasts about this long (one step at least): in training, steps follow steps, so a step
# of a millisecond must not be timed with the caches full of somebody else's data.
BLOCK_SECONDS = 0.15
RESAMPLES, LEVEL = 4000, 0.95


def warm_up(step: Callable[[], object], longest: float = BLOCK_SECONDS) -> int:
    """Run a step until it is compiled and warm; returns how many fit into a block."""
    step()
    started = time.perf_counter()
    step()
    estimate = time.perf_counter() - started
    if estimate > longest:
        return 1
    return max(1, round(longest / block(step, max(1, int(longest / estimate)))))


def block(step: Callable[[], object], steps: int) -> float:
    """Mean seconds of a step, over ``steps`` of them in a row."""
    started = time.perf_counter()
    for _ in range(steps):
        step()
    return (time.perf_counter() - started) / steps


def in_turn(
    steps: Mapping[str, Callable[[], object]], rounds: int, longest: float = BLOCK_SECONDS
) -> dict[str, Any]:
    """Time the steps in turn, A B C A B C ..., in blocks.

    Returns:
        ``{"steps_per_block": {name: int}, "seconds": {name: [one mean a block]}}``.
    """
    counts = {name: warm_up(step, longest) for name, step in steps.items()}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for name, step in steps.items():
                seconds[name].append(block(step, counts[name]))
            gc.collect()
    finally:
        if collecting:
            gc.enable()
    return {"steps_per_block": counts, "seconds": seconds}


def ratio(base: Sequence[float], other: Sequence[float], seed: int = 0) -> dict[str, float]:
    """How many times longer ``base`` takes: the ratio of the medians, with a bootstrap interval.

    Rounds are drawn with replacement, both sides of a round together (they share the state of the machine), 4,000
    times; the interval is the middle 95 per cent of the ratios. Of three rounds it can say no more than their range.

    >>> ratio([2.0, 2.0, 2.0], [1.0, 1.0, 1.0])
    {'ratio': 2.0, 'low': 2.0, 'high': 2.0}
    """
    a, b = np.asarray(base, float), np.asarray(other, float)
    drawn = np.random.default_rng(seed).integers(0, len(a), (RESAMPLES, len(a)))
    ratios = np.median(a[drawn], axis=1) / np.median(b[drawn], axis=1)
    low, high = np.quantile(ratios, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return {"ratio": float(np.median(a) / np.median(b)), "low": float(low), "high": float(high)}


def difference(found: Sequence[float], expected: Sequence[float]) -> dict[str, float]:
    """The mean of ``found - expected``, paired, with Student's 95 per cent interval.

    >>> {name: round(value, 3) for name, value in difference([1.0, 2.0, 3.0], [1.0, 1.0, 1.0]).items()}
    {'mean': 1.0, 'low': -1.484, 'high': 3.484}
    """
    from scipy.stats import t

    d = np.asarray(found, float) - np.asarray(expected, float)
    half = float(t.ppf((1 + LEVEL) / 2, len(d) - 1) * d.std(ddof=1) / np.sqrt(len(d)))
    return {"mean": float(d.mean()), "low": float(d.mean()) - half, "high": float(d.mean()) + half}


def growth(x: Sequence[float], y: Sequence[float]) -> dict[str, float]:
    """The exponent of ``y = c x^exponent`` by least squares of the logarithms, with its standard error.

    Through two points a line passes without any: the error is 0 then.

    >>> fit = growth([1, 10, 100], [3, 30, 300])
    >>> round(fit["exponent"], 6), round(fit["error"], 6), round(fit["factor"], 6)
    (1.0, 0.0, 3.0)
    """
    from scipy.stats import linregress

    fit = linregress(np.log(x), np.log(y))
    # Of two points some versions of scipy say 0, and newer ones that it is unknown.
    error = float(fit.stderr) if len(x) > 2 else 0.0
    return {"exponent": float(fit.slope), "error": error, "factor": float(np.exp(fit.intercept))}
