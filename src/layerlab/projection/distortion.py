"""How much a map changed the squared distances of given points: measured over all pairs, or over a seeded sample.

The distortion of a pair is abs(norm(z_i - z_j)²/norm(x_i - x_j)² - 1). Points are read in blocks, so memory does not
grow with their number; everything is computed in float64 from the numbers that were handed in. A block's distances come
from products (norm² + norm² - 2 <x, y>); the few pairs that are so close that digits cancel are computed again by
difference. Pairs at distance 0 (duplicates) are kept by every linear map, and counted apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerlab.errors import UserError
from layerlab.projection.tails import clopper_pearson

MOST_PAIRS = 50_000_000
"""Up to so many pairs (10,000 points) all are measured, unless told otherwise."""

SAMPLE = 1_000_000
"""So many pairs are drawn where there are more."""

BINS = 60

_ROWS = 1024
# Numbers of a block of rows.
_BLOCK = 1 << 23
# A squared distance below this share of the squared norms is computed by difference: above, ten digits are left.
# (Taking off the origin rounds only where what is left is as long as the origin, so that is covered.)
_CLOSE = 1e-5
# Numbers of at most this size, and at least its inverse, have squares and sums of squares with all their digits.
_EXTREME = 1e140

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Distortion:
    """What a map did to squared distances.

    Attributes:
        eps: ε.
        points: N.
        pairs: pairs measured.
        exhaustive: whether these are all N (N - 1)/2; otherwise they were drawn, uniformly and with replacement.
        duplicates: measured pairs at distance 0, which stay there.
        largest: the largest distortion among the measured pairs.
        pair: the two rows that have it.
        lowest: the least ratio of squared distances, after to before.
        highest: the greatest.
        beyond: measured pairs with a distortion above ε.
        share: beyond/pairs.
        low: lower end of the interval of the share of all pairs beyond ε: Clopper and Pearson's over the drawing of the
            pairs, for this one map. The share itself where all were measured.
        high: the upper end.
        level: the interval's confidence.
        edges: ends of the bins of the ratios.
        counts: pairs in each bin; those outside are in none.
    """

    eps: float
    points: int
    pairs: int
    exhaustive: bool
    duplicates: int
    largest: float
    pair: tuple[int, int]
    lowest: float
    highest: float
    beyond: int
    share: float
    low: float
    high: float
    level: float
    edges: tuple[float, ...]
    counts: tuple[int, ...]

    @property
    def within(self) -> bool:
        """No measured pair is beyond ε: proof for these points where all pairs were measured."""
        return self.beyond == 0

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a record or for JSON."""
        return {**asdict(self), "within": self.within}

    def __str__(self) -> str:
        kind = "all" if self.exhaustive else "a sample of"
        words = f"largest distortion {self.largest:.4f} over {kind} {self.pairs:,} pairs; "
        if self.exhaustive:
            return f"{words}{self.beyond:,} beyond {self.eps:g}"
        return f"{words}beyond {self.eps:g}: {self.low:.3g} to {self.high:.3g} of all, at {self.level:.0%} confidence"


def measure(
    x: Any,
    z: Any,
    eps: float,
    *,
    pairs: int | None = None,
    seed: int = 0,
    level: float = 0.95,
) -> Distortion:
    """Measure how far squared distances among the rows of z are from those among the rows of x.

    Args:
        x: ``(N, d)``, an array (a memory map too) or a scipy CSR matrix.
        z: ``(N, n)``, what a map made of it.
        eps: ε in (0, 1).
        pairs: None: all, if they are not more than `MOST_PAIRS`, else `SAMPLE`. A number: so many, drawn uniformly with
            replacement; at least N (N - 1)/2: all.
        seed: of the sample.
        level: confidence of the interval, for a sample.

    Raises:
        UserError: fewer than two points, numbers of rows that differ, or a number out of range.

    >>> x = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    >>> found = measure(x, 1.05 * x, 0.2)
    >>> found.pairs, found.exhaustive, round(found.largest, 4), found.within
    (3, True, 0.1025, True)
    """
    count = x.shape[0]
    if count < 2 or z.shape[0] != count:
        raise UserError(
            f"expected two points at least, as many before as after, got {count} and {z.shape[0]}"
        )
    if not 0 < eps < 1:
        raise UserError(f"expected eps between 0 and 1 (both excluded), got {eps}; take e.g. 0.1")
    if pairs is not None and pairs < 1:
        raise UserError(f"expected at least one pair to measure, got {pairs}")
    total = count * (count - 1) // 2
    wanted = (total if total <= MOST_PAIRS else SAMPLE) if pairs is None else min(pairs, total)
    _refuse_extreme(x)
    tally = _Tally(eps, z.shape[1])
    if wanted == total:
        for i, j, before, after in _all_pairs(x, z):
            tally.add(i, j, before, after)
    else:
        for i, j, before, after in _some_pairs(x, z, wanted, np.random.default_rng(seed)):
            tally.add(i, j, before, after)
    share = tally.beyond / wanted
    interval = (share, share) if wanted == total else clopper_pearson(tally.beyond, wanted, level)
    return Distortion(
        eps=eps,
        points=count,
        pairs=wanted,
        exhaustive=wanted == total,
        duplicates=tally.duplicates,
        largest=max(tally.highest - 1, 1 - tally.lowest, 0.0),
        pair=tally.high_pair if tally.highest - 1 >= 1 - tally.lowest else tally.low_pair,
        lowest=tally.lowest,
        highest=tally.highest,
        beyond=tally.beyond,
        share=share,
        low=interval[0],
        high=interval[1],
        level=level,
        edges=tuple(tally.edges.tolist()),
        counts=tuple(tally.counts.tolist()),
    )


class _Tally:
    """What is kept of the ratios that were seen."""

    def __init__(self, eps: float, dim: int) -> None:
        self.eps = eps
        # Five standard deviations of χ²_n/n to each side, and ε in any case.
        reach = min(1.0, max(5 * (2 / dim) ** 0.5, 1.25 * eps))
        self.edges = np.linspace(1 - reach, 1 + reach, BINS + 1)
        self.counts = np.zeros(BINS, np.int64)
        self.beyond = self.duplicates = 0
        self.lowest = self.highest = 1.0
        self.low_pair = self.high_pair = (0, 1)
        self._begun = False

    def add(self, i: NDArray[np.int64], j: NDArray[np.int64], before: Array, after: Array) -> None:
        """Pairs ``i[k], j[k]`` with their squared distances."""
        if (same := before == 0).any():
            self.duplicates += int(same.sum())
            i, j, before, after = i[~same], j[~same], before[~same], after[~same]
        if not len(before):
            return
        ratio = after / before
        if not np.isfinite(ratio).all():
            raise UserError(
                "the squared distances leave float64: scale the data, and leave out rows with NaN or infinity"
            )
        self.beyond += int((np.abs(ratio - 1) > self.eps).sum())
        self.counts += np.histogram(ratio, BINS, (self.edges[0], self.edges[-1]))[0]
        low, high = int(ratio.argmin()), int(ratio.argmax())
        if not self._begun or ratio[low] < self.lowest:
            self.lowest, self.low_pair = float(ratio[low]), (int(i[low]), int(j[low]))
        if not self._begun or ratio[high] > self.highest:
            self.highest, self.high_pair = float(ratio[high]), (int(i[high]), int(j[high]))
        self._begun = True


# Rows i, rows j, squared distances before and after.
Block = tuple[NDArray[np.int64], NDArray[np.int64], Array, Array]


def _refuse_extreme(x: Any) -> None:
    """Squares beyond float64 would make different rows equal, or all distances infinite."""
    step = max(1, _BLOCK // max(1, x.shape[1]))
    blocks = (_dense(x, slice(start, start + step)) for start in range(0, x.shape[0], step))
    largest = max(float(np.abs(block).max(initial=0.0)) for block in blocks)
    if largest > _EXTREME or 0 < largest < 1 / _EXTREME:
        raise UserError(
            f"expected numbers whose squares float64 holds, got {largest:.1e} as the largest; scale the data"
        )


def _dense(x: Any, rows: slice | NDArray[np.int64]) -> Array:
    from scipy.sparse import issparse

    block = x[rows].toarray() if issparse(x) else x[rows]
    return np.asarray(block, np.float64)


def _all_pairs(x: Any, z: Any) -> Iterator[Block]:
    count, width = x.shape
    # Two blocks of rows at most, of both.
    step = max(1, min(_ROWS, _BLOCK // max(width, z.shape[1])))
    # Distances do not depend on the origin; near the points, fewer digits cancel.
    origins = (_dense(x, slice(0, step)).mean(0), _dense(z, slice(0, step)).mean(0))
    squares = (_squares(x, origins[0], step), _squares(z, origins[1], step))
    for top in range(0, count, step):
        upper = slice(top, min(top + step, count))
        x_upper, z_upper = _dense(x, upper) - origins[0], _dense(z, upper) - origins[1]
        for left in range(top, count, step):
            lower = slice(left, min(left + step, count))
            same = left == top
            x_lower = x_upper if same else _dense(x, lower) - origins[0]
            z_lower = z_upper if same else _dense(z, lower) - origins[1]
            before = _products(x_upper, x_lower, squares[0][upper], squares[0][lower])
            after = _products(z_upper, z_lower, squares[1][upper], squares[1][lower])
            if same:
                i, j = np.triu_indices(len(x_upper), 1)
                before, after = before[i, j], after[i, j]
            else:
                i, j = (index.ravel() for index in np.indices(before.shape))
                before, after = before.ravel(), after.ravel()
            i, j = i + top, j + left
            _again(x, i, j, before, squares[0][i] + squares[0][j])
            _again(z, i, j, after, squares[1][i] + squares[1][j])
            yield i, j, before, after


def _squares(x: Any, origin: Array, step: int) -> Array:
    blocks = (_dense(x, slice(start, start + step)) - origin for start in range(0, x.shape[0], step))
    return np.concatenate([np.einsum("ij,ij->i", block, block) for block in blocks])


def _products(upper: Array, lower: Array, left: Array, right: Array) -> Array:
    found = upper @ lower.T
    found *= -2
    found += left[:, None]
    found += right
    return found


def _again(x: Any, i: NDArray[np.int64], j: NDArray[np.int64], found: Array, scale: Array) -> None:
    """Squared distances that lost digits, by difference, in place."""
    close = np.flatnonzero(found <= _CLOSE * scale)
    step = max(1, _BLOCK // (4 * x.shape[1]))
    for start in range(0, len(close), step):
        some = close[start : start + step]
        apart = _dense(x, i[some]) - _dense(x, j[some])
        found[some] = np.einsum("ij,ij->i", apart, apart)


def _some_pairs(x: Any, z: Any, wanted: int, generator: np.random.Generator) -> Iterator[Block]:
    count, width = x.shape
    step = max(1, _BLOCK // (4 * max(width, z.shape[1])))
    for start in range(0, wanted, step):
        size = min(step, wanted - start)
        i = generator.integers(0, count, size)
        j = generator.integers(0, count - 1, size)
        j += j >= i
        x_apart, z_apart = _dense(x, i) - _dense(x, j), _dense(z, i) - _dense(z, j)
        yield (
            np.minimum(i, j),
            np.maximum(i, j),
            np.einsum("ij,ij->i", x_apart, x_apart),
            np.einsum("ij,ij->i", z_apart, z_apart),
        )
