"""What the kernels of graph attention do with values: dot products and weighted sums, head by head.

A matrix has ``heads * features`` columns. Values are read in blocks of 8 features that keep to a head, so that there is
one coefficient a block; the last block of a head may be shorter.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from layerlab.graph.kernels.products_cpu import U
from layerlab.lab.kernels.jit import allocating, inline
from layerlab.lab.kernels.vector import (
    add,
    load,
    load_first,
    multiply,
    prefetch,
    splat,
    store,
    store_first,
    subtract,
    total,
    totals,
    zeros,
)

# Entries between the one at work and the one whose row is asked for: memory takes about as long.
_AHEAD = 8
# Numbers of a matrix that the second-level cache may hold: asking early for what is there costs a tenth.
_NEAR = 1 << 18


@inline
def _part(zero: Any, x: Any, i: Any, y: Any, j: Any, shift: Any, k: Any) -> Any:
    right = load(zero, y, j)
    if shift is not None:
        right = subtract(right, load(zero, shift, k))
    return multiply(load(zero, x, i), right)


@inline
def _rest(zero: Any, x: Any, i: Any, y: Any, j: Any, shift: Any, k: Any, count: Any) -> Any:
    right = load_first(zero, y, j, count)
    if shift is not None:
        right = subtract(right, load_first(zero, shift, k, count))
    return multiply(load_first(zero, x, i, count), right)


@inline
def dots_8(zero: Any, x: Any, i: Any, y: Any, j: Any, shift: Any, k: Any, features: Any) -> Any:
    """``x_h . (y_h - shift_h)`` for 8 heads of ``features`` numbers each, which start at offsets i, j and k."""
    p0, p1, p2, p3, p4, p5, p6, p7 = zero, zero, zero, zero, zero, zero, zero, zero
    one, two, three = features, U(2) * features, U(3) * features
    four, five, six, seven = U(4) * features, U(5) * features, U(6) * features, U(7) * features
    f = U(0)
    while f + U(8) <= features:
        p0 = add(p0, _part(zero, x, i + f, y, j + f, shift, k + f))
        p1 = add(p1, _part(zero, x, i + f + one, y, j + f + one, shift, k + f + one))
        p2 = add(p2, _part(zero, x, i + f + two, y, j + f + two, shift, k + f + two))
        p3 = add(p3, _part(zero, x, i + f + three, y, j + f + three, shift, k + f + three))
        p4 = add(p4, _part(zero, x, i + f + four, y, j + f + four, shift, k + f + four))
        p5 = add(p5, _part(zero, x, i + f + five, y, j + f + five, shift, k + f + five))
        p6 = add(p6, _part(zero, x, i + f + six, y, j + f + six, shift, k + f + six))
        p7 = add(p7, _part(zero, x, i + f + seven, y, j + f + seven, shift, k + f + seven))
        f += U(8)
    if f < features:
        n = features - f
        p0 = add(p0, _rest(zero, x, i + f, y, j + f, shift, k + f, n))
        p1 = add(p1, _rest(zero, x, i + f + one, y, j + f + one, shift, k + f + one, n))
        p2 = add(p2, _rest(zero, x, i + f + two, y, j + f + two, shift, k + f + two, n))
        p3 = add(p3, _rest(zero, x, i + f + three, y, j + f + three, shift, k + f + three, n))
        p4 = add(p4, _rest(zero, x, i + f + four, y, j + f + four, shift, k + f + four, n))
        p5 = add(p5, _rest(zero, x, i + f + five, y, j + f + five, shift, k + f + five, n))
        p6 = add(p6, _rest(zero, x, i + f + six, y, j + f + six, shift, k + f + six, n))
        p7 = add(p7, _rest(zero, x, i + f + seven, y, j + f + seven, shift, k + f + seven, n))
    return totals(p0, p1, p2, p3, p4, p5, p6, p7)


@inline
def dots_1(zero: Any, x: Any, i: Any, y: Any, j: Any, shift: Any, k: Any, features: Any) -> Any:
    """The same for one head; ``zero`` has one lane."""
    wide = zeros(x, 8)
    f = U(0)
    while f + U(8) <= features:
        wide = add(wide, _part(wide, x, i + f, y, j + f, shift, k + f))
        f += U(8)
    if f < features:
        wide = add(wide, _rest(wide, x, i + f, y, j + f, shift, k + f, features - f))
    return splat(zero, total(wide))


@allocating
def blocks_of(heads: Any, features: Any) -> tuple[Any, Any, Any]:
    """The columns of a row in blocks of at most 8 that keep to a head: head, first column and length of each."""
    each = (features + U(7)) // U(8)
    owner = np.empty(heads * each, np.uint64)
    place, size = np.empty_like(owner), np.empty_like(owner)
    for block in range(heads * each):
        owner[block] = block // each
        place[block] = owner[block] * features + block % each * U(8)
        size[block] = min(U(8), features - block % each * U(8))
    return owner, place, size


@inline
def fill(zero: Any, out: Any, at: Any, width: Any, bias: Any) -> None:
    """``out.flat[at : at + width] = bias``, or 0 where that is None."""
    f = U(0)
    while f < width:
        count = min(U(8), width - f)
        v = zero if bias is None else load_first(zero, bias, f, count)
        if count == U(8):
            store(out, at + f, v)
        else:
            store_first(out, at + f, v, count)
        f += U(8)


@inline
def entries_ahead(x: Any) -> Any:
    """How many entries ahead to ask for rows of x; 0 where x is small."""
    return U(_AHEAD) if x.size > _NEAR else U(0)


@inline
def prefetch_row(x: Any, at: Any, count: Any) -> None:
    """Ask for the cache lines of ``x.flat[at : at + count]``."""
    for line in range(U(0), count, U(64 // x.itemsize)):
        prefetch(x, at + line)


@inline
def _gather_8(
    zero: Any,
    col: Any,
    weights: Any,
    heads: Any,
    x: Any,
    a: Any,
    b: Any,
    width: Any,
    at: Any,
    owner: Any,
    block: Any,
    ahead: Any,
    out: Any,
    to: Any,
) -> None:
    v0, v1, v2, v3 = (
        load(zero, out, to),
        load(zero, out, to + U(8)),
        load(zero, out, to + U(16)),
        load(zero, out, to + U(24)),
    )
    v4, v5, v6, v7 = (
        load(zero, out, to + U(32)),
        load(zero, out, to + U(40)),
        load(zero, out, to + U(48)),
        load(zero, out, to + U(56)),
    )
    h0, h1, h2, h3 = owner[block], owner[block + U(1)], owner[block + U(2)], owner[block + U(3)]
    h4, h5, h6, h7 = owner[block + U(4)], owner[block + U(5)], owner[block + U(6)], owner[block + U(7)]
    last = U(len(col)) - U(1)
    for entry in range(a, b):
        w, p = (entry - a) * heads, U(col[entry]) * width + at
        if ahead > 0:
            prefetch_row(x, U(col[min(entry + ahead, last)]) * width + at, U(64))
        v0 = add(v0, multiply(splat(zero, weights[w + h0]), load(zero, x, p)))
        v1 = add(v1, multiply(splat(zero, weights[w + h1]), load(zero, x, p + U(8))))
        v2 = add(v2, multiply(splat(zero, weights[w + h2]), load(zero, x, p + U(16))))
        v3 = add(v3, multiply(splat(zero, weights[w + h3]), load(zero, x, p + U(24))))
        v4 = add(v4, multiply(splat(zero, weights[w + h4]), load(zero, x, p + U(32))))
        v5 = add(v5, multiply(splat(zero, weights[w + h5]), load(zero, x, p + U(40))))
        v6 = add(v6, multiply(splat(zero, weights[w + h6]), load(zero, x, p + U(48))))
        v7 = add(v7, multiply(splat(zero, weights[w + h7]), load(zero, x, p + U(56))))
    store(out, to, v0)
    store(out, to + U(8), v1)
    store(out, to + U(16), v2)
    store(out, to + U(24), v3)
    store(out, to + U(32), v4)
    store(out, to + U(40), v5)
    store(out, to + U(48), v6)
    store(out, to + U(56), v7)


@inline
def _gather_4(
    zero: Any,
    col: Any,
    weights: Any,
    heads: Any,
    x: Any,
    a: Any,
    b: Any,
    width: Any,
    at: Any,
    owner: Any,
    block: Any,
    ahead: Any,
    out: Any,
    to: Any,
) -> None:
    v0, v1, v2, v3 = (
        load(zero, out, to),
        load(zero, out, to + U(8)),
        load(zero, out, to + U(16)),
        load(zero, out, to + U(24)),
    )
    h0, h1, h2, h3 = owner[block], owner[block + U(1)], owner[block + U(2)], owner[block + U(3)]
    last = U(len(col)) - U(1)
    for entry in range(a, b):
        w, p = (entry - a) * heads, U(col[entry]) * width + at
        if ahead > 0:
            prefetch_row(x, U(col[min(entry + ahead, last)]) * width + at, U(32))
        v0 = add(v0, multiply(splat(zero, weights[w + h0]), load(zero, x, p)))
        v1 = add(v1, multiply(splat(zero, weights[w + h1]), load(zero, x, p + U(8))))
        v2 = add(v2, multiply(splat(zero, weights[w + h2]), load(zero, x, p + U(16))))
        v3 = add(v3, multiply(splat(zero, weights[w + h3]), load(zero, x, p + U(24))))
    store(out, to, v0)
    store(out, to + U(8), v1)
    store(out, to + U(16), v2)
    store(out, to + U(24), v3)


@inline
def gather(
    col: Any,
    weights: Any,
    heads: Any,
    x: Any,
    a: Any,
    b: Any,
    width: Any,
    owner: Any,
    place: Any,
    size: Any,
    ahead: Any,
    out: Any,
    row: Any,
) -> None:
    """Add the sum over entries a ... b - 1 of ``weights[e - a, h] x[col[e], h]`` to ``out[row]``, for all heads h."""
    zero, to = zeros(x, 8), row * width
    block, blocks = U(0), U(len(owner))
    if blocks * U(8) == width:
        while block + U(8) <= blocks:
            _gather_8(
                zero,
                col,
                weights,
                heads,
                x,
                a,
                b,
                width,
                U(8) * block,
                owner,
                block,
                ahead,
                out,
                to + U(8) * block,
            )
            block += U(8)
        if block + U(4) <= blocks:
            _gather_4(
                zero,
                col,
                weights,
                heads,
                x,
                a,
                b,
                width,
                U(8) * block,
                owner,
                block,
                ahead,
                out,
                to + U(8) * block,
            )
            block += U(4)
    while block < blocks:
        head, at, count = owner[block], place[block], size[block]
        v = load_first(zero, out, to + at, count)
        for entry in range(a, b):
            weight = splat(zero, weights[(entry - a) * heads + head])
            v = add(v, multiply(weight, load_first(zero, x, U(col[entry]) * width + at, count)))
        store_first(out, to + at, v, count)
        block += U(1)
