"""Backpropagation through a chain of layers with cotangents that are rescaled by powers of 2, so nothing is lost.

What is measured is the Jacobian that autograd gives, layer by layer from the output to the input. A power of 2 is
exact: no rounding is added, and a product of any depth stays within the range of floating-point numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerlab.claims import Measurement, Slack, rounding
from layerlab.errors import UserError
from layerlab.gradflow.theorems.subjects import Stage


@dataclass(frozen=True)
class Jacobian:
    """matrix · 2^exponent.

    Args:
        matrix: (outputs, inputs), its largest entry in magnitude between 1/2 and 1, or all 0.
        exponent: of 2.
    """

    matrix: NDArray[np.float64]
    exponent: int

    def log2_norm(self) -> float:
        """log2 of the largest singular value; −∞ where it is 0."""
        largest = norm(self.matrix)
        return -math.inf if largest == 0 else math.log2(largest) + self.exponent


def norm(matrix: NDArray[np.float64] | Tensor) -> float:
    """σ_max, by LAPACK; NaN where an entry is not finite."""
    array = np.asarray(matrix, dtype=np.float64)
    return float(np.linalg.norm(array, ord=2)) if np.isfinite(array).all() else math.nan


def points(stages: Sequence[Stage], x: Tensor) -> list[Tensor]:
    """x and what each stage makes of it: one more than there are stages.

    Raises:
        UserError: a stage that gives something else than a floating-point tensor.
    """
    found = [x.detach()]
    with torch.no_grad():
        for stage in stages:
            # A copy, since a stage may work in place.
            image = stage(found[-1].clone())
            if not isinstance(image, Tensor) or not image.is_floating_point():
                what = f"a tensor of {image.dtype}" if isinstance(image, Tensor) else type(image).__name__
                raise UserError(
                    f"stage {len(found)} must give one floating-point tensor, got {what}; wrap it in a function"
                    " that picks one"
                )
            found.append(image)
    return found


def jacobian(stages: Sequence[Stage], along: Sequence[Tensor]) -> Jacobian:
    """∂(last stage's output)/∂(first stage's input).

    Args:
        stages: differentiable by autograd.
        along: their `points`.
    """
    cotangents, exponent = np.eye(along[-1].numel()), 0
    for stage, point in zip(reversed(stages), reversed(along[:-1]), strict=True):
        leaf = point.detach().requires_grad_()
        image = stage(leaf.clone())
        rows = [_pull(image, leaf, row) for row in cotangents]
        cotangents, shift = _rescaled(np.stack(rows))
        exponent += shift
    return Jacobian(cotangents, exponent)


def _pull(image: Tensor, leaf: Tensor, row: NDArray[np.float64]) -> NDArray[np.float64]:
    """A row of cotangents times the Jacobian of one stage."""
    if not image.requires_grad:  # a stage that does not depend on its input
        return np.zeros(leaf.numel())
    cotangent = torch.from_numpy(row).to(image.dtype).view_as(image)
    (pulled,) = torch.autograd.grad(image, leaf, cotangent, retain_graph=True, materialize_grads=True)
    return pulled.double().flatten().numpy()


def _rescaled(matrix: NDArray[np.float64]) -> tuple[NDArray[np.float64], int]:
    largest = float(np.abs(matrix).max())
    if largest == 0 or not math.isfinite(largest):
        return matrix, 0
    _, exponent = math.frexp(largest)
    return np.ldexp(matrix, -exponent), exponent


def per_layer(log2: float, layers: int) -> float:
    """The geometric mean over the layers of a number that is given by its log2; 0 for −∞."""
    return math.exp2(log2 / layers)


def out_of_range(along: Sequence[Tensor]) -> str | None:
    """The first of the `points` that is not finite, if any, as an unmet hypothesis."""
    for number, point in enumerate(along):
        if not point.isfinite().all():
            return f"the output of layer {number} is not finite" if number else "the input is not finite"
    return None


def slack(layers: int, width: int, bound: float, log2_factors: Iterable[float]) -> Slack:
    """Rounding of a geometric mean over the layers.

    One layer multiplies the cotangents by a slope (8 roundings at most) and a matrix: sums of ``width`` terms, so
    that the error in norm is at most ``width`` (``width`` + 8) roundings of the product of the norms. The mean of n
    layers has the relative error of one, since (1 + η)^(n/n) = 1 + η. A logarithm is rounded in proportion to its size.
    """
    size = sum(abs(factor) for factor in log2_factors if math.isfinite(factor)) / layers
    return rounding("float64", width * (width + 8), scale=bound, condition=1 + size)


def compared(stages: Sequence[Stage], x: Tensor, log2_factors: Sequence[float], width: int) -> Measurement:
    """σ_max of the Jacobian against the product of factors, both as geometric means over the layers.

    Args:
        stages: the layers.
        x: the point.
        log2_factors: log2 of what theory allows each layer.
        width: the most units of a layer.
    """
    along = points(stages, x)
    if reason := out_of_range(along):
        return Measurement.unmet_because(reason)
    measured = per_layer(jacobian(stages, along).log2_norm(), len(stages))
    bound = per_layer(math.fsum(log2_factors), len(stages))
    return Measurement(measured, bound, slack(len(stages), width, bound, log2_factors))


def log2(value: float) -> float:
    """log2, −∞ at 0."""
    return math.log2(value) if value > 0 else -math.inf
