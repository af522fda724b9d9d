"""Extreme singular values of a linear map, all of them, or their density; each with what is known of its error."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerlab.errors import UserError
from layerlab.gradflow.block_krylov import leading
from layerlab.gradflow.lanczos import Bidiagonalisation
from layerlab.gradflow.linear_maps import Counted, LinearMap, dense
from layerlab.lab.krylov import reach

Values: TypeAlias = NDArray[np.float64]
Method: TypeAlias = Literal["auto", "dense", "lanczos"]

DENSE_UP_TO = 128
"""min(m, n) up to which ``"auto"`` forms the matrices: about the products that Lanczos' method needs as well."""

# Steps between two looks at the bidiagonal matrix.
_LOOK = 4


@dataclass(frozen=True, eq=False)
class Extreme:
    """One end of the singular values of A_b, for each sample b.

    Attributes:
        value: (B) float64. It is attained: σ_max ≥ value for the largest, σ_min ≤ value for the smallest, up to
            rounding, whether converged or not.
        residual: (B), ‖(Av − σu, Aᵀu − σv)‖/√2 for the unit vectors u and v found: value ± residual holds a
            singular value of A; at most ``value``, for σ_min is no larger than it. Of a dense decomposition, an
            estimate of its rounding.
        outer: (B): the end sought lies between ``value`` and ``outer``, but with probability 1e-6 over the random
            start (`layerlab.lab.krylov.reach`); in exact arithmetic and for any spectrum. Equal to ``value`` where
            all were computed.
        converged: (B) whether the residual is at most tolerance · value; for a smallest value also where it is
            zero to rounding.
    """

    value: Values
    residual: Values
    outer: Values
    converged: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Extremes:
    """What `extreme_singular_values` found.

    Attributes:
        largest: σ_max.
        smallest: σ_min, of the min(m, n) singular values; None where it was not asked for.
        method: "dense" or "lanczos".
        products: how many products with A or Aᵀ were used, all samples at once being one.
    """

    largest: Extreme
    smallest: Extreme | None
    method: str
    products: int

    @property
    def converged(self) -> bool:
        """Whether everything asked for has converged in every sample."""
        return bool(self.largest.converged.all()) and (
            self.smallest is None or bool(self.smallest.converged.all())
        )


def extreme_singular_values(
    operator: LinearMap,
    *,
    smallest: bool | Literal["bound"] = True,
    method: Method = "auto",
    tolerance: float | None = None,
    budget: int = 200,
    seed: int = 0,
) -> Extremes:
    """σ_max and σ_min of A_b for each sample b, with their residuals.

    Up to `DENSE_UP_TO` (and if the budget allows) the matrices are formed and decomposed in float64. Otherwise
    Golub, Kahan and Lanczos' bidiagonalisation from a random vector on the shorter side, all samples at once, until
    what is sought has converged or the budget is spent. The residuals are then measured by two more products each.

    σ_min is the smallest of min(m, n) values: for a wide A (m < n), min ‖Aᵀu‖ over unit u. Near zero it is hard: with
    many small singular values Lanczos' method needs about min(m, n) steps, and what it has before is an upper bound,
    marked as not converged.

    Reference: G. Golub and C. Van Loan, Matrix Computations (4th edition, 2013), section 10.4.

    Args:
        operator: B matrices (m, n).
        smallest: whether σ_min is sought too; "bound" for what is found of it by the time that σ_max has converged.
        method: "dense" or "lanczos" to insist on one.
        tolerance: of the residual, relative to the value; by default √eps of the operator's dtype.
        budget: products, those that measure the residuals included; 200 hold 2·100 vectors (B, m + n) in memory.
        seed: of the start.

    Raises:
        UserError: a tolerance or budget that is not positive, a dense decomposition beyond the budget, or products
            that are not finite.

    >>> from layerlab.gradflow.linear_maps import DenseMap
    >>> matrix = torch.diag(torch.linspace(1, 3, 300, dtype=torch.float64))
    >>> found = extreme_singular_values(DenseMap(matrix), tolerance=1e-6, budget=400)
    >>> found.method, found.converged, found.largest.value.round(6), found.smallest.value.round(6)
    ('lanczos', True, array([3.]), array([1.]))
    """
    counted = Counted(operator)
    _check(counted, tolerance, budget)
    tolerance = counted.eps**0.5 if tolerance is None else tolerance
    size = counted.columns
    if method == "dense" and size > budget:
        raise UserError(
            f"the dense matrix takes min(m, n) = {size} products, the budget is {budget}; use method='lanczos'"
        )
    if method == "dense" or (method == "auto" and size <= min(DENSE_UP_TO, budget)):
        values = _all(operator).numpy()
        rounding = _rounding(operator, values)
        largest = _exact(values[:, 0], rounding, tolerance)
        return Extremes(
            largest, _exact(values[:, -1], rounding, tolerance) if smallest else None, "dense", size
        )
    return _lanczos(counted, bool(smallest), smallest is True, tolerance, budget, _generator(seed))


def leading_singular_values(
    operator: LinearMap, count: int, *, tolerance: float | None = None, budget: int = 400, seed: int = 0
) -> Extreme:
    """The ``count`` largest singular values of A_b with multiplicity, each with its residual.

    Randomised block Krylov method (`layerlab.gradflow.block_krylov`); Lanczos' method with one start vector sees a
    multiple singular value once.

    Args:
        operator: B matrices (m, n).
        count: from 1 to min(m, n).
        tolerance: of the residuals, relative to σ_max; by default √eps of the operator's dtype.
        budget: products; a block of ``count`` + 4 is always spent.
        seed: of the start.

    Returns:
        An `Extreme` whose arrays have shape (B, count), descending; ``outer`` is infinite, for nothing is known of
        it, but where all min(m, n) were computed.

    Raises:
        UserError: as `extreme_singular_values`, or a count out of range.

    >>> from layerlab.gradflow.linear_maps import DenseMap
    >>> leading_singular_values(DenseMap(torch.diag(torch.tensor([2.0, 2.0, 1.0]))), 2).value.round(5)
    array([[2., 2.]])
    """
    counted = Counted(operator)
    _check(counted, tolerance, budget)
    if not 1 <= count <= counted.columns:
        raise UserError(f"expected a count from 1 to min(m, n) = {counted.columns}, got {count}")
    tolerance = counted.eps**0.5 if tolerance is None else tolerance
    found = leading(counted, count, tolerance=tolerance, budget=budget, generator=_generator(seed))
    values, residuals = found.values.numpy(), (found.residuals / 2**0.5).numpy()
    converged = residuals <= tolerance * values[:, :1]
    return Extreme(values, residuals, np.full_like(values, np.inf), converged)


def singular_values(operator: LinearMap, *, budget: int = 4096) -> Values:
    """All min(m, n) singular values of A_b, (B, min(m, n)) float64, descending.

    Args:
        operator: B matrices (m, n), formed by min(m, n) products and decomposed in float64.
        budget: products.

    Raises:
        UserError: min(m, n) exceeds the budget, or the products are not finite.

    >>> from layerlab.gradflow.linear_maps import DenseMap
    >>> singular_values(DenseMap(torch.tensor([[0.0, 2.0, 0.0], [1.0, 0.0, 0.0]])))
    array([[2., 1.]])
    """
    counted = Counted(operator)
    _check(counted, None, budget)
    if counted.columns > budget:
        raise UserError(
            f"all singular values take min(m, n) = {counted.columns} products, the budget is {budget}; see "
            "spectral_density for an estimate"
        )
    return np.asarray(_all(operator).numpy())


@dataclass(frozen=True, eq=False)
class Density:
    """Where the singular values of A_b lie.

    Attributes:
        nodes: (B, probes, k) float64, the singular values seen by each probe.
        weights: (B, probes, k), their shares; of sum 1 over k.
        exact: whether the nodes are all singular values, for the one "probe".
        products: used.
    """

    nodes: Values
    weights: Values
    exact: bool
    products: int

    def histogram(self, edges: Values) -> tuple[Values, Values]:
        """The share of singular values in each bin, and its standard error over the probes.

        Args:
            edges: (bins + 1), ascending; a bin holds its left edge, the last one both.

        Returns:
            mass and error, (B, bins); the error is 0 where exact.
        """
        bins = np.clip(np.searchsorted(edges, self.nodes, side="right") - 1, -1, len(edges) - 1)
        bins = np.where(self.nodes == edges[-1], len(edges) - 2, bins)
        each = np.stack([(self.weights * (bins == i)).sum(-1) for i in range(len(edges) - 1)], -1)
        probes = each.shape[1]
        error = np.zeros_like(each[:, 0]) if self.exact else each.std(axis=1, ddof=1) / probes**0.5
        return each.mean(axis=1), error


def spectral_density(
    operator: LinearMap, *, steps: int = 30, probes: int = 8, dense_up_to: int = DENSE_UP_TO, seed: int = 0
) -> Density:
    """The density of the singular values of A_b: exact for small ones, else by stochastic Lanczos quadrature.

    For a random unit vector z, Lanczos' k Ritz values σ_i with the squared first entries of their vectors as weights
    are a Gauss rule for the distribution of the singular values as z sees it; its mean over z is the distribution.
    Functions of σ² that are polynomials of degree below 2k are integrated exactly for each z.

    Reference: S. Ubaru, J. Chen and Y. Saad, Fast estimation of tr(f(A)) via stochastic Lanczos quadrature (SIAM J.
    Matrix Anal. Appl. 38, 2017).

    Args:
        operator: B matrices (m, n).
        steps: k, of each probe: 2k products.
        probes: at least 2.
        dense_up_to: min(m, n) up to which all are computed.
        seed: of the probes.

    Raises:
        UserError: numbers out of range, or products that are not finite.

    >>> from layerlab.gradflow.linear_maps import DenseMap
    >>> found = spectral_density(DenseMap(torch.diag(torch.tensor([3.0, 1.0, 1.0, 0.0]))))
    >>> found.histogram(np.array([0.0, 0.5, 2.0, 3.0]))[0]
    array([[0.25, 0.5 , 0.25]])
    """
    counted = Counted(operator)
    _check(counted, None, steps)
    if probes < 2:
        raise UserError(f"expected at least 2 probes, for their spread is the error; got {probes}")
    if counted.columns <= dense_up_to:
        values = _all(operator).numpy()[:, None]
        return Density(values, np.full_like(values, 1 / values.shape[-1]), True, counted.columns)
    generator = _generator(seed)
    nodes, weights = [], []
    for _ in range(probes):
        lanczos = Bidiagonalisation(counted, _start(counted, generator))
        while lanczos.steps < steps and not lanczos.exhausted:
            lanczos.step()
        ritz = lanczos.ritz()
        # A sample that ended early has nodes that are none: coefficients of other vectors, weight 0 in the first.
        pad = (0, steps - lanczos.steps)
        nodes.append(torch.nn.functional.pad(ritz.values, pad))
        weights.append(torch.nn.functional.pad(ritz.right[:, :, 0] ** 2, pad))
    return Density(
        torch.stack(nodes, 1).numpy(), torch.stack(weights, 1).numpy(), exact=False, products=counted.products
    )


def _lanczos(
    counted: Counted,
    smallest: bool,
    wait: bool,
    tolerance: float,
    budget: int,
    generator: torch.Generator,
) -> Extremes:
    lanczos = Bidiagonalisation(counted, _start(counted, generator))
    kept = 4 if smallest else 2  # products that measure the residuals
    while True:
        lanczos.step()
        over = counted.products + 2 + kept > budget or lanczos.exhausted
        if not over and lanczos.steps % _LOOK:
            continue
        ritz = lanczos.ritz()
        top = ritz.at(ritz.first)
        bottom = ritz.at(torch.full_like(ritz.first, lanczos.steps - 1))
        zero = _zero(counted, top[0])
        if over or (
            _small(top, tolerance, zero).all() and (not wait or _small(bottom, tolerance, zero).all())
        ):
            break
    # With θ the value found, λ_max ≤ θ² + ε(λ_max − λ_min) ≤ θ² + ελ_max, and λ_min ≥ θ² − ελ_max.
    epsilon = np.where(ritz.complete.numpy(), 0.0, reach(counted.columns, lanczos.steps))
    largest = _measured(lanczos, counted, top[2], tolerance, zero)
    with np.errstate(divide="ignore"):
        highest = largest.value / np.sqrt(1.0 - epsilon)
    largest = replace(largest, outer=highest)
    if not smallest:
        return Extremes(largest, None, "lanczos", counted.products)
    least = _measured(lanczos, counted, bottom[2], tolerance, zero)
    below = np.where(epsilon > 0, epsilon * highest**2, 0.0) if np.isfinite(highest).all() else least.value**2
    least = replace(least, outer=np.sqrt(np.maximum(least.value**2 - below, 0.0)))
    return Extremes(largest, least, "lanczos", counted.products)


def _small(end: tuple[Tensor, Tensor, Tensor], tolerance: float, zero: Tensor) -> Tensor:
    return (end[1] <= tolerance * end[0]) | ((end[0] <= zero) & (end[1] <= zero))


def _zero(counted: Counted, largest: Tensor) -> Tensor:
    """Below this a singular value cannot be told from 0."""
    return 10 * counted.eps * counted.columns**0.5 * largest


def _measured(
    lanczos: Bidiagonalisation, counted: Counted, coefficients: Tensor, tolerance: float, zero: Tensor
) -> Extreme:
    right = lanczos.right_vectors(coefficients)
    image = counted.product(right)
    value = image.norm(dim=1)
    left = image / torch.where(value > 0, value, 1.0)[:, None]
    back = counted.transposed_product(left)
    # σ_min ≤ ‖Av‖ too, so a value of rounding needs no left vector, which is noise there.
    residual = torch.minimum((back - value[:, None] * right).norm(dim=1) / 2**0.5, value)
    converged = _small((value, residual, right), tolerance, zero)
    return Extreme(value.numpy(), residual.numpy(), value.numpy(), converged.numpy())


def _exact(values: Values, rounding: Values, tolerance: float) -> Extreme:
    return Extreme(values, rounding, values, (rounding <= tolerance * values) | (values <= rounding))


def _rounding(operator: LinearMap, values: Values) -> Values:
    """What rounding may have moved the singular values of the computed matrix by."""
    eps = float(torch.finfo(operator.dtype).eps)
    return np.asarray(10 * eps * min(operator.rows, operator.columns) ** 0.5 * values[:, 0])


def _all(operator: LinearMap) -> Tensor:
    return torch.linalg.svdvals(dense(operator))


def _start(counted: Counted, generator: torch.Generator) -> Tensor:
    return torch.randn(counted.samples, counted.columns, dtype=torch.float64, generator=generator)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _check(counted: Counted, tolerance: float | None, budget: int) -> None:
    if counted.columns == 0 or counted.samples == 0:
        raise UserError("expected a Jacobian with rows and columns, got an empty one")
    if tolerance is not None and not tolerance > 0:
        raise UserError(f"expected a tolerance > 0, got {tolerance}")
    if budget < 1:
        raise UserError(f"expected a budget of at least one product, got {budget}")
