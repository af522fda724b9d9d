"""Kernels in numba: sparse products, dropout with activation. Rows ``first ... last - 1`` of a result at a time.

Every number of a result is computed by one thread in one order, so bits do not depend on how rows are dealt to threads.
Arrays are contiguous and indices trusted: `layerlab.graph.kernels.operators` looks at them first. Products with ``b``
features keep blocks of them in registers over a whole row, so that neither the result nor an entries x features tensor
goes through memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from layerlab.lab.kernels.jit import inline as inline
from layerlab.lab.kernels.jit import kernel as kernel
from layerlab.lab.kernels.vector import (
    add,
    exponential_minus_one,
    kept,
    load,
    multiply,
    splat,
    store,
    total,
    transpose_block,
    where_positive,
    zeros,
)
from layerlab.lab.random import GROUP, draw

U = np.uint64  # unsigned indices: numba wraps signed ones around, at a price

NONE, RELU, ELU = 0, 1, 2  # as in `layerlab.graph.kernels.operators`
# Elements whose random words are drawn at a time: they stay in the first-level cache.
BATCH = 16 * GROUP


@inline
def _accumulate(
    out: Any, col: Any, values: Any, order: Any, x: Any, start: Any, stop: Any, stride: Any, offset: Any
) -> Any:
    """``out + sum over entries of values[e] * x[col[e], offset : offset + W]``, W being the width of ``out``."""
    for entry in range(start, stop):
        value = values[entry if order is None else U(order[entry])]
        out = add(out, multiply(splat(out, value), load(out, x, U(col[entry]) * stride + offset)))
    return out


@inline
def _block(
    zero: Any,
    col: Any,
    values: Any,
    order: Any,
    x: Any,
    bias: Any,
    out: Any,
    start: Any,
    stop: Any,
    stride: Any,
    offset: Any,
    row: Any,
) -> None:
    begin = zero if bias is None else load(zero, bias, offset)
    store(out, row * stride + offset, _accumulate(begin, col, values, order, x, start, stop, stride, offset))


@inline
def _pair(
    zero: Any,
    other: Any,
    col: Any,
    values: Any,
    order: Any,
    x: Any,
    bias: Any,
    out: Any,
    start: Any,
    stop: Any,
    stride: Any,
    offset: Any,
    second: Any,
    row: Any,
) -> None:
    """Two blocks of a row in one pass over its entries: indices and cache lines are fetched once."""
    left = zero if bias is None else load(zero, bias, offset)
    right = other if bias is None else load(other, bias, second)
    for entry in range(start, stop):
        value = values[entry if order is None else U(order[entry])]
        at = U(col[entry]) * stride
        left = add(left, multiply(splat(left, value), load(left, x, at + offset)))
        right = add(right, multiply(splat(right, value), load(right, x, at + second)))
    store(out, row * stride + offset, left)
    store(out, row * stride + second, right)


@inline
def _row(
    col: Any, values: Any, order: Any, x: Any, bias: Any, out: Any, a: Any, b: Any, width: Any, row: Any
) -> None:
    """One row of a product, from the entries ``a ... b - 1``; up to 64 columns take one pass over them.

    Blocks that end with the row may overlap the one before: the same numbers, written twice.
    """
    w32, w16, w8 = width - U(32), width - U(16), width - U(8)  # only used where they are not negative
    f = U(0)
    while f + U(64) <= width:
        _pair(zeros(x, 32), zeros(x, 32), col, values, order, x, bias, out, a, b, width, f, f + U(32), row)
        f += U(64)
    rest = width - f
    if rest == U(0):
        return
    if rest > U(40):
        _pair(zeros(x, 32), zeros(x, 32), col, values, order, x, bias, out, a, b, width, f, w32, row)
    elif rest > U(32):
        _pair(zeros(x, 32), zeros(x, 8), col, values, order, x, bias, out, a, b, width, f, w8, row)
    elif rest == U(32):
        _block(zeros(x, 32), col, values, order, x, bias, out, a, b, width, f, row)
    elif rest > U(24):
        _pair(zeros(x, 16), zeros(x, 16), col, values, order, x, bias, out, a, b, width, f, w16, row)
    elif rest > U(16):
        _pair(zeros(x, 16), zeros(x, 8), col, values, order, x, bias, out, a, b, width, f, w8, row)
    elif rest == U(16):
        _block(zeros(x, 16), col, values, order, x, bias, out, a, b, width, f, row)
    elif rest > U(8):
        _pair(zeros(x, 8), zeros(x, 8), col, values, order, x, bias, out, a, b, width, f, w8, row)
    elif width >= U(8):
        _block(zeros(x, 8), col, values, order, x, bias, out, a, b, width, w8, row)
    elif rest == U(7):
        _block(zeros(x, 7), col, values, order, x, bias, out, a, b, width, f, row)
    elif rest == U(6):
        _block(zeros(x, 6), col, values, order, x, bias, out, a, b, width, f, row)
    elif rest == U(5):
        _block(zeros(x, 5), col, values, order, x, bias, out, a, b, width, f, row)
    elif rest == U(4):
        _block(zeros(x, 4), col, values, order, x, bias, out, a, b, width, f, row)
    elif rest == U(3):
        _block(zeros(x, 3), col, values, order, x, bias, out, a, b, width, f, row)
    elif rest == U(2):
        _block(zeros(x, 2), col, values, order, x, bias, out, a, b, width, f, row)
    else:
        _block(zeros(x, 1), col, values, order, x, bias, out, a, b, width, f, row)


@kernel
def spmm(
    crow: Any, col: Any, values: Any, order: Any, x: Any, bias: Any, out: Any, first: int, last: int
) -> None:
    """``out[i] = bias + sum over entries e of row i of values[e] x[col[e]]``; bias may be None.

    With an ``order``, the value of entry e is ``values[order[e]]``.
    """
    width = U(x.shape[1])
    for row in range(U(first), U(last)):
        _row(col, values, order, x, bias, out, U(crow[row]), U(crow[row + U(1)]), width, row)


@kernel
def spmm_kept(
    crow: Any,
    col: Any,
    values: Any,
    order: Any,
    x: Any,
    bias: Any,
    out: Any,
    longest: int,
    first: int,
    last: int,
) -> None:
    """`spmm` where many values are 0: those of a row that are not are put side by side first.

    Without a branch, which would be taken at random. ``longest`` is the number of entries of the longest row.
    """
    width = U(x.shape[1])
    columns, numbers = np.empty(longest, col.dtype), np.empty(longest, values.dtype)
    for row in range(U(first), U(last)):
        count = U(0)
        for entry in range(U(crow[row]), U(crow[row + U(1)])):
            value = values[entry if order is None else U(order[entry])]
            columns[count], numbers[count] = col[entry], value
            count += U(value != 0)
        _row(columns, numbers, None, x, bias, out, U(0), count, width, row)


@kernel
def transpose(x: Any, out: Any, first: int, last: int) -> None:
    """``out = x^T``, columns ``first ... last - 1`` of x: blocks of 8 x 8 numbers, and what is left one by one."""
    height, width = U(x.shape[0]), U(x.shape[1])
    j, end = U(first), U(last)
    while j + U(8) <= end:
        i = U(0)
        while i + U(8) <= height:
            transpose_block(zeros(x, 8), x, i * width + j, width, out, j * height + i, height)
            i += U(8)
        while i < height:
            for column in range(j, j + U(8)):
                out[column, i] = x[i, column]
            i += U(1)
        j += U(8)
    while j < end:
        for row in range(height):
            out[j, row] = x[row, j]
        j += U(1)


@inline
def _some_columns(zero: Any, x: Any, w: Any, out: Any, offset: Any, first: Any, last: Any) -> None:
    """Some columns of the product, four rows at a time: a sum alone would wait for the addition before."""
    depth, width = U(x.shape[1]), U(w.shape[1])
    row = first
    while row + U(4) <= last:
        a, b, c, d = zero, zero, zero, zero
        for k in range(depth):
            factor = load(zero, w, k * width + offset)
            a = add(a, multiply(splat(zero, x[row, k]), factor))
            b = add(b, multiply(splat(zero, x[row + U(1), k]), factor))
            c = add(c, multiply(splat(zero, x[row + U(2), k]), factor))
            d = add(d, multiply(splat(zero, x[row + U(3), k]), factor))
        to = row * width + offset
        store(out, to, a)
        store(out, to + width, b)
        store(out, to + U(2) * width, c)
        store(out, to + U(3) * width, d)
        row += U(4)
    while row < last:
        a = zero
        for k in range(depth):
            a = add(a, multiply(splat(zero, x[row, k]), load(zero, w, k * width + offset)))
        store(out, row * width + offset, a)
        row += U(1)


@inline
def product_of_rows(x: Any, w: Any, out: Any, a: Any, b: Any) -> None:
    """Rows ``a ... b - 1`` of ``out = x w``."""
    width = U(w.shape[1])
    f = U(0)
    while f + U(16) <= width:
        _some_columns(zeros(x, 16), x, w, out, f, a, b)
        f += U(16)
    # Blocks that end with the row may overlap the one before: the same numbers, written twice.
    rest = width - f
    if rest >= U(8):
        _some_columns(zeros(x, 8), x, w, out, f, a, b)
        rest -= U(8)
    if rest > U(0) and width >= U(8):
        _some_columns(zeros(x, 8), x, w, out, width - U(8), a, b)
    elif rest == U(7):
        _some_columns(zeros(x, 7), x, w, out, U(0), a, b)
    elif rest >= U(4):
        _some_columns(zeros(x, 4), x, w, out, U(0), a, b)
        if rest > U(4):
            _some_columns(zeros(x, 4), x, w, out, rest - U(4), a, b)
    elif rest == U(3):
        _some_columns(zeros(x, 3), x, w, out, U(0), a, b)
    elif rest == U(2):
        _some_columns(zeros(x, 2), x, w, out, U(0), a, b)
    elif rest == U(1):
        _some_columns(zeros(x, 1), x, w, out, U(0), a, b)


@kernel
def dense_product(x: Any, w: Any, out: Any, first: int, last: int) -> None:
    """``out = x w``: for small products, where a library that is made for large ones loses its time on the way."""
    product_of_rows(x, w, out, U(first), U(last))


@inline
def dot(x: Any, i: Any, y: Any, j: Any, width: Any) -> Any:
    """``x.flat[i : i + width] . y.flat[j : j + width]``."""
    f = U(0)
    result = x.dtype.type(0)
    if width >= U(8):
        wide = zeros(x, 8)
        while f + U(8) <= width:
            wide = add(wide, multiply(load(wide, x, i + f), load(wide, y, j + f)))
            f += U(8)
        result = total(wide)
    if f + U(4) <= width:
        narrow = zeros(x, 4)
        result += total(multiply(load(narrow, x, i + f), load(narrow, y, j + f)))
        f += U(4)
    while f < width:
        one = zeros(x, 1)
        result += total(multiply(load(one, x, i + f), load(one, y, j + f)))
        f += U(1)
    return result


@kernel
def sampled_product(crow: Any, col: Any, left: Any, right: Any, out: Any, first: int, last: int) -> None:
    """``out[e] = left[row of e] . right[col[e]]``: the gradient to the values of a product."""
    width = U(left.shape[1])
    for row in range(U(first), U(last)):
        for entry in range(U(crow[row]), U(crow[row + U(1)])):
            out[entry] = dot(left, row * width, right, U(col[entry]) * width, width)


@inline
def _column_block(total_of: Any, x: Any, first: Any, last: Any, width: Any, f: Any) -> Any:
    for row in range(first, last):
        total_of = add(total_of, load(total_of, x, row * width + f))
    return total_of


@kernel
def column_sums(x: Any, out: Any, rows: int, first: int, last: int) -> None:
    """``out[c] =`` the sum of rows ``c * rows ... (c + 1) * rows - 1`` of x, for chunks ``first ... last - 1``."""
    height, width = U(x.shape[0]), U(x.shape[1])
    for chunk in range(U(first), U(last)):
        start = chunk * U(rows)
        stop = min(height, start + U(rows))
        f = U(0)
        while f + U(8) <= width:
            store(out, chunk * width + f, _column_block(zeros(x, 8), x, start, stop, width, f))
            f += U(8)
        while f < width:
            store(out, chunk * width + f, _column_block(zeros(x, 1), x, start, stop, width, f))
            f += U(1)


@inline
def _activate_block(
    zero: Any, x: Any, at: Any, activation: Any, words: Any, word: Any, threshold: Any, scale: Any, out: Any
) -> None:
    y = load(zero, x, at)
    if activation == RELU:
        y = where_positive(y, y, zero)
    elif activation == ELU:
        y = where_positive(y, y, exponential_minus_one(y))
    if threshold > 0:
        y = multiply(y, kept(zero, words, word, threshold, scale))
    store(out, at, y)


@inline
def activate_batch(
    x: Any,
    activation: Any,
    words: Any,
    shift: Any,
    threshold: Any,
    scale: Any,
    out: Any,
    start: Any,
    stop: Any,
) -> None:
    i = start
    while i + U(8) <= stop:
        _activate_block(zeros(x, 8), x, i, activation, words, i - start + shift, threshold, scale, out)
        i += U(8)
    while i < stop:
        _activate_block(zeros(x, 1), x, i, activation, words, i - start + shift, threshold, scale, out)
        i += U(1)


@kernel
def activate(
    x: Any,
    activation: int,
    seed: Any,
    threshold: Any,
    scale: Any,
    begin: int,
    out: Any,
    first: int,
    last: int,
) -> None:
    """``out = dropout(activation(x))`` for flat elements ``first ... last - 1``; a threshold of 0 drops nothing.

    Element i has the random word of number ``begin + i``.
    """
    words = np.empty(BATCH + 2 * GROUP, np.uint32)
    shift = 0
    for start in range(first, last, BATCH):
        stop = min(start + BATCH, last)
        if threshold > 0:
            shift = draw(words, seed, U(0), begin + start, begin + stop)
        a, b, s = U(start), U(stop), U(shift)
        # Inlined with a constant each time: no branch is left within the loops.
        if activation == RELU:
            activate_batch(x, RELU, words, s, threshold, scale, out, a, b)
        elif activation == ELU:
            activate_batch(x, ELU, words, s, threshold, scale, out, a, b)
        else:
            activate_batch(x, NONE, words, s, threshold, scale, out, a, b)


@inline
def _slope_block(
    zero: Any,
    gradient: Any,
    y: Any,
    at: Any,
    words: Any,
    word: Any,
    threshold: Any,
    scale: Any,
    inverse: Any,
    out: Any,
) -> None:
    g = load(zero, gradient, at)
    one = splat(zero, gradient.dtype.type(1))
    if threshold > 0:
        g = multiply(g, kept(zero, words, word, threshold, scale))
    before = multiply(load(zero, y, at), splat(zero, inverse))
    store(out, at, multiply(g, where_positive(before, one, add(before, one))))


@inline
def _step_block(zero: Any, gradient: Any, y: Any, at: Any, scale: Any, out: Any) -> None:
    g = multiply(load(zero, gradient, at), splat(zero, scale))
    store(out, at, where_positive(load(zero, y, at), g, zero))


@kernel
def relu_backward(gradient: Any, y: Any, scale: Any, out: Any, first: int, last: int) -> None:
    """The gradient of ``y = dropout(relu(x))``: above 0 means kept and active at once, so nothing is drawn again."""
    i, stop = U(first), U(last)
    while i + U(8) <= stop:
        _step_block(zeros(y, 8), gradient, y, i, scale, out)
        i += U(8)
    while i < stop:
        _step_block(zeros(y, 1), gradient, y, i, scale, out)
        i += U(1)


@kernel
def elu_backward(
    gradient: Any,
    y: Any,
    seed: Any,
    threshold: Any,
    scale: Any,
    begin: int,
    out: Any,
    first: int,
    last: int,
) -> None:
    """The gradient of ``y = dropout(elu(x))``, with the same words drawn again."""
    words = np.empty(BATCH + 2 * GROUP, np.uint32)
    inverse = gradient.dtype.type(1) / scale
    shift = 0
    for start in range(first, last, BATCH):
        stop = min(start + BATCH, last)
        if threshold > 0:
            shift = draw(words, seed, U(0), begin + start, begin + stop)
        i, a, b = U(start), U(start), U(stop)
        while i + U(8) <= b:
            _slope_block(zeros(y, 8), gradient, y, i, words, i - a + U(shift), threshold, scale, inverse, out)
            i += U(8)
        while i < b:
            _slope_block(zeros(y, 1), gradient, y, i, words, i - a + U(shift), threshold, scale, inverse, out)
            i += U(1)
