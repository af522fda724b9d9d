"""Spectral norms from above: of dense, batched and sparse matrices."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from layerlab.gradflow.linear_maps import DenseMap
from layerlab.gradflow.singular_values import extreme_singular_values

EXACT_UP_TO = 2048
"""Shorter side of a matrix up to which its norm is computed by an eigenvalue decomposition."""

_BATCHED_UP_TO = 256  # of many matrices
_SPARSE_STEPS = 60
_KEPT = 1024

_known: OrderedDict[tuple[Any, ...], Any] = OrderedDict()

T = TypeVar("T")


def once(key: tuple[Any, ...], tensor: Tensor, compute: Callable[[], T]) -> T:
    """``compute()``, kept by the content of ``tensor``: a recurrent weight is met once for each step."""
    plain = tensor.detach().cpu().contiguous()
    digest = hashlib.blake2b(plain.flatten().view(torch.uint8).numpy().data).digest()
    full = (*key, tuple(plain.shape), plain.dtype, digest)
    if full not in _known:
        _known[full] = compute()
        if len(_known) > _KEPT:
            _known.popitem(last=False)
    known: T = _known[full]
    return known


def matrix_norm(matrix: Tensor) -> float:
    """‖A‖₂ of a dense matrix, in float64.

    √λ_max(AAᵀ) with the shorter side outside: for the largest eigenvalue squaring loses no digits. Above
    `EXACT_UP_TO` an upper bound by Lanczos' method, which fails with probability 1e-6
    (`layerlab.gradflow.singular_values.Extreme.outer`).

    Args:
        matrix: (m, n), any floating-point dtype.

    >>> matrix_norm(torch.tensor([[3.0, 4.0]]))
    5.0
    """
    # A weight is met transposed and not; its memory is the same.
    stored = matrix.mT if matrix.mT.is_contiguous() else matrix
    return once(("matrix",), stored, lambda: _matrix_norm(stored.detach().double()))


def _matrix_norm(matrix: Tensor) -> float:
    if matrix.numel() == 0:
        return 0.0
    if not bool(torch.isfinite(matrix).all()):
        return float("inf")
    if min(matrix.shape) > EXACT_UP_TO:
        return float(extreme_singular_values(DenseMap(matrix), smallest=False).largest.outer[0])
    return float(gram_norms(matrix)[()])


def gram_norms(matrices: Tensor) -> Tensor:
    """‖A‖₂ of each of the matrices (..., m, n), float64 or complex128."""
    if matrices.shape[-2] > matrices.shape[-1]:
        matrices = matrices.mH
    if matrices.shape[-2] <= 1:
        return matrices.norm(dim=(-2, -1))
    largest: Tensor = torch.linalg.eigvalsh(matrices @ matrices.mH)[..., -1]
    return largest.clamp_min(0.0).sqrt()


def largest_norm(matrices: Tensor) -> float:
    """The largest ‖A_b‖₂ of a batch, or a little more.

    Exact up to a shorter side of 256; beyond it min(‖A‖_F, √(‖A‖₁ ‖A‖_∞)).

    Args:
        matrices: (..., m, n), any floating-point dtype.
    """
    matrices = matrices.detach().double().reshape(-1, *matrices.shape[-2:])
    if matrices.numel() == 0:
        return 0.0
    if not bool(torch.isfinite(matrices).all()):
        return float("inf")
    if min(matrices.shape[-2:]) <= _BATCHED_UP_TO:
        return float(gram_norms(matrices).max())
    sums = matrices.abs().sum(-1).amax(-1) * matrices.abs().sum(-2).amax(-1)
    return float(torch.minimum(matrices.square().sum((-2, -1)), sums).max().sqrt())


def sparse_norm(rows: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]) -> float:
    """An upper bound of ‖A‖₂ of a sparse matrix; of one without negative entries it is met in the limit.

    ‖A‖₂² ≤ max_i (|A|ᵀ|A| u)_i / u_i for every u > 0 (Collatz and Wielandt), here for the power iterates of ones.

    Reference: R. Horn and C. Johnson, Matrix Analysis (2nd edition, 2013), corollary 8.1.31.

    Args:
        rows: (nnz), integers.
        columns: (nnz), integers.
        values: (nnz).
        shape: (m, n).

    >>> index = torch.arange(2)
    >>> round(sparse_norm(index, index, torch.tensor([1.0, 2.0]), (2, 2)), 6)
    2.0
    """
    rows, columns, values = rows.long(), columns.long(), values.detach().double().abs()
    if values.numel() == 0:
        return 0.0
    if min(shape) <= _BATCHED_UP_TO and max(shape) <= 4 * EXACT_UP_TO:
        matrix = torch.zeros(shape, dtype=torch.float64, device=values.device)
        return float(gram_norms(matrix.index_put((rows, columns), values, accumulate=True))[()])
    vector = torch.ones(shape[1], dtype=torch.float64, device=values.device)
    best = float("inf")
    for _ in range(_SPARSE_STEPS):
        image = torch.zeros(shape[0], dtype=torch.float64, device=values.device)
        image.index_add_(0, rows, values * vector[columns])
        back = torch.zeros_like(vector).index_add_(0, columns, values * image[rows])
        best = min(best, float((back / vector).max()))
        # A positive part keeps every entry above 0, as the theorem wants it.
        vector = back / back.max() + 1e-9
    return best**0.5
