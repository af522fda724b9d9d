"""Graph attention in numba: scores, softmax, dropout and aggregation in one pass over a row, and the exact backward.

Coefficients are ``(entries, heads)``; nothing is ``(entries, heads, features)``. What a row needs in between lies in
a scratch as long as the longest row. Everything runs over the heads in vector lanes where it concerns coefficients,
and over the features of a head where it concerns values.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from layerlab.graph.kernels.products_cpu import BATCH, U, dot, inline, kernel
from layerlab.graph.kernels.vector import (
    add,
    divide,
    exponential,
    kept,
    larger,
    load,
    multiply,
    splat,
    store,
    subtract,
    where_positive,
    zeros,
)
from layerlab.lab.random import GROUP, draw


@kernel
def node_scores(z: Any, target: Any, source: Any, to_row: Any, to_entry: Any, first: int, last: int) -> None:
    """``target[h] . z[i, h]`` and ``source[h] . z[i, h]`` for every node; one vector may serve all heads."""
    heads, features = U(to_entry.shape[1]), U(target.shape[1])
    step = U(0) if target.shape[0] == 1 else features
    rows, width = U(to_row.shape[0]), heads * features
    for node in range(U(first), U(last)):
        for head in range(heads):
            at = node * width + head * features
            to_entry[node, head] = dot(z, at, source, head * step, features)
            if node < rows:
                to_row[node, head] = dot(z, at, target, head * step, features)


@inline
def _leaky(x: Any, slope: Any) -> Any:
    return where_positive(x, x, multiply(x, slope))


@inline
def _softmax(
    zero: Any,
    col: Any,
    to_row: Any,
    to_entry: Any,
    row: Any,
    start: Any,
    stop: Any,
    heads: Any,
    head: Any,
    slope: Any,
    words: Any,
    window: Any,
    threshold: Any,
    scale: Any,
    alpha: Any,
    masked: Any,
) -> None:
    """The coefficients of W heads of one row, before and after dropout; W is the width of ``zero``."""
    base = load(zero, to_row, row * heads + head)
    slopes = splat(zero, slope)
    highest = _leaky(add(base, load(zero, to_entry, U(col[start]) * heads + head)), slopes)
    for entry in range(start, stop):
        score = _leaky(add(base, load(zero, to_entry, U(col[entry]) * heads + head)), slopes)
        store(alpha, entry * heads + head, score)
        highest = larger(highest, score)
    sums = zero
    for entry in range(start, stop):
        weight = exponential(subtract(load(zero, alpha, entry * heads + head), highest))
        store(alpha, entry * heads + head, weight)
        sums = add(sums, weight)
    share = divide(splat(zero, alpha.dtype.type(1)), sums)
    for entry in range(start, stop):
        place = entry * heads + head
        weight = multiply(load(zero, alpha, place), share)
        store(alpha, place, weight)
        if threshold > 0:
            weight = multiply(weight, kept(zero, words, place - window, threshold, scale))
        store(masked, (entry - start) * heads + head, weight)


@inline
def weighted_sum(
    total_of: Any,
    col: Any,
    order: Any,
    coefficients: Any,
    skip: Any,
    step: Any,
    head: Any,
    x: Any,
    start: Any,
    stop: Any,
    width: Any,
    offset: Any,
) -> Any:
    """``+ sum over e of coefficients[(order[e] - skip) step + head] x[col[e], offset : offset + W]``."""
    for entry in range(start, stop):
        place = (entry if order is None else U(order[entry])) - skip
        weight = splat(total_of, coefficients[place * step + head])
        total_of = add(total_of, multiply(weight, load(total_of, x, U(col[entry]) * width + offset)))
    return total_of


@inline
def _biased(zero: Any, bias: Any, offset: Any) -> Any:
    return zero if bias is None else load(zero, bias, offset)


@inline
def _aggregate(
    col: Any,
    masked: Any,
    x: Any,
    bias: Any,
    heads: Any,
    features: Any,
    start: Any,
    stop: Any,
    row: Any,
    out: Any,
) -> None:
    """All heads and features of one row."""
    width = heads * features
    for head in range(heads):
        f, at = U(0), head * features
        while f + U(8) <= features:
            v8 = _biased(zeros(x, 8), bias, at + f)
            v8 = weighted_sum(v8, col, None, masked, start, heads, head, x, start, stop, width, at + f)
            store(out, row * width + at + f, v8)
            f += U(8)
        if f + U(4) <= features:
            v4 = _biased(zeros(x, 4), bias, at + f)
            v4 = weighted_sum(v4, col, None, masked, start, heads, head, x, start, stop, width, at + f)
            store(out, row * width + at + f, v4)
            f += U(4)
        while f < features:
            v1 = _biased(zeros(x, 1), bias, at + f)
            v1 = weighted_sum(v1, col, None, masked, start, heads, head, x, start, stop, width, at + f)
            store(out, row * width + at + f, v1)
            f += U(1)


@inline
def draw_window(
    words: Any, seed: Any, threshold: Any, start: Any, stop: Any, drawn: Any, window: Any, final: Any
) -> tuple[Any, Any]:
    """Make sure that the words of elements ``start ... stop - 1`` are drawn, and as many more as fit the cache.

    Returns:
        The element that follows the last one drawn, and the element whose word is ``words[0]``.
    """
    if threshold > 0 and stop > drawn:
        drawn = min(final, max(stop, start + BATCH))
        window = start - draw(words, seed, U(0), start, drawn)
    return drawn, window


@kernel
def attend(
    crow: Any,
    col: Any,
    to_row: Any,
    to_entry: Any,
    z: Any,
    bias: Any,
    slope: Any,
    seed: Any,
    threshold: Any,
    scale: Any,
    longest: int,
    alpha: Any,
    out: Any,
    first: int,
    last: int,
) -> None:
    """Coefficients before dropout (``alpha``) and the aggregate of those after it (``out``).

    Args:
        to_row: ``(rows, heads)`` scores of the receiving nodes.
        to_entry: ``(columns, heads)`` scores of the sending ones.
        z: ``(columns, heads * F)``.
        bias: ``(heads * F,)`` or None.
        longest: entries of the longest row.
    """
    count = to_row.shape[1]
    heads, features = U(count), U(z.shape[1] // count)
    words = np.empty(longest * count + BATCH + 2 * GROUP, np.uint32)
    masked = np.empty(longest * count, z.dtype)
    drawn, window, final = np.int64(0), np.int64(0), np.int64(crow[last]) * count
    for row in range(U(first), U(last)):
        start, stop = U(crow[row]), U(crow[row + U(1)])
        drawn, window = draw_window(
            words, seed, threshold, np.int64(start) * count, np.int64(stop) * count, drawn, window, final
        )
        w = U(window)
        head = U(0) if start < stop else heads
        while head + U(8) <= heads:
            _softmax(
                zeros(z, 8),
                col,
                to_row,
                to_entry,
                row,
                start,
                stop,
                heads,
                head,
                slope,
                words,
                w,
                threshold,
                scale,
                alpha,
                masked,
            )
            head += U(8)
        while head < heads:
            _softmax(
                zeros(z, 1),
                col,
                to_row,
                to_entry,
                row,
                start,
                stop,
                heads,
                head,
                slope,
                words,
                w,
                threshold,
                scale,
                alpha,
                masked,
            )
            head += U(1)
        _aggregate(col, masked, z, bias, heads, features, start, stop, row, out)
