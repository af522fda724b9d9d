"""Products of Jacobians over depth in log space: no underflow at any depth."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerlab.errors import UserError
from layerlab.gradflow.jacobi import log_singular_values
from layerlab.gradflow.linear_maps import LinearMap, dense
from layerlab.gradflow.singular_values import extreme_singular_values

Values = NDArray[np.float64]

DENSE_UP_TO = 128
"""Width of every layer up to which the factors are formed."""


class Product:
    """A_L ⋯ A_1 / e^s, with the scale s of each sample spread over the factors.

    The scales are those by which a random vector shrinks or grows on its way: it soon has the direction that grows
    most, so neither a product nor the vectors between factors leave the range of float32, and σ_max is within about
    √n of 1.

    Args:
        factors: A_1, …, A_L in the order of application: B matrices each, of shapes that chain.
        seed: of the random vector.

    Attributes:
        log_scale: s, (B) float64; −∞ where the product maps the vector to 0.

    Raises:
        UserError: no factors, or shapes that do not chain.

    >>> from layerlab.gradflow.linear_maps import DenseMap
    >>> product = Product([DenseMap(0.1 * torch.eye(3))] * 200)
    >>> (product.log_scale + product.product(torch.ones(1, 3)).norm().log().numpy() - 0.5 * np.log(3)).round(3)
    array([-460.517])
    """

    def __init__(self, factors: Sequence[LinearMap], *, seed: int = 0) -> None:
        if not factors:
            raise UserError("expected at least one factor, got none")
        for index, (before, after) in enumerate(pairwise(factors), 1):
            if (before.rows, before.samples) != (after.columns, after.samples):
                raise UserError(
                    f"factor {index} with {after.samples} samples and {after.columns} columns does not multiply one "
                    f"with {before.samples} samples and {before.rows} rows"
                )
        self.factors = tuple(factors)
        self.samples, self.rows, self.columns = factors[0].samples, factors[-1].rows, factors[0].columns
        self.dtype = factors[-1].dtype
        generator = torch.Generator().manual_seed(seed)
        self._probe = torch.randn(self.samples, self.columns, dtype=torch.float64, generator=generator)
        self._probe, _ = _unit(self._probe)
        self.log_scale = np.zeros(self.samples)
        self._logs: list[Tensor] = []
        for factor in self.factors:
            self._measure(factor)

    def then(self, factor: LinearMap) -> Product:
        """The product with one more factor behind the last, without measuring the others again."""
        longer = copy.copy(self)
        longer.factors = (*self.factors, factor)
        longer.rows, longer.dtype = factor.rows, factor.dtype
        longer._logs = list(self._logs)
        longer._measure(factor)
        return longer

    def _measure(self, factor: LinearMap) -> None:
        self._probe, log = _unit(_to(factor.product, self._probe, factor))
        self.log_scale = self.log_scale + log.numpy()
        self._logs.append(torch.where(torch.isfinite(log), log, 0.0))

    def product(self, vectors: Tensor) -> Tensor:
        """(B, n) to (B, m), without the factor e^s."""
        vectors = vectors.double()
        for factor, log in zip(self.factors, self._logs, strict=True):
            vectors = _to(factor.product, vectors, factor) * torch.exp(-log)[:, None]
        return vectors.to(self.dtype)

    def advance(self, images: Tensor) -> Tensor:
        """The images of vectors under the whole, from those under all factors but the last; e^s left out of both.

        Args:
            images: (B, columns of the last factor).

        Returns:
            (B, m) float64.
        """
        factor, log = self.factors[-1], self._logs[-1]
        return _to(factor.product, images, factor) * torch.exp(-log)[:, None]

    def transposed_product(self, vectors: Tensor) -> Tensor:
        """(B, m) to (B, n), without the factor e^s."""
        vectors = vectors.double()
        for factor, log in zip(reversed(self.factors), reversed(self._logs), strict=True):
            vectors = _to(factor.transposed_product, vectors, factor) * torch.exp(-log)[:, None]
        return vectors.to(self.dtype)


@dataclass(frozen=True, eq=False)
class LogExtremes:
    """Natural logarithms of the extreme singular values of a product, for each sample.

    Attributes:
        largest: (B) float64, log σ_max; −∞ where the product is zero.
        smallest: (B), log σ_min; None where it was not asked for. Where it has not converged it is an upper bound.
        largest_error: (B), the residual relative to σ_max, about the error of the logarithm; with method "dense" an
            estimate of the rounding.
        smallest_error: (B), the same for σ_min.
        largest_converged: (B) whether the relative residual reached the tolerance.
        smallest_converged: (B).
        method: "dense" or "lanczos".
        products: with a factor or its transpose, all samples at once.
    """

    largest: Values
    smallest: Values | None
    largest_error: Values
    smallest_error: Values | None
    largest_converged: NDArray[np.bool_]
    smallest_converged: NDArray[np.bool_] | None
    method: str
    products: int


def log_extreme_singular_values(
    factors: Sequence[LinearMap],
    *,
    smallest: bool = True,
    dense_up_to: int = DENSE_UP_TO,
    tolerance: float | None = None,
    budget: int = 200,
    seed: int = 0,
) -> LogExtremes:
    """log σ_max and log σ_min of A_L ⋯ A_1 for each sample.

    If the smaller side of every factor is at most ``dense_up_to``, the factors are formed and
    `layerlab.gradflow.jacobi.log_singular_values` gives both. Otherwise Lanczos' method runs on the `Product` with
    scales taken out: σ_max converges as for a single Jacobian; σ_min only if the product is well-conditioned, and is
    marked otherwise.

    Args:
        factors: Jacobians of consecutive pieces, in the order of application.
        smallest: whether σ_min is sought too.
        dense_up_to: smaller side of a factor.
        tolerance: of the relative residual; by default √eps of the factors' dtype.
        budget: products with the whole chain, for Lanczos' method.
        seed: of the random starts.

    Raises:
        UserError: shapes that do not chain, or products that are not finite.

    >>> from layerlab.gradflow.linear_maps import DenseMap
    >>> sigmoid_like = DenseMap(torch.diag(torch.tensor([0.25, 0.125])))
    >>> found = log_extreme_singular_values([sigmoid_like] * 200)
    >>> (found.largest / np.log(2)).round(6), (found.smallest / np.log(2)).round(6)
    (array([-400.]), array([-600.]))
    """
    product = Product(factors, seed=seed)
    eps = max(float(torch.finfo(factor.dtype).eps) for factor in factors)
    tolerance = eps**0.5 if tolerance is None else tolerance
    if all(min(factor.rows, factor.columns) <= dense_up_to for factor in factors):
        matrices = [dense(factor).numpy() for factor in factors]
        logs = np.stack(
            [log_singular_values([m[b] for m in matrices], seed=seed) for b in range(product.samples)]
        )
        conditions = np.array([[_condition(m[b]) for m in matrices] for b in range(product.samples)])
        width = max(min(factor.rows, factor.columns) for factor in factors)
        rough = 10 * eps * width**0.5
        top_error = np.full(product.samples, rough * len(factors))
        low_error = rough * conditions.sum(axis=1)
        spent = sum(min(factor.rows, factor.columns) for factor in factors)
        return LogExtremes(
            largest=logs[:, 0],
            smallest=logs[:, -1] if smallest else None,
            largest_error=top_error,
            smallest_error=low_error if smallest else None,
            largest_converged=top_error <= tolerance,
            smallest_converged=((low_error <= tolerance) | (logs[:, -1] == -np.inf)) if smallest else None,
            method="dense",
            products=spent,
        )
    found = extreme_singular_values(
        product, smallest=smallest, method="lanczos", tolerance=tolerance, budget=budget, seed=seed
    )
    top, low = found.largest, found.smallest
    return LogExtremes(
        largest=_log(top.value) + product.log_scale,
        smallest=None if low is None else _log(low.value) + product.log_scale,
        largest_error=_relative(top.residual, top.value),
        smallest_error=None if low is None else _relative(low.residual, low.value),
        largest_converged=top.converged,
        # A scaled value of rounding is no value: in log space zero to rounding is not an answer.
        smallest_converged=None if low is None else low.residual <= tolerance * low.value,
        method="lanczos",
        products=(found.products + 1) * len(factors),
    )


def _unit(vectors: Tensor) -> tuple[Tensor, Tensor]:
    norms = vectors.norm(dim=1)
    return vectors / torch.where(norms > 0, norms, 1.0)[:, None], torch.log(norms)


def _to(product: Callable[[Tensor], Tensor], vectors: Tensor, factor: LinearMap) -> Tensor:
    return product(vectors.to(factor.dtype)).to("cpu", torch.float64)


def _log(values: Values) -> Values:
    with np.errstate(divide="ignore"):
        return np.log(values)


def _relative(residual: Values, values: Values) -> Values:
    return np.asarray(residual / np.where(values > 0, values, 1.0))


def _condition(matrix: Values) -> float:
    values = np.linalg.svd(matrix, compute_uv=False)
    return float(values[0] / values[-1]) if values[-1] > 0 else float("inf")
