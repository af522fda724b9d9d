"""The claims about max pooling by relative-position attention (solutions, question 1.4.2)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from scipy.special import lambertw
from torch import Tensor

from layerlab.attention.convolution import RelativeAttention
from layerlab.attention.theorems import subjects
from layerlab.attention.theorems.subjects import gaussian, vector
from layerlab.claims import Claim, Falsifier, Measurement, Slack, rounding

LARGEST = 1e9


@dataclass(frozen=True)
class Pool:
    """A signal x ``(n,)`` in float64, windows of up to 2 reach + 1 samples, and the constant c of queries."""

    x: Tensor
    reach: int
    c: float

    def unmet(self) -> str | None:
        """The first hypothesis that is not satisfied."""
        if self.x.ndim != 1 or not 1 <= len(self.x) <= subjects.MOST:
            return f"x is not a signal of 1 to {subjects.MOST:,} samples"
        if self.reach < 0:
            return f"the reach is {self.reach}, below 0"
        if not 0 < self.c < math.inf:
            return f"c is {self.c:g}, not above 0 and finite"
        if reason := subjects.unfit(self.x):
            return reason
        if (score := self.largest(self.c)) > LARGEST:
            return f"a score is {score:.1e} in magnitude: too large for float64 (up to {LARGEST:g})"
        return None

    def largest(self, factor: float = 1.0) -> float:
        """The largest magnitude of a sample, times a factor."""
        return factor * float(self.x.abs().max())

    def windows(self) -> list[Tensor]:
        """The samples within reach of each; at the ends there are fewer, since softmax renormalises."""
        return [self.x[max(i - self.reach, 0) : i + self.reach + 1] for i in range(len(self.x))]

    def widest(self) -> int:
        """The most samples that a window can have."""
        return min(2 * self.reach + 1, len(self.x))


# One output for each sample.
Layer = Callable[[Pool], Tensor]
Bound = Callable[[int], float]


def attend(pool: Pool, scores: Callable[[float, Tensor], Tensor]) -> Tensor:
    """Mean of each window with weights softmax(scores(x_i, window)), row by row."""
    pairs = zip(pool.x.tolist(), pool.windows(), strict=True)
    return torch.stack([torch.softmax(scores(own, window), 0) @ window for own, window in pairs])


def constant_query(pool: Pool) -> Tensor:
    """Scores c x_j: the query is the constant c."""
    return attend(pool, lambda own, window: pool.c * window)


def _shipped(pool: Pool) -> Tensor:
    module = RelativeAttention.as_max_pool(2 * pool.reach + 1, pool.c, dtype=torch.float64)
    return module.requires_grad_(False)(pool.x[None])[0]


def own_query(pool: Pool) -> Tensor:
    """As printed: scores c² x_i x_j."""
    return attend(pool, lambda own, window: pool.c**2 * own * window)


def _opposite_query(pool: Pool) -> Tensor:
    """Broken: the query −c."""
    return attend(pool, lambda own, window: -pool.c * window)


def _unsigned_keys(pool: Pool) -> Tensor:
    """Broken: keys |x_j|."""
    return attend(pool, lambda own, window: pool.c * window.abs())


def _zero_padded(pool: Pool) -> Tensor:
    """Broken for a maximum: pad tokens of value 0 beside the signal, as a convolution needs them."""
    padded = torch.nn.functional.pad(pool.x, (pool.reach, pool.reach))
    return constant_query(Pool(padded, pool.reach, pool.c))[pool.reach : pool.reach + len(pool.x)]


def entropy_bound(size: int) -> float:
    """log of the size of a window: the largest entropy of weights on it."""
    return math.log(size)


def sharp_bound(size: int) -> float:
    """W((size − 1) / e), W Lambert's."""
    return float(lambertw((size - 1) / math.e).real)


def _half_the_entropy(size: int) -> float:
    """Broken: half of it."""
    return entropy_bound(size) / 2


def _one_sample_fewer(size: int) -> float:
    """Broken: the bound of a window with one sample fewer."""
    return sharp_bound(size - 1)


def slack_of(scale: float, size: int, bound: float) -> Slack:
    # An error δ in the scores, δ ≤ ε scale, moves a weighted mean by at most 2 δ times the weighted mean of the
    # distances from the maximum, which is what is bounded; adding up the window costs ε scale a term.
    return rounding("float64", size=2 * size + 8, scale=max(scale, 1.0), condition=1.0 + 2.0 * bound)


def _beyond(low: float, high: float, bound: float, slack: Slack) -> float:
    """One number for 0 ≤ low and high ≤ bound: an output on the wrong side counts from the bound on."""
    return bound - low if low < -slack.value else high


# ----------------------------------------------------------------------------------------- max-pool, max-pool-sharp


def _measure_max_pool(
    pool: Pool,
    generator: np.random.Generator,
    *,
    bound: Bound,
    layers: Sequence[Layer] = (constant_query, _shipped),
) -> Measurement:
    if reason := pool.unmet():
        return Measurement.unmet_because(reason)
    size = pool.widest()
    largest = torch.stack([window.max() for window in pool.windows()])
    gaps = pool.c * (largest - torch.stack([layer(pool) for layer in layers]))
    slack = slack_of(pool.largest(pool.c), size, bound(size))
    measured = _beyond(float(gaps.min()), float(gaps.max()), bound(size), slack)
    return Measurement(measured, bound(size), slack)


def _sharpest(reach: int, c: float) -> Pool:
    """Where c (max − output) is largest: all samples but one are (1 + W) / c below it."""
    x = torch.full((2 * reach + 1,), -(1.0 + sharp_bound(2 * reach + 1)) / c, dtype=torch.float64)
    x[reach] = 0.0
    return Pool(x, reach, c)


SIGNAL = "x is a float64 signal of 1 to 1,000 samples, of any sign; windows are cut off at its ends"
FINE = "c > 0, and scores are at most 1e9 in magnitude, so that float64 tells them apart"


def _max_pool(name: str, title: str, source: str, formula: str, bound: Bound, broken: Falsifier) -> Claim:
    return Claim(
        id=f"attention.{name}",
        title=title,
        source=source,
        statement=(
            "relative-position attention with the constant query c, keys and values x_j, and p_(i−j) = 0 for |i − j|"
            f" ≤ k, else −∞: 0 ≤ max_j x_j − output_i ≤ {formula} / c on every row; measured: the largest c (max −"
            f" output), and where an output exceeds its maximum the bound and more; bound: {formula}, 2 k + 1 at most"
            " n"
        ),
        hypotheses=(SIGNAL, FINE),
        relation="<=",
        measure=partial(_measure_max_pool, bound=bound),
        subjects={
            "single-sample": lambda: Pool(vector(-2.0), 0, 3.0),
            "negative": lambda: Pool(vector(-1.0, -5.0, -2.0, -3.0, -0.5), 1, 10.0),
            "zeros": lambda: Pool(torch.zeros(7, dtype=torch.float64), 2, 1.0),
            "any-sign": lambda: Pool(gaussian(200), 3, 5.0),
            "gentle": lambda: Pool(gaussian(60, seed=1), 4, 0.1),
            "steep": lambda: Pool(gaussian(60, seed=2), 4, 1000.0),
            "wider-than-the-signal": lambda: Pool(gaussian(9, seed=3), 20, 2.0),
            "sharpest-3": lambda: _sharpest(1, 4.0),
            "sharpest-201": lambda: _sharpest(100, 4.0),
        },
        falsifiers={
            "own-query": Falsifier(
                "the query x_i in place of the constant, as printed",
                lambda: Pool(vector(0.0, -1.0, 0.0), 1, 2.0),
                replaces={"layers": (own_query,)},
            ),
            "opposite-query": Falsifier(
                "the query −c",
                lambda: Pool(vector(0.0, 1.0, 2.0), 1, 2.0),
                replaces={"layers": (_opposite_query,)},
            ),
            "unsigned-keys": Falsifier(
                "keys |x_j|",
                lambda: Pool(vector(-3.0, 1.0, -3.0), 1, 2.0),
                replaces={"layers": (_unsigned_keys,)},
            ),
            "zero-padded": Falsifier(
                "pad tokens of value 0: at the ends of a negative signal the output is above the maximum",
                lambda: Pool(vector(-1.0, -1.0), 1, 2.0),
                replaces={"layers": (_zero_padded,)},
            ),
            "bound-too-small": broken,
            "no-constant": Falsifier(
                "c = 0", lambda: Pool(vector(1.0, 2.0), 1, 0.0), expected="hypotheses unmet"
            ),
        },
    )


MAX_POOL = _max_pool(
    "max-pool",
    "Attention with a constant query is max pooling up to log(2k + 1) / c",
    "Solutions, question 1.4.2, corrected",
    "log(2 k + 1)",
    entropy_bound,
    Falsifier("half of the bound", lambda: _sharpest(100, 4.0), replaces={"bound": _half_the_entropy}),
)

MAX_POOL_SHARP = _max_pool(
    "max-pool-sharp",
    "The sharp bound of max pooling by attention is W(2k / e) / c, and it is reached",
    "Solutions, question 1.4.2, corrected and made sharp",
    "W(2 k / e) (Lambert's W)",
    sharp_bound,
    Falsifier(
        "the bound of one sample fewer", lambda: _sharpest(1, 4.0), replaces={"bound": _one_sample_fewer}
    ),
)


# ------------------------------------------------------------------------------------------------- own-query-pool


def _measure_own_query(
    pool: Pool, generator: np.random.Generator, *, layer: Layer = own_query, bound: Bound = sharp_bound
) -> Measurement:
    """The largest c² |x_i| times the distance from the maximum (x_i > 0) or the minimum (x_i < 0)."""
    if reason := pool.unmet():
        return Measurement.unmet_because(reason)
    steepness = pool.c**2 * pool.largest()
    if (score := steepness * pool.largest()) > LARGEST:
        return Measurement.unmet_because(f"a score is {score:.1e} in magnitude: too large for float64")
    size, limit = pool.widest(), bound(pool.widest())
    slack = slack_of(max(steepness, 1.0) * pool.largest(), size, limit)
    gaps = []
    for own, out, window in zip(pool.x.tolist(), layer(pool), pool.windows(), strict=True):
        if own == 0:
            # Where the bound says nothing the mean is exact: a deviation counts as one from the bound.
            off = float((out - window.mean()).abs())
            gaps.append(limit + off if off > slack.value else 0.0)
            continue
        extreme = window.max() if own > 0 else window.min()
        gaps.append(pool.c**2 * own * float(extreme - out))
    return Measurement(_beyond(min(gaps), max(gaps), limit, slack), limit, slack)


OWN_QUERY_POOL = Claim(
    id="attention.own-query-pool",
    title="With the query x_i the maximum comes out where x_i > 0, the minimum where x_i < 0, the mean at 0",
    source="Solutions, question 1.4.2: what the printed construction does",
    statement=(
        "scores c² x_i x_j for |i − j| ≤ k: 0 ≤ c² x_i (max_j x_j − output_i) ≤ W(2 k / e) where x_i > 0,"
        " 0 ≤ c² x_i (min_j x_j − output_i) ≤ W(2 k / e) where x_i < 0, and output_i = mean_j x_j where x_i = 0;"
        " measured: the largest of these products, and the bound and more where an output lies on the wrong side;"
        " bound: W(2 k / e)"
    ),
    hypotheses=(SIGNAL, FINE),
    relation="<=",
    measure=_measure_own_query,
    subjects={
        "single-sample": lambda: Pool(vector(-2.0), 0, 3.0),
        "negative": lambda: Pool(vector(-1.0, -5.0, -2.0, -3.0, -0.5), 1, 10.0),
        "zero-in-the-middle": lambda: Pool(vector(3.0, 0.0, -1.0), 1, 100.0),
        "any-sign": lambda: Pool(gaussian(200), 3, 2.0),
        "sharpest-minimum": lambda: Pool(vector(-1.0, sharp_bound(2)), 1, 1.0),
    },
    falsifiers={
        "constant-query": Falsifier(
            "the constant query, which never returns a minimum",
            lambda: Pool(vector(0.0, -1.0, 0.0), 1, 2.0),
            replaces={"layer": constant_query},
        ),
        "bound-too-small": Falsifier(
            "the bound of one sample fewer",
            lambda: Pool(vector(-1.0, sharp_bound(2)), 1, 1.0),
            replaces={"bound": _one_sample_fewer},
        ),
        "no-constant": Falsifier(
            "c = 0", lambda: Pool(vector(1.0, 2.0), 1, 0.0), expected="hypotheses unmet"
        ),
    },
)
