"""σ_max of the products J_1, J_2 J_1, J_3 J_2 J_1, … of large Jacobians, each from what the last has taught."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerlab.gradflow.chain import Product
from layerlab.gradflow.linear_maps import LinearMap, finite

Values = NDArray[np.float64]

KEPT = 6
"""Directions taken over from one product to the next, besides the random ones."""

_RANDOM = 2
_MIXED = 0.3  # share of the random directions in the first vector of a search
_ROOM = 24  # directions at which a search starts anew from the best


@dataclass(frozen=True, eq=False)
class Largest:
    """σ_max of a product, for each sample.

    Attributes:
        log: (B) float64, log σ_max: attained by the vector found, so at most the true one; −∞ of a product of zero.
        error: (B), ‖Pᵀu − σv‖/σ for the unit vectors v and u = Pv/σ found.
        products: with the whole of P or Pᵀ that it took.
    """

    log: Values
    error: Values
    products: int


def largest_of_prefixes(
    factors: Sequence[LinearMap], *, tolerance: float, budget: int, seed: int
) -> Iterator[Largest]:
    """log σ_max of P_i = J_i ⋯ J_1 for i = 1, …, L.

    From P_(i-1) to P_i a basis V of likely directions is taken over together with its image: P_i V = J_i (P_(i-1) V)
    costs products with J_i alone. The best direction v in V is tested by Pᵀu − σv, one way back through all factors;
    while that is too long, it joins V, one way forth: Davidson's method without a preconditioner, which on a
    product by itself is Lanczos' method, restarted thickly.

    A leading direction that stays an exact singular vector passes every test, even where another has overtaken it. So V
    always holds two random directions, and the first vector of each search, which is never taken for the answer, has a
    share of them mixed in. Three ways through the product are the least for each.

    Reference: K. Wu and H. Simon, Thick-restart Lanczos method for large symmetric eigenvalue problems (SIAM J.
    Matrix Anal. Appl. 22, 2000).

    Args:
        factors: Jacobians of consecutive pieces, in the order of application.
        tolerance: of the error.
        budget: products with the whole of each P or Pᵀ.
        seed: of the random directions.

    Raises:
        UserError: shapes that do not chain, or products that are not finite.

    >>> import math
    >>> from layerlab.gradflow.linear_maps import DenseMap
    >>> found = largest_of_prefixes([DenseMap(0.5 * torch.eye(300))] * 2, tolerance=1e-6, budget=40, seed=0)
    >>> [round(float(each.log[0]) / math.log(2), 5) for each in found]
    [-1.0, -2.0]
    """
    generator = torch.Generator().manual_seed(seed)
    shape = (factors[0].samples, min(_RANDOM, factors[0].columns), factors[0].columns)
    basis = _Basis(torch.randn(shape, dtype=torch.float64, generator=generator))
    product: Product | None = None
    for factor in factors:
        product = Product([factor], seed=seed) if product is None else product.then(factor)
        basis.advance(product)
        value, error, products = _search(product, basis, tolerance, budget)
        with np.errstate(divide="ignore"):
            yield Largest(np.log(value) + product.log_scale, error, products)
        basis.compress()


def _search(product: Product, basis: _Basis, tolerance: float, budget: int) -> tuple[Values, Values, int]:
    spent, mixed = 0, True
    while True:
        value, right, image = basis.best(_MIXED if mixed else 0.0)
        safe = torch.where(value > 0, value, 1.0)[:, None]
        rest = finite(product.transposed_product(image / safe)) - value[:, None] * right
        spent += 1
        error = rest.norm(dim=1) / safe[:, 0]
        if not mixed and (bool((error <= tolerance).all()) or spent + 2 > budget):
            break
        if basis.size >= _ROOM:
            basis.compress()
        fresh = basis.beside(rest, 10 * float(torch.finfo(product.dtype).eps) * value)
        if fresh is not None:
            basis.add(fresh, finite(product.product(fresh)))
            spent += 1
        elif not mixed:
            break
        mixed = False
    return value.numpy(), error.numpy(), spent


class _Basis:
    """Orthonormal directions on the side of the input, with their images under the product so far.

    Args:
        random: (B, r, n), directions that it is always to hold.
    """

    def __init__(self, random: Tensor) -> None:
        self._vectors = torch.linalg.qr(random.mT)[0].mT.contiguous()
        self._images = self._vectors
        count = self._vectors.shape[1]
        # The random directions in coordinates of the basis, as columns.
        self._random = torch.eye(count, dtype=torch.float64).expand(random.shape[0], count, count)

    @property
    def size(self) -> int:
        return self._vectors.shape[1]

    def advance(self, product: Product) -> None:
        """On to the product with one more factor."""
        images = [finite(product.advance(self._images[:, i])) for i in range(self.size)]
        self._images = torch.stack(images, 1)

    def best(self, mixed: float) -> tuple[Tensor, Tensor, Tensor]:
        """The unit v in the span with the largest ‖Pv‖, with a share of the random directions mixed in.

        Returns:
            ‖Pv‖, (B); v, (B, n); and Pv, (B, m).
        """
        top = self._ritz()[:, :, 0] + mixed * self._random.sum(2)
        top = (top / top.norm(dim=1, keepdim=True))[:, None]
        image = (top @ self._images)[:, 0]
        return image.norm(dim=1), (top @ self._vectors)[:, 0], image

    def beside(self, vectors: Tensor, rounding: Tensor) -> Tensor | None:
        """What of (B, n) stands upright on the basis, of norm 1 or 0; None where all of it is rounding."""
        for _ in range(2):
            vectors = vectors - ((vectors[:, None] @ self._vectors.mT) @ self._vectors)[:, 0]
        norms = vectors.norm(dim=1)
        norms = torch.where(norms > rounding, norms, 0.0)
        if not bool((norms > 0).any()):
            return None
        return torch.where(norms[:, None] > 0, vectors / torch.where(norms > 0, norms, 1.0)[:, None], 0.0)

    def add(self, vectors: Tensor, images: Tensor) -> None:
        """One more direction, (B, n), orthonormal to the others; with its image, (B, m)."""
        self._vectors = torch.cat([self._vectors, vectors[:, None]], 1)
        self._images = torch.cat([self._images, images.double()[:, None]], 1)
        self._random = torch.nn.functional.pad(self._random, (0, 0, 0, 1))

    def compress(self) -> None:
        """Keeps the `KEPT` best directions and the random ones."""
        if self.size <= KEPT + self._random.shape[2]:
            return
        chosen = torch.linalg.qr(torch.cat([self._ritz()[:, :, :KEPT], self._random], 2))[0]
        self._vectors, self._images = chosen.mT @ self._vectors, chosen.mT @ self._images
        self._random = chosen.mT @ self._random

    def _ritz(self) -> Tensor:
        """(B, k, k): orthonormal coordinates, as columns, from the direction that grows most to the one that least."""
        vectors: Tensor = torch.linalg.eigh(self._images @ self._images.mT)[1].flip(2)
        return vectors
