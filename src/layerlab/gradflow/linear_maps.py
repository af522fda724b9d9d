"""Linear maps known by their products alone, one block for each sample."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from layerlab.errors import UserError


class LinearMap(Protocol):
    """A batch of B matrices A_b of shape (m, n), given by products with A_b and A_bᵀ.

    Attributes:
        samples: B.
        rows: m.
        columns: n.
        dtype: in which the products are computed; its rounding limits every accuracy.
    """

    @property
    def samples(self) -> int: ...
    @property
    def rows(self) -> int: ...
    @property
    def columns(self) -> int: ...
    @property
    def dtype(self) -> torch.dtype: ...

    def product(self, vectors: Tensor) -> Tensor:
        """A_b v_b for each b: (B, n) to (B, m), of ``dtype``."""

    def transposed_product(self, vectors: Tensor) -> Tensor:
        """A_bᵀ u_b for each b: (B, m) to (B, n), of ``dtype``."""


class DenseMap:
    """Matrices that are at hand.

    Args:
        matrices: (B, m, n), or (m, n) for B = 1; float32 or float64.

    >>> DenseMap(torch.tensor([[1.0, 2.0]])).product(torch.tensor([[3.0, 4.0]]))
    tensor([[11.]])
    """

    def __init__(self, matrices: Tensor) -> None:
        matrices = matrices[None] if matrices.ndim == 2 else matrices
        if matrices.ndim != 3 or not matrices.is_floating_point():
            raise UserError(
                f"expected matrices of shape (B, m, n) or (m, n), float32 or float64, got {matrices.dtype} of "
                f"shape {tuple(matrices.shape)}"
            )
        self.matrices = matrices

    @property
    def samples(self) -> int:
        return self.matrices.shape[0]

    @property
    def rows(self) -> int:
        return self.matrices.shape[1]

    @property
    def columns(self) -> int:
        return self.matrices.shape[2]

    @property
    def dtype(self) -> torch.dtype:
        return self.matrices.dtype

    def product(self, vectors: Tensor) -> Tensor:
        return torch.einsum("bmn,bn->bm", self.matrices, vectors.to(self.dtype))

    def transposed_product(self, vectors: Tensor) -> Tensor:
        return torch.einsum("bmn,bm->bn", self.matrices, vectors.to(self.dtype))


class Transposed:
    """A_bᵀ in place of A_b."""

    def __init__(self, inner: LinearMap) -> None:
        self.inner = inner
        self.samples, self.rows, self.columns = inner.samples, inner.columns, inner.rows
        self.dtype = inner.dtype

    def product(self, vectors: Tensor) -> Tensor:
        return self.inner.transposed_product(vectors)

    def transposed_product(self, vectors: Tensor) -> Tensor:
        return self.inner.product(vectors)


class Counted:
    """Products in float64, counted, of a map with at least as many rows as columns.

    A wide map is transposed: its min(m, n) = m singular values are those of Aᵀ, while AᵀA has n − m zeros besides.
    The numbers of the model's own dtype enter and leave as float64, so that sums over many vectors do not add
    rounding to that of the products.
    """

    def __init__(self, inner: LinearMap) -> None:
        self.inner = inner if inner.rows >= inner.columns else Transposed(inner)
        self.samples, self.rows, self.columns = self.inner.samples, self.inner.rows, self.inner.columns
        self.eps = float(torch.finfo(self.inner.dtype).eps)
        self.products = 0

    def product(self, vectors: Tensor) -> Tensor:
        return self._counted(self.inner.product(vectors.to(self.inner.dtype)))

    def transposed_product(self, vectors: Tensor) -> Tensor:
        return self._counted(self.inner.transposed_product(vectors.to(self.inner.dtype)))

    def _counted(self, vectors: Tensor) -> Tensor:
        self.products += 1
        return finite(vectors).to("cpu", torch.float64)


def finite(vectors: Tensor) -> Tensor:
    """The same vectors.

    Raises:
        UserError: NaN or Inf among them.
    """
    if not bool(torch.isfinite(vectors).all()):
        raise UserError(
            "a product with the Jacobian is not finite: the derivative overflows or is undefined at these inputs"
        )
    return vectors


def dense(operator: LinearMap) -> Tensor:
    """The matrices themselves, (B, m, n) float64, by min(m, n) products.

    >>> dense(DenseMap(torch.eye(2)))
    tensor([[[1., 0.],
             [0., 1.]]], dtype=torch.float64)
    """
    counted = Counted(operator)
    matrices = torch.empty(counted.samples, counted.rows, counted.columns, dtype=torch.float64)
    for column in range(counted.columns):
        unit = torch.zeros(counted.samples, counted.columns, dtype=torch.float64)
        unit[:, column] = 1.0
        matrices[:, :, column] = counted.product(unit)
    return matrices if operator.rows >= operator.columns else matrices.transpose(1, 2)
