"""The two statements about max pooling that are false as printed (solutions, question 1.4.2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from layerlab.attention.theorems import subjects
from layerlab.attention.theorems.pooling import (
    FINE,
    SIGNAL,
    Layer,
    Pool,
    constant_query,
    entropy_bound,
    own_query,
    slack_of,
)
from layerlab.attention.theorems.subjects import gaussian, vector
from layerlab.claims import Claim, Falsifier, Measurement, rounding


def _measure_as_printed(
    pool: Pool, generator: np.random.Generator, *, layer: Layer = own_query
) -> Measurement:
    if reason := pool.unmet():
        return Measurement.unmet_because(reason)
    interior = slice(pool.reach, len(pool.x) - pool.reach)
    if len(pool.x) < 2 * pool.reach + 1:
        return Measurement.unmet_because("no window lies inside the signal")
    size = 2 * pool.reach + 1
    largest = torch.stack([window.max() for window in pool.windows()])
    slack = slack_of(pool.largest(pool.c), size, entropy_bound(size))
    gaps = pool.c * (largest - layer(pool))[interior]
    return Measurement(float(gaps.max()), entropy_bound(size), slack)


MAX_POOL_AS_PRINTED = Claim(
    id="attention.max-pool-as-printed",
    title="As printed: scores c² x_i x_j with a large c return the maximum of the window",
    source="Solutions, question 1.4.2, as printed",
    statement=(
        "W_Q = W_K = c, so scores c² x_i x_j: output_i ≈ max_j x_j for k < i ≤ n − k. False where x_i < 0, of which"
        " they return the minimum, and where x_i = 0, of which they return the mean; measured: the largest c (max −"
        " output) over those rows; bound: log(2 k + 1), which the constant query reaches for every sign of x"
    ),
    hypotheses=(SIGNAL, FINE, "some window lies inside the signal"),
    relation="<=",
    measure=_measure_as_printed,
    subjects={
        "negative-sample": lambda: Pool(vector(0.0, -1.0, 0.0), 1, 100.0),
        "zero-sample": lambda: Pool(vector(1.0, 0.0, 0.0), 1, 100.0),
        "any-sign": lambda: Pool(gaussian(200), 3, 100.0),
    },
    falsifiers={
        "constant-query": Falsifier(
            "the constant query c, as corrected",
            lambda: Pool(vector(0.0, -1.0, 0.0), 1, 100.0),
            replaces={"layer": constant_query},
            expected="holds",
        ),
        "positive-signal": Falsifier(
            "samples of at least 1 / c: there it is true",
            lambda: Pool(vector(3.0, 1.0, 2.0, 5.0, 0.5), 1, 100.0),
            expected="holds",
        ),
    },
    expected="refuted",
)


@dataclass(frozen=True)
class Window:
    """One window ``(2k + 1,)`` in float64, its centre x_i, the constant c; s_i as printed, or inverted."""

    x: Tensor
    c: float
    inverted: bool = False


Factor = Callable[[Window, Tensor], Tensor]


def _as_printed(window: Window, products: Tensor) -> Tensor:
    """s_i = Σ exp(x_i x_j), or its inverse."""
    total = products.exp().sum()
    return 1 / total if window.inverted else total


def _corrected(window: Window, products: Tensor) -> Tensor:
    """s_i = 1 / Σ exp(c² x_i x_j)."""
    return 1 / (window.c**2 * products).exp().sum()


def _measure_weights(
    window: Window, generator: np.random.Generator, *, factor: Factor = _as_printed
) -> Measurement:
    if window.x.ndim != 1 or len(window.x) % 2 == 0:
        return Measurement.unmet_because("a window has 2 k + 1 samples")
    if reason := subjects.unfit(window.x):
        return Measurement.unmet_because(reason)
    products = window.x[len(window.x) // 2] * window.x
    largest = float((max(window.c**2, 1.0) * products).abs().max())
    if largest > 300:
        return Measurement.unmet_because("an exponential leaves float64")
    weights = factor(window, products) * (window.c**2 * products).exp()
    slack = rounding("float64", size=2 * len(products) + 4, scale=1.0, condition=1.0 + 2.0 * largest)
    return Measurement(float(weights.sum()), 1.0, slack)


MAX_POOL_WEIGHTS_AS_PRINTED = Claim(
    id="attention.max-pool-weights-as-printed",
    title="As printed: the weights s_i exp(c² x_i x_j) with s_i = Σ exp(x_i x_j)",
    source="Solutions, question 1.4.2, as printed",
    statement=(
        "softmax weights are s_i exp(c² x_i x_j), s_i = Σ_j exp(x_i x_j). False: s_i lacks the inverse and the c²; it"
        " is 1 / Σ_j exp(c² x_i x_j); measured: the sum of the weights; bound: 1"
    ),
    hypotheses=("a window of 2 k + 1 float64 samples", "no exponential leaves float64: c² |x_i x_j| ≤ 300"),
    relation="==",
    measure=_measure_weights,
    subjects={
        "single-sample": lambda: Window(vector(1.0), 1.0),
        "three-zeros": lambda: Window(vector(0.0, 0.0, 0.0), 1.0),
        "single-sample-inverted": lambda: Window(vector(1.0), 2.0, inverted=True),
        "three-samples": lambda: Window(vector(-0.5, 1.0, 0.5), 3.0),
    },
    falsifiers={
        "corrected": Falsifier(
            "1 / Σ exp(c² x_i x_j)",
            lambda: Window(vector(-0.5, 1.0, 0.5), 3.0),
            replaces={"factor": _corrected},
            expected="holds",
        ),
        "inverse-and-c-1": Falsifier(
            "1 / Σ exp(x_i x_j), which is right for c = 1 only",
            lambda: Window(vector(-0.5, 1.0, 0.5), 1.0, inverted=True),
            expected="holds",
        ),
        "lone-zero": Falsifier(
            "a window of one sample 0: there it is true", lambda: Window(vector(0.0), 1.0), expected="holds"
        ),
    },
    expected="refuted",
)
