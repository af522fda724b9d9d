"""Tables of GF(2^m) against products of polynomials worked out bit by bit."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from layerlab.errors import UserError
from layerlab.projection.binary_fields import BinaryField


@pytest.mark.parametrize("degree", [1, 2, 3, 4, 5, 7, 8])
def test_field_axioms(degree):
    field = BinaryField(degree)
    every = np.arange(field.size)
    table = field.product(every[:, None], every)
    assert (table == table.T).all()
    assert (table[1] == every).all()
    assert (table[0] == 0).all()
    # Each row but the first is a permutation: no divisors of zero.
    assert (np.sort(table[1:], axis=1) == every).all()
    generator = np.random.default_rng(degree)
    a, b, c = generator.integers(0, field.size, (3, 200))
    assert (field.product(a, b ^ c) == field.product(a, b) ^ field.product(a, c)).all()
    assert (field.product(a, field.product(b, c)) == field.product(field.product(a, b), c)).all()


@pytest.mark.parametrize("degree", [1, 3, 6, 9])
def test_powers_and_trace(degree):
    field = BinaryField(degree)
    every = np.arange(field.size)
    power = np.ones_like(every)
    for exponent in range(1, 10):
        power = field.product(power, every)
        assert (field.power(every, exponent) == power).all()
    assert (field.power(every, field.size) == every).all()
    # The trace is linear, takes both values equally often, and is the same for an element and its square.
    assert set(field.trace.tolist()) == {0, 1}
    assert field.trace.sum() == field.size // 2
    assert (field.trace[field.product(every, every)] == field.trace).all()
    for a, b in itertools.product(every[:20], repeat=2):
        assert field.trace[a ^ b] == field.trace[a] ^ field.trace[b]


@pytest.mark.parametrize("degree", [0, 25])
def test_degrees_out_of_range(degree):
    with pytest.raises(UserError, match="m from 1 to 24"):
        BinaryField(degree)
