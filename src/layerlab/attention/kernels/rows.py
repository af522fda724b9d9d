"""Rows of q, k, v and their gradients, in numba: read into blocks with the feature map applied, and written back."""

from __future__ import annotations

from typing import Any

import numpy as np

from layerlab.lab.kernels.jit import inline as inline
from layerlab.lab.kernels.vector import (
    add,
    exponential,
    larger,
    load,
    load_first,
    multiply,
    prefetch,
    splat,
    store,
    store_first,
    subtract,
    total,
    where_positive,
    zeros,
)

U = np.uint64
IDENTITY, ELU, RELU = 0, 1, 2


@inline
def _feature(kind: Any, x: Any, one: Any, zero: Any) -> Any:
    if kind == ELU:
        return where_positive(x, add(x, one), exponential(x))
    if kind == RELU:
        return where_positive(x, x, zero)
    return x


@inline
def _slope(kind: Any, phi: Any, factor: Any, zero: Any) -> Any:
    """The derivative of ``factor phi`` from its value: of elu + 1, the smaller of phi and 1."""
    if kind == ELU:
        return where_positive(subtract(factor, phi), phi, factor)
    if kind == RELU:
        return where_positive(phi, factor, zero)
    return factor


@inline
def clear(block: Any, first: Any, last: Any) -> None:
    for i in range(first, last):
        block[i] = 0


@inline
def _shift(kind: Any, x: Any, start: Any, width: Any) -> Any:
    """What is taken from a query so that its largest entry is not below 0 (`EluPlusOne.queries`)."""
    none = x.dtype.type(0)
    if kind != ELU:
        return none
    zero = zeros(x, 8)
    most = zero
    whole = width // U(8) * U(8)
    for f in range(U(0), whole, U(8)):
        most = larger(load(zero, x, start + f), most)
    if whole < width:
        most = larger(load_first(zero, x, start + whole, width - whole), most)
    # Entries that are not below 0 count, NaN too.
    if total(where_positive(most, splat(zero, x.dtype.type(1)), zero)) != none:
        return none
    shift = x[start]
    for i in range(start, start + width):
        shift = max(shift, x[i])
    return min(shift, none)


@inline
def _read_row(
    kind: Any, x: Any, start: Any, ahead: Any, width: Any, shift: Any, factor: Any, block: Any, at: Any
) -> None:
    # The row of the next block: it arrives while this block is multiplied.
    for line in range(U(0), width, U(16)):
        prefetch(x, start + ahead + line)
    zero = zeros(x, 8)
    one, by, minus = splat(zero, x.dtype.type(1)), splat(zero, factor), splat(zero, shift)
    f = U(0)
    while f + U(8) <= width:
        value = subtract(load(zero, x, start + f), minus)
        store(block, at + f, multiply(by, _feature(kind, value, one, zero)))
        f += U(8)
    if f < width:
        value = subtract(load_first(zero, x, start + f, width - f), minus)
        store_first(block, at + f, multiply(by, _feature(kind, value, one, zero)), width - f)


@inline
def read_queries(
    kind: Any, x: Any, start: Any, stride: Any, rows: Any, width: Any, back: Any, block: Any, padded: Any
) -> None:
    """``block[i] = phi(x_i)`` for some rows; with ``back`` in reverse order."""
    for i in range(rows):
        row = start + i * stride
        place = rows - U(1) - i if back else i
        shift = _shift(kind, x, row, width)
        _read_row(kind, x, row, U(64) * stride, width, shift, x.dtype.type(1), block, place * padded)


@inline
def read_keys(
    kind: Any,
    x: Any,
    start: Any,
    stride: Any,
    rows: Any,
    width: Any,
    back: Any,
    scaled: Any,
    weighted: Any,
    weights: Any,
    weight: Any,
    block: Any,
    padded: Any,
) -> None:
    """``block[i] = w_i phi(x_i)``, w being ``weights[weight:]`` if ``weighted``, else 1.

    A weight of 0 hides NaN, too. Without ``scaled`` weights only hide.
    """
    for i in range(rows):
        place = rows - U(1) - i if back else i
        factor = x.dtype.type(1)
        if weighted:
            given = weights[weight + i]
            if given == 0:
                clear(block, place * padded, place * padded + width)
                continue
            if scaled:
                factor = given
        _read_row(
            kind, x, start + i * stride, U(64) * stride, width, x.dtype.type(0), factor, block, place * padded
        )


@inline
def add_rows(block: Any, rows: Any, padded: Any, out: Any) -> None:
    """``out += sum_i block[i]``."""
    for f in range(U(0), padded, U(16)):
        sum_of = zeros(block, 16)
        at = f
        for _ in range(rows):
            sum_of = add(sum_of, load(sum_of, block, at))
            at += padded
        store(out, f, add(load(sum_of, out, f), sum_of))


@inline
def add_scaled_rows(block: Any, factors: Any, rows: Any, padded: Any, out: Any) -> None:
    """``out += sum_i factors[i] block[i]``."""
    for f in range(U(0), padded, U(16)):
        sum_of = zeros(block, 16)
        at = f
        for i in range(rows):
            sum_of = add(sum_of, multiply(splat(sum_of, factors[i]), load(sum_of, block, at)))
            at += padded
        store(out, f, add(load(sum_of, out, f), sum_of))


@inline
def read_scaled(
    x: Any, start: Any, factor: Any, other: Any, at: Any, width: Any, block: Any, place: Any
) -> Any:
    """``block[place : place + width] = factor x``; returns ``factor x . other[at : at + width]``."""
    zero = zeros(block, 8)
    by, sum_of, f = splat(zero, factor), zero, U(0)
    while f + U(8) <= width:
        value = multiply(by, load(zero, x, start + f))
        store(block, place + f, value)
        sum_of = add(sum_of, multiply(value, load(zero, other, at + f)))
        f += U(8)
    if f < width:
        value = multiply(by, load_first(zero, x, start + f, width - f))
        store_first(block, place + f, value, width - f)
        sum_of = add(sum_of, multiply(value, load_first(zero, other, at + f, width - f)))
    return total(sum_of)


@inline
def dot(x: Any, i: Any, y: Any, j: Any, padded: Any) -> Any:
    """``x[i : i + padded] . y[j : j + padded]`` of padded rows."""
    out = zeros(x, 16)
    for f in range(U(0), padded, U(16)):
        out = add(out, multiply(load(out, x, i + f), load(out, y, j + f)))
    return total(out)


@inline
def sum_first(x: Any, i: Any, count: Any) -> Any:
    """``sum x[i : i + count]``."""
    out, f = zeros(x, 8), U(0)
    while f + U(8) <= count:
        out = add(out, load(out, x, i + f))
        f += U(8)
    if f < count:
        out = add(out, load_first(out, x, i + f, count - f))
    return total(out)


@inline
def write_scaled(block: Any, at: Any, factor: Any, out: Any, start: Any, width: Any) -> None:
    """``out[start : start + width] = factor block[at : at + width]``."""
    zero = zeros(block, 8)
    by, f = splat(zero, factor), U(0)
    while f + U(8) <= width:
        store(out, start + f, multiply(by, load(zero, block, at + f)))
        f += U(8)
    if f < width:
        store_first(out, start + f, multiply(by, load(zero, block, at + f)), width - f)


@inline
def write_gradient(
    kind: Any,
    block: Any,
    phi: Any,
    at: Any,
    factor: Any,
    scale: Any,
    bias: Any,
    out: Any,
    start: Any,
    width: Any,
) -> None:
    """``out = (block + scale bias) * d(factor phi)/dx`` of a row of features."""
    zero = zeros(block, 8)
    by, times, f = splat(zero, factor), splat(zero, scale), U(0)
    while f < width:
        of_phi = add(load(zero, block, at + f), multiply(times, load(zero, bias, f)))
        value = multiply(of_phi, _slope(kind, load(zero, phi, at + f), by, zero))
        if f + U(8) <= width:
            store(out, start + f, value)
        else:
            store_first(out, start + f, value, width - f)
        f += U(8)
