"""The Walsh-Hadamard transform of rows, in the cache. This module imports numba; import it where it is used.

A pass of stride h replaces every a = x[j], b = x[j + h] by a + b, a - b; the passes of stride 1, 2, 4 ... are the
transform. Three passes go over eight neighbours at once, further ones over vectors of eight numbers, two at a time.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from layerlab.lab.kernels.jit import inline, kernel
from layerlab.lab.kernels.vector import add, load, store, subtract, zeros

U = np.uint64
_LANES = U(8)


@inline
def _eights(row: Any, size: Any) -> None:
    for i in range(U(0), size, U(8)):
        a, b, c, d = row[i], row[i + U(1)], row[i + U(2)], row[i + U(3)]
        e, f, g, h = row[i + U(4)], row[i + U(5)], row[i + U(6)], row[i + U(7)]
        a, b, c, d, e, f, g, h = a + b, a - b, c + d, c - d, e + f, e - f, g + h, g - h
        a, b, c, d, e, f, g, h = a + c, b + d, a - c, b - d, e + g, f + h, e - g, f - h
        row[i], row[i + U(1)], row[i + U(2)], row[i + U(3)] = a + e, b + f, c + g, d + h
        row[i + U(4)], row[i + U(5)], row[i + U(6)], row[i + U(7)] = a - e, b - f, c - g, d - h


@inline
def _two_passes(row: Any, size: Any, h: Any) -> None:
    """The passes of stride h and 2h: four vectors are read and written once."""
    like = zeros(row, 8)
    for start in range(U(0), size, U(4) * h):
        for j in range(start, start + h, _LANES):
            a, b = load(like, row, j), load(like, row, j + h)
            c, d = load(like, row, j + U(2) * h), load(like, row, j + U(3) * h)
            p, q, r, s = add(a, b), subtract(a, b), add(c, d), subtract(c, d)
            store(row, j, add(p, r))
            store(row, j + h, add(q, s))
            store(row, j + U(2) * h, subtract(p, r))
            store(row, j + U(3) * h, subtract(q, s))


@inline
def _one_pass(row: Any, size: Any, h: Any) -> None:
    like = zeros(row, 8)
    for start in range(U(0), size, U(2) * h):
        for j in range(start, start + h, _LANES):
            a, b = load(like, row, j), load(like, row, j + h)
            store(row, j, add(a, b))
            store(row, j + h, subtract(a, b))


@inline
def _short(row: Any, size: Any) -> None:
    """Rows of fewer than eight numbers."""
    h = U(1)
    while h < size:
        for start in range(U(0), size, U(2) * h):
            for j in range(start, start + h):
                a, b = row[j], row[j + h]
                row[j], row[j + h] = a + b, a - b
        h *= U(2)


@inline
def _transform(row: Any, size: Any) -> None:
    if size < _LANES:
        _short(row, size)
        return
    _eights(row, size)
    h = _LANES
    while U(4) * h <= size:
        _two_passes(row, size, h)
        h *= U(4)
    if h < size:
        _one_pass(row, size, h)


@kernel
def transform(x: Any, out: Any, first: int, last: int) -> None:
    """``out = x H`` for rows ``first ... last - 1``; their length is a power of two."""
    size = U(x.shape[1])
    for i in range(first, last):
        out[i] = x[i]
        _transform(out[i], size)
