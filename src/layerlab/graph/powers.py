"""Powers of a matrix applied to features, P^K x: by K sparse products or by one eigendecomposition.

K products cost time K · nnz · d. Of a symmetric matrix P = Q Λ Qᵀ the power is Q Λ^K Qᵀ (homework 4, question
3.3.1): n³ once, then n² d whatever K is. `costs` says which is cheaper, and ``method="auto"`` follows it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypeVar, get_args

import numpy as np
import scipy.linalg
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerlab.errors import UserError
from layerlab.graph import ops
from layerlab.graph.sparse import SparseMatrix
from layerlab.graph.structure import Graph

Method: TypeAlias = Literal["auto", "multiply", "spectral"]
Features = TypeVar("Features", Tensor, NDArray[Any])

# The eigendecomposition needs about four matrices of n² float64: 3.2 GB here.
SPECTRAL_UP_TO = 10_000

# Seconds on one core of a shared x86-64 server (the table: docs/theory/graph.md, graph.power). Only ratios decide.
_CALL = 4e-5
_PRODUCT = 1.2e-9  # an entry times a column; 0.3e-9 inside the cache, up to 4.7e-9 outside
_EIGEN = 6.5e-10  # times n³
_DENSE = 1e-10  # an entry times a column of each of the two dense products


@dataclass(frozen=True)
class Costs:
    """Predicted seconds of both methods on one core; infinite where a method does not serve.

    >>> costs(nodes=1000, entries=5000, columns=10, K=2).best
    'multiply'
    >>> costs(nodes=1000, entries=5000, columns=10, K=10**6).best
    'spectral'
    """

    multiply: float
    spectral: float

    @property
    def best(self) -> Literal["multiply", "spectral"]:
        """The cheaper method."""
        return "multiply" if self.multiply <= self.spectral else "spectral"


def costs(nodes: int, entries: int, columns: int, K: int, *, symmetric: bool = True) -> Costs:
    """What P^K x costs by either method.

    multiply: K (c₀ + c₁ · nnz · d); spectral: c₀ + c₂ n³ + 2 c₃ n² d, with constants measured once on one core.

    Args:
        nodes: n.
        entries: stored entries of P, nnz.
        columns: columns of x, d.
        K: the exponent.
        symmetric: whether P is; otherwise the spectral method does not serve.
    """
    spectral = _CALL + _EIGEN * float(nodes) ** 3 + 2 * _DENSE * float(nodes) ** 2 * columns
    serves = symmetric and nodes <= SPECTRAL_UP_TO
    return Costs(K * (_CALL + _PRODUCT * entries * columns), spectral if serves else math.inf)


def power(
    operator: Graph | SparseMatrix | Any,
    x: Features,
    K: int,
    method: Method = "auto",
    *,
    self_loops: bool = True,
) -> Features:
    """P^K x in float64.

    "multiply" takes K sparse products; its rounding error is at most about K · r · ε · ‖P‖^K ‖x‖, r the longest row.
    "spectral" computes Q Λ^K Qᵀ x of a symmetric P; its error is about (K + 4) · n · ε · ‖P‖^K ‖x‖. The norm of a
    graph's propagation matrix is at most 1 (`graph.adjacency-interval`).

    Reference: homework 4, question 3.3.1; Wu et al., Simplifying graph convolutional networks (ICML 2019), section 2.

    Args:
        operator: a graph, whose `Graph.normalized_adjacency` is P; or P itself, (n, n): a `SparseMatrix`, a scipy
            sparse matrix or a numpy array.
        x: (n,) or (n, d) finite numbers: array or tensor.
        K: whole number >= 0; the identity for 0.
        method: "auto" takes the cheaper of those that serve, see `costs`.
        self_loops: of a graph: whether P contains them.

    Returns:
        As x, float64: an array for an array, a CPU tensor for a tensor.

    Raises:
        UserError: shapes that do not fit, an unknown method, a K that is no whole number >= 0, a number that is
            not finite, "spectral" for a matrix that is not symmetric or larger than 10,000 rows, or a result that
            float64 cannot hold.

    >>> power(np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([1.0, 2.0]), 1_000_001).round(3).tolist()
    [2.0, 1.0]
    >>> power(Graph.from_edges([0], [1]), torch.tensor([1.0, 2.0]), 3, "multiply")
    tensor([1.5000, 1.5000], dtype=torch.float64)
    """
    if isinstance(K, bool) or not isinstance(K, int | np.integer) or K < 0:
        raise UserError(f"expected K as a whole number >= 0, got {K!r}")
    if method not in get_args(Method):
        raise UserError(f"unknown method {method!r}; expected one of {', '.join(get_args(Method))}")
    matrix = _matrix(operator, self_loops)
    columns = _columns(x, matrix.shape[0])
    differing = None if method == "multiply" else _first_asymmetry(matrix)
    if method == "auto":
        method = costs(matrix.shape[0], matrix.nnz, columns.shape[1], int(K), symmetric=not differing).best
    if method == "multiply":
        out = _multiply(matrix, columns, int(K))
    else:
        _check_spectral(matrix.shape[0], differing)
        out = decompose(matrix).power(columns, int(K))
    if not np.isfinite(out).all():
        raise UserError(f"P^{K} x is beyond float64; scale P so that no eigenvalue exceeds 1 in magnitude")
    shaped = np.ascontiguousarray(out).reshape(tuple(x.shape))
    return torch.from_numpy(shaped) if isinstance(x, Tensor) else shaped


@dataclass(frozen=True, eq=False)
class Decomposition:
    """P = Q Λ Qᵀ: Λ the ``values`` (n,), ascending, Q the ``vectors`` (n, n), columns orthonormal."""

    values: NDArray[np.float64]
    vectors: NDArray[np.float64]

    def power(self, x: NDArray[np.float64], K: int) -> NDArray[np.float64]:
        """Q Λ^K Qᵀ x for x (n, d); the identity for K = 0, without rounding."""
        if K == 0:
            return x.copy()
        # What is too large for float64 becomes infinite, which `power` reports.
        with np.errstate(over="ignore", invalid="ignore"):
            return np.asarray(self.vectors @ (self.values[:, None] ** K * (self.vectors.T @ x)))


def decompose(matrix: sp.csr_array) -> Decomposition:
    """The eigendecomposition of a symmetric matrix by LAPACK's divide and conquer; only one triangle is read."""
    if not matrix.shape[0]:
        return Decomposition(np.zeros(0), np.zeros((0, 0)))
    return Decomposition(*scipy.linalg.eigh(matrix.toarray(), driver="evd", overwrite_a=True))


def _matrix(operator: Graph | SparseMatrix | Any, self_loops: bool) -> sp.csr_array:
    if isinstance(operator, Graph):
        operator = operator.normalized_adjacency(self_loops, dtype=torch.float64)
    if isinstance(operator, SparseMatrix):
        matrix = operator.to_scipy()
    elif sp.issparse(operator) or isinstance(operator, np.ndarray):
        if operator.ndim != 2 or operator.dtype.kind not in "buif":
            raise UserError(
                f"expected a square matrix of real numbers, got shape {operator.shape}, {operator.dtype}"
            )
        matrix = sp.csr_array(operator)
    else:
        raise UserError(
            "expected a Graph, a SparseMatrix, a scipy sparse matrix or a numpy array,"
            f" got {type(operator).__name__}"
        )
    if matrix.shape[0] != matrix.shape[1]:
        raise UserError(f"expected a square matrix, got shape {matrix.shape}")
    matrix = matrix.astype(np.float64)
    if not np.isfinite(matrix.data).all():
        raise UserError("expected a matrix of finite numbers, got NaN or infinity")
    return matrix


def _columns(x: Tensor | NDArray[Any], rows: int) -> NDArray[np.float64]:
    if not isinstance(x, Tensor | np.ndarray):
        raise UserError(f"expected features as an array or a tensor, got {type(x).__name__}")
    numbers = x.detach().cpu().double().numpy() if isinstance(x, Tensor) else x
    if numbers.ndim not in (1, 2) or numbers.shape[0] != rows or numbers.dtype.kind not in "buif":
        raise UserError(f"expected {rows} rows of real numbers, got shape {tuple(x.shape)}, {x.dtype}")
    numbers = numbers.astype(np.float64, copy=False)
    if not np.isfinite(numbers).all():
        raise UserError("expected features that are finite, got NaN or infinity")
    return numbers.reshape(rows, -1) if numbers.size else numbers.reshape(rows, int(numbers.ndim == 1))


def _first_asymmetry(matrix: sp.csr_array) -> tuple[int, int, float, float] | None:
    """Where P and its transpose differ, with both entries; None where they are equal to the last bit."""
    difference = sp.coo_array(matrix - matrix.T)
    apart = np.flatnonzero(difference.data)
    if not apart.size:
        return None
    row, column = (int(axis[apart[0]]) for axis in difference.coords)
    return row, column, float(matrix[row, column]), float(matrix[column, row])


def _check_spectral(rows: int, differing: tuple[int, int, float, float] | None) -> None:
    if differing:
        row, column, here, there = differing
        raise UserError(
            f"the spectral method needs a symmetric matrix, but entry ({row}, {column}) is {here:g} and"
            f" ({column}, {row}) is {there:g}; use method='multiply'"
        )
    if rows > SPECTRAL_UP_TO:
        raise UserError(
            f"the spectral method needs dense matrices of {rows} x {rows}; it serves up to {SPECTRAL_UP_TO} rows:"
            " use method='multiply'"
        )


def _multiply(matrix: sp.csr_array, x: NDArray[np.float64], K: int) -> NDArray[np.float64]:
    # A copy: the identity must not hand out the caller's own memory.
    out = ops.propagate(SparseMatrix.from_scipy(matrix, torch.float64), torch.from_numpy(x.copy()), K)
    return out.numpy()
