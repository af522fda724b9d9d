"""The forward of linear attention in numba: chunks of rows that stay in the cache, each tensor read or written once.

Work is dealt in units (a head, or some rows of one); what a unit computes does not depend on who computes it. Sums over
keys grow in the tensors' dtype for `KEPT` chunks and are then added to float64, so that they carry the rounding of a
few hundred additions at most, however long the sequence.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from layerlab.attention.kernels.blocks import add_lower_times, add_outer, lower_product, product, turn
from layerlab.attention.kernels.rows import (
    IDENTITY,
    add_rows,
    clear,
    dot,
    read_keys,
    read_queries,
    sum_first,
    write_scaled,
)
from layerlab.lab.kernels.jit import inline as inline
from layerlab.lab.kernels.jit import kernel as kernel

U = np.uint64
CHUNK = 64  # rows
KEPT = 8  # chunks


@inline
def padded(size: Any) -> Any:
    """The next multiple of 16."""
    return (U(size) + U(15)) // U(16) * U(16)


@inline
def flush(part: Any, total: Any, start: Any, height: Any, width: Any, columns: Any) -> None:
    """Add ``part``, padded to ``columns``, to ``total[start : start + height width]``, and clear it."""
    for i in range(height):
        for f in range(width):
            total[start + i * width + f] += part[i * columns + f]
    clear(part, U(0), height * columns)


@inline
def spread(total: Any, start: Any, height: Any, width: Any, columns: Any, base: Any) -> None:
    """Round ``total`` to ``base``, which is padded to ``columns``."""
    for i in range(height):
        for f in range(width):
            base[i * columns + f] = total[start + i * width + f]


@inline
def combine(base: Any, part: Any, now: Any, size: Any) -> None:
    """``now = base + part``."""
    for i in range(size):
        now[i] = base[i] + part[i]


@inline
def inverse(one: Any, denominator: Any, least: Any) -> Any:
    """``1 / denominator``, and 0 where that is negligible; NaN stays."""
    return denominator * 0 if abs(denominator) < least else one / denominator


@kernel
def gather(
    kind: int,
    k: Any,
    k_at: Any,
    v: Any,
    v_at: Any,
    weights: Any,
    w_at: Any,
    heads: int,
    sizes: Any,
    slab: int,
    s: Any,
    z: Any,
    first: int,
    last: int,
) -> None:
    """``s[unit] = sum_j w_j phi(k_j) v_j^T`` and ``z[unit] = sum_j w_j phi(k_j)``, a unit being a slab of a head.

    Args:
        kind: the feature map.
        k: all numbers of the tensor, from the first on; ``k_at`` has its strides (batch, head, row). Likewise v.
        weights: w, likewise, its row stride being 1; or 0 and any array for 1 everywhere.
        heads: of k.
        sizes: m, r, e.
        slab: rows of a unit.
        s: float64, ``(units * r * e,)``, zeros.
        z: float64, ``(units * r,)``, zeros.
    """
    m, r, e = U(sizes[0]), U(sizes[1]), U(sizes[2])
    wide, deep, height = padded(e), padded(r), U(slab)
    weighted = w_at[2] != 0
    slabs = (m + height - U(1)) // height
    phi, values = np.zeros(U(CHUNK) * deep, k.dtype), np.zeros(U(CHUNK) * wide, k.dtype)
    part, part_z = np.zeros(deep * wide, k.dtype), np.zeros(deep, k.dtype)
    for unit in range(U(first), U(last)):
        pair, piece = unit // slabs, unit % slabs
        b, h = pair // U(heads), pair % U(heads)
        k_start, v_start = b * U(k_at[0]) + h * U(k_at[1]), b * U(v_at[0]) + h * U(v_at[1])
        w_start = b * U(w_at[0]) + h * U(w_at[1])
        i, stop = piece * height, min(m, piece * height + height)
        chunks = 0
        while i < stop:
            rows = min(U(CHUNK), stop - i)
            read_keys(
                kind,
                k,
                k_start + i * U(k_at[2]),
                U(k_at[2]),
                rows,
                r,
                False,
                True,
                weighted,
                weights,
                w_start + i,
                phi,
                deep,
            )
            read_keys(
                IDENTITY,
                v,
                v_start + i * U(v_at[2]),
                U(v_at[2]),
                rows,
                e,
                False,
                False,
                weighted,
                weights,
                w_start + i,
                values,
                wide,
            )
            add_outer(phi, values, part, rows, deep, wide)
            add_rows(phi, rows, deep, part_z)
            chunks += 1
            i += rows
            if chunks == KEPT or i == stop:
                flush(part, s, unit * r * e, r, e, wide)
                flush(part_z, z, unit * r, U(1), r, deep)
                chunks = 0


@kernel
def read(
    kind: int,
    q: Any,
    q_at: Any,
    s: Any,
    z: Any,
    heads: int,
    group: int,
    sizes: Any,
    least: float,
    out: Any,
    denominators: Any,
    first: int,
    last: int,
) -> None:
    """``out_i = phi(q_i)^T s / phi(q_i) . z``, a unit being a chunk of rows of a head.

    Args:
        s: ``(pairs * padded(r) * padded(e),)``.
        z: ``(pairs * padded(r),)``.
        heads: of q, of which ``group`` share a pair.
        sizes: n, r, e.
        least: denominators below it are 0.
        out: ``(batch * heads * n * e,)``.
        denominators: ``(batch * heads * n,)``.
    """
    n, r, e = U(sizes[0]), U(sizes[1]), U(sizes[2])
    wide, deep = padded(e), padded(r)
    chunks = (n + U(CHUNK - 1)) // U(CHUNK)
    phi, block = np.zeros(U(CHUNK) * deep, q.dtype), np.zeros(U(CHUNK) * wide, q.dtype)
    now, now_z = np.zeros(deep * wide, q.dtype), np.zeros(deep, q.dtype)
    held = U(0)
    for unit in range(U(first), U(last)):
        head, i = unit // chunks, unit % chunks * U(CHUNK)
        b, h = head // U(heads), head % U(heads)
        pair = head // U(group)
        if unit == U(first) or pair != held:
            held = pair
            for f in range(deep * wide):
                now[f] = s[pair * deep * wide + f]
            for f in range(deep):
                now_z[f] = z[pair * deep + f]
        rows = min(U(CHUNK), n - i)
        start = b * U(q_at[0]) + h * U(q_at[1]) + i * U(q_at[2])
        read_queries(kind, q, start, U(q_at[2]), rows, r, False, phi, deep)
        product(phi, now, block, (rows + U(3)) // U(4) * U(4), deep, wide)
        for row in range(rows):
            total = dot(phi, row * deep, now_z, U(0), deep)
            to = head * n + i + row
            denominators[to] = total
            write_scaled(block, row * wide, inverse(out.dtype.type(1), total, least), out, to * e, e)


@kernel
def causal(
    kind: int,
    q: Any,
    q_at: Any,
    k: Any,
    k_at: Any,
    v: Any,
    v_at: Any,
    weights: Any,
    w_at: Any,
    heads: int,
    group: int,
    sizes: Any,
    least: float,
    s: Any,
    z: Any,
    out: Any,
    denominators: Any,
    first: int,
    last: int,
) -> None:
    """The causal output, a unit being a head of the keys with the heads of q that it serves.

    Args:
        heads: of k; ``group`` heads of q for each.
        sizes: n, r, e.
        s: float64, ``(pairs * r * e,)``: the sums over what came before, to which these keys are added.
        z: float64, ``(pairs * r,)``: likewise.
    """
    n, r, e = U(sizes[0]), U(sizes[1]), U(sizes[2])
    wide, deep, size = padded(e), padded(r), U(CHUNK)
    weighted = w_at[2] != 0
    phi_q, phi_k, turned = (
        np.zeros(size * deep, q.dtype),
        np.zeros(size * deep, q.dtype),
        np.zeros(size * deep, q.dtype),
    )
    values, block = np.zeros(size * wide, q.dtype), np.zeros(size * wide, q.dtype)
    lower = np.zeros(size * size, q.dtype)
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
        # What is padding may hold the NaN of another sequence.
        clear(part, U(0), deep * wide)
        clear(part_z, U(0), deep)
        i, chunks = U(0), KEPT
        while i < n:
            if chunks == KEPT:
                flush(part, s, pair * r * e, r, e, wide)
                flush(part_z, z, pair * r, U(1), r, deep)
                spread(s, pair * r * e, r, e, wide, base)
                spread(z, pair * r, U(1), r, deep, base_z)
                chunks = 0
            combine(base, part, now, deep * wide)
            combine(base_z, part_z, now_z, deep)
            rows = min(size, n - i)
            # Rows behind the end, of the chunk before, only meet zeros of `lower`, and rows that nobody writes.
            whole = (rows + U(15)) // U(16) * U(16)
            read_keys(
                kind,
                k,
                k_start + i * U(k_at[2]),
                U(k_at[2]),
                rows,
                r,
                False,
                True,
                weighted,
                weights,
                w_start + i,
                phi_k,
                deep,
            )
            read_keys(
                IDENTITY,
                v,
                v_start + i * U(v_at[2]),
                U(v_at[2]),
                rows,
                e,
                False,
                False,
                weighted,
                weights,
                w_start + i,
                values,
                wide,
            )
            turn(phi_k, turned, whole, deep, size)
            for member in range(U(group)):
                head = pair * U(group) + member
                start = b * U(q_at[0]) + (h * U(group) + member) * U(q_at[1]) + i * U(q_at[2])
                read_queries(kind, q, start, U(q_at[2]), rows, r, False, phi_q, deep)
                product(phi_q, now, block, whole, deep, wide)
                lower_product(phi_q, turned, lower, whole, deep, size)
                add_lower_times(lower, values, block, whole, wide, size)
                for row in range(rows):
                    total = dot(phi_q, row * deep, now_z, U(0), deep) + sum_first(
                        lower, row * size, row + U(1)
                    )
                    to = head * n + i + row
                    denominators[to] = total
                    write_scaled(block, row * wide, inverse(out.dtype.type(1), total, least), out, to * e, e)
            add_outer(phi_k, values, part, rows, deep, wide)
            add_rows(phi_k, rows, deep, part_z)
            chunks += 1
            i += rows
        flush(part, s, pair * r * e, r, e, wide)
        flush(part_z, z, pair * r, U(1), r, deep)
