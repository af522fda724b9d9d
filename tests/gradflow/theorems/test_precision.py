"""Where a product of quarters is lost: against exact arithmetic, numpy, and the sum of logarithms."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from random_chains import measured

from layerlab.gradflow.theorems import SIGMOID_CHAIN, UNDERFLOW, subjects
from layerlab.gradflow.theorems.precision import Format


@pytest.mark.parametrize(
    ("dtype", "normal", "layers"),
    [
        (torch.float64, True, 512),
        (torch.float64, False, 538),
        (torch.float32, True, 64),
        (torch.float32, False, 75),
        (torch.float16, True, 8),
        (torch.float16, False, 13),
        (torch.bfloat16, True, 64),
        (torch.bfloat16, False, 67),
    ],
)
def test_the_depths_at_which_the_product_is_lost(dtype: torch.dtype, normal: bool, layers: int) -> None:
    outcome = measured(UNDERFLOW, Format(dtype, normal))
    assert (outcome.measured, outcome.bound, outcome.verdict) == (layers, layers, "holds")


@pytest.mark.parametrize(
    ("kind", "subnormal", "zero"), [(np.float16, 8, 13), (np.float32, 64, 75), (np.float64, 512, 538)]
)
def test_numpy_agrees(kind: type[np.floating], subnormal: int, zero: int) -> None:
    info = np.finfo(kind)
    product, found = kind(1), {}
    for n in range(1, 600):
        product = kind(product * kind(0.25))
        if product < info.smallest_normal:
            found.setdefault("subnormal", n)
        else:
            assert Fraction(float(product)) == Fraction(1, 4**n)
        if product == 0:
            found.setdefault("zero", n)
    assert found == {"subnormal": subnormal, "zero": zero}
    # Exactly: half of the smallest number is where rounding to even gives 0.
    half = Fraction(float(info.smallest_subnormal)) / 2
    assert Fraction(1, 4**zero) <= half < Fraction(1, 4 ** (zero - 1))


def test_a_device_that_flushes_is_no_violation() -> None:
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush subnormal numbers")
    try:
        outcome = measured(UNDERFLOW, Format(torch.float32))
    finally:
        torch.set_flush_denormal(False)
    assert outcome.unmet == "subnormal numbers are flushed to 0"


def test_in_log_space_nothing_is_lost() -> None:
    centred = subjects.scalar([1.0] * 200, 0.5, [-0.5] * 200)
    assert measured(SIGMOID_CHAIN, centred).measured == 0.25
    # |∂f/∂x| itself is 1e-6000, far below float64.
    tiny = subjects.scalar([4e-30] * 200, 1.0)
    assert measured(SIGMOID_CHAIN, tiny).measured == pytest.approx(1e-30, rel=1e-13)
    assert math.prod([1e-30] * 200) == 0
