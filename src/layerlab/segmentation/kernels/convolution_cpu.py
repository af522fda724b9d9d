"""The gradient of a 3 x 3 convolution's weight, channels last, in numba.

Three neighbouring pixels of a row lie side by side in memory, so that a row of the gradient, ``3 ci`` by ``co``
numbers, is a product of matrices: 6 by 16 sums stay in 12 registers while all pixels of a row pass, each pixel for 8
loads and 12 multiply-adds. Rows are dealt to a fixed number of chunks, each with sums of its own, so that bits do not
depend on threads. Arrays are contiguous float32 and trusted: `layerlab.segmentation.kernels.convolution` looks at them
first.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from layerlab.lab.kernels.jit import inline as inline
from layerlab.lab.kernels.jit import kernel as kernel
from layerlab.lab.kernels.vector import add, load, multiply, splat, store, zeros

U = np.uint64  # unsigned indices: numba wraps signed ones around, at a price

INPUTS, OUTPUTS = 6, 16
"""Of a tile: what divides ``3 ci`` and ``co``."""


@inline
def _add_row(total: Any, number: Any, vector: Any) -> Any:
    return add(total, multiply(splat(vector, number), vector))


@inline
def _tile(
    zero: Any, x: Any, at: Any, x_step: Any, g: Any, start: Any, width: Any, out: Any, to: Any, step: Any
) -> None:
    """``out[i, j] += sum over pixels p of x[at + p x_step + i] g[start + p step + j]`` for i < 6, j < 16."""
    to_1, to_2, to_3 = to + step, to + U(2) * step, to + U(3) * step
    to_4, to_5 = to + U(4) * step, to + U(5) * step
    a, a_ = load(zero, out, to), load(zero, out, to + U(8))
    b, b_ = load(zero, out, to_1), load(zero, out, to_1 + U(8))
    c, c_ = load(zero, out, to_2), load(zero, out, to_2 + U(8))
    d, d_ = load(zero, out, to_3), load(zero, out, to_3 + U(8))
    e, e_ = load(zero, out, to_4), load(zero, out, to_4 + U(8))
    f, f_ = load(zero, out, to_5), load(zero, out, to_5 + U(8))
    for _ in range(width):
        left, right = load(zero, g, start), load(zero, g, start + U(8))
        a, a_ = _add_row(a, x[at], left), _add_row(a_, x[at], right)
        b, b_ = _add_row(b, x[at + U(1)], left), _add_row(b_, x[at + U(1)], right)
        c, c_ = _add_row(c, x[at + U(2)], left), _add_row(c_, x[at + U(2)], right)
        d, d_ = _add_row(d, x[at + U(3)], left), _add_row(d_, x[at + U(3)], right)
        e, e_ = _add_row(e, x[at + U(4)], left), _add_row(e_, x[at + U(4)], right)
        f, f_ = _add_row(f, x[at + U(5)], left), _add_row(f_, x[at + U(5)], right)
        at += x_step
        start += step
    store(out, to, a)
    store(out, to + U(8), a_)
    store(out, to_1, b)
    store(out, to_1 + U(8), b_)
    store(out, to_2, c)
    store(out, to_2 + U(8), c_)
    store(out, to_3, d)
    store(out, to_3 + U(8), d_)
    store(out, to_4, e)
    store(out, to_4 + U(8), e_)
    store(out, to_5, f)
    store(out, to_5 + U(8), f_)


@kernel
def weight_gradient(
    x: Any, gradient: Any, height: int, width: int, padded: Any, out: Any, first: int, last: int
) -> None:
    """Chunks ``first ... last - 1`` of the gradient.

    Args:
        x: ``(rows, width * ci)``, rows of all images, one after the other.
        gradient: ``(rows, width * co)``, of the output.
        height: rows of an image.
        width: pixels of a row.
        padded: ``(chunks, (width + 2) * ci)`` zeros: room for a row with a pixel at either end.
        out: ``(chunks, 9 * ci * co)`` zeros: sums ``(3, 3, ci, co)`` of every chunk.
    """
    rows, chunks = x.shape[0], out.shape[0]
    ci, co, w = U(x.shape[1]) // U(width), U(gradient.shape[1]) // U(width), U(width)
    reach, g = U(3) * ci, gradient.reshape(-1)
    zero = zeros(x, 8)
    for chunk in range(first, last):
        row, sums = padded[chunk], out[chunk]
        for r in range(chunk * rows // chunks, (chunk + 1) * rows // chunks):
            for dy in range(3):
                y = r % height + dy - 1
                if y < 0 or y >= height:
                    continue
                row[ci : ci * (w + U(1))] = x[r + dy - 1]
                for i in range(U(0), reach, U(INPUTS)):
                    to = (U(dy) * reach + i) * co
                    for j in range(U(0), co, U(OUTPUTS)):
                        _tile(zero, row, i, ci, g, U(r) * w * co + j, w, sums, to + j, co)
