"""The fields of 2^m elements by tables: products, powers, traces. An element is the bits of its polynomial."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerlab.errors import UserError

Elements = NDArray[np.int64]

_LARGEST = 24


class BinaryField:
    """GF(2^m), by the logarithms of its elements to the base of a primitive element.

    Args:
        degree: m, from 1 to 24.

    >>> field = BinaryField(3)
    >>> field.product(np.array([2, 4]), np.array([4, 7])).tolist()  # x³ = x + 1
    [3, 1]
    >>> field.power(np.arange(8), 7).tolist()
    [0, 1, 1, 1, 1, 1, 1, 1]
    >>> field.trace.tolist()
    [0, 1, 0, 1, 0, 1, 0, 1]
    """

    def __init__(self, degree: int) -> None:
        if not 1 <= degree <= _LARGEST:
            raise UserError(
                f"expected a field of 2^m elements with m from 1 to {_LARGEST}, got m = {degree}; take a smaller one"
            )
        self.degree, self.size = degree, 1 << degree
        self._exponentials = _powers_of_primitive(degree)
        self._logarithms = np.zeros(self.size, np.int64)
        self._logarithms[self._exponentials] = np.arange(self.size - 1)
        squares = np.arange(self.size)
        self.trace: Elements = squares.copy()
        for _ in range(degree - 1):
            squares = self.product(squares, squares)
            self.trace ^= squares

    def product(self, a: Any, b: Any) -> Elements:
        """Element by element, with broadcasting."""
        sums = (self._logarithms[a] + self._logarithms[b]) % (self.size - 1)
        return np.where((np.asarray(a) == 0) | (np.asarray(b) == 0), 0, self._exponentials[sums])

    def power(self, a: Any, exponent: int) -> Elements:
        """``a`` to a positive power."""
        powers = self._exponentials[self._logarithms[a] * exponent % (self.size - 1)]
        return np.where(np.asarray(a) == 0, 0, powers)


@cache
def _powers_of_primitive(degree: int) -> Elements:
    """x^0, x^1 ... modulo the first polynomial by which they are all the elements but 0."""
    size = 1 << degree
    for low in range(1, size, 2):
        powers, value = np.empty(size - 1, np.int64), 1
        for exponent in range(size - 1):
            powers[exponent] = value
            value <<= 1
            if value & size:
                value ^= size | low
            if value == 1 and exponent < size - 2:
                break
        else:
            return powers
    raise AssertionError(f"no primitive polynomial of degree {degree}")  # there is one for every degree
