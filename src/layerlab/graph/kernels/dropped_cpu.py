"""Products of ``drop(act(x))`` that is never whole: each chunk of rows is made, used and forgotten in a cache.

A library's product over such chunks would let its threads meet after each; here a thread does its chunks alone. Chunks
are of fixed size, and each has sums of its own, so bits do not depend on threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from layerlab.graph.kernels.products_cpu import BATCH, ELU, NONE, RELU, U, activate_batch, product_of_rows
from layerlab.lab.kernels.jit import allocating, kernel
from layerlab.lab.random import GROUP, draw


@allocating
def _drop(x: Any, begin: Any, end: Any, activation: Any, law: Any, words: Any, out: Any) -> None:
    """``out = drop(act(x))`` for elements ``begin ... end - 1`` of x; element i has the random word i."""
    seed, threshold, scale = law
    for start in range(begin, end, BATCH):
        stop, shift = min(start + BATCH, end), 0
        if threshold > 0:
            shift = draw(words, seed, U(0), start, stop)
        given, made = x[start:stop], out[start - begin : stop - begin]
        zero, count, s = U(0), U(stop - start), U(shift)
        if activation == RELU:
            activate_batch(given, RELU, words, s, threshold, scale, made, zero, count)
        elif activation == ELU:
            activate_batch(given, ELU, words, s, threshold, scale, made, zero, count)
        else:
            activate_batch(given, NONE, words, s, threshold, scale, made, zero, count)


@kernel
def dropped_product(
    x: Any, activation: int, law: Any, w: Any, rows: int, out: Any, first: int, last: int
) -> None:
    """``out = drop(act(x)) w`` for chunks ``first ... last - 1`` of so many rows; law: seed, threshold, scale."""
    height, width = x.shape
    y, words = np.empty((rows, width), x.dtype), np.empty(BATCH + 2 * GROUP, np.uint32)
    for chunk in range(first, last):
        start, stop = chunk * rows, min(height, (chunk + 1) * rows)
        _drop(x.reshape(-1), start * width, stop * width, activation, law, words, y.reshape(-1))
        product_of_rows(y, w, out[start:stop], U(0), U(stop - start))


@kernel
def dropped_gradient(
    x: Any, activation: int, law: Any, given: Any, rows: int, sums: Any, first: int, last: int
) -> None:
    """``sums[c] = given_c^T drop(act(x_c))`` for chunks ``first ... last - 1`` of so many rows."""
    height, width = x.shape
    y, words = np.empty((rows, width), x.dtype), np.empty(BATCH + 2 * GROUP, np.uint32)
    turned = np.empty((given.shape[1], rows), x.dtype)
    for chunk in range(first, last):
        start, stop = chunk * rows, min(height, (chunk + 1) * rows)
        _drop(x.reshape(-1), start * width, stop * width, activation, law, words, y.reshape(-1))
        # A short last chunk is filled up with zeros, which add nothing.
        y[stop - start :] = 0
        turned[:, stop - start :] = 0
        for row in range(stop - start):
            for column in range(len(turned)):
                turned[column, row] = given[start + row, column]
        product_of_rows(turned, y, sums[chunk], U(0), U(len(turned)))
