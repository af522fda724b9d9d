"""Factorising μI − P: what it costs, how many eigenvalues lie above μ, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg
from scipy.sparse.csgraph import reverse_cuthill_mckee


@dataclass(frozen=True)
class Inertia:
    """The number of eigenvalues above a bound, by Sylvester's law.

    Attributes:
        above: eigenvalues of the matrix that exceed μ, each known up to ``error``.
        error: by how much the eigenvalues of the matrix that was counted differ at most from the given one's.
    """

    above: int
    error: float


def factorise(matrix: sp.csr_array, shift: float) -> Any:
    """LU of shift·I − matrix with rows and columns in the same order, so that LU is LDLᵀ up to rounding.

    Raises:
        RuntimeError: the matrix is singular to working precision.
    """
    shifted = sp.csc_array(sp.diags_array(np.full(matrix.shape[0], shift)) - matrix)
    return scipy.sparse.linalg.splu(
        shifted, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
    )


def inertia(factors: Any) -> Inertia | None:
    """How many eigenvalues of a symmetric matrix exceed the shift, from `factorise`.

    shift·I − matrix = LDLᵀ + F; LDLᵀ has as many negative eigenvalues as D negative entries (Sylvester), and
    F moves each eigenvalue by at most ‖F‖ ≤ ‖F‖_∞ (Weyl), as F is symmetric. Two parts make F: the rounding
    of the elimination, at most γ_k |L||U| with k the most entries in a row of L, and what U differs from DLᵀ.

    Reference: N. Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed. (2002), theorem 9.3;
    B. Parlett, The Symmetric Eigenvalue Problem (1980), section 3.3.

    Returns:
        The count and its error; None if a pivot was taken off the diagonal, where signs say nothing.

    >>> path = sp.csr_array([[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    >>> found = inertia(factorise(path, 1.0))
    >>> found.above, found.error < 1e-14
    (1, True)
    """
    if not np.array_equal(factors.perm_r, factors.perm_c):
        return None
    lower, upper = sp.csr_array(factors.L), sp.csr_array(factors.U)
    pivots = upper.diagonal()
    ones = np.ones(pivots.size)
    longest = int(np.diff(lower.indptr).max()) + 1
    elimination = abs(lower) @ (abs(upper) @ ones)
    asymmetry = abs(lower) @ (abs(upper - sp.diags_array(pivots) @ lower.T) @ ones)
    unit = float(np.finfo(np.float64).eps)
    error = float((longest * unit * elimination + (1 + unit) * asymmetry).max())
    return Inertia(int(np.count_nonzero(pivots < 0)), error)


def cost(matrix: sp.csr_array) -> tuple[float, float]:
    """Entries of the triangular factor, and multiplications to find it: an estimate before the deed.

    After reordering to a narrow band, of which it is an upper bound; `factorise` takes another order, which
    usually needs less. A tree needs no more entries than it has edges, leaf by leaf.

    Reference: A. George and J. Liu, Computer Solution of Large Sparse Positive Definite Systems (1981),
    section 4.3.

    Args:
        matrix: (n, n) with a symmetric and connected pattern, n at least 2.
    """
    degrees = np.diff(matrix.indptr) - (matrix.diagonal() != 0)
    if degrees.sum() == 2 * (degrees.size - 1):
        return 2.0 * degrees.size, float((degrees.astype(np.float64) ** 2).sum())
    order = reverse_cuthill_mckee(matrix, symmetric_mode=True)
    place = np.empty(order.size, dtype=np.int64)
    place[order] = np.arange(order.size)
    first = np.minimum.reduceat(place[matrix.indices], matrix.indptr[:-1])
    width = (place - np.minimum(first, place) + 1).astype(np.float64)
    return float(width.sum()), float((width**2).sum())
