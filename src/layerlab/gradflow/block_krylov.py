"""Several leading singular values by a randomised block Krylov method: it sees multiple ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from layerlab.gradflow.linear_maps import Counted

# More columns than values are sought: the gap that sets the speed is then to a farther value.
_OVERSAMPLING = 4


@dataclass(frozen=True, eq=False)
class Leading:
    """The leading singular values.

    Attributes:
        values: (B, count) float64, descending.
        residuals: (B, count), ‖Aᵀu − σv‖ (Av = σu by construction).
    """

    values: Tensor
    residuals: Tensor


def leading(
    operator: Counted, count: int, *, tolerance: float, budget: int, generator: torch.Generator
) -> Leading:
    """The ``count`` largest singular values of A, with multiplicity.

    Rayleigh and Ritz's method on the span of Ω, AᵀAΩ, (AᵀA)²Ω, … for a Gaussian Ω of ``count`` + 4 columns, kept
    orthonormal. A single start vector has one direction only in the space of a multiple singular value.

    Reference: C. Musco and C. Musco, Randomized block Krylov methods for stronger and faster approximate singular
    value decomposition (NeurIPS 2015), algorithm 2.

    Args:
        operator: A, at least as many rows as columns n.
        count: at most n.
        tolerance: relative to σ_max, of the residuals.
        budget: products that may be used; at least one block is.
        generator: draws Ω.

    >>> from layerlab.gradflow.linear_maps import DenseMap
    >>> matrix = torch.diag(torch.cat([torch.tensor([5.0, 5.0, 5.0]), torch.ones(40)])).double()
    >>> found = leading(Counted(DenseMap(matrix)), 4, tolerance=1e-10, budget=400,
    ...                 generator=torch.Generator().manual_seed(0))
    >>> found.values.numpy().round(8).tolist()
    [[5.0, 5.0, 5.0, 1.0]]
    """
    size = operator.columns
    width = min(count + _OVERSAMPLING, size)
    block = torch.randn(operator.samples, size, width, dtype=torch.float64, generator=generator)
    basis = torch.empty(operator.samples, size, 0, dtype=torch.float64)
    images = torch.empty(operator.samples, operator.rows, 0, dtype=torch.float64)
    gram = torch.empty_like(basis)
    while True:
        block = _orthonormal(block[:, :, : size - basis.shape[2]], basis)
        basis = torch.cat([basis, block], 2)
        image = _each(operator.product, block)
        images = torch.cat([images, image], 2)
        block = _each(operator.transposed_product, image)
        gram = torch.cat([gram, block], 2)
        _, values, right = torch.linalg.svd(images, full_matrices=False)
        right, values = right[:, :count], values[:, :count]
        vectors = right.transpose(1, 2)
        # AᵀAv − σ²v = σ(Aᵀu − σv), and both products are at hand.
        difference = gram @ vectors - (basis @ vectors) * values[:, None] ** 2
        residuals = difference.norm(dim=1) / values.clamp(min=torch.finfo(torch.float64).tiny)
        done = bool((residuals <= tolerance * values[:, :1]).all())
        if done or basis.shape[2] == size or operator.products + 2 * width > budget:
            return Leading(values, residuals)


def _each(product: Callable[[Tensor], Tensor], block: Tensor) -> Tensor:
    return torch.stack([product(column) for column in block.unbind(2)], 2)


def _orthonormal(block: Tensor, basis: Tensor) -> Tensor:
    for _ in range(2):
        block = block - basis @ (basis.transpose(1, 2) @ block)
        block, _ = torch.linalg.qr(block)
    return block
