"""Where on the spectrum of P some vectors lie, by Lanczos' method for many vectors at once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from layerlab.graph.limit import Limit, norm, squares
from layerlab.graph.products import Product, by_rows, inner, room

Floats = NDArray[np.float64]

# Numbers in one block of columns, of which three are held: 1.5 GB.
_BLOCK = 1 << 26
# A next vector so small, of vectors of norm 1 and a matrix of norm 1, is rounding: the Krylov space is complete.
_NOTHING = 1e-12


def blocks(rows: int, columns: int) -> Iterator[slice]:
    """Columns in blocks of bounded size."""
    width = max(1, _BLOCK // max(1, rows))
    for first in range(0, columns, width):
        yield slice(first, min(columns, first + width))


def quadrature(product: Product, limit: Limit, start: Floats, steps: int) -> tuple[Floats, Floats]:
    """Nodes λ and weights w, so that sum w f(λ) = xᵀ f(P) x for each column x and polynomials f of degree < 2 · steps.

    Lanczos' three-term recurrence, all columns of a block advancing together, so that a product with P passes over
    its entries once for all of them. No basis is kept and none is orthogonalised against: rounding lets eigenvalues
    that have converged come back as further nodes, which share the weight of the first, and leaves the sums right to
    rounding. What rounding puts on the limit is taken out at every step.

    References: Golub and Meurant, Matrices, moments and quadrature with applications, 2010, chapters 3 and 4;
    A. Greenbaum, Behavior of slightly perturbed Lanczos and conjugate-gradient recurrences, Linear Algebra and its
    Applications 113, 1989.

    Args:
        product: with P (n, n), symmetric.
        limit: what is taken out at each step; an eigenspace of P.
        start: (n, d), off the limit. Left as it is.
        steps: nodes at most.

    Returns:
        Nodes and weights, (steps, d) each; columns whose Krylov space is complete earlier, and those of zeros, are
        filled up with nodes 0 of weight 0.
    """
    rows, columns = start.shape
    nodes, weights = np.zeros((2, min(steps, rows), columns))
    for chosen in blocks(rows, columns):
        norms, diagonal, off, lengths = _tridiagonal(product, limit, start[:, chosen], len(nodes))
        for column, length in enumerate(lengths, chosen.start):
            if not length:
                continue
            at = column - chosen.start
            values, vectors = scipy.linalg.eigh_tridiagonal(diagonal[:length, at], off[: length - 1, at])
            nodes[:length, column] = values
            weights[:length, column] = norms[at] ** 2 * vectors[0] ** 2
    return nodes, weights


def _tridiagonal(
    product: Product, limit: Limit, start: Floats, steps: int
) -> tuple[Floats, Floats, Floats, NDArray[np.int64]]:
    """Norms of the columns, diagonals and off-diagonals (steps, d) of the T's, and how far each column went."""
    rows, columns = start.shape
    before, basis, image = (room(rows, columns) for _ in range(3))
    before.fill(0.0)
    norms = np.sqrt(squares(start))
    np.multiply(start, _inverse(norms, norms > 0), out=basis)
    diagonal, off = np.zeros((2, steps, columns))
    lengths = np.where(norms > 0, steps, 0)
    beta = np.zeros(columns)
    for step in range(steps):
        product(basis, image)
        alpha = _less(image, before, beta, basis)
        diagonal[step] = alpha
        if step + 1 == steps:
            break
        _less(image, basis, alpha, image)
        limit.remove(image)
        beta = np.sqrt(squares(image))
        lengths[(beta < _NOTHING) & (lengths == steps)] = step + 1
        beta[beta < _NOTHING] = 0.0
        if not beta.any():
            break
        off[step] = beta
        np.multiply(image, _inverse(beta, beta > 0), out=image)
        before, basis, image = basis, image, before
    return norms, diagonal, off, lengths


def _less(x: Floats, other: Floats, factors: Floats, against: Floats) -> Floats:
    """x −= other · factors, column by column, and then the inner products of the columns with ``against``."""

    def part(at: slice) -> Floats:
        x[at] -= other[at] * factors
        return inner(x[at], against[at])

    return by_rows(len(x), part)


def _inverse(numbers: Floats, where: NDArray[np.bool_]) -> Floats:
    return np.divide(1.0, numbers, out=np.zeros_like(numbers), where=where)


def measured(product: Product, limit: Limit, x: Floats, depth: int) -> tuple[Floats, Floats]:
    """Energy and distance of P^K x for K = 0 … depth, by that many products: (depth + 1) each.

    Where x is on the limit but for rounding, zeros.
    """
    energy, square = np.zeros((2, depth + 1))
    rows, columns = x.shape
    for chosen in blocks(rows, columns):
        now = np.ascontiguousarray(x[:, chosen])
        coefficients = limit.coefficients(now)
        spare = [room(*now.shape), room(*now.shape)]
        for k in range(depth + 1):
            following = product(now, spare[k % 2])
            found = _energy_and_square(limit, coefficients, now, following)
            energy[k] += found[0]
            square[k] += found[1]
            now = following
    distance = np.sqrt(square)
    if distance[0] <= 1e-12 * norm(x):
        return np.zeros_like(energy), np.zeros_like(distance)
    return energy, distance


def _energy_and_square(limit: Limit, coefficients: Floats, now: Floats, following: Floats) -> Floats:
    """Of x = ``now`` and Px = ``following``: the energy, and the squared distance to the limit."""

    def part(at: slice) -> Floats:
        # Of x − limit, not of x: I − P takes the limit to 0, and subtracting it first loses no digits.
        rest = now[at] - limit.part(coefficients, at)
        return np.array([(rest * (now[at] - following[at])).sum(), (rest * rest).sum()])

    return by_rows(len(now), part)
