"""All pairs of vectors: counted by cosine, and the nearest kept, while a block is in a cache.

The nearest pairs are kept in a heap whose root is the worst of them: smaller in absolute value, or as large and later
in the order of (row, column). So what is kept depends on the vectors alone, not on how blocks fall to threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core import types
from numba.extending import intrinsic

from layerlab.lab.kernels.jit import allocating, kernel

# Elements looked at together: one comparison decides that none of them is near enough.
_CHUNK = 64


def _intrinsic(define: Any) -> Any:
    """numba's decorator, with the types that mypy asks for and numba does not give."""
    return intrinsic(define)


@_intrinsic
def ones(typing: Any, word: Any) -> Any:
    """How many bits of a 64-bit word are set."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.int64(types.uint64), generate


@allocating
def _worse(values: Any, places: Any, a: int, b: int) -> bool:
    x, y = abs(values[a]), abs(values[b])
    if x != y:
        return x < y
    if places[a, 0] != places[b, 0]:
        return places[a, 0] > places[b, 0]
    return places[a, 1] > places[b, 1]


@allocating
def _sink(values: Any, places: Any, size: int) -> None:
    """The root goes down to where it belongs."""
    node = 0
    while True:
        least, left = node, 2 * node + 1
        if left < size and _worse(values, places, left, least):
            least = left
        if left + 1 < size and _worse(values, places, left + 1, least):
            least = left + 1
        if least == node:
            return
        _exchange(values, places, node, least)
        node = least


@allocating
def _exchange(values: Any, places: Any, a: int, b: int) -> None:
    values[a], values[b] = values[b], values[a]
    for side in range(2):
        places[a, side], places[b, side] = places[b, side], places[a, side]


@allocating
def _offer(values: Any, places: Any, size: int, value: float, i: int, j: int) -> int:
    """Keep the pair if it is among the nearest; returns how many are kept."""
    if size < len(values):
        node = size
        values[node], places[node, 0], places[node, 1] = value, i, j
        while node > 0 and _worse(values, places, node, (node - 1) // 2):
            _exchange(values, places, node, (node - 1) // 2)
            node = (node - 1) // 2
        return size + 1
    x, y = abs(value), abs(values[0])
    later = i > places[0, 0] or (i == places[0, 0] and j > places[0, 1])
    if x > y or (x == y and not later):
        values[0], places[0, 0], places[0, 1] = value, i, j
        _sink(values, places, size)
    return size


@allocating
def _among(value: float, least: float, i: int, j: int, places: Any) -> bool:
    """Whether a pair can take the place of the root, whose absolute value is ``least`` (negative: there is room)."""
    if value > least:
        return True
    # Codes with few cosines have many pairs like the root: those after it are turned away here, and cost little.
    return value == least and (i < places[0, 0] or (i == places[0, 0] and j < places[0, 1]))


@kernel
def sign_pairs(
    packed: Any,
    dim: int,
    tiles: Any,
    counts: Any,
    values: Any,
    places: Any,
    sizes: Any,
    first: int,
    last: int,
) -> None:
    """Inner products of sign vectors by the bits in which they differ: dim - 2 ones(x ^ y).

    Args:
        packed: (count, words) uint64, a bit for each minus sign.
        dim: how many bits of a row are used.
        tiles: (tiles, 4) first and last row and column; where rows and columns begin alike, only columns after the row.
        counts: (parts, 4, dim + 1) int64, to which the pairs at each distance are added. Four, for neighbours in a row
            are often at the same distance, and the next addition to a number waits for the last.
        values, places, sizes: (parts, kept), (parts, kept, 2), (parts,): the nearest pairs, kept up.
        first, last: the parts to do; part p of P does the tiles p, p + P, ...
    """
    words, parts = packed.shape[1], len(counts)
    for part in range(first, last):
        found, near, where = counts[part], values[part], places[part]
        size, full = sizes[part], len(near)
        least = abs(int(near[0])) if size == full else -1
        for tile in range(part, len(tiles), parts):
            row, last_row, column, last_column = tiles[tile]
            for i in range(row, last_row):
                begin = i + 1 if row == column else column
                x = packed[i]
                whole = begin + (last_column - begin) // 4 * 4
                for j in range(begin, whole, 4):
                    a, b, c, d = 0, 0, 0, 0
                    for word in range(words):
                        bits = x[word]
                        a += ones(bits ^ packed[j, word])
                        b += ones(bits ^ packed[j + 1, word])
                        c += ones(bits ^ packed[j + 2, word])
                        d += ones(bits ^ packed[j + 3, word])
                    found[0, a] += 1
                    found[1, b] += 1
                    found[2, c] += 1
                    found[3, d] += 1
                    a, b, c, d = dim - 2 * a, dim - 2 * b, dim - 2 * c, dim - 2 * d
                    if _among(max(abs(a), abs(b), abs(c), abs(d)), least, i, j, where):
                        size = _offer(near, where, size, a, i, j)
                        size = _offer(near, where, size, b, i, j + 1)
                        size = _offer(near, where, size, c, i, j + 2)
                        size = _offer(near, where, size, d, i, j + 3)
                        least = abs(int(near[0])) if size == full else -1
                for j in range(whole, last_column):
                    a = 0
                    for word in range(words):
                        a += ones(x[word] ^ packed[j, word])
                    found[0, a] += 1
                    a = dim - 2 * a
                    if _among(abs(a), least, i, j, where):
                        size = _offer(near, where, size, a, i, j)
                        least = abs(int(near[0])) if size == full else -1
        sizes[part] = size


@kernel
def block_pairs(
    block: Any,
    row: int,
    column: int,
    lowest: float,
    counts: Any,
    values: Any,
    places: Any,
    sizes: Any,
    first: int,
    last: int,
) -> None:
    """Take up a block of cosines, those of rows from ``row`` on with columns from ``column`` on.

    Args:
        block: (rows, columns) float32 or float64; on the diagonal (``row == column``) only what is right of it counts.
        lowest: where the first of the bins of equal width begins; the last ends at 1.
        counts: (parts, bins) int64, or (parts, 0): no histogram.
        values, places, sizes: as for `sign_pairs`.
        first, last: the parts to do; each has as many rows.
    """
    rows, columns = block.shape
    parts, bins = counts.shape
    scale = block.dtype.type(bins / (1 - lowest))
    offset = block.dtype.type(-lowest)
    for part in range(first, last):
        found, near, where = counts[part], values[part], places[part]
        size, full = sizes[part], len(near)
        least = block.dtype.type(abs(near[0]) if size == full else -1)
        for i in range(rows * part // parts, rows * (part + 1) // parts):
            cosines = block[i]
            begin = i + 1 if row == column else 0
            if bins > 0:
                for j in range(begin, columns):
                    found[min(max(int((cosines[j] + offset) * scale), 0), bins - 1)] += 1
            for start in range(begin, columns, _CHUNK):
                stop = min(start + _CHUNK, columns)
                candidates = 0
                for j in range(start, stop):
                    candidates += abs(cosines[j]) >= least
                if candidates > 0:
                    for j in range(start, stop):
                        if _among(abs(cosines[j]), least, row + i, column + j, where):
                            size = _offer(near, where, size, cosines[j], row + i, column + j)
                            least = block.dtype.type(abs(near[0]) if size == full else -1)
        sizes[part] = size


@kernel
def pack_signs(vectors: Any, packed: Any, alike: Any, first: int, last: int) -> None:
    """Set ``packed[i]`` to the signs of row i (a bit for each minus), ``alike[i]`` to 1 if they say all of the row.

    They do where all entries have the same absolute value, neither 0 nor infinite nor NaN.
    """
    dim = vectors.shape[1]
    for i in range(first, last):
        x = vectors[i]
        size = abs(x[0])
        same = size > 0 and size < np.inf
        for word in range(packed.shape[1]):
            bits = np.uint64(0)
            wrong = 0
            for k in range(64 * word, min(64 * word + 64, dim)):
                wrong += abs(x[k]) != size
                bits |= np.uint64(x[k] < 0) << np.uint64(k - 64 * word)
            packed[i, word] = bits
            same = same and wrong == 0
        alike[i] = same


@kernel
def unit_rows(vectors: Any, out: Any, done: Any, first: int, last: int) -> None:
    """Set ``out[i]`` to row i over its length, made in float64; ``done[i]`` is 0 where squares leave the range."""
    dim = vectors.shape[1]
    for i in range(first, last):
        x = vectors[i]
        total = 0.0
        for k in range(dim):
            total += float(x[k]) * float(x[k])
        done[i] = total > 1e-200 and total < 1e200
        length = np.sqrt(total)
        for k in range(dim):
            out[i, k] = float(x[k]) / length
