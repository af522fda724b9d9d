"""Graph attention in numba, forward: scores, softmax, dropout and aggregation in one pass over a row.

Nothing as large as entries x heads outlives a row but the bits that say which coefficients were kept. Everything runs
over the heads in vector lanes where it concerns coefficients, and over blocks of 8 features where it concerns values.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from layerlab.graph.kernels.heads_cpu import blocks_of, dots_1, dots_8, entries_ahead, fill, gather
from layerlab.graph.kernels.products_cpu import BATCH, U
from layerlab.lab.kernels.jit import inline, kernel
from layerlab.lab.kernels.vector import (
    add,
    divide,
    exponential,
    kept_bits,
    larger,
    load,
    multiply,
    splat,
    store,
    subtract,
    where_bits,
    where_positive,
    zeros,
)
from layerlab.lab.random import GROUP, draw


@kernel
def node_scores(z: Any, target: Any, source: Any, stats: Any, to_entry: Any, first: int, last: int) -> None:
    """``target[h] . z[i, h]`` into ``stats[i, 0]``, and ``source[h] . z[i, h]``, for every node."""
    heads, rows, width = U(to_entry.shape[1]), U(stats.shape[0]), U(z.shape[1])
    features = width // heads
    for node in range(U(first), U(last)):
        head = U(0)
        while head + U(8) <= heads:
            at, vector = node * width + head * features, head * features
            v8 = dots_8(zeros(z, 8), z, at, source, vector, None, U(0), features)
            store(to_entry, node * heads + head, v8)
            if node < rows:
                v8 = dots_8(zeros(z, 8), z, at, target, vector, None, U(0), features)
                store(stats, node * U(3) * heads + head, v8)
            head += U(8)
        while head < heads:
            at, vector = node * width + head * features, head * features
            v1 = dots_1(zeros(z, 1), z, at, source, vector, None, U(0), features)
            store(to_entry, node * heads + head, v1)
            if node < rows:
                v1 = dots_1(zeros(z, 1), z, at, target, vector, None, U(0), features)
                store(stats, node * U(3) * heads + head, v1)
            head += U(1)


@inline
def _leaky(x: Any, slope: Any) -> Any:
    return where_positive(x, x, multiply(x, slope))


@inline
def _softmax(
    zero: Any,
    col: Any,
    to_entry: Any,
    stats: Any,
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
    kept: Any,
    byte: Any,
    weights: Any,
) -> None:
    """The coefficients of W heads of one row after dropout; W is the width of ``zero``."""
    at = row * U(3) * heads + head
    base = load(zero, stats, at)
    slopes = splat(zero, slope)
    highest = _leaky(add(base, load(zero, to_entry, U(col[start]) * heads + head)), slopes)
    for entry in range(start, stop):
        score = _leaky(add(base, load(zero, to_entry, U(col[entry]) * heads + head)), slopes)
        store(weights, (entry - start) * heads + head, score)
        highest = larger(highest, score)
    sums = zero
    for entry in range(start, stop):
        place = (entry - start) * heads + head
        weight = exponential(subtract(load(zero, weights, place), highest))
        sums = add(sums, weight)
        if threshold > 0:
            bits = kept_bits(zero, words, entry * heads + head - window, threshold)
            kept[entry, byte] = bits
            weight = where_bits(weight, bits)
        store(weights, place, weight)
    share = divide(splat(zero, weights.dtype.type(1)), sums)
    store(stats, at + heads, highest)
    store(stats, at + U(2) * heads, share)
    share = multiply(share, splat(zero, scale))
    for entry in range(start, stop):
        place = (entry - start) * heads + head
        store(weights, place, multiply(load(zero, weights, place), share))


@inline
def _draw_window(
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
    to_entry: Any,
    z: Any,
    bias: Any,
    slope: Any,
    seed: Any,
    threshold: Any,
    scale: Any,
    longest: int,
    stats: Any,
    kept: Any,
    out: Any,
    first: int,
    last: int,
) -> None:
    """The aggregate of the coefficients after dropout, and what the backward needs to compute them again.

    Args:
        to_entry: ``(columns, heads)`` scores of the sending nodes.
        z: ``(columns, heads * F)``.
        bias: ``(heads * F,)`` or None.
        longest: entries of the longest row.
        stats: ``(rows, 3, heads)``: the scores of the receiving nodes; written: the largest score of each row, and 1
            over the sum of the exponentials of what scores are below it. Both are 0 in rows without entries.
        kept: ``(entries, bytes)`` uint8, a bit a head: one byte for each 8 heads, then one for each that is left.
    """
    count = stats.shape[2]
    heads, width, ahead = U(count), U(z.shape[1]), entries_ahead(z)
    owner, place, size = blocks_of(heads, width // heads)
    words = np.empty(longest * count + BATCH + 2 * GROUP, np.uint32)
    weights = np.empty(longest * count, z.dtype)
    drawn, window, final = np.int64(0), np.int64(0), np.int64(crow[last]) * count
    for row in range(U(first), U(last)):
        start, stop = U(crow[row]), U(crow[row + U(1)])
        fill(zeros(z, 8), out, row * width, width, bias)
        if start == stop:
            fill(zeros(z, 8), stats, (U(3) * row + U(1)) * heads, U(2) * heads, None)
            continue
        drawn, window = _draw_window(
            words, seed, threshold, np.int64(start) * count, np.int64(stop) * count, drawn, window, final
        )
        w = U(window)
        head, byte = U(0), U(0)
        while head + U(8) <= heads:
            _softmax(
                zeros(z, 8),
                col,
                to_entry,
                stats,
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
                kept,
                byte,
                weights,
            )
            head += U(8)
            byte += U(1)
        while head < heads:
            _softmax(
                zeros(z, 1),
                col,
                to_entry,
                stats,
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
                kept,
                byte,
                weights,
            )
            head += U(1)
            byte += U(1)
        gather(col, weights, heads, z, start, stop, width, owner, place, size, ahead, out, row)
