"""Golub, Kahan and Lanczos' bidiagonalisation with full reorthogonalisation, of many matrices at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from layerlab.gradflow.linear_maps import Counted

# Where at least this share of a vector stands upright, rounding in what was taken off is no matter.
_ENOUGH = 0.5**0.5

# A start of memory for basis vectors; doubled when full.
_ROOM = 16


@dataclass(frozen=True, eq=False)
class Ritz:
    """Singular values of the bidiagonal matrices.

    Attributes:
        values: (B, k) float64, descending from index ``first`` on; those before it mean nothing.
        residuals: (B, k), ‖Aᵀu − σv‖, as the recurrence has it (Av = σu by construction).
        right: (B, k, k), row i the coefficients of the right vector v_i in the basis.
        first: (B), 0 but for a sample whose Krylov space was complete after fewer than k steps.
        complete: (B) whether the Krylov space is invariant: then the values are exact to rounding.
    """

    values: Tensor
    residuals: Tensor
    right: Tensor
    first: Tensor
    complete: Tensor

    def at(self, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The value, residual and coefficients with one index for each sample."""
        rows = torch.arange(index.numel())
        return self.values[rows, index], self.residuals[rows, index], self.right[rows, index]


class Bidiagonalisation:
    """A V_k = U_k B_k and Aᵀ U_k = V_k B_kᵀ + β_k v_(k+1) e_kᵀ, for each sample, from a given start v_1.

    Every new vector is orthogonalised against all before it, and again where little of it was left, so V and U stay
    orthonormal to rounding, no copies of converged values appear, and B_k is upper bidiagonal with α on and β above the
    diagonal.

    Reference: G. Golub and C. Van Loan, Matrix Computations (4th edition, 2013), section 10.4; J. Daniel et al.,
    Reorthogonalization and stable algorithms for updating the Gram-Schmidt QR factorization (Math. Comp. 30, 1976).

    Args:
        operator: A, at least as many rows m as columns n.
        start: (B, n) float64, not zero.
    """

    def __init__(self, operator: Counted, start: Tensor) -> None:
        self.operator = operator
        self.steps = 0
        self._v = torch.empty(operator.samples, 0, operator.columns, dtype=torch.float64)
        self._u = torch.empty(operator.samples, 0, operator.rows, dtype=torch.float64)
        self._alpha: list[Tensor] = []
        self._beta: list[Tensor] = []
        self._next = start / start.norm(dim=1, keepdim=True)
        self._length = torch.zeros(operator.samples, dtype=torch.int64)
        self._scale = torch.zeros(operator.samples, dtype=torch.float64)

    @property
    def exhausted(self) -> bool:
        """Whether no sample has a further direction."""
        return self.steps == self.operator.columns or (self.steps > 0 and bool((self._next == 0).all()))

    def step(self) -> None:
        """One more column of B: one product with A and one with Aᵀ."""
        alive = self._next.norm(dim=1) > 0
        self._length += alive
        v = self._next
        self._v = self._put(self._v, v)
        u = self.operator.product(v)
        u, alpha = self._orthonormal(u, self._u)
        self._scale = torch.maximum(self._scale, alpha)
        self._u = self._put(self._u, u)
        self.steps += 1
        w, beta = self._orthonormal(self.operator.transposed_product(u), self._v)
        if self.steps == self.operator.columns:
            w, beta = torch.zeros_like(w), torch.zeros_like(beta)
        self._next = w
        self._scale = torch.maximum(self._scale, beta)
        self._alpha.append(alpha)
        self._beta.append(beta)

    def ritz(self) -> Ritz:
        """The singular values of B_k with their residuals."""
        k = self.steps
        alpha, beta = torch.stack(self._alpha, 1), torch.stack(self._beta, 1)
        # Where a sample has ended, a value above all others keeps its own apart: σ_max(B) ≤ max α + max β.
        ended = torch.arange(k) >= self._length[:, None]
        alpha = torch.where(ended, (4 * self._scale).clamp(min=1.0)[:, None], alpha)
        matrix = torch.diag_embed(alpha)
        if k > 1:
            matrix += torch.diag_embed(beta[:, :-1], offset=1)
        left, values, right = torch.linalg.svd(matrix)
        # The residual's only component is along v_(k+1), with the last entry of the left vector.
        last = (self._length - 1)[:, None]
        ends = left.gather(1, last[:, :, None].expand(-1, 1, k))[:, 0]
        complete = self._next.norm(dim=1) == 0
        return Ritz(values, beta.gather(1, last) * ends.abs(), right, k - self._length, complete)

    def right_vectors(self, coefficients: Tensor) -> Tensor:
        """(B, n) of norm 1: the combination of the basis with coefficients (B, k)."""
        vectors = torch.einsum("bk,bkn->bn", coefficients, self._v[:, : self.steps])
        return vectors / vectors.norm(dim=1, keepdim=True)

    def _put(self, room: Tensor, vectors: Tensor) -> Tensor:
        if room.shape[1] <= self.steps:
            larger = min(max(_ROOM, 2 * room.shape[1]), self.operator.columns)
            new = torch.zeros(room.shape[0], larger, room.shape[2], dtype=torch.float64)
            new[:, : self.steps] = room[:, : self.steps]
            room = new
        room[:, self.steps] = vectors
        return room

    def _orthonormal(self, vectors: Tensor, room: Tensor) -> tuple[Tensor, Tensor]:
        """What of ``vectors`` stands upright on the basis, of norm 1, and its norm; zero where it is rounding."""
        before = room[:, : self.steps]
        norms = vectors.norm(dim=1)
        for _ in range(2):
            whole = norms
            vectors = vectors - torch.einsum(
                "bkn,bk->bn", before, torch.einsum("bkn,bn->bk", before, vectors)
            )
            norms = vectors.norm(dim=1)
            if bool((norms >= _ENOUGH * whole).all()):
                break
        norms = torch.where(norms > 10 * self.operator.eps * self._scale, norms, 0.0)
        safe = torch.where(norms > 0, norms, 1.0)
        return torch.where(norms[:, None] > 0, vectors / safe[:, None], 0.0), norms
