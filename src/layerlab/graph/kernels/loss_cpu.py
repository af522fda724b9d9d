"""Softmax, cross-entropy and its gradient in one pass over the logits of a node."""

from __future__ import annotations

import math
from typing import Any

from layerlab.graph.kernels.jit import inline, kernel
from layerlab.graph.kernels.products_cpu import U
from layerlab.graph.kernels.vector import (
    exponential,
    load,
    load_first,
    splat,
    store,
    store_first,
    subtract,
    zeros,
)


@inline
def _exponentials(x: Any, highest: Any, out: Any, at: Any, width: Any) -> None:
    f = U(0)
    while f + U(8) <= width:
        v8 = zeros(x, 8)
        store(out, at + f, exponential(subtract(load(v8, x, at + f), splat(v8, highest))))
        f += U(8)
    if f < width:
        rest, v = width - f, zeros(x, 8)
        shifted = subtract(load_first(v, x, at + f, rest), splat(v, highest))
        store_first(out, at + f, exponential(shifted), rest)


@kernel
def cross_entropy(
    x: Any, labels: Any, scale: Any, rows: int, sums: Any, gradient: Any, first: int, last: int
) -> None:
    """Sums of losses over chunks of ``rows`` rows, and ``gradient = scale (softmax(x) - one-hot)``.

    The loss of row i is ``log sum_c exp(x[i, c]) - x[i, labels[i]]``. A label that is no column makes the sum of its
    chunk -1 - i, which no sum of losses is.
    """
    height, width = U(x.shape[0]), U(x.shape[1])
    for chunk in range(U(first), U(last)):
        losses = 0.0
        for row in range(chunk * U(rows), min(height, (chunk + U(1)) * U(rows))):
            label = labels[row]
            if label < 0 or label >= x.shape[1]:
                losses = -1.0 - row
                break
            highest = x[row, 0]
            for column in range(width):
                highest = max(highest, x[row, column])
            _exponentials(x, highest, gradient, row * width, width)
            total = x.dtype.type(0)
            for column in range(width):
                total += gradient[row, column]
            losses += math.log(total) + (highest - x[row, label])
            share = scale / total
            for column in range(width):
                gradient[row, column] *= share
            gradient[row, label] -= scale
        sums[chunk] = losses
