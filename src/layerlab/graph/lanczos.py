"""Extreme eigenvalues of a large symmetric matrix by Lanczos' method, each with its measured residual."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from layerlab.graph.basis import Basis
from layerlab.lab.krylov import reach

Vector: TypeAlias = NDArray[np.float64]
End: TypeAlias = Literal["lowest", "highest"]

# Steps before the first look: fewer would leave `reach` empty-handed.
_LEAST = 60


@dataclass(frozen=True, eq=False)
class Ritz:
    """An approximate eigenpair.

    Attributes:
        value: xᵀAx.
        residual: ‖Ax − value·x‖, measured with the final x: an eigenvalue lies within it.
        vector: x, (n) float64, of norm 1.
        steps: length of the Krylov sequence.
        reach: ε: with probability at least 1 − `layerlab.lab.krylov.FAILURE` the sought end λ of the
            spectrum is at most ε·(λ_max − λ_min) farther out than ``value``; 1 says nothing, 0 that the Krylov space
            is complete.
    """

    value: float
    residual: float
    vector: Vector
    steps: int
    reach: float


def extreme_eigenvalues(
    apply: Callable[[Vector], Vector],
    project: Callable[[Vector], Vector],
    rows: int,
    ends: Iterable[End],
    *,
    tolerance: float,
    max_steps: int,
    generator: np.random.Generator,
    watch: Callable[[int, float], None] = lambda steps, residual: None,
) -> dict[End, Ritz]:
    """The ends of the spectrum of a symmetric matrix A on a subspace that A leaves invariant.

    Three-term recurrence without reorthogonalisation, run twice: once for the tridiagonal T, once more for
    the Ritz vectors. Where there is room for the basis vectors of the first run (`layerlab.graph.basis`), the
    second reads them; others are made again, to the same bits. Lost orthogonality repeats eigenvalues in T that
    have converged, it moves none; each end's vector is taken at the step at which it first converged, before
    its copies appear.

    Reference: B. Parlett, The Symmetric Eigenvalue Problem (1980), chapter 13.

    Args:
        apply: x ↦ Ax, (rows) float64.
        project: the orthogonal projection on the subspace; may overwrite its argument.
        rows: n, the dimension of the subspace being at least 1.
        ends: which ends.
        tolerance: the residual, relative to max |T|, at which an end has converged.
        max_steps: of the recurrence; an end that has not converged by then is given with its residual.
        generator: draws the start.
        watch: called now and then with the steps so far and the largest relative residual.

    Returns:
        A `Ritz` for each end. Its residual is measured with A itself, not with the projection.

    >>> matrix = np.diag(np.arange(50.0))
    >>> found = extreme_eigenvalues(lambda x: matrix @ x, lambda x: x, 50, ["highest"],
    ...                             tolerance=1e-10, max_steps=200, generator=np.random.default_rng(0))
    >>> round(found["highest"].value, 8), found["highest"].residual < 1e-8
    (49.0, True)
    """
    start = project(generator.standard_normal(rows))
    start /= np.linalg.norm(start)
    diagonal: list[float] = []
    off: list[float] = []
    weights: dict[End, Vector] = {}
    pending = list(ends)
    wanted = tuple(pending)
    complete: set[int] = set()
    next_look = _LEAST
    kept = Basis(rows, max_steps)
    for steps, (vector, alpha, beta) in enumerate(_recurrence(apply, project, start), 1):
        kept.append(vector)
        diagonal.append(alpha)
        off.append(beta)
        scale = max(map(abs, diagonal))
        # An exact breakdown: the Krylov space is invariant, and a random start has a part in every eigenspace.
        if exhausted := beta <= 1e-14 * scale:
            complete.add(steps)
        ended = exhausted or steps >= max_steps
        if not ended and steps < next_look:
            continue
        next_look = steps + max(10, steps // 10)
        worst = 0.0
        for end in tuple(pending):
            ritz = _end_of(np.array(diagonal), np.array(off[:-1]), end)
            relative = beta * abs(ritz[-1]) / scale if scale else 0.0
            worst = max(worst, relative)
            if relative <= tolerance or ended:
                weights[end] = ritz
                pending.remove(end)
        watch(steps, worst)
        if not pending:
            break

    vectors: dict[End, Vector] = {end: np.zeros(rows) for end in wanted}
    longest = max(w.size for w in weights.values())
    for step, basis in zip(range(longest), _again(apply, project, start, kept, off), strict=False):
        for end, vector in vectors.items():
            if step < weights[end].size:
                vector += weights[end][step] * basis
    del kept
    found = {}
    for end in wanted:
        size = weights[end].size
        vector = project(vectors[end])
        vector /= np.linalg.norm(vector)
        image = apply(vector)
        value = float(vector @ image)
        residual = float(np.linalg.norm(image - value * vector))
        found[end] = Ritz(value, residual, vector, size, 0.0 if size in complete else reach(rows, size))
    return found


def measure(matrix: Any, vector: Vector) -> tuple[float, float, Vector]:
    """The Rayleigh quotient of ``vector``, its residual, and the vector at norm 1."""
    vector = vector / np.linalg.norm(vector)
    image = matrix @ vector
    value = float(vector @ image)
    return value, float(np.linalg.norm(image - value * vector)), vector


def _again(
    apply: Callable[[Vector], Vector],
    project: Callable[[Vector], Vector],
    start: Vector,
    kept: Basis,
    off: list[float],
) -> Iterator[Vector]:
    """The basis vectors of `_recurrence` once more: those that were kept, and then what follows, to the same bits."""
    before, basis = np.zeros_like(start), start
    for index, vector in enumerate(kept):
        before, basis = basis if index else before, vector
        yield basis
    beta = off[len(kept) - 2] if len(kept) > 1 else 0.0
    following = _recurrence(apply, project, basis, before, beta)
    if len(kept):
        next(following)
    for vector, _, _ in following:
        yield vector


def _recurrence(
    apply: Callable[[Vector], Vector],
    project: Callable[[Vector], Vector],
    basis: Vector,
    before: Vector | None = None,
    beta: float = 0.0,
) -> Iterator[tuple[Vector, float, float]]:
    """Basis vectors q_j with α_j and β_j of T, without end; the same bits at every run.

    Begun at ``basis``, or in the middle with the vector ``before`` it and the β between the two.
    """
    before = np.zeros_like(basis) if before is None else before
    while True:
        image = apply(basis) - beta * before
        alpha = float(basis @ image)
        # Last of all: what rounding leaves outside the subspace would grow from step to step, as a part of eigenvalue
        # 0, wherever 0 lies beyond an end of the spectrum on the subspace.
        image = project(image - alpha * basis)
        beta = float(np.linalg.norm(image))
        if beta:
            # Again at norm 1: if little is left, the image was rounding and nothing else, as where A is 0.
            image = project(image / beta)
            kept = float(np.linalg.norm(image))
            beta = beta * kept if kept > 0.5 else 0.0
            image /= kept or 1.0
        yield basis, alpha, beta
        before, basis = basis, image


def _end_of(diagonal: Vector, off: Vector, end: End) -> Vector:
    """The unit eigenvector of T at one end."""
    index = 0 if end == "lowest" else diagonal.size - 1
    _, vectors = scipy.linalg.eigh_tridiagonal(diagonal, off, select="i", select_range=(index, index))
    return vectors[:, 0]
