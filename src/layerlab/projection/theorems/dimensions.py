"""The claims about dimensions: the tails below the classic bound, signs, and what scikit-learn's formula leaves."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp, ndtr
from scipy.stats import binom

from layerlab.claims import Claim, Falsifier, Measurement, exact, rounding
from layerlab.projection import tails


@dataclass(frozen=True)
class Grid:
    """All combinations of numbers of dimensions (or points) and ε."""

    sizes: tuple[int, ...]
    eps: tuple[float, ...]

    def __iter__(self) -> Iterator[tuple[int, float]]:
        return ((size, eps) for size in self.sizes for eps in self.eps)


EPS = (0.001, 0.01, 0.05, 0.1, 0.2, 1 / 3, 0.5, 0.7, 0.9, 0.99)
COUNTS = (2, 3, 4, 5, 6, 10, 100, 1_000, 10**6, 10**9, 10**12)


def _cubic(eps: float) -> float:
    return eps**2 / 2 - eps**3 / 3


def _square_only(eps: float) -> float:
    """Broken: without the cubic term, as n ≥ 8 ln N/ε² would need it."""
    return eps**2 / 2


def _plus_cubic(eps: float) -> float:
    """Broken: the exponent of the lower tail for both."""
    return eps**2 / 2 + eps**3 / 3


def _measure_classic(
    grid: Grid, generator: np.random.Generator, *, rate: Callable[[float], float] = _cubic
) -> Measurement:
    found = [
        math.log(p) - math.log(2) + dim * rate(eps) / 2
        for dim, eps in grid
        # Below this a tail has underflowed.
        if (p := tails.pair_failure(dim, eps)) > 1e-290
    ]
    return Measurement(max(found), 0.0, rounding("float64", 1_000, scale=1.0))


CLASSIC = Claim(
    id="projection.classic-tail",
    title="The exact tails are below the classic bound, so the exact dimension is never larger",
    source="Dasgupta and Gupta 2003, lemma 2.2",
    statement=(
        "P(|χ²_n/n − 1| > ε) ≤ 2 exp(−n (ε²/2 − ε³/3)/2); measured: the largest logarithm of left over right on a grid "
        "of n and ε; bound: 0"
    ),
    hypotheses=("0 < ε < 1", "the tails do not underflow"),
    relation="<=",
    measure=_measure_classic,
    subjects={"grid": lambda: Grid((1, 2, 3, 10, 100, 1_000, 10_000, 10**6), EPS)},
    falsifiers={
        "without-the-cube": Falsifier(
            "exp(−n ε²/4), which 8 ln N/ε² would need",
            lambda: Grid((1_000,), (0.5, 0.9)),
            replaces={"rate": _square_only},
        ),
        "cube-added": Falsifier(
            "ε²/2 + ε³/3, right for the lower tail alone",
            lambda: Grid((1_000,), (0.3, 0.5)),
            replaces={"rate": _plus_cubic},
        ),
    },
)


@dataclass(frozen=True)
class TwoValues:
    """A law of Q² = ⟨r, x⟩²/‖x‖² for one row r: ``high`` with ``probability``, else ``low``; its mean is 1."""

    high: float
    low: float
    probability: float


def enumerated(law: TwoValues, dim: int, eps: float) -> float:
    """P(|Σ Q²/n − 1| > ε) over n rows, by the binomial law of the number of high ones."""
    hits = np.arange(dim + 1)
    ratio = (law.high * hits + law.low * (dim - hits)) / dim
    # A ratio that is at 1 ± ε up to rounding is not beyond it.
    beyond = np.abs(ratio - 1) > eps * (1 + 1e-12)
    return float(np.exp(logsumexp(binom.logpmf(hits[beyond], dim, law.probability)))) if beyond.any() else 0.0


def _measure_moments(
    law: TwoValues,
    generator: np.random.Generator,
    *,
    proved: Callable[[int, float], float] = tails.moment_pair_failure,
) -> Measurement:
    grid = Grid((1, 2, 5, 20, 100, 1_000), (0.05, 0.1, 0.3, 0.5, 0.9))
    found = [
        math.log(p) - math.log(proved(dim, eps))
        for dim, eps in grid
        if (p := enumerated(law, dim, eps)) > 1e-290
    ]
    return Measurement(max(found), 0.0, rounding("float64", 10_000, scale=1.0))


MOMENTS = Claim(
    id="projection.signs",
    title="Random signs, dense or a third of them, fail no more often than their moments allow",
    source="Achlioptas 2003, theorem 1.1, with the best h in both tails",
    statement=(
        "P(|‖A x‖²/‖x‖² − 1| > ε) ≤ exp(−n (ε − ln(1 + ε))/2) + exp(n min_h [ln(1 − h + 3h²/2) + h (1 − ε)]); "
        "measured, by full enumeration: the largest logarithm of left over right on a grid of n and ε; bound: 0"
    ),
    hypotheses=("entries ±1/√n, or 0 and ±√(3/n) with density 1/3", "0 < ε < 1"),
    relation="<=",
    measure=_measure_moments,
    subjects={
        "signs-two-coordinates": lambda: TwoValues(2.0, 0.0, 0.5),
        "signs-three-coordinates": lambda: TwoValues(3.0, 1 / 3, 0.25),
        "sparse-on-an-axis": lambda: TwoValues(3.0, 0.0, 1 / 3),
    },
    falsifiers={
        "too-sparse": Falsifier("density 1/30 on an axis", lambda: TwoValues(30.0, 0.0, 1 / 30)),
        "chi-square-in-its-place": Falsifier(
            "the χ² tails in place of the bound: they are not proved for signs, and not true for few dimensions",
            lambda: TwoValues(3.0, 0.0, 1 / 3),
            replaces={"proved": tails.pair_failure},
        ),
    },
)


def _default(count: int, eps: float) -> int:
    return tails.dimension(count, eps).dim


def _a_tenth_of_failures(count: int, eps: float) -> int:
    """Broken: failure 1/10."""
    return tails.dimension(count, eps, 0.1).dim


def _measure_scikit_learn(
    grid: Grid, generator: np.random.Generator, *, dimension: Callable[[int, float], int] = _default
) -> Measurement:
    from sklearn.random_projection import johnson_lindenstrauss_min_dim

    above = [
        dimension(count, eps) - int(johnson_lindenstrauss_min_dim(count, eps=eps)) for count, eps in grid
    ]
    return Measurement(max(above), 0.0, exact("whole numbers"))


SCIKIT_LEARN = Claim(
    id="projection.scikit-learn",
    title="The default dimension is never above scikit-learn's",
    source="Beyond the document; scikit-learn's johnson_lindenstrauss_min_dim",
    statement=(
        "for failure probability 1/8 the exact dimension is at most ⌊4 ln N/(ε²/2 − ε³/3)⌋; measured: the largest"
        " difference on a grid of N and ε; bound: 0"
    ),
    hypotheses=("N ≥ 2", "0 < ε < 1"),
    relation="<=",
    measure=_measure_scikit_learn,
    subjects={"grid": lambda: Grid(COUNTS, EPS)},
    falsifiers={
        "failure-a-tenth": Falsifier(
            "failure probability 1/10: five points need more",
            lambda: Grid((5,), (0.01,)),
            replaces={"dimension": _a_tenth_of_failures},
        ),
        "rounded-up": Falsifier(
            "the classic formula rounded up",
            lambda: Grid(COUNTS, EPS),
            replaces={"dimension": tails.classic_dimension},
        ),
    },
)


def _measure_implied(
    grid: Grid,
    generator: np.random.Generator,
    *,
    dimension: Callable[[int, float], int] = tails.scikit_learn_dimension,
) -> Measurement:
    worst = max(tails.failure(count, dimension(count, eps), eps) for count, eps in grid)
    limit = 20 * float(ndtr(-math.sqrt(4 * math.log(5))))
    return Measurement(worst, limit, rounding("float64", 10**4, scale=1.0))


def _half(count: int, eps: float) -> int:
    """Broken: half of it."""
    return tails.scikit_learn_dimension(count, eps) // 2


IMPLIED = Claim(
    id="projection.implied-failure",
    title="scikit-learn's dimension, which states no probability, fails with at most 0.112",
    source="Beyond the document",
    statement=(
        "at n = ⌊4 ln N/(ε²/2 − ε³/3)⌋ a Gaussian map fails with probability at most 10 P(|Z| > √(4 ln 5)) = 0.1117, "
        "the limit for N = 5 as ε → 0; its classic proof leaves 1 − 1/N; measured: the largest union bound with exact "
        "tails on a grid of N and ε"
    ),
    hypotheses=("N ≥ 2", "0 < ε < 1"),
    relation="<=",
    measure=_measure_implied,
    subjects={"grid": lambda: Grid(COUNTS, EPS)},
    falsifiers={
        "half": Falsifier("half of the dimension", lambda: Grid(COUNTS, EPS), replaces={"dimension": _half}),
        "eight-over-square": Falsifier(
            "the document's 8 ln N/ε²",
            lambda: Grid((2_000,), (0.9,)),
            replaces={"dimension": tails.document_dimension},
        ),
    },
)


def _measure_eight(
    grid: Grid,
    generator: np.random.Generator,
    *,
    dimension: Callable[[int, float], int] = tails.document_dimension,
) -> Measurement:
    least = min(
        count * (count - 1) / 2 * tails.pair_failure(dimension(count, eps), eps) for count, eps in grid
    )
    return Measurement(least, 1.0, rounding("float64", 10**4, scale=1.0))


EIGHT = Claim(
    id="projection.eight-for-every-eps",
    title="As printed: n ≥ 8 ln N/ε² is enough for every ε in (0, 1)",
    source="Solutions, question 2.1.1 (the lemma it uses), as printed",
    statement=(
        "the lemma is stated with n ≥ 8 ln N/ε² for all ε; proved by a Gaussian map, the expected number of pairs "
        "beyond ε must stay below 1. It does not: the upper tail decays as exp(−n (ε²/2 − ε³/3 + …)/2); measured: that "
        "number; bound: 1. (The lemma only says that some map exists, which this does not refute.)"
    ),
    hypotheses=("N ≥ 2", "0 < ε < 1"),
    relation="<=",
    measure=_measure_eight,
    subjects={
        "two-thousand-points": lambda: Grid((2_000,), (0.9,)),
        "hundred-points": lambda: Grid((100,), (0.9,)),
        "the-proof-s-own-eps": lambda: Grid((10**6,), (1 / 3,)),
    },
    falsifiers={
        "with-the-cube": Falsifier(
            "4 ln N/(ε²/2 − ε³/3), as corrected",
            lambda: Grid((2_000,), (0.9,)),
            replaces={"dimension": tails.classic_dimension},
            expected="holds",
        ),
        "small-eps": Falsifier(
            "ε = 0.1: there it is enough", lambda: Grid((10**6,), (0.1,)), expected="holds"
        ),
    },
    expected="refuted",
)
