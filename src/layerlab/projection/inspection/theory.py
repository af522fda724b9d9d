"""The cosines of random lines: what a histogram of cosines is held against."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from layerlab.projection.bounds import Field

_Array = NDArray[np.float64]


def tail(cosine: ArrayLike, dim: int, field: Field = "real") -> _Array:
    """P(abs(<u, v>) > t) of two independent uniform unit vectors.

    abs(<u, v>)² has the Beta(1/2, (n - 1)/2) distribution in R^n, whose density in the cosine itself is
    (1 - t²)^((n-3)/2) / B(1/2, (n-1)/2), and Beta(1, n - 1) in C^n.

    Args:
        cosine: t, any shape; taken by absolute value.
        dim: n, at least 2.
        field: of the vectors.

    >>> float(tail(0.5, 3)), round(float(tail(0.5, 2, "complex")), 3)  # uniform in R^3, by Archimedes
    (0.5, 0.75)
    """
    from scipy.special import betainc, betaincc

    square = np.clip(np.abs(np.asarray(cosine, dtype=np.float64)), 0, 1) ** 2
    if field == "complex":
        return np.asarray((1 - square) ** (dim - 1))
    # Near 1 the complement loses its digits; the other end of the same function does not.
    return np.asarray(
        np.where(square < 0.5, betaincc(0.5, (dim - 1) / 2, square), betainc((dim - 1) / 2, 0.5, 1 - square))
    )


def share(edges: ArrayLike, dim: int, field: Field = "real") -> _Array:
    """The probability that a random pair's cosine (complex: its absolute value) lies in each bin.

    Args:
        edges: (bins + 1,), ascending.
        dim: n, at least 2.
        field: of the vectors.

    >>> share([-1.0, 0.0, 0.5, 1.0], 3).tolist()
    [0.5, 0.25, 0.25]
    """
    ends = np.asarray(edges, dtype=np.float64)
    above = tail(ends, dim, field)
    if field == "real":
        above = np.where(ends >= 0, above / 2, 1 - above / 2)
    return np.asarray(above[:-1] - above[1:])


def typical_coherence(dim: int, count: int, field: Field = "real") -> float:
    """The coherence that as many random vectors have about every second time.

    The t with pairs · P(abs(<u, v>) > t) = ln 2: the number of pairs beyond is nearly Poisson.

    >>> round(typical_coherence(1024, 20_000), 3)
    0.183
    """
    from scipy.optimize import brentq

    if dim == 1:
        return 1.0
    log_pairs = math.log(count) + math.log(count - 1) - math.log(2)
    goal = math.log(math.log(2)) - log_pairs

    def excess(cosine: float) -> float:
        value = float(tail(cosine, dim, field))
        return (math.log(value) if value > 0 else -800.0) - goal

    # For two vectors the median is well inside; for very many it tends to 1.
    return float(brentq(excess, 0.0, 1.0, xtol=1e-12)) if excess(0.0) > 0 else 0.0
