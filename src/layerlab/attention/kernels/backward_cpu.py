"""The backward of linear attention in numba. Nothing but q, k, v, the output and its denominators was kept.

With ``G_i = (gradient to out_i) / denominator_i`` and ``g_i = -G_i . out_i``, the gradients are

    ``dphi(q_i) = sum_j (G_i . v_j + g_i) phi(k_j)``, ``dphi(k_j) = sum_i (G_i . v_j + g_i) phi(q_i)``,
    ``dv_j = sum_i (phi(k_j) . phi(q_i)) G_i``,

over the pairs of which i sees j. Here each i sees all j; `backward_causal_cpu` is for those that do not.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from layerlab.attention.kernels.blocks import add_outer, product
from layerlab.attention.kernels.forward_cpu import CHUNK, KEPT, flush, inverse, padded
from layerlab.attention.kernels.rows import (
    IDENTITY,
    add_scaled_rows,
    read_keys,
    read_queries,
    read_scaled,
    write_gradient,
    write_scaled,
)
from layerlab.lab.kernels.jit import inline as inline
from layerlab.lab.kernels.jit import kernel as kernel

U = np.uint64


@inline
def read_gradients(
    grad: Any,
    start: Any,
    stride: Any,
    out: Any,
    denominators: Any,
    first: Any,
    rows: Any,
    width: Any,
    least: Any,
    back: Any,
    block: Any,
    biases: Any,
    columns: Any,
) -> None:
    """``block[i] = G_i`` and ``biases[i] = g_i``, of the rows of ``out`` from row ``first`` on."""
    for i in range(rows):
        place = rows - U(1) - i if back else i
        by = inverse(out.dtype.type(1), denominators[first + i], least)
        biases[place] = -read_scaled(
            grad, start + i * stride, by, out, (first + i) * width, width, block, place * columns
        )


@inline
def factor_of(one: Any, weighted: Any, weights: Any, at: Any) -> Any:
    return weights[at] if weighted else one


@kernel
def of_queries(
    kind: int,
    q: Any,
    q_at: Any,
    grad: Any,
    grad_at: Any,
    out: Any,
    denominators: Any,
    turned: Any,
    z: Any,
    heads: int,
    group: int,
    sizes: Any,
    slab: int,
    least: float,
    dq: Any,
    ds: Any,
    dz: Any,
    first: int,
    last: int,
) -> None:
    """The gradient of q, and what the rows of a unit, a slab of a head of q, add to those of s and z.

    Args:
        turned: s transposed, ``(pairs * padded(e) * padded(r),)``.
        z: ``(pairs * padded(r),)``.
        heads: of q, of which ``group`` share a pair.
        sizes: n, r, e.
        slab: rows of a unit.
        ds: float64, ``(units * r * e,)``, zeros.
        dz: float64, ``(units * r,)``, zeros.
    """
    n, r, e = U(sizes[0]), U(sizes[1]), U(sizes[2])
    wide, deep, height = padded(e), padded(r), U(slab)
    slabs = (n + height - U(1)) // height
    phi, block = np.zeros(U(CHUNK) * deep, q.dtype), np.zeros(U(CHUNK) * deep, q.dtype)
    given, biases = np.zeros(U(CHUNK) * wide, q.dtype), np.zeros(CHUNK, q.dtype)
    now, now_z = np.zeros(wide * deep, q.dtype), np.zeros(deep, q.dtype)
    part, part_z = np.zeros(deep * wide, q.dtype), np.zeros(deep, q.dtype)
    for unit in range(U(first), U(last)):
        head, piece = unit // slabs, unit % slabs
        b, h, pair = head // U(heads), head % U(heads), head // U(group)
        for f in range(wide * deep):
            now[f] = turned[pair * wide * deep + f]
        for f in range(deep):
            now_z[f] = z[pair * deep + f]
        q_start = b * U(q_at[0]) + h * U(q_at[1])
        grad_start = b * U(grad_at[0]) + h * U(grad_at[1])
        i, stop = piece * height, min(n, piece * height + height)
        chunks = 0
        while i < stop:
            rows = min(U(CHUNK), stop - i)
            read_queries(kind, q, q_start + i * U(q_at[2]), U(q_at[2]), rows, r, False, phi, deep)
            read_gradients(
                grad, grad_start + i * U(grad_at[2]), U(grad_at[2]), out, denominators, head * n + i, rows, e,
                least, False, given, biases, wide,
            )  # fmt: skip
            product(given, now, block, (rows + U(3)) // U(4) * U(4), wide, deep)
            for row in range(rows):
                to = (head * n + i + row) * r
                write_gradient(kind, block, phi, row * deep, q.dtype.type(1), biases[row], now_z, dq, to, r)
            add_outer(phi, given, part, rows, deep, wide)
            add_scaled_rows(phi, biases, rows, deep, part_z)
            chunks += 1
            i += rows
            if chunks == KEPT or i == stop:
                flush(part, ds, unit * r * e, r, e, wide)
                flush(part_z, dz, unit * r, U(1), r, deep)
                chunks = 0


@kernel
def of_keys(
    kind: int,
    k: Any,
    k_at: Any,
    v: Any,
    v_at: Any,
    weights: Any,
    w_at: Any,
    ds: Any,
    turned: Any,
    dz: Any,
    heads: int,
    sizes: Any,
    dk: Any,
    dv: Any,
    first: int,
    last: int,
) -> None:
    """The gradients of k and v, a unit being a chunk of rows of a head of the keys.

    Args:
        ds: ``(pairs * padded(r) * padded(e),)``; ``turned`` is its transpose.
        dz: ``(pairs * padded(r),)``.
        heads: of k.
        sizes: m, r, e.
    """
    m, r, e = U(sizes[0]), U(sizes[1]), U(sizes[2])
    wide, deep = padded(e), padded(r)
    weighted = w_at[2] != 0
    chunks = (m + U(CHUNK - 1)) // U(CHUNK)
    one = k.dtype.type(1)
    phi, block = np.zeros(U(CHUNK) * deep, k.dtype), np.zeros(U(CHUNK) * deep, k.dtype)
    values, block_v = np.zeros(U(CHUNK) * wide, k.dtype), np.zeros(U(CHUNK) * wide, k.dtype)
    now, back, now_z = np.zeros(deep * wide, k.dtype), np.zeros(wide * deep, k.dtype), np.zeros(deep, k.dtype)
    held = U(0)
    for unit in range(U(first), U(last)):
        pair, i = unit // chunks, unit % chunks * U(CHUNK)
        b, h = pair // U(heads), pair % U(heads)
        if unit == U(first) or pair != held:
            held = pair
            for f in range(deep * wide):
                now[f] = ds[pair * deep * wide + f]
                back[f] = turned[pair * deep * wide + f]
            for f in range(deep):
                now_z[f] = dz[pair * deep + f]
        rows = min(U(CHUNK), m - i)
        fours = (rows + U(3)) // U(4) * U(4)
        k_start = b * U(k_at[0]) + h * U(k_at[1]) + i * U(k_at[2])
        v_start = b * U(v_at[0]) + h * U(v_at[1]) + i * U(v_at[2])
        w_start = b * U(w_at[0]) + h * U(w_at[1]) + i
        read_keys(kind, k, k_start, U(k_at[2]), rows, r, False, True, weighted, weights, w_start, phi, deep)
        read_keys(
            IDENTITY, v, v_start, U(v_at[2]), rows, e, False, False, weighted, weights, w_start, values, wide
        )
        product(values, back, block, fours, wide, deep)
        product(phi, now, block_v, fours, deep, wide)
        for row in range(rows):
            to = pair * m + i + row
            factor = factor_of(one, weighted, weights, w_start + row)
            write_gradient(kind, block, phi, row * deep, factor, one, now_z, dk, to * r, r)
            write_scaled(block_v, row * wide, one, dv, to * e, e)
