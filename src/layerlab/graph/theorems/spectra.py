"""Eigenvalues for the claims: all of them of small matrices, the ends of large ones, and what float64 can tell.

A computed eigenvalue of a symmetric n × n matrix A is off by at most a modest multiple of ε · ‖A‖; `tolerance` takes
2 n ε ‖A‖, which also covers the rounding of the entries of A. Two facts then make a multiplicity decidable:

- a computed value farther than that from 0 (or 2) is not 0 (or 2), for certain;
- of a graph without negative weights, with smallest weight w, an eigenvalue of the normalised Laplacian that is not 0
  (or 2) keeps a distance of at least w / (2 n vol) from it (`resolution`), n and vol being the nodes and the sum of
  degrees of its component. Where that is above twice the tolerance, a value within the tolerance *is* 0 (or 2).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from numpy.typing import NDArray

from layerlab.graph.components import Components
from layerlab.graph.lanczos import End, extreme_eigenvalues
from layerlab.graph.structure import Graph

# Above this many nodes Lanczos finds the ends: dense solvers take time n^3 and memory n^2.
DENSE_UP_TO = 1000
# Of Lanczos: the residual relative to the norm, and the most steps (of one sparse product each).
_RESIDUAL, _STEPS = 1e-11, 4000

Vector = NDArray[np.float64]
Project = Callable[[Vector], Vector]


def tolerance(nodes: int, norm: float) -> float:
    """2 n ε ‖A‖: how far a computed eigenvalue may be from the exact one."""
    return 2.0 * nodes * 2.0**-52 * norm


def resolution(graph: Graph, components: Components) -> float:
    """The least distance from 0 and from 2 of the normalised Laplacian's other eigenvalues: w / (2 n vol).

    Proof for 0: let y be orthogonal to the degrees d, with max |y| = 1 at v. Some u has the opposite sign; along a
    path of at most n − 1 edges from v to u the differences of y add up to at least 1, so by Cauchy–Schwarz
    Σ w_e (y_u − y_v)² ≥ w / (n − 1), while Σ d y² ≤ vol. For 2, take (y_u + y_v) instead of the difference and, in
    place of the path, a closed walk of odd length from v: at most 2 n steps that use no edge more than twice.
    """
    weights = np.ones(graph.indices.size) if graph.weights is None else graph.weights
    positive = weights[weights > 0]
    if not positive.size:
        # Every eigenvalue is 0.
        return 1.0
    volume = np.bincount(components.labels, weights=graph.degrees(), minlength=components.count)
    return float(positive.min() / (2.0 * (components.sizes * volume).max()))


@dataclass(frozen=True)
class Unconverged:
    """Lanczos did not reach its residual: a reason for unmet hypotheses, not a number."""

    residual: float
    steps: int

    def __str__(self) -> str:
        return (
            f"Lanczos did not converge within {self.steps:,} steps (residual {self.residual:.1e}):"
            " nothing is known of this end of the spectrum"
        )


@dataclass(frozen=True, eq=False)
class Extreme:
    """An eigenvalue at an end of the spectrum: value, unit vector and residual ‖A v − value v‖."""

    value: float
    vector: Vector
    residual: float


def ends(
    matrix: sp.csr_array,
    wanted: tuple[End, ...],
    generator: np.random.Generator,
    known: Project | None = None,
) -> dict[End, Extreme] | Unconverged:
    """The ends of the spectrum of a symmetric matrix, on the complement of known eigenvectors.

    ``known`` is the orthogonal projection on them, which must leave something over.

    LAPACK up to `DENSE_UP_TO` rows, Lanczos above.
    """
    rows, norm = matrix.shape[0], row_norm(matrix)

    def off(x: Vector) -> Vector:
        return x if known is None else x - known(x)

    if rows <= DENSE_UP_TO:
        dense = (
            matrix.toarray()
            if known is None
            else _set_apart(matrix, known, off(generator.standard_normal(rows)))
        )
        # All of them: LAPACK's search for a few eigenvalues can come back empty where many are equal (on a star, say).
        values, vectors = scipy.linalg.eigh((dense + dense.T) / 2, driver="evd")
        places = {"lowest": 0, "highest": rows - 1}
        return {end: _extreme(dense, values[places[end]], vectors[:, places[end]]) for end in wanted}
    ritz = extreme_eigenvalues(
        *(lambda x: np.asarray(matrix @ x), off, rows, wanted),
        tolerance=_RESIDUAL,
        max_steps=_STEPS,
        generator=generator,
    )
    for pair in ritz.values():
        # Some leeway above the aim: the aim is relative to the Ritz values, this to the norm.
        if not pair.residual <= 10 * _RESIDUAL * norm:
            return Unconverged(pair.residual, pair.steps)
    return {end: Extreme(pair.value, pair.vector, pair.residual) for end, pair in ritz.items()}


def _set_apart(matrix: sp.csr_array, known: Project, other: Vector) -> NDArray[np.float64]:
    """The matrix with its known vectors at an eigenvalue between the ends: the Rayleigh quotient of ``other``."""
    middle = float(other @ (matrix @ other) / (other @ other))
    inside = np.stack([known(unit) for unit in np.eye(matrix.shape[0])])
    apart: NDArray[np.float64] = matrix @ (np.eye(len(inside)) - inside) + middle * inside
    return apart


def _extreme(dense: NDArray[np.float64], value: np.float64, vector: Vector) -> Extreme:
    return Extreme(float(value), vector, float(np.linalg.norm(dense @ vector - value * vector)))


def row_norm(matrix: sp.csr_array) -> float:
    """The largest sum of magnitudes of a row: of a symmetric matrix a bound on every eigenvalue's magnitude."""
    return float(np.abs(matrix).sum(axis=1).max()) if matrix.nnz else 0.0


def multiplicity(
    matrix: sp.csr_array, at: float, end: End, span: Span, norm: float, generator: np.random.Generator
) -> tuple[int, float] | Unconverged:
    """How often ``at`` is an eigenvalue of a symmetric matrix of which it is an end, and the threshold used.

    Up to `DENSE_UP_TO` rows: how many of all computed eigenvalues lie within `tolerance` of it. Above: how many vectors
    of ``span`` are eigenvectors to it, and one more ("at least") if the end of the spectrum on their complement
    lies within the threshold. ``norm`` is the size of the numbers of which the matrix was made.
    """
    rows = matrix.shape[0]
    threshold = tolerance(rows, norm)
    if rows <= DENSE_UP_TO:
        values = scipy.linalg.eigvalsh(matrix.toarray())
        return int(np.count_nonzero(np.abs(values - at) <= threshold)), threshold
    held = span.eigenvectors(matrix, at, threshold)
    if held.dimension == rows:
        return rows, threshold
    found = ends(matrix, (end,), generator, held.project)
    if isinstance(found, Unconverged):
        return found
    threshold += found[end].residual
    return held.dimension + int(abs(found[end].value - at) <= threshold), threshold


class Span:
    """Orthonormal vectors, at most one of them not 0 on each component: u, cut into components.

    >>> from layerlab.graph.components import components
    >>> graph = Graph.from_edges([0], [1], num_nodes=3)
    >>> Span(components(graph).labels, np.ones(3)).project(np.array([2.0, 4.0, 5.0])).round(6).tolist()
    [3.0, 3.0, 5.0]
    """

    def __init__(self, labels: NDArray[np.int64], values: Vector) -> None:
        self.labels = labels
        squares = np.bincount(labels, weights=values * values)
        norm = np.sqrt(squares)[labels]
        self.values = np.divide(values, norm, out=np.zeros_like(values), where=norm > 0)
        self.present = squares > 0

    @property
    def dimension(self) -> int:
        """How many vectors there are."""
        return int(np.count_nonzero(self.present))

    def project(self, x: Vector) -> Vector:
        """The orthogonal projection of x (n,) on the span."""
        return np.asarray(self.values * np.bincount(self.labels, weights=self.values * x)[self.labels])

    def eigenvectors(self, matrix: sp.csr_array, eigenvalue: float, threshold: float) -> Span:
        """Those of the vectors that are eigenvectors to that eigenvalue, up to a residual of ``threshold``."""
        residuals = matrix @ self.values - eigenvalue * self.values
        sizes = np.sqrt(np.bincount(self.labels, weights=residuals * residuals))
        return Span(self.labels, np.where((sizes <= threshold)[self.labels], self.values, 0.0))
