"""Pairs of vectors: which blocks of them to make, those that are nearest, and packed signs compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

# Sides of blocks: the product of the largest, 16 MB in float32, stays in a large cache.
LARGEST, LEAST = 2048, 512
# Rows and columns of packed signs whose words fit the first and the second cache.
_SIGN_ROWS, _SIGN_WORDS = 256, 1 << 14
_TILES_AT_ONCE = 1024


@dataclass(frozen=True)
class Pair:
    """Two rows and their cosine (its absolute value for complex vectors)."""

    first: int
    second: int
    cosine: float


@dataclass(frozen=True)
class Histogram:
    """How many pairs have a cosine in each bin: ``edges`` (bins + 1,) and ``counts`` (bins,)."""

    edges: NDArray[np.float64]
    counts: NDArray[np.int64]


def blocks(first: int, last: int) -> Iterator[tuple[int, int, int, int]]:
    """Blocks that cover every pair of rows once: squares on the diagonal, small ones, and large ones beside it.

    >>> list(blocks(0, 800))
    [(0, 400, 0, 400), (0, 400, 400, 800), (400, 800, 400, 800)]
    """
    if last - first <= LEAST:
        yield first, last, first, last
        return
    middle = (first + last) // 2
    yield from blocks(first, middle)
    for row in _steps(first, middle):
        for column in _steps(middle, last):
            yield (*row, *column)
    yield from blocks(middle, last)


def _steps(first: int, last: int) -> list[tuple[int, int]]:
    """``first ... last`` cut evenly into pieces that are not too long."""
    pieces = -(-(last - first) // LARGEST)
    cuts = [first + (last - first) * piece // pieces for piece in range(pieces + 1)]
    return list(pairwise(cuts))


def sign_histogram(counts: NDArray[np.int64], dim: int) -> Histogram:
    """From the pairs at each number of differing signs to the cosines (dim - 2d)/dim, in rising order."""
    edges = (2 * np.arange(dim + 2) - 1 - dim) / dim
    return Histogram(edges, counts[::-1].copy())


def triangle(count: int, dim: int) -> NDArray[np.int64]:
    """Tiles of packed signs that cover every pair once: first and last row, first and last column."""
    width = max(_SIGN_ROWS, _SIGN_WORDS * 64 // max(64, dim) // _SIGN_ROWS * _SIGN_ROWS)
    tiles: list[tuple[int, int, int, int]] = []
    for row in range(0, count, _SIGN_ROWS):
        last = min(row + _SIGN_ROWS, count)
        tiles.append((row, last, row, last))
        tiles += [(row, last, start, min(start + width, count)) for start in range(last, count, width)]
    return np.array(tiles, np.int64)


def sign_scan(
    packed: NDArray[np.uint64],
    dim: int,
    nearest: int,
    tiles: NDArray[np.int64],
    report: Callable[[int, int], None] = lambda done, of: None,
) -> tuple[NDArray[np.int64], list[Pair]]:
    """The pairs of the given tiles: how many differ in 0 ... dim signs, and the nearest.

    Args:
        packed: (count, words) uint64, as `Rows.packed` gives it.
        dim: signs in a row.
        nearest: how many pairs to list.
        tiles: (tiles, 4) as `triangle` makes them.
        report: progress, called with pairs done and all.
    """
    from layerlab.lab.kernels import threads
    from layerlab.projection.kernels.pairs_cpu import sign_pairs

    parts = torch.get_num_threads()
    counts = np.zeros((parts, 4, dim + 1), np.int64)
    kept = Kept(parts, nearest)
    sizes = [pairs_of(tile) for tile in tiles.tolist()]
    done = 0
    for start in range(0, len(tiles), _TILES_AT_ONCE):
        some = tiles[start : start + _TILES_AT_ONCE]
        threads.run(sign_pairs, (packed, dim, some, counts, *kept.arrays), list(range(parts + 1)))
        done += sum(sizes[start : start + _TILES_AT_ONCE])
        report(done, sum(sizes))
    products, firsts, seconds = kept.merged()
    return counts.sum(axis=(0, 1)), listed(products / dim, firsts, seconds, nearest)


def pairs_of(tile: list[int]) -> int:
    row, last_row, column, last_column = tile
    rows = last_row - row
    return rows * (rows - 1) // 2 if row == column else rows * (last_column - column)


class Kept:
    """The nearest pairs, a heap for each part of the work."""

    def __init__(self, parts: int, size: int) -> None:
        self._size = size
        self._values = np.zeros((parts, size))
        self._places = np.zeros((parts, size, 2), np.int64)
        self._sizes = np.zeros(parts, np.int64)

    @property
    def arrays(self) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
        return self._values, self._places, self._sizes

    def merged(self) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
        """Values, first and second rows of the nearest of all parts."""
        used = np.arange(self._values.shape[1]) < self._sizes[:, None]
        values, places = self._values[used], self._places[used]
        order = order_of(values, places[:, 0], places[:, 1])[: self._size]
        return values[order], places[order, 0], places[order, 1]


def order_of(values: NDArray[Any], firsts: NDArray[Any], seconds: NDArray[Any]) -> NDArray[np.int64]:
    return np.lexsort((seconds, firsts, -np.abs(values)))


def listed(values: NDArray[Any], firsts: NDArray[Any], seconds: NDArray[Any], most: int) -> list[Pair]:
    if len(values) > 4 * most:
        # Sorting millions to list ten takes longer than making them.
        least = np.partition(np.abs(values), -most)[-most]
        near = np.abs(values) >= least
        values, firsts, seconds = values[near], firsts[near], seconds[near]
    order = order_of(values, firsts, seconds)[:most]
    return [
        Pair(int(i), int(j), float(value))
        for value, i, j in zip(values[order], firsts[order], seconds[order], strict=True)
    ]
