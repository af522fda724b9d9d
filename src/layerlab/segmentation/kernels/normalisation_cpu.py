"""Batch norm and (leaky) ReLU of maps in channels-last, in numba, with as few passes through memory as can be.

Rows are pixels of all images, columns channels. Forward: one pass for the moments, one that normalises and activates.
Backward: one for the two sums, one for the gradient; what the activation let through is computed again. Chunks of rows
have sums of their own, so that bits do not depend on threads. Arrays are contiguous, maps float32, and trusted:
`layerlab.segmentation.kernels.normalisation` looks at them first.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from layerlab.lab.kernels.jit import inline as inline
from layerlab.lab.kernels.jit import kernel as kernel
from layerlab.lab.kernels.vector import add, load, multiply, splat, store, subtract, where_positive, zeros

U = np.uint64  # unsigned indices: numba wraps signed ones around, at a price

LANES = 8
"""Channels that are computed together: what divides their number."""
ROWS = 256
"""Of a chunk: few enough for sums in float32 and for the cache."""


@inline
def _normal(distance: Any, scale: Any, shift: Any) -> Any:
    return add(multiply(distance, scale), shift)


@inline
def _let_through(zero: Any, z: Any, number: Any, below: Any) -> Any:
    """The number where z is above zero, else ``below`` times it: 0 of any number, also an infinite one, for ReLU."""
    return where_positive(z, number, where_positive(below, multiply(number, below), zero))


@kernel
def moments(x: Any, sums: Any, first: int, last: int) -> None:
    """Of chunks ``first ... last - 1``: sums of ``x - x[0]`` and of its square, ``x[0]`` being the chunk's first row.

    About zero they would cancel where a mean is large beside its deviation.

    Args:
        x: ``(rows, channels)``.
        sums: ``(chunks, 2, channels)``.
    """
    rows, channels = U(x.shape[0]), U(x.shape[1])
    numbers, out, zero = x.reshape(-1), sums.reshape(-1), zeros(x, 8)
    for chunk in range(first, last):
        begin = U(chunk) * U(ROWS)
        end = min(begin + U(ROWS), rows)
        for c in range(U(0), channels, U(LANES)):
            start = load(zero, numbers, begin * channels + c)
            plain, squared = zero, zero
            for row in range(begin + U(1), end):
                distance = subtract(load(zero, numbers, row * channels + c), start)
                plain, squared = add(plain, distance), add(squared, multiply(distance, distance))
            to = U(2 * chunk) * channels + c
            store(out, to, plain)
            store(out, to + channels, squared)


@kernel
def together(x: Any, sums: Any, mean: Any, squares: Any) -> None:
    """Mean and sum of squares about it of all rows, from the chunks' sums (Chan, Golub and LeVeque 1979).

    Args:
        x: ``(rows, channels)``.
        sums: ``(chunks, 2, channels)``, as `moments` leaves them.
        mean, squares: ``(channels)`` float64 zeros.
    """
    rows, channels = x.shape
    before = 0
    for chunk in range(sums.shape[0]):
        begin = chunk * ROWS
        count = min(begin + ROWS, rows) - begin
        for c in range(channels):
            plain = np.float64(sums[chunk, 0, c])
            distance = x[begin, c] + plain / count - mean[c]
            squares[c] += sums[chunk, 1, c] - plain * plain / count
            squares[c] += distance * distance * before * count / (before + count)
            mean[c] += distance * count / (before + count)
        before += count


@kernel
def activated(x: Any, mean: Any, scale: Any, shift: Any, slope: Any, out: Any, first: int, last: int) -> None:
    """Rows ``first ... last - 1`` of ``a(scale (x - mean) + shift)``; ``a(z)`` is z above zero and ``slope z`` below.

    Args:
        x, out: ``(rows, channels)``.
        mean, scale, shift: ``(channels)`` float32.
        slope: ``(1)`` float32.
    """
    channels = U(x.shape[1])
    numbers, to, zero = x.reshape(-1), out.reshape(-1), zeros(x, 8)
    below = splat(zero, slope[0])
    for row in range(U(first), U(last)):
        for c in range(U(0), channels, U(LANES)):
            at = row * channels + c
            distance = subtract(load(zero, numbers, at), load(zero, mean, c))
            z = _normal(distance, load(zero, scale, c), load(zero, shift, c))
            store(to, at, _let_through(zero, z, z, below))


@kernel
def gradient_sums(
    x: Any, g: Any, mean: Any, scale: Any, shift: Any, slope: Any, sums: Any, first: int, last: int
) -> None:
    """Of chunks ``first ... last - 1``: sums of ``h`` and of ``h (x - mean)``, with
    ``h = a'(scale (x - mean) + shift) g``.

    Args:
        x, g: ``(rows, channels)``; ``g`` is the gradient of the output.
        mean, scale, shift: ``(channels)`` float32.
        slope: ``(1)`` float32.
        sums: ``(chunks, 2, channels)``.
    """
    rows, channels = U(x.shape[0]), U(x.shape[1])
    numbers, given, out, zero = x.reshape(-1), g.reshape(-1), sums.reshape(-1), zeros(x, 8)
    below = splat(zero, slope[0])
    for chunk in range(first, last):
        begin = U(chunk) * U(ROWS)
        end = min(begin + U(ROWS), rows)
        for c in range(U(0), channels, U(LANES)):
            middle, factor, offset = load(zero, mean, c), load(zero, scale, c), load(zero, shift, c)
            plain, weighted = zero, zero
            for row in range(begin, end):
                at = row * channels + c
                distance, h = subtract(load(zero, numbers, at), middle), load(zero, given, at)
                h = _let_through(zero, _normal(distance, factor, offset), h, below)
                plain, weighted = add(plain, h), add(weighted, multiply(h, distance))
            to = U(2 * chunk) * channels + c
            store(out, to, plain)
            store(out, to + channels, weighted)


@kernel
def gradient(
    x: Any,
    g: Any,
    mean: Any,
    scale: Any,
    shift: Any,
    slope: Any,
    slant: Any,
    level: Any,
    out: Any,
    first: int,
    last: int,
) -> None:
    """Rows ``first ... last - 1`` of ``scale h + slant (x - mean) + level``, with ``h`` as in `gradient_sums`.

    Args:
        x, g, out: ``(rows, channels)``.
        mean, scale, shift, slant, level: ``(channels)`` float32.
        slope: ``(1)`` float32.
    """
    channels = U(x.shape[1])
    numbers, given, to, zero = x.reshape(-1), g.reshape(-1), out.reshape(-1), zeros(x, 8)
    below = splat(zero, slope[0])
    for row in range(U(first), U(last)):
        for c in range(U(0), channels, U(LANES)):
            at = row * channels + c
            distance = subtract(load(zero, numbers, at), load(zero, mean, c))
            h, factor = load(zero, given, at), load(zero, scale, c)
            h = _let_through(zero, _normal(distance, factor, load(zero, shift, c)), h, below)
            rest = multiply(load(zero, slant, c), distance)
            store(to, at, add(add(multiply(factor, h), rest), load(zero, level, c)))
