"""The exact backward of graph attention in numba: one pass over the columns, which gathers gradients once.

With ``a`` the coefficients, ``k`` the dropout factors and ``g`` the gradient of the aggregate, a score's gradient is
``a_e (k_e g_i . z_j - m_i)`` times the LeakyReLU's slope. ``m_i``, the mean of ``k_e g_i . z_j`` over the row under
``a``, is ``g_i . out_i`` (without bias), so that a column needs nothing from the other entries of its rows: it
computes its coefficients again from each row's maximum and sum, and neither they nor the gradients of scores are
stored. What the rows receive is summed up in slabs of columns, whose number depends on the pattern alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from layerlab.graph.kernels.heads_cpu import (
    blocks_of,
    dots_1,
    dots_8,
    entries_ahead,
    fill,
    gather,
    prefetch_row,
)
from layerlab.graph.kernels.products_cpu import U
from layerlab.lab.kernels.jit import inline, kernel
from layerlab.lab.kernels.vector import (
    add,
    exponential,
    load,
    load_first,
    multiply,
    prefetch,
    splat,
    store,
    store_first,
    subtract,
    where_bits,
    where_positive,
    zeros,
)

# Entries of a column whose gradients stay in the first-level cache between the two uses that are made of them.
_CHUNK = 32


@inline
def _add_row(zero: Any, sums: Any, to: Any, x: Any, at: Any, width: Any) -> None:
    f = U(0)
    while f + U(8) <= width:
        store(sums, to + f, add(load(zero, sums, to + f), load(zero, x, at + f)))
        f += U(8)
    if f < width:
        count = width - f
        store_first(
            sums,
            to + f,
            add(load_first(zero, sums, to + f, count), load_first(zero, x, at + f, count)),
            count,
        )


@kernel
def attend_means(
    gradient: Any, out: Any, bias: Any, stats: Any, records: Any, sums: Any, chunk: int, first: int, last: int
) -> None:
    """``records[i] = [*stats[i], g_i . (out_i - bias)]``, and ``sums``: the gradient's, over chunks of rows."""
    rows, heads, width = U(stats.shape[0]), U(stats.shape[2]), U(gradient.shape[1])
    features = width // heads
    flat, known = records.reshape(-1), stats.reshape(-1)
    for part in range(U(first), U(last)):
        fill(zeros(out, 8), sums, part * width, width, None)
        for row in range(part * U(chunk), min(rows, (part + U(1)) * U(chunk))):
            _add_row(zeros(out, 8), sums, part * width, gradient, row * width, width)
            for h in range(U(3) * heads):
                flat[U(4) * row * heads + h] = known[U(3) * row * heads + h]
            head = U(0)
            while head + U(8) <= heads:
                at, f = row * width + head * features, head * features
                v8 = dots_8(zeros(out, 8), gradient, at, out, at, bias, f, features)
                store(records, (U(4) * row + U(3)) * heads + head, v8)
                head += U(8)
            while head < heads:
                at, f = row * width + head * features, head * features
                v1 = dots_1(zeros(out, 1), gradient, at, out, at, bias, f, features)
                store(records, (U(4) * row + U(3)) * heads + head, v1)
                head += U(1)


@inline
def _scores_backward(
    zero: Any,
    dots: Any,
    lanes: Any,
    col: Any,
    order: Any,
    records: Any,
    to_entry: Any,
    z: Any,
    gradient: Any,
    slope: Any,
    scale: Any,
    kept: Any,
    byte: Any,
    node: Any,
    start: Any,
    stop: Any,
    heads: Any,
    head: Any,
    features: Any,
    weights: Any,
    received: Any,
    slab: Any,
    ahead: Any,
    sent: Any,
) -> None:
    """W heads of some entries of one column: their coefficients after dropout, and the gradients of their scores."""
    width, at = heads * features, head * features
    own = load(zero, to_entry, node * heads + head)
    one, below = splat(zero, z.dtype.type(1)), splat(zero, slope)
    scales = splat(zero, scale)
    sums = load(zero, sent, node * heads + head)
    final = U(len(col)) - U(1)
    for entry in range(start, stop):
        if ahead > 0:
            later = min(entry + ahead, final)
            coming = U(col[later])
            prefetch(received, slab + coming * heads + head)
            prefetch(kept, U(order[later]) * U(kept.shape[1]) + byte)
            prefetch_row(gradient, coming * width + at, U(lanes) * features)
            prefetch_row(records, coming * U(4) * heads, U(4) * heads)
        row = U(col[entry])
        record = row * U(4) * heads + head
        score = add(load(zero, records, record), own)
        slopes = where_positive(score, one, below)
        score = subtract(multiply(score, slopes), load(zero, records, record + heads))
        weight = multiply(exponential(score), load(zero, records, record + U(2) * heads))
        upstream = dots(zero, gradient, row * width + at, z, node * width + at, None, U(0), features)
        dropped = weight
        if kept.size > 0:
            bits = U(kept[U(order[entry]), byte])
            upstream = where_bits(multiply(upstream, scales), bits)
            dropped = where_bits(multiply(weight, scales), bits)
        store(weights, (entry - start) * heads + head, dropped)
        change = subtract(upstream, load(zero, records, record + U(3) * heads))
        change = multiply(multiply(weight, change), slopes)
        sums = add(sums, change)
        place = slab + row * heads + head
        store(received, place, add(load(zero, received, place), change))
    store(sent, node * heads + head, sums)


@kernel
def attend_backward(
    crow: Any,
    col: Any,
    order: Any,
    records: Any,
    to_entry: Any,
    z: Any,
    gradient: Any,
    slope: Any,
    scale: Any,
    kept: Any,
    cuts: Any,
    received: Any,
    sent: Any,
    to_z: Any,
    first: int,
    last: int,
) -> None:
    """Over slabs of the transpose's rows: the gradients of all scores, and of z as far as its values are concerned.

    Args:
        cuts: ``(slabs + 1,)`` where slabs begin.
        received: ``(slabs, rows, heads)``, gets the sums of the scores' gradients over the rows.
        sent: ``(columns, heads)``, gets those over the columns.
        to_z: ``(columns, heads * F)``.
    """
    heads, width, rows = U(sent.shape[1]), U(z.shape[1]), U(records.shape[0])
    features, ahead = width // heads, entries_ahead(gradient)
    owner, place, size = blocks_of(heads, features)
    weights = np.empty(U(_CHUNK) * heads, z.dtype)
    for part in range(U(first), U(last)):
        slab = part * rows * heads
        fill(zeros(z, 8), received, slab, rows * heads, None)
        for node in range(U(cuts[part]), U(cuts[part + U(1)])):
            start, final = U(crow[node]), U(crow[node + U(1)])
            fill(zeros(z, 8), to_z, node * width, width, None)
            fill(zeros(z, 8), sent, node * heads, heads, None)
            while start < final:
                stop = min(final, start + U(_CHUNK))
                head, byte = U(0), U(0)
                while head + U(8) <= heads:
                    _scores_backward(
                        zeros(z, 8),
                        dots_8,
                        8,
                        col,
                        order,
                        records,
                        to_entry,
                        z,
                        gradient,
                        slope,
                        scale,
                        kept,
                        byte,
                        node,
                        start,
                        stop,
                        heads,
                        head,
                        features,
                        weights,
                        received,
                        slab,
                        ahead,
                        sent,
                    )
                    head += U(8)
                    byte += U(1)
                while head < heads:
                    _scores_backward(
                        zeros(z, 1),
                        dots_1,
                        1,
                        col,
                        order,
                        records,
                        to_entry,
                        z,
                        gradient,
                        slope,
                        scale,
                        kept,
                        byte,
                        node,
                        start,
                        stop,
                        heads,
                        head,
                        features,
                        weights,
                        received,
                        slab,
                        ahead,
                        sent,
                    )
                    head += U(1)
                    byte += U(1)
                gather(
                    col, weights, heads, gradient, start, stop, width, owner, place, size, U(0), to_z, node
                )
                start = stop


@inline
def _sum_slabs(received: Any, first: Any, last: Any, slabs: Any, stride: Any) -> None:
    at = first
    while at < last:
        v, count = zeros(received, 8), min(U(8), last - at)
        for slab in range(slabs):
            v = add(v, load_first(v, received, slab * stride + at, count))
        store_first(received, at, v, count)
        at += U(8)


@kernel
def attend_vectors(
    z: Any,
    target: Any,
    source: Any,
    received: Any,
    sent: Any,
    to_z: Any,
    sums: Any,
    chunk: int,
    first: int,
    last: int,
) -> None:
    """What the scores add to the gradient of z, and the gradients of the two vectors, over chunks of nodes.

    Args:
        target: ``(heads * F,)``; source likewise.
        received: as `attend_backward` leaves it; its first slab gets the sum of all.
        to_z: added to.
        sums: ``(chunks, 2, heads * F)``, for target and source.
    """
    slabs, rows, heads, width = U(received.shape[0]), U(received.shape[1]), U(sent.shape[1]), U(z.shape[1])
    owner, place, size = blocks_of(heads, width // heads)
    zero = zeros(z, 8)
    for part in range(U(first), U(last)):
        fill(zero, sums, U(2) * part * width, U(2) * width, None)
        begin, end = part * U(chunk), min(U(len(z)), (part + U(1)) * U(chunk))
        if begin < rows:
            _sum_slabs(received, begin * heads, min(end, rows) * heads, slabs, rows * heads)
        for node in range(begin, end):
            at, to = node * width, U(2) * part * width
            for block in range(len(owner)):
                head, f, count = owner[block], place[block], size[block]
                s = splat(zero, sent[node, head])
                r = splat(zero, received[U(0), node, head]) if node < rows else zero
                if count == U(8):
                    value = load(zero, z, at + f)
                    out = add(load(zero, to_z, at + f), multiply(s, load(zero, source, f)))
                    store(to_z, at + f, add(out, multiply(r, load(zero, target, f))))
                    store(sums, to + f, add(load(zero, sums, to + f), multiply(r, value)))
                    f += to + width
                    store(sums, f, add(load(zero, sums, f), multiply(s, value)))
                else:
                    value = load_first(zero, z, at + f, count)
                    out = add(
                        load_first(zero, to_z, at + f, count), multiply(s, load_first(zero, source, f, count))
                    )
                    store_first(
                        to_z, at + f, add(out, multiply(r, load_first(zero, target, f, count))), count
                    )
                    store_first(
                        sums, to + f, add(load_first(zero, sums, to + f, count), multiply(r, value)), count
                    )
                    f += to + width
                    store_first(sums, f, add(load_first(zero, sums, f, count), multiply(s, value)), count)
