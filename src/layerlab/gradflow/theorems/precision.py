"""The claim about where plain backpropagation loses a product of quarters."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from layerlab.claims import Claim, Falsifier, Measurement, exact
from layerlab.gradflow.theorems import backward


@dataclass(frozen=True)
class Format:
    """A floating-point type, and what is asked of the gradient in it.

    Args:
        dtype: float64, float32, float16 or bfloat16.
        normal: whether the gradient leaves the normal numbers (losing digits, and all of it where a device flushes
            subnormal numbers to 0), or becomes 0.
    """

    dtype: torch.dtype
    normal: bool = False


Gradient = Callable[[int, torch.dtype], float]
Said = Callable[[torch.finfo, bool], int]

# Above the depth at which float64 is at 0.
_LAYERS = 600


def _plain(layers: int, dtype: torch.dtype, *, bias: float = -0.5) -> float:
    """|∂f/∂x| of a sigmoid chain with weights 1 whose biases put every pre-activation at 0, as autograd gives it."""
    leaf = torch.tensor([0.5], dtype=dtype, requires_grad=True)
    value: Tensor = leaf
    for _ in range(layers):
        value = torch.sigmoid(value + bias)
    (gradient,) = torch.autograd.grad(value, leaf)
    return float(gradient.abs().double())


def _flushed(layers: int, dtype: torch.dtype) -> float:
    """Broken: subnormal numbers are taken for 0."""
    gradient = _plain(layers, dtype)
    return gradient if gradient >= torch.finfo(dtype).tiny else 0.0


def _uncentred(layers: int, dtype: torch.dtype) -> float:
    """Broken: without the biases, so that slopes are below 1/4."""
    return _plain(layers, dtype, bias=0.0)


def _rescaled(layers: int, dtype: torch.dtype) -> float:
    """Not lost at all: the mantissa of a product that keeps its exponent apart."""
    stages = [lambda x: torch.sigmoid(x - 0.5)] * layers
    along = backward.points(stages, torch.tensor([0.5], dtype=dtype))
    return float(abs(backward.jacobian(stages, along).matrix.item()))


def _said(info: torch.finfo, normal: bool) -> int:
    """(1/4)^n = 2^(−2n) is normal down to tiny, and rounds to 0 (to even) from half of the smallest number on."""
    lowest = -round(math.log2(info.tiny))
    if normal:
        return lowest // 2 + 1
    smallest = lowest - round(math.log2(info.eps))
    return (smallest + 2) // 2


def _measure_underflow(
    wanted: Format, generator: np.random.Generator, *, gradient: Gradient = _plain, said: Said = _said
) -> Measurement:
    """The fewest layers at which the gradient is lost; ∞ if it is not within 600."""
    info = torch.finfo(wanted.dtype)
    if not torch.tensor([info.tiny], dtype=wanted.dtype).div(2).item():
        return Measurement.unmet_because("subnormal numbers are flushed to 0")
    kept = info.tiny if wanted.normal else 0.0
    # Bisection: the gradient falls with the depth.
    fewest, most = 0, _LAYERS
    if not _is_lost(gradient(most, wanted.dtype), kept):
        return Measurement(math.inf, said(info, wanted.normal), exact("a number of layers"))
    while most - fewest > 1:
        middle = (fewest + most) // 2
        if _is_lost(gradient(middle, wanted.dtype), kept):
            most = middle
        else:
            fewest = middle
    return Measurement(most, said(info, wanted.normal), exact("a number of layers"))


def _is_lost(gradient: float, kept: float) -> bool:
    return gradient < kept or gradient == 0


UNDERFLOW = Claim(
    id="gradflow.underflow",
    title="Where plain backpropagation loses (1/4)^n: float32 at 64 layers, and all of it at 75",
    source="Homework 4, question 1.1.1, in floating point",
    statement=(
        "with round to nearest even and subnormal numbers, the product of n quarters is normal up to n = 63 in float32"
        " (511 in float64, 7 in float16, 63 in bfloat16) and is 0 from n = 75 on (538, 13, 67); measured: the fewest"
        " sigmoid layers, every slope 1/4, at which autograd's gradient is no longer normal, or 0"
    ),
    hypotheses=("subnormal numbers are not flushed to 0",),
    relation="==",
    measure=_measure_underflow,
    subjects={
        "float32-normal": lambda: Format(torch.float32, normal=True),
        "float32": lambda: Format(torch.float32),
        "float64-normal": lambda: Format(torch.float64, normal=True),
        "float64": lambda: Format(torch.float64),
        "float16": lambda: Format(torch.float16),
        "bfloat16": lambda: Format(torch.bfloat16),
    },
    falsifiers={
        "rescaled": Falsifier(
            "cotangents rescaled by powers of 2, which lose nothing",
            lambda: Format(torch.float32),
            replaces={"gradient": _rescaled},
        ),
        "flushed": Falsifier(
            "subnormal numbers taken for 0", lambda: Format(torch.float32), replaces={"gradient": _flushed}
        ),
        "uncentred": Falsifier(
            "without biases: slopes below 1/4",
            lambda: Format(torch.float32),
            replaces={"gradient": _uncentred},
        ),
    },
)
