"""The exact backward of graph attention in numba: one pass over the rows, one over the columns.

Rows give the gradients of coefficients and scores; columns, over the cached transpose, those of what is sent.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from layerlab.graph.kernels.attention_cpu import draw_window, weighted_sum
from layerlab.graph.kernels.products_cpu import BATCH, U, dot, inline, kernel
from layerlab.graph.kernels.vector import (
    add,
    kept,
    load,
    multiply,
    splat,
    store,
    subtract,
    where_positive,
    zeros,
)
from layerlab.lab.random import GROUP


@inline
def _softmax_backward(
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
    slopes: Any,
    pairs: Any,
    received: Any,
) -> None:
    """W heads of one row: ``slopes`` holds the gradients of its coefficients after dropout."""
    mean = zero
    for entry in range(start, stop):
        place, local = entry * heads + head, (entry - start) * heads + head
        weight = load(zero, alpha, place)
        upstream = load(zero, slopes, local)
        if threshold > 0:
            keep = kept(zero, words, place - window, threshold, scale)
            upstream = multiply(upstream, keep)
            store(slopes, local, upstream)
            store(pairs, U(2) * entry * heads + head, multiply(weight, keep))
        else:
            store(pairs, U(2) * entry * heads + head, weight)
        mean = add(mean, multiply(weight, upstream))
    base = load(zero, to_row, row * heads + head)
    one, below = splat(zero, alpha.dtype.type(1)), splat(zero, slope)
    sums = zero
    for entry in range(start, stop):
        score = add(base, load(zero, to_entry, U(col[entry]) * heads + head))
        change = subtract(load(zero, slopes, (entry - start) * heads + head), mean)
        change = multiply(
            multiply(load(zero, alpha, entry * heads + head), change), where_positive(score, one, below)
        )
        store(pairs, (U(2) * entry + U(1)) * heads + head, change)
        sums = add(sums, change)
    store(received, row * heads + head, sums)


@kernel
def attend_backward_rows(
    crow: Any,
    col: Any,
    to_row: Any,
    to_entry: Any,
    z: Any,
    slope: Any,
    seed: Any,
    threshold: Any,
    scale: Any,
    longest: int,
    alpha: Any,
    gradient: Any,
    pairs: Any,
    received: Any,
    first: int,
    last: int,
) -> None:
    """Per entry and head, side by side in ``pairs[e]``: the coefficient after dropout, and the score's gradient.

    ``received`` gets the sum of the latter over each row: the gradient of the receiving node's score.
    """
    count = to_row.shape[1]
    heads, width = U(count), U(z.shape[1])
    features = U(z.shape[1] // count)
    words = np.empty(longest * count + BATCH + 2 * GROUP, np.uint32)
    slopes = np.empty(longest * count, z.dtype)
    drawn, window, final = np.int64(0), np.int64(0), np.int64(crow[last]) * count
    for row in range(U(first), U(last)):
        start, stop = U(crow[row]), U(crow[row + U(1)])
        drawn, window = draw_window(
            words, seed, threshold, np.int64(start) * count, np.int64(stop) * count, drawn, window, final
        )
        w = U(window)
        for entry in range(start, stop):
            sender = U(col[entry]) * width
            for h in range(heads):
                at = h * features
                slopes[(entry - start) * heads + h] = dot(
                    gradient, row * width + at, z, sender + at, features
                )
        head = U(0)
        while head + U(8) <= heads:
            _softmax_backward(
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
                slopes,
                pairs,
                received,
            )
            head += U(8)
        while head < heads:
            _softmax_backward(
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
                slopes,
                pairs,
                received,
            )
            head += U(1)


@inline
def _from_scores(zero: Any, target: Any, source: Any, place: Any, received: Any, sent: Any) -> Any:
    """What a node's two scores add to the gradient of its z."""
    out = multiply(splat(zero, sent), load(zero, source, place))
    return add(out, multiply(splat(zero, received), load(zero, target, place)))


@inline
def _sent(zero: Any, order: Any, pairs: Any, heads: Any, head: Any, start: Any, stop: Any) -> Any:
    for entry in range(start, stop):
        zero = add(zero, load(zero, pairs, (U(2) * U(order[entry]) + U(1)) * heads + head))
    return zero


@kernel
def attend_backward_columns(
    crow: Any,
    col: Any,
    order: Any,
    pairs: Any,
    gradient: Any,
    received: Any,
    target: Any,
    source: Any,
    sent: Any,
    to_z: Any,
    first: int,
    last: int,
) -> None:
    """Over the transpose: the gradients of the sending nodes' scores (``sent``) and of z."""
    heads, features = U(sent.shape[1]), U(target.shape[1])
    step = U(0) if target.shape[0] == 1 else features
    width, rows = heads * features, U(received.shape[0])
    flat = pairs.reshape(-1)
    for node in range(U(first), U(last)):
        start, stop = U(crow[node]), U(crow[node + U(1)])
        head = U(0)
        while head + U(8) <= heads:
            store(sent, node * heads + head, _sent(zeros(sent, 8), order, pairs, heads, head, start, stop))
            head += U(8)
        while head < heads:
            store(sent, node * heads + head, _sent(zeros(sent, 1), order, pairs, heads, head, start, stop))
            head += U(1)
        for h in range(heads):
            s = sent[node, h]
            r = received[node, h] if node < rows else gradient.dtype.type(0)
            f, at, vector = U(0), h * features, h * step
            while f + U(8) <= features:
                v8 = _from_scores(zeros(sent, 8), target, source, vector + f, r, s)
                v8 = weighted_sum(
                    v8, col, order, flat, U(0), U(2) * heads, h, gradient, start, stop, width, at + f
                )
                store(to_z, node * width + at + f, v8)
                f += U(8)
            if f + U(4) <= features:
                v4 = _from_scores(zeros(sent, 4), target, source, vector + f, r, s)
                v4 = weighted_sum(
                    v4, col, order, flat, U(0), U(2) * heads, h, gradient, start, stop, width, at + f
                )
                store(to_z, node * width + at + f, v4)
                f += U(4)
            while f < features:
                v1 = _from_scores(zeros(sent, 1), target, source, vector + f, r, s)
                v1 = weighted_sum(
                    v1, col, order, flat, U(0), U(2) * heads, h, gradient, start, stop, width, at + f
                )
                store(to_z, node * width + at + f, v1)
                f += U(1)


@inline
def _weighted(
    total_of: Any, z: Any, weights: Any, heads: Any, head: Any, start: Any, stop: Any, width: Any, at: Any
) -> Any:
    for node in range(start, stop):
        weight = splat(total_of, weights[node, head])
        total_of = add(total_of, multiply(weight, load(total_of, z, node * width + at)))
    return total_of


@kernel
def weighted_sums(z: Any, weights: Any, out: Any, rows: int, first: int, last: int) -> None:
    """``out[c, h, f] =`` the sum of ``weights[i, h] z[i, h, f]`` over the nodes i of chunk c of ``rows`` nodes."""
    height, heads, width = U(weights.shape[0]), U(weights.shape[1]), U(z.shape[1])
    features = width // heads
    for chunk in range(U(first), U(last)):
        start = chunk * U(rows)
        stop = min(height, start + U(rows))
        for head in range(heads):
            f, at = U(0), head * features
            while f + U(8) <= features:
                v8 = _weighted(zeros(z, 8), z, weights, heads, head, start, stop, width, at + f)
                store(out, chunk * width + at + f, v8)
                f += U(8)
            while f < features:
                v1 = _weighted(zeros(z, 1), z, weights, heads, head, start, stop, width, at + f)
                store(out, chunk * width + at + f, v1)
                f += U(1)
