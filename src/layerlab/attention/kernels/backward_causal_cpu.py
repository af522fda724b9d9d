"""The causal backward of linear attention in numba; `backward_cpu` has the formulas.

Sums over j are of the same form as in the forward. Those over i run from the end: their blocks hold rows in reverse
order, so that what counts lies below the diagonal there, too.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from layerlab.attention.kernels.backward_cpu import factor_of, read_gradients
from layerlab.attention.kernels.blocks import add_lower_times, add_outer, lower_product, product, turn
from layerlab.attention.kernels.forward_cpu import CHUNK, KEPT, combine, flush, padded, spread
from layerlab.attention.kernels.rows import (
    IDENTITY,
    add_rows,
    add_scaled_rows,
    clear,
    read_keys,
    read_queries,
    write_gradient,
    write_scaled,
)
from layerlab.lab.kernels.jit import kernel as kernel

U = np.uint64


@kernel
def of_queries(
    kind: int,
    q: Any,
    q_at: Any,
    k: Any,
    k_at: Any,
    v: Any,
    v_at: Any,
    weights: Any,
    w_at: Any,
    grad: Any,
    grad_at: Any,
    out: Any,
    denominators: Any,
    heads: int,
    group: int,
    sizes: Any,
    least: float,
    s: Any,
    z: Any,
    dq: Any,
    first: int,
    last: int,
) -> None:
    """The gradient of q, a unit being a head of the keys with the heads of q that it serves.

    Args:
        heads: of k; ``group`` heads of q for each.
        sizes: n, r, e.
        s: float64, ``(pairs * e * r,)``: the sums over what came before, transposed; changed.
        z: float64, ``(pairs * r,)``: likewise.
    """
    n, r, e = U(sizes[0]), U(sizes[1]), U(sizes[2])
    wide, deep, size = padded(e), padded(r), U(CHUNK)
    weighted = w_at[2] != 0
    phi_q, phi_k, block = (
        np.zeros(size * deep, q.dtype),
        np.zeros(size * deep, q.dtype),
        np.zeros(size * deep, q.dtype),
    )
    values, turned, given = (
        np.zeros(size * wide, q.dtype),
        np.zeros(size * wide, q.dtype),
        np.zeros(size * wide, q.dtype),
    )
    lower, biases = np.zeros(size * size, q.dtype), np.zeros(size, q.dtype)
    base, part, now = (
        np.zeros(deep * wide, q.dtype),
        np.zeros(deep * wide, q.dtype),
        np.zeros(deep * wide, q.dtype),
    )
    base_z, part_z, now_z = np.zeros(deep, q.dtype), np.zeros(deep, q.dtype), np.zeros(deep, q.dtype)
    for pair in range(U(first), U(last)):
        b, h = pair // U(heads), pair % U(heads)
        k_start, v_start = b * U(k_at[0]) + h * U(k_at[1]), b * U(v_at[0]) + h * U(v_at[1])
        w_start = b * U(w_at[0]) + h * U(w_at[1])
        clear(part, U(0), deep * wide)
        clear(part_z, U(0), deep)
        i, chunks = U(0), KEPT
        while i < n:
            if chunks == KEPT:
                flush(part, s, pair * e * r, e, r, deep)
                flush(part_z, z, pair * r, U(1), r, deep)
                spread(s, pair * e * r, e, r, deep, base)
                spread(z, pair * r, U(1), r, deep, base_z)
                chunks = 0
            combine(base, part, now, deep * wide)
            combine(base_z, part_z, now_z, deep)
            rows = min(size, n - i)
            # Rows behind the end, of the chunk before, only meet zeros of `lower`, and rows that nobody writes.
            whole = (rows + U(15)) // U(16) * U(16)
            read_keys(
                kind, k, k_start + i * U(k_at[2]), U(k_at[2]), rows, r, False, True, weighted, weights,
                w_start + i, phi_k, deep,
            )  # fmt: skip
            read_keys(
                IDENTITY, v, v_start + i * U(v_at[2]), U(v_at[2]), rows, e, False, False, weighted, weights,
                w_start + i, values, wide,
            )  # fmt: skip
            turn(values, turned, whole, wide, size)
            for member in range(U(group)):
                head = pair * U(group) + member
                start = b * U(q_at[0]) + (h * U(group) + member) * U(q_at[1]) + i * U(q_at[2])
                read_queries(kind, q, start, U(q_at[2]), rows, r, False, phi_q, deep)
                start = b * U(grad_at[0]) + (h * U(group) + member) * U(grad_at[1]) + i * U(grad_at[2])
                read_gradients(
                    grad, start, U(grad_at[2]), out, denominators, head * n + i, rows, e, least, False, given,
                    biases, wide,
                )  # fmt: skip
                product(given, now, block, whole, wide, deep)
                lower_product(given, turned, lower, whole, wide, size)
                for row in range(rows):
                    for j in range(row + U(1)):
                        lower[row * size + j] += biases[row]
                add_lower_times(lower, phi_k, block, whole, deep, size)
                for row in range(rows):
                    to = (head * n + i + row) * r
                    write_gradient(
                        kind, block, phi_q, row * deep, q.dtype.type(1), biases[row], now_z, dq, to, r
                    )
            add_outer(values, phi_k, part, rows, wide, deep)
            add_rows(phi_k, rows, deep, part_z)
            chunks += 1
            i += rows


@kernel
def of_keys(
    kind: int,
    q: Any,
    q_at: Any,
    k: Any,
    k_at: Any,
    v: Any,
    v_at: Any,
    weights: Any,
    w_at: Any,
    grad: Any,
    grad_at: Any,
    out: Any,
    denominators: Any,
    heads: int,
    group: int,
    sizes: Any,
    least: float,
    ds: Any,
    dz: Any,
    dk: Any,
    dv: Any,
    first: int,
    last: int,
) -> None:
    """The gradients of k and v, from the end; units and sizes as in `of_queries`.

    Args:
        ds: float64, ``(pairs * r * e,)``: the gradient to the sums over all keys; becomes that to the sums before.
        dz: float64, ``(pairs * r,)``: likewise.
    """
    n, r, e = U(sizes[0]), U(sizes[1]), U(sizes[2])
    wide, deep, size = padded(e), padded(r), U(CHUNK)
    weighted = w_at[2] != 0
    one = k.dtype.type(1)
    phi_q, phi_k, block, turned_q = (
        np.zeros(size * deep, q.dtype),
        np.zeros(size * deep, q.dtype),
        np.zeros(size * deep, q.dtype),
        np.zeros(size * deep, q.dtype),
    )
    values, given, block_v, turned_g = (
        np.zeros(size * wide, q.dtype),
        np.zeros(size * wide, q.dtype),
        np.zeros(size * wide, q.dtype),
        np.zeros(size * wide, q.dtype),
    )
    lower, biases = np.zeros(size * size, q.dtype), np.zeros(size, q.dtype)
    base, part, now, back = (
        np.zeros(deep * wide, q.dtype),
        np.zeros(deep * wide, q.dtype),
        np.zeros(deep * wide, q.dtype),
        np.zeros(deep * wide, q.dtype),
    )
    base_z, part_z, now_z = np.zeros(deep, q.dtype), np.zeros(deep, q.dtype), np.zeros(deep, q.dtype)
    for pair in range(U(first), U(last)):
        b, h = pair // U(heads), pair % U(heads)
        clear(part, U(0), deep * wide)
        clear(part_z, U(0), deep)
        end, chunks = n, KEPT
        while end > U(0):
            if chunks == KEPT:
                flush(part, ds, pair * r * e, r, e, wide)
                flush(part_z, dz, pair * r, U(1), r, deep)
                spread(ds, pair * r * e, r, e, wide, base)
                spread(dz, pair * r, U(1), r, deep, base_z)
                chunks = 0
            combine(base, part, now, deep * wide)
            combine(base_z, part_z, now_z, deep)
            turn(now, back, deep, wide, deep)
            rows = min(size, end)
            i = end - rows
            # Rows behind the end, of the chunk before, only meet zeros of `lower`, and rows that nobody writes.
            whole = (rows + U(15)) // U(16) * U(16)
            k_start = b * U(k_at[0]) + h * U(k_at[1]) + i * U(k_at[2])
            v_start = b * U(v_at[0]) + h * U(v_at[1]) + i * U(v_at[2])
            w_start = b * U(w_at[0]) + h * U(w_at[1]) + i
            read_keys(
                kind, k, k_start, U(k_at[2]), rows, r, True, True, weighted, weights, w_start, phi_k, deep
            )
            read_keys(
                IDENTITY,
                v,
                v_start,
                U(v_at[2]),
                rows,
                e,
                True,
                False,
                weighted,
                weights,
                w_start,
                values,
                wide,
            )
            product(values, back, block, whole, wide, deep)
            product(phi_k, now, block_v, whole, deep, wide)
            for member in range(U(group)):
                head = pair * U(group) + member
                start = b * U(q_at[0]) + (h * U(group) + member) * U(q_at[1]) + i * U(q_at[2])
                read_queries(kind, q, start, U(q_at[2]), rows, r, True, phi_q, deep)
                start = b * U(grad_at[0]) + (h * U(group) + member) * U(grad_at[1]) + i * U(grad_at[2])
                read_gradients(
                    grad, start, U(grad_at[2]), out, denominators, head * n + i, rows, e, least, True, given,
                    biases, wide,
                )  # fmt: skip
                turn(given, turned_g, whole, wide, size)
                lower_product(values, turned_g, lower, whole, wide, size)
                for row in range(rows):
                    for j in range(row + U(1)):
                        lower[row * size + j] += biases[j]
                add_lower_times(lower, phi_q, block, whole, deep, size)
                turn(phi_q, turned_q, whole, deep, size)
                lower_product(phi_k, turned_q, lower, whole, deep, size)
                add_lower_times(lower, given, block_v, whole, wide, size)
                add_outer(phi_q, given, part, rows, deep, wide)
                add_scaled_rows(phi_q, biases, rows, deep, part_z)
            for place in range(rows):
                back_at = rows - U(1) - place
                to = pair * n + i + back_at
                factor = factor_of(one, weighted, weights, w_start + back_at)
                write_gradient(kind, block, phi_k, place * deep, factor, one, now_z, dk, to * r, r)
                write_scaled(block_v, place * wide, one, dv, to * e, e)
            chunks += 1
            end = i
        flush(part, ds, pair * r * e, r, e, wide)
        flush(part_z, dz, pair * r, U(1), r, deep)
