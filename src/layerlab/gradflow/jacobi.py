"""Singular values of a product of matrices in log space, however far apart they are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from layerlab.errors import UserError

Matrix = NDArray[np.float64]

_SWEEPS = 40


def log_singular_values(factors: Sequence[Matrix], *, seed: int = 0) -> NDArray[np.float64]:
    """log σ_i of the product A_L ⋯ A_1, descending, for matrices at hand.

    The product is never formed. With a random orthogonal Q_0, A_l Q_(l−1) = Q_l R_l turns it into triangles (Benettin),
    which put the values in order of size; the same for the transposed triangles; their product is kept as rows of
    norm 1 with logarithms of their scales; and Jacobi's rotations, with the ratio of two scales entering only where
    it does not vanish, make the rows orthogonal. So the smallest of values e^(−1000) : 1 apart is as accurate as the
    largest, as far as each factor is well-conditioned: a relative perturbation of A_l by eps moves σ_min by up to
    eps·cond(A_l), whatever the condition of the product.

    Reference: G. Benettin et al., Lyapunov characteristic exponents (Meccanica 15, 1980); G. W. Stewart, On graded QR
    decompositions of products of matrices (ETNA 3, 1995); J. Demmel and K. Veselić, Jacobi's method is more accurate
    than QR (SIAM J. Matrix Anal. Appl. 13, 1992).

    Args:
        factors: A_1, …, A_L, in the order of application, (n_l, n_(l−1)) float64.
        seed: of Q_0.

    Returns:
        (min(n_L, n_0)) float64; −∞ for what is zero: below rounding in some factor.

    Raises:
        UserError: no factors, shapes that do not chain, or entries that are not finite.

    >>> log_singular_values([np.diag([1e-3, 0.5])] * 200).round(6).tolist()
    [-138.629436, -1381.551056]
    """
    _check(factors)
    if factors[-1].shape[0] < factors[0].shape[1]:
        factors = [factor.T for factor in reversed(factors)]
    size = factors[0].shape[1]
    if min(min(factor.shape) for factor in factors) < size:
        # Through fewer dimensions than both ends have: the rest of the values are zero.
        return _through_bottleneck(factors, seed)
    start, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((size, size)))
    triangles = _triangles(factors, start)
    triangles = _triangles([triangle.T for triangle in reversed(triangles)], np.eye(size))
    rows, scales = _graded(triangles)
    return np.sort(_rotate(rows, scales))[::-1]


def _check(factors: Sequence[Matrix]) -> None:
    if not factors:
        raise UserError("expected at least one factor, got none")
    for index, factor in enumerate(factors):
        if factor.ndim != 2 or 0 in factor.shape:
            raise UserError(
                f"expected factors as matrices with entries, factor {index} has shape {factor.shape}"
            )
        if index and factor.shape[1] != factors[index - 1].shape[0]:
            raise UserError(
                f"factor {index} of shape {factor.shape} does not multiply one of shape {factors[index - 1].shape}"
            )
        if not np.isfinite(factor).all():
            raise UserError(f"factor {index} has entries that are NaN or Inf")


def _through_bottleneck(factors: Sequence[Matrix], seed: int) -> NDArray[np.float64]:
    """The narrowest width k cuts the product in two: A = B C, with the values of R_B R_Cᵀ, k by k."""
    widths = [factor.shape[0] for factor in factors[:-1]]
    cut = int(np.argmin(widths)) + 1
    size = widths[cut - 1]
    after = _triangles(factors[cut:], np.eye(size))
    before = _triangles([factor.T for factor in reversed(factors[:cut])], np.eye(size))
    found = log_singular_values([*(triangle.T for triangle in reversed(before)), *after], seed=seed)
    zeros = min(factors[-1].shape[0], factors[0].shape[1]) - size
    return np.concatenate([found, np.full(zeros, -np.inf)])


def _triangles(factors: Sequence[Matrix], q: Matrix) -> list[Matrix]:
    """R_1, …, R_L with A_l Q_(l−1) = Q_l R_l."""
    found = []
    for factor in factors:
        q, triangle = np.linalg.qr(factor @ q)
        # A diagonal entry that is all rounding stands for zero: else its logarithm would be taken for a value.
        diagonal = np.diagonal(triangle)
        rounding = 4 * np.finfo(np.float64).eps * np.linalg.norm(triangle)
        np.fill_diagonal(triangle, np.where(np.abs(diagonal) <= rounding, 0.0, diagonal))
        found.append(triangle)
    return found


def _graded(triangles: Sequence[Matrix]) -> tuple[Matrix, NDArray[np.float64]]:
    """Rows T of norm 1 and s with R_L ⋯ R_1 = diag(e^s) T; s is −∞ for a row of zeros."""
    rows, scales = np.eye(triangles[0].shape[0]), np.zeros(triangles[0].shape[0])
    for triangle in triangles:
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.log(np.abs(triangle)) + scales
        top = logs.max(axis=1)
        safe = np.where(np.isfinite(top), top, 0.0)
        rows = (np.sign(triangle) * np.exp(logs - safe[:, None])) @ rows
        norms = np.linalg.norm(rows, axis=1)
        with np.errstate(divide="ignore"):
            scales = safe + np.log(norms)
        rows /= np.where(norms > 0, norms, 1.0)[:, None]
    return rows, scales


def _rotate(rows: Matrix, scales: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotates rows e^a p, e^b q into orthogonal ones, many disjoint pairs at a time, until all are; their scales."""
    alive = np.isfinite(scales)
    gone = int((~alive).sum())
    rows, scales = rows[alive], scales[alive]
    size = rows.shape[0]
    rounds = _rounds(size)
    for _ in range(_SWEEPS):
        worst = 0.0
        for first, second in rounds:
            swap = scales[first] < scales[second]
            i, j = np.where(swap, second, first), np.where(swap, first, second)
            p, q = rows[i], rows[j]
            cosine = np.einsum("kn,kn->k", p, q)
            worst = max(worst, float(np.abs(cosine).max(initial=0.0)))
            ratio = np.exp(scales[j] - scales[i])
            # tan θ = t with t/r = 2c / (1 − r² + √((1 − r²)² + 4r²c²)) for r = e^(b−a), c = p·q.
            gap = 1.0 - ratio**2
            over = gap + np.sqrt(gap**2 + 4.0 * (ratio * cosine) ** 2)
            slope = np.where(over > 0, 2.0 * cosine / np.where(over > 0, over, 1.0), 0.0)
            tangent = slope * ratio
            cos = 1.0 / np.sqrt(1.0 + tangent**2)
            new_p = cos[:, None] * (p + (tangent * ratio)[:, None] * q)
            new_q = cos[:, None] * (q - slope[:, None] * p)
            for index, new in ((i, new_p), (j, new_q)):
                norms = np.linalg.norm(new, axis=1)
                with np.errstate(divide="ignore"):
                    scales[index] += np.log(norms)
                rows[index] = new / np.where(norms > 0, norms, 1.0)[:, None]
        if worst <= 1e-14 * max(size, 10):
            break
    return np.concatenate([scales, np.full(gone, -np.inf)])


def _rounds(size: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """All pairs of 0 … size − 1 in rounds of disjoint ones (a round-robin tournament)."""
    players = list(range(size + size % 2))
    found = []
    for _ in range(len(players) - 1):
        half = len(players) // 2
        pairs = [
            (a, b)
            for a, b in zip(players[:half], players[: half - 1 : -1], strict=True)
            if a < size and b < size
        ]
        found.append(
            (np.array([a for a, _ in pairs], dtype=np.int64), np.array([b for _, b in pairs], np.int64))
        )
        players = [players[0], players[-1], *players[1:-1]]
    return found
