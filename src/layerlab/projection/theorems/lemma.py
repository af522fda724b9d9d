"""The claims about random maps: the lemma with its probability, and the exact law it rests on."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from layerlab.claims import Claim, Falsifier, Measurement, confidence
from layerlab.projection import tails
from layerlab.projection.maps import apply, draw
from layerlab.projection.tails import Kind

# Fixed in advance; so is the confidence. The second number is with --full.
DRAWS, FULL_DRAWS = 400, 4_000
SINGLE_DRAWS, FULL_SINGLE_DRAWS = 20_000, 400_000
LEVEL = 0.999999

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Cloud:
    """Points, and a map that is to keep their squared distances within 1 ± ε.

    Args:
        points: ``(N, d)``.
        eps: ε.
        dim: n.
        failure: the stated probability that some pair is off.
        kind: the law of the map.
        density: of a sparse map.
    """

    points: Array
    eps: float
    dim: int
    failure: float
    kind: Kind = "gaussian"
    density: float = tails.ACHLIOPTAS


def document_points(count: int) -> Array:
    """0 and the unit vectors of R^(count - 1), as in the document's proof."""
    return np.concatenate([np.zeros((1, count - 1)), np.eye(count - 1)])


def gaussian_points(count: int, width: int) -> Array:
    """Seeded points in general position."""
    return np.random.default_rng(0).standard_normal((count, width))


def cloud(points: Array, eps: float, failure: float, kind: Kind = "gaussian") -> Cloud:
    """Points with the least dimension for which the failure probability is proved."""
    known = tails.dimension(len(points), eps, failure, kind)
    return Cloud(points, eps, known.dim, known.failure, kind)


def by_eight(points: Array, eps: float) -> Cloud:
    """Points with the document's dimension, and what exact tails leave there."""
    dim = tails.document_dimension(len(points), eps)
    return Cloud(points, eps, dim, tails.failure(len(points), dim, eps))


# Of the points' differences, the number of dimensions and a generator, the images.
Project = Callable[[Cloud, Array, int, np.random.Generator], Array]


def _shipped(given: Cloud, x: Array, dim: int, generator: np.random.Generator) -> Array:
    return apply(draw(given.kind, x.shape[1], dim, generator, density=given.density), x)


def _unscaled(given: Cloud, x: Array, dim: int, generator: np.random.Generator) -> Array:
    """Broken: entries of variance 1."""
    return _shipped(given, x, dim, generator) * math.sqrt(dim)


def _one_row(given: Cloud, x: Array, dim: int, generator: np.random.Generator) -> Array:
    """Broken: one random row, n times."""
    return np.repeat(_shipped(given, x, 1, generator), dim, axis=1) / math.sqrt(dim)


def _too_sparse(given: Cloud, x: Array, dim: int, generator: np.random.Generator) -> Array:
    """Broken for this statement: density 1/100, on points that lie on the axes."""
    return apply(draw("sparse", x.shape[1], dim, generator, density=0.01), x)


def _given_dim(given: Cloud) -> int:
    return given.dim


def _tenth(given: Cloud) -> int:
    """Broken: a tenth of the dimension."""
    return given.dim // 10


def _measure_lemma(
    given: Cloud,
    generator: np.random.Generator,
    *,
    project: Project = _shipped,
    dim: Callable[[Cloud], int] = _given_dim,
    draws: int = DRAWS,
) -> Measurement:
    if len(given.points) < 2:
        return Measurement.unmet_because("a single point has no distances")
    if not 0 < given.eps < 1:
        return Measurement.unmet_because(f"eps = {given.eps} is not between 0 and 1")
    first, second = np.triu_indices(len(given.points), 1)
    apart = given.points[first] - given.points[second]
    before = (apart**2).sum(axis=1)
    if (before == 0).any():
        return Measurement.unmet_because("two points are equal")
    failures = 0
    for _ in range(draws):
        # Projecting the points and not their differences is the same, and less work.
        images = project(given, given.points, dim(given), generator)
        after = ((images[first] - images[second]) ** 2).sum(axis=1)
        failures += bool((np.abs(after / before - 1) > given.eps).any())
    spread = math.sqrt(given.failure * (1 - given.failure))
    return Measurement(failures / draws, given.failure, confidence(spread, draws, LEVEL))


JL = Claim(
    id="projection.jl",
    title="A random map keeps all squared distances within 1 ± ε, but for a stated probability",
    source="Solutions, question 2.1.1 (the lemma it uses); Johnson and Lindenstrauss 1984; Achlioptas 2003",
    statement=(
        "N points; n by exact χ² tails (Gaussian), by moments (signs, sparse signs of density 1/3), or n ≥ 8 ln N/ε² "
        "for small ε: P(some squared distance is off by more than ε) ≤ N (N − 1)/2 · P(one is); measured: the share of "
        f"{DRAWS} maps ({FULL_DRAWS:,} with --full) for which one is off; bound: the stated probability"
    ),
    hypotheses=("at least two points, all different", "0 < ε < 1", "the number of maps is fixed in advance"),
    relation="<=",
    measure=_measure_lemma,
    full={"draws": FULL_DRAWS},
    subjects={
        "gaussian": lambda: cloud(document_points(10), 0.5, 0.1),
        "gaussian-any-points": lambda: cloud(gaussian_points(20, 6), 0.6, 0.125),
        "gaussian-two-points": lambda: cloud(gaussian_points(2, 5), 0.5, 0.3),
        "document-s-formula": lambda: by_eight(document_points(12), 0.25),
        "rademacher": lambda: cloud(document_points(10), 0.5, 0.1, "rademacher"),
        "rademacher-any-points": lambda: cloud(gaussian_points(12, 6), 0.6, 0.125, "rademacher"),
        "sparse": lambda: cloud(document_points(10), 0.5, 0.1, "sparse"),
    },
    falsifiers={
        "a-tenth": Falsifier(
            "a tenth of the dimension",
            lambda: cloud(document_points(10), 0.5, 0.1),
            replaces={"dim": _tenth},
        ),
        "a-tenth-of-signs": Falsifier(
            "a tenth of the dimension, random signs on points in general position",
            lambda: cloud(gaussian_points(12, 6), 0.6, 0.125, "rademacher"),
            replaces={"dim": _tenth},
        ),
        "unscaled": Falsifier(
            "entries of variance 1 in place of 1/n",
            lambda: cloud(document_points(10), 0.5, 0.1),
            replaces={"project": _unscaled},
        ),
        "one-row": Falsifier(
            "one random row, n times",
            lambda: cloud(document_points(10), 0.5, 0.1),
            replaces={"project": _one_row},
        ),
        "too-sparse": Falsifier(
            "entries other than 0 with probability 1/100, points on the axes",
            lambda: cloud(document_points(10), 0.5, 0.1, "sparse"),
            replaces={"project": _too_sparse},
        ),
        "equal-points": Falsifier(
            "two equal points",
            lambda: cloud(np.ones((2, 3)), 0.5, 0.1),
            expected="hypotheses unmet",
        ),
    },
)


@dataclass(frozen=True)
class Single:
    """One vector under maps to n dimensions, and ε."""

    x: Array
    dim: int
    eps: float


def _gaussian_rows(x: Array, rows: int, generator: np.random.Generator) -> Array:
    return generator.standard_normal((rows, len(x))) @ x


def _sign_rows(x: Array, rows: int, generator: np.random.Generator) -> Array:
    """Broken: random signs."""
    return (2 * generator.integers(0, 2, (rows, len(x))) - 1) @ x


def classic_pair(dim: int, eps: float) -> float:
    """2 exp(-n (ε²/2 - ε³/3)/2)."""
    return min(1.0, 2 * math.exp(-dim * (eps**2 / 2 - eps**3 / 3) / 2))


def _upper_tail(dim: int, eps: float) -> float:
    """Broken: P(χ²_n/n - 1 > ε) alone."""
    return float(chi2.sf(dim * (1 + eps), dim))


def _measure_chi_square(
    given: Single,
    generator: np.random.Generator,
    *,
    rows: Callable[[Array, int, np.random.Generator], Array] = _gaussian_rows,
    probability: Callable[[int, float], float] = tails.pair_failure,
    draws: int = SINGLE_DRAWS,
) -> Measurement:
    if not 0 < float(np.abs(given.x).max(initial=0.0)) < math.inf:
        return Measurement.unmet_because("x is 0, or not finite")
    images = rows(given.x, draws * given.dim, generator).reshape(draws, given.dim)
    ratio = (images**2).mean(axis=1) / (given.x @ given.x)
    share = float((np.abs(ratio - 1) > given.eps).mean())
    p = probability(given.dim, given.eps)
    # The spread is the statement's own, so that a wrong probability cannot widen it.
    true = tails.pair_failure(given.dim, given.eps)
    return Measurement(share, p, confidence(math.sqrt(true * (1 - true)), draws, LEVEL))


CHI_SQUARE = Claim(
    id="projection.chi-square",
    title="Under a Gaussian map one squared length is off with the probability of two χ² tails",
    source="Beyond the document: the exact law behind the lemma",
    statement=(
        "‖A x‖²/‖x‖² is χ²_n/n for A with independent normal entries of variance 1/n, whatever x; measured: the share"
        f" of {SINGLE_DRAWS:,} maps ({FULL_SINGLE_DRAWS:,} with --full) with |‖A x‖²/‖x‖² − 1| > ε; bound:"
        " P(|χ²_n/n − 1| > ε)"
    ),
    hypotheses=("x is not 0", "the number of maps is fixed in advance"),
    relation="==",
    measure=_measure_chi_square,
    full={"draws": FULL_SINGLE_DRAWS},
    subjects={
        "an-axis": lambda: Single(np.array([1.0, 0.0]), 20, 0.4),
        "two-coordinates": lambda: Single(np.array([3.0, -4.0]), 5, 0.5),
        "one-dimension": lambda: Single(np.array([2.0, 1.0, 1.0]), 1, 0.9),
    },
    falsifiers={
        "signs-on-an-axis": Falsifier(
            "random signs, which keep the axes' lengths exactly",
            lambda: Single(np.array([1.0, 0.0]), 20, 0.4),
            replaces={"rows": _sign_rows},
        ),
        "classic-bound": Falsifier(
            "2 exp(−n (ε²/2 − ε³/3)/2) in place of the tails",
            lambda: Single(np.array([1.0, 0.0]), 20, 0.4),
            replaces={"probability": classic_pair},
        ),
        "upper-tail": Falsifier(
            "the upper tail alone",
            lambda: Single(np.array([1.0, 0.0]), 20, 0.4),
            replaces={"probability": _upper_tail},
        ),
    },
)
