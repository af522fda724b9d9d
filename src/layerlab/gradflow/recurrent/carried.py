"""A product over time carried along as a matrix, in log space."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerlab.gradflow.recurrent.steps import StepJacobians

Values = NDArray[np.float64]

_RESCALE = 16
_PACE = 100.0
_DROPPED = 1e-13


class Carried:
    """P_t V for B samples, by its columns x_j = e^(log_j + shift) rows_j; as a map it is (P_t V)ᵀ / e^(top + shift).

    Each step is divided by what σ_max was before it (``pace``), so that the columns leave the range of floating point
    only after many steps; every few steps their norms go into log_j.

    Args:
        rows: the columns of V, (B, k, S) float64.
    """

    def __init__(self, rows: Tensor) -> None:
        self.matrix = rows
        self._pace = torch.zeros(self.samples, dtype=torch.float64)
        self._shift = torch.zeros_like(self._pace)
        self._logs = torch.zeros(rows.shape[:2], dtype=torch.float64)
        self._weights = torch.ones_like(self._logs)
        self._steps = 0

    @property
    def samples(self) -> int:
        return self.matrix.shape[0]

    @property
    def rows(self) -> int:
        return self.matrix.shape[1]

    @property
    def columns(self) -> int:
        return self.matrix.shape[2]

    @property
    def dtype(self) -> torch.dtype:
        return torch.float64

    def step(self, jacobians: StepJacobians) -> None:
        """One more factor."""
        self.matrix = jacobians.part(0, jacobians.samples, torch.exp(-self._pace)).times(self.matrix)
        self._shift = self._shift + self._pace
        self._steps += 1
        if self._steps % _RESCALE == 0:
            norms = self.matrix.norm(dim=2)
            self.matrix = self.matrix / torch.where(norms > 0, norms, 1.0)[:, :, None]
            self._logs = self._logs + torch.log(norms)
            self._weights = torch.exp(self._logs - self._top()[:, None])

    def narrowed(self, generator: torch.Generator) -> Tensor | None:
        """Halves the number of columns, where what is lost is below 1e-13 of all: P_t V becomes P_t V Z.

        Singular values of a product over time drift apart by a factor at each step, so few soon count. Z is an
        orthonormal basis of what a Gaussian block sees of the row space, and the loss ‖P_t V (1 − Z Zᵀ)‖ is measured.

        Reference: N. Halko, P.-G. Martinsson and J. Tropp, Finding structure with randomness (SIAM Review 53, 2011).

        Args:
            generator: draws the block.

        Returns:
            Z, (B, k, k/2); None where the loss would be larger, and nothing was done.
        """
        whole = self.matrix * self._weights[:, :, None]
        block = torch.randn(
            self.samples, self.columns, self.rows // 2, dtype=torch.float64, generator=generator
        )
        basis, _ = torch.linalg.qr(whole @ block)
        narrow = basis.transpose(1, 2) @ whole
        lost = torch.linalg.vector_norm(whole - basis @ narrow, dim=(1, 2))
        if bool((lost > _DROPPED * torch.linalg.vector_norm(whole, dim=(1, 2))).any()):
            return None
        self.matrix = narrow
        self._logs = self._top()[:, None].repeat(1, self.rows)
        self._weights = torch.ones_like(self._logs)
        return basis

    def largest(self) -> Tensor:
        """σ_max of the map, (B), by a decomposition."""
        return largest(self.matrix * self._weights[:, :, None])

    def log(self, value: Tensor) -> Values:
        """log σ_max of P_t V, where ``value`` is that of the map; the next step is divided by it."""
        log = torch.log(value)
        self._pace = torch.where(torch.isfinite(log), log, 0.0).clamp(-_PACE, _PACE)
        return np.asarray((log + self._top() + self._shift).numpy())

    def product(self, vectors: Tensor) -> Tensor:
        return torch.bmm(self.matrix, vectors[:, :, None])[:, :, 0] * self._weights

    def transposed_product(self, vectors: Tensor) -> Tensor:
        return torch.bmm((vectors * self._weights)[:, None], self.matrix)[:, 0]

    def _top(self) -> Tensor:
        top = self._logs.amax(dim=1)
        return torch.where(torch.isfinite(top), top, 0.0)


def largest(matrices: Tensor) -> Tensor:
    """σ_max of each, by the smaller Gram matrix: to rounding, for the largest value."""
    wide = matrices if matrices.shape[1] <= matrices.shape[2] else matrices.transpose(1, 2)
    return torch.linalg.eigvalsh(wide @ wide.transpose(1, 2))[:, -1].clamp(min=0.0).sqrt()
