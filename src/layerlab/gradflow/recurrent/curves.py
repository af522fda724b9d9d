"""σ_max and σ_min of ∂s_t/∂s_1 for every t, and of every step, in log space."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerlab.gradflow.chain import Product
from layerlab.gradflow.lanczos import Bidiagonalisation
from layerlab.gradflow.linear_maps import Counted, LinearMap, Transposed
from layerlab.gradflow.recurrent.carried import Carried, largest
from layerlab.gradflow.recurrent.steps import StepJacobians

Values = NDArray[np.float64]
Tell = Callable[[float, str], None]

DENSE_UP_TO = 512
"""Entries of the state up to which the product is formed, if the budget allows."""

DECOMPOSED_UP_TO = 64
"""Entries up to which σ_max is computed by a decomposition, to rounding; above, by Lanczos' method."""

SMALLEST_UP_TO = 32
"""Entries up to which σ_min is computed."""

_CHUNK = 2**23  # entries of the matrices of several steps at once: 64 MiB
_LANCZOS = 40
_LOOK = 3
_NARROW = 16


@dataclass(frozen=True, eq=False)
class Curves:
    """What was measured of one layer and direction, for B samples and T steps.

    Attributes:
        largest: (B, T), log σ_max(∂s_t/∂s_1) at lags t − 1 = 0, …, T − 1; −∞ where the product is zero.
        smallest: (B, T), log σ_min; None above `SMALLEST_UP_TO`.
        steps: (B, T − 1), log σ_max(∂s_t/∂s_(t−1)) for t = 2, …, T; above `DECOMPOSED_UP_TO` to the tolerance, from
            below.
        error: (B, T), the residual relative to σ_max, about the error of its logarithm; NaN at lags where only a
            lower bound is known (method "matrix-free").
        method: "dense", "lanczos" (of the formed product) or "matrix-free".
        products: of one step's Jacobian with one vector of every sample, spent on ``largest``.
    """

    largest: Values
    smallest: Values | None
    steps: Values
    error: Values
    method: str
    products: int


def measure(
    jacobians: StepJacobians, samples: int, *, tolerance: float, budget: int, seed: int, tell: Tell
) -> Curves:
    """The singular values of J_t ⋯ J_2 for every t.

    Up to `DENSE_UP_TO` entries, and if T·S products are within the budget, the product is carried along as a matrix
    whose columns have scales of their own, so that what has decayed by e^(−1000) neither underflows nor is slow. Its
    σ_max is decomposed up to `DECOMPOSED_UP_TO` entries; above, Lanczos' method starts at each t from the vector found
    at the t before, and columns are left out as soon as all they add is below 1e-13 of the product. σ_min is 1/σ_max
    of the inverse, carried along in the same way; it is as accurate as the Jacobian of each step, its rows brought to
    norm 1, is well-conditioned, and 0 if that is singular to rounding.

    Otherwise no matrix is formed: Lanczos' method finds the leading vectors at the lags 1, 2, 4, …, T − 1, and one more
    pass with all of them gives at every lag in between a lower bound, the norm on their span.

    Args:
        jacobians: of the steps 2, …, T, the samples of a step side by side.
        samples: B.
        tolerance: of the residual relative to σ_max, where Lanczos' method is used.
        budget: products of one step's Jacobian with one vector for each sample.
        seed: of the starts.
        tell: is told the share done.
    """
    count = jacobians.samples // samples
    steps = _of_steps(jacobians, tolerance, seed).reshape(count, samples).T
    if jacobians.rows <= DENSE_UP_TO and count * jacobians.rows <= budget:
        largest, error = _carried(jacobians, samples, tolerance, seed, tell)
        method = "dense" if jacobians.rows <= DECOMPOSED_UP_TO else "lanczos"
        products = count * jacobians.rows
    else:
        largest, error, products = _matrix_free(jacobians, samples, tolerance, budget, seed, tell)
        method = "matrix-free"
    smallest = _smallest(jacobians, samples) if jacobians.rows <= SMALLEST_UP_TO else None
    return Curves(largest, smallest, steps, error, method, products)


def _of_steps(jacobians: StepJacobians, tolerance: float, seed: int) -> Values:
    """log σ_max of each of the N Jacobians."""
    size, total = jacobians.rows, jacobians.samples
    exact = size <= DECOMPOSED_UP_TO
    chunk = max(1, _CHUNK // (size * size if exact else 8 * size))
    generator = torch.Generator().manual_seed(seed)
    found = []
    for first in range(0, total, chunk):
        part = jacobians.part(first, min(first + chunk, total))
        values = largest(_formed(part)) if exact else _norms(part, tolerance, generator)
        found.append(_log(values.numpy()))
    return np.concatenate(found)


def _norms(jacobians: StepJacobians, tolerance: float, generator: torch.Generator) -> Tensor:
    """σ_max of each by Golub and Kahan's recurrence from a random vector, (N).

    Without orthogonalisation against earlier vectors, for which there is no room with thousands of matrices: the
    copies of converged values that appear do not move the largest (C. Paige, 1980).
    """
    v = _random(torch.empty(jacobians.samples, jacobians.columns), generator)
    u, beta = torch.zeros_like(v), torch.zeros(jacobians.samples, dtype=torch.float64)
    alphas: list[Tensor] = []
    betas: list[Tensor] = []
    scale = torch.zeros_like(beta)
    while True:
        u, alpha = _unit(jacobians.product(v) - beta[:, None] * u, scale)
        scale = torch.maximum(scale, alpha)
        v, beta = _unit(jacobians.transposed_product(u) - alpha[:, None] * v, scale)
        scale = torch.maximum(scale, beta)
        alphas.append(alpha)
        betas.append(beta)
        if len(alphas) % _LOOK and len(alphas) < _LANCZOS:
            continue
        matrix = torch.diag_embed(torch.stack(alphas, 1))
        if len(alphas) > 1:
            matrix += torch.diag_embed(torch.stack(betas[:-1], 1), offset=1)
        left, values, _ = torch.linalg.svd(matrix)
        residual = beta * left[:, -1, 0].abs()
        if len(alphas) >= _LANCZOS or bool((residual <= tolerance * values[:, 0]).all()):
            return values[:, 0]


def _unit(vectors: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Of norm 1, and the norms; zero where they are rounding: that vector's direction would mean nothing."""
    norms = vectors.norm(dim=1)
    norms = torch.where(norms > 100 * torch.finfo(torch.float64).eps * scale, norms, 0.0)
    return torch.where(norms > 0, 1.0, 0.0)[:, None] * vectors / torch.where(norms > 0, norms, 1.0)[
        :, None
    ], norms


def _carried(
    jacobians: StepJacobians, samples: int, tolerance: float, seed: int, tell: Tell
) -> tuple[Values, Values]:
    size, count = jacobians.rows, jacobians.samples // samples
    carried = Carried(torch.eye(size, dtype=torch.float64).repeat(samples, 1, 1))
    generator = torch.Generator().manual_seed(seed)
    start = torch.zeros(samples, size, dtype=torch.float64)
    logs, errors = [np.zeros(samples)], [np.zeros(samples)]
    for step in range(count):
        carried.step(jacobians.part(step * samples, (step + 1) * samples))
        if (step + 1) % _NARROW == 0 and size > DECOMPOSED_UP_TO:
            while carried.rows > 1 and (basis := carried.narrowed(generator)) is not None:
                start = torch.einsum("bkl,bk->bl", basis, start)
        if carried.rows <= DECOMPOSED_UP_TO:
            value = carried.largest()
            relative = torch.full_like(value, 1e-15 * (step + 1) * size**0.5)
        else:
            # A part at random, for the direction of most growth changes.
            start = start + 0.1 * _random(start, generator)
            value, residual, start, _ = _leading(Transposed(carried), start, tolerance, _LANCZOS)
            relative = residual / torch.where(value > 0, value, 1.0)
        logs.append(carried.log(value))
        errors.append(relative.numpy())
        tell((step + 1) / count, f"Jacobian over {step + 1} of {count} steps")
    return np.stack(logs, 1), np.stack(errors, 1)


def _matrix_free(
    jacobians: StepJacobians, samples: int, tolerance: float, budget: int, seed: int, tell: Tell
) -> tuple[Values, Values, int]:
    size, count = jacobians.rows, jacobians.samples // samples
    factors = [jacobians.part(step * samples, (step + 1) * samples) for step in range(count)]
    grid = sorted({*(2**k for k in range(count.bit_length())), count})
    most = min(max(budget // (2 * sum(grid)), 2), _LANCZOS)
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(samples, size, dtype=torch.float64, generator=generator)
    error = np.full((samples, count + 1), np.nan)
    error[:, 0] = 0.0
    vectors, products = [], 0
    for number, lag in enumerate(grid, 1):
        product = Product(factors[:lag], seed=seed)
        value, residual, vector, spent = _leading(product, start, tolerance, most)
        error[:, lag] = (residual / torch.where(value > 0, value, 1.0)).numpy()
        vectors.append(vector)
        products += lag * (spent + 1)
        start = vector + 0.1 * _random(vector, generator)
        tell(number / (len(grid) + 1), f"leading vectors over {lag} of {count} steps")
    span, _ = torch.linalg.qr(torch.stack(vectors, 2))
    carried = Carried(span.transpose(1, 2).contiguous())
    logs = [np.zeros(samples)]
    for factor in factors:
        carried.step(factor)
        logs.append(carried.log(carried.largest()))
    tell(1.0, f"Jacobian over {count} steps")
    return np.stack(logs, 1), error, products + count * len(grid)


def _random(like: Tensor, generator: torch.Generator) -> Tensor:
    """Vectors of norm 1."""
    vectors = torch.randn(like.shape, dtype=torch.float64, generator=generator)
    return vectors / vectors.norm(dim=1, keepdim=True)


def _leading(
    operator: LinearMap, start: Tensor, tolerance: float, most: int
) -> tuple[Tensor, Tensor, Tensor, int]:
    """σ_max, its residual and right vector, and the products spent, by at most ``most`` steps of Lanczos' method."""
    counted = Counted(operator)
    lanczos = Bidiagonalisation(counted, start)
    while True:
        lanczos.step()
        if lanczos.steps % _LOOK and lanczos.steps < most and not lanczos.exhausted:
            continue
        ritz = lanczos.ritz()
        value, residual, coefficients = ritz.at(ritz.first)
        done = bool((residual <= tolerance * value).all())
        if done or lanczos.exhausted or lanczos.steps >= most:
            return value, residual, lanczos.right_vectors(coefficients), counted.products


def _smallest(jacobians: StepJacobians, samples: int) -> Values:
    """log σ_min, by the inverse of the product: its rows e^(log_j) rows_j are those of P_t⁻¹."""
    size, count = jacobians.rows, jacobians.samples // samples
    rows = torch.eye(size, dtype=torch.float64).repeat(samples, 1, 1)
    logs = torch.zeros(samples, size, dtype=torch.float64)
    regular = torch.ones(samples, dtype=torch.bool)
    found = [np.zeros(samples)]
    for step in range(count):
        matrix = _formed(jacobians.part(step * samples, (step + 1) * samples))
        norms = matrix.norm(dim=2)
        scaled = matrix / torch.where(norms > 0, norms, 1.0)[:, :, None]
        values = torch.linalg.svdvals(scaled)
        regular = regular & (values[:, -1] > 4 * size * torch.finfo(torch.float64).eps * values[:, 0])
        safe = torch.where(regular[:, None, None], scaled, torch.eye(size, dtype=torch.float64))
        # P_t⁻¹ = P_(t−1)⁻¹ (D J')⁻¹ with J = D J': the rows' norms divide the columns after the solution.
        rows = torch.linalg.solve(safe, rows, left=False) / torch.where(norms > 0, norms, 1.0)[:, None, :]
        lengths = rows.norm(dim=2)
        # What has no inverse in float64 counts as singular, and what was computed of it is no number.
        regular = regular & (torch.isfinite(lengths) & (lengths > 0)).all(dim=1)
        logs = torch.where(regular[:, None], logs + torch.log(lengths), 0.0)
        rows = torch.where(
            regular[:, None, None], rows / lengths[:, :, None], torch.eye(size, dtype=torch.float64)
        )
        top = logs.amax(dim=1)
        value = -(top + torch.log(largest(rows * torch.exp(logs - top[:, None])[:, :, None])))
        found.append(torch.where(regular, value, -torch.inf).numpy())
    return np.stack(found, 1)


def _formed(jacobians: StepJacobians) -> Tensor:
    """(N, S, S)."""
    eye = torch.eye(jacobians.columns, dtype=torch.float64).expand(jacobians.samples, -1, -1)
    return jacobians.times(eye).transpose(1, 2)


def _log(values: Values) -> Values:
    with np.errstate(divide="ignore"):
        return np.log(values)
