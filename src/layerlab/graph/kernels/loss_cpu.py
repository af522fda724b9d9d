"""Softmax, cross-entropy, its gradient and accuracy in one pass over the logits of a node."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from layerlab.graph.kernels.products_cpu import U
from layerlab.lab.kernels.jit import inline, kernel
from layerlab.lab.kernels.vector import (
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
def _exponentials(x: Any, start: Any, highest: Any, out: Any, at: Any, width: Any) -> None:
    f = U(0)
    while f + U(8) <= width:
        v8 = zeros(x, 8)
        store(out, at + f, exponential(subtract(load(v8, x, start + f), splat(v8, highest))))
        f += U(8)
    if f < width:
        rest, v = width - f, zeros(x, 8)
        shifted = subtract(load_first(v, x, start + f, rest), splat(v, highest))
        store_first(out, at + f, exponential(shifted), rest)


@inline
def _softmax_parts(x: Any, row: Any, out: Any, at: Any) -> Any:
    """The largest number of a row and the sum of ``exp(x - largest)``, which are left in ``out.flat[at : at + C]``."""
    width = U(x.shape[1])
    highest = x[row, 0]
    for column in range(width):
        highest = max(highest, x[row, column])
    _exponentials(x, row * width, highest, out, at, width)
    total, flat = x.dtype.type(0), out.reshape(-1)
    for column in range(width):
        total += flat[at + column]
    return highest, total


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
            highest, total = _softmax_parts(x, row, gradient, row * width)
            losses += math.log(total) + (highest - x[row, label])
            share = scale / total
            for column in range(width):
                gradient[row, column] *= share
            gradient[row, label] -= scale
        sums[chunk] = losses


@kernel
def scores(x: Any, rows: Any, labels: Any, chunk: int, sums: Any, hits: Any, first: int, last: int) -> None:
    """Sums of losses at ``rows`` as in `cross_entropy`, and how often the first of the largest numbers is the label's.

    Over chunks of ``chunk`` places of ``rows`` and ``labels``. A row or label that there is not makes the sum of its
    chunk -1 - its place. A row with NaN is no hit.
    """
    width, scratch = x.shape[1], np.empty(x.shape[1], x.dtype)
    for part in range(first, last):
        losses, right = 0.0, 0
        for place in range(part * chunk, min(len(rows), (part + 1) * chunk)):
            row, label = rows[place], labels[place]
            if label < 0 or label >= width or row < 0 or row >= x.shape[0]:
                losses = -1.0 - place
                break
            highest, total = _softmax_parts(x, U(row), scratch, U(0))
            losses += math.log(total) + (highest - x[row, label])
            best = 0
            while best < label and x[row, best] < highest:
                best += 1
            right += best == label and x[row, label] == highest
        sums[part], hits[part] = losses, right
