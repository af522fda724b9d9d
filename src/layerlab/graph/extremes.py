"""The ends of the spectrum of a propagation matrix, component by component."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse as sp
import scipy.sparse.linalg
from numpy.typing import NDArray
from scipy.sparse.csgraph import reverse_cuthill_mckee

from layerlab.graph.components import Components
from layerlab.graph.lanczos import End, Ritz, Vector, extreme_eigenvalues, measure

# Components of up to this many nodes are solved densely, many at once, in graphs of any size.
_BATCHED_UP_TO = 256
# Numbers in one batch of dense blocks: 64 MiB.
_BATCH = 8_000_000
# A factorisation is tried if a bound on its entries, known in advance, is at most this.
_ENVELOPE = 20_000_000
# I ± P is shifted by this before it is factorised: positive definite, at a condition number of 2e7.
_SHIFT = 1e-7
# Steps before a factorisation is tried; and the work, in multiply-adds, that Lanczos may do in all.
_STEPS, _WORK = 300, 6e9

Watch = Callable[[float, str], None]


@dataclass(frozen=True)
class Eigenvalue:
    """An eigenvalue of a symmetric matrix A, with what is known of its error.

    Attributes:
        value: the eigenvalue.
        residual: ‖Av − value·v‖ for the unit vector v: value ± residual holds an eigenvalue of A. Of an end of
            the spectrum that has not converged in every component, the largest residual.
        converged: whether the residual reached the tolerance, in every component.
        margin: with probability 1 − 1e-6 over the random start of Lanczos' method, the sought end of the
            spectrum lies no farther out than this from ``value``; 0 where every eigenvalue was computed.
        vector: v, (n) float64.
    """

    value: float
    residual: float
    converged: bool = True
    margin: float = 0.0
    vector: NDArray[np.float64] | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, eq=False)
class Extremes:
    """Ends of the spectrum of P without one eigenvalue 1 for each component.

    Attributes:
        top: the largest eigenvalue that remains; None when none does. Its vector has length n.
        bottom: the smallest.
        ones: how many eigenvalues of P are numerically 1, those for each component included.
        minus_ones: how many are numerically −1.
        iterative: whether Lanczos was used on some component.
    """

    top: Eigenvalue | None
    bottom: Eigenvalue | None
    ones: int
    minus_ones: int
    iterative: bool


def extremes(
    matrix: sp.csr_array,
    known: Vector,
    components: Components,
    bipartite: NDArray[np.bool_],
    *,
    dense_up_to: int,
    tolerance: float,
    generator: np.random.Generator,
    watch: Watch,
) -> Extremes:
    """Ends of the spectrum of P = ``matrix`` without one eigenvalue 1 for each component.

    In each component the vector D^(1/2) 1 has eigenvalue 1 and is taken out. Small components are solved
    densely, those of one size together; the others by Lanczos, then where that is slow and a factorisation
    cheap, by Lanczos on (I ∓ P)⁻¹. A bipartite component has the eigenvalue −1 with a vector that is known.

    Args:
        matrix: (n, n), symmetric, weights not negative.
        known: (n), D^(1/2) 1.
        components: of the graph.
        bipartite: (count) those whose P is bipartite, with an edge.
        dense_up_to: graphs of up to that many nodes are solved densely throughout.
        tolerance: the residual at which an eigenvalue has converged.
        generator: draws Lanczos' starts.
        watch: told the fraction done and what goes on.
    """
    order, starts = _by_size(components)
    matrix = sp.csr_array(matrix)
    matrix.eliminate_zeros()
    if components.count > 1:
        matrix = matrix[order][:, order]
    known = known[order]
    sizes = np.diff(starts)
    which = components.labels[order][starts[:-1]]
    limit = max(dense_up_to, _BATCHED_UP_TO) if matrix.shape[0] <= dense_up_to else _BATCHED_UP_TO
    found = _Collected(matrix.shape[0])

    lone = int(np.searchsorted(sizes, 2))
    found.ones += int(np.count_nonzero(np.abs(matrix.diagonal()[: starts[lone]] - 1) <= _rounding(1)))
    for begin, count, size in _batches(sizes, starts, lone, limit):
        blocks = _blocks(matrix, begin, count, size)
        found.dense(begin, size, np.linalg.eigvalsh(blocks))

    large = np.flatnonzero(sizes > limit)
    for done, index in enumerate(large):
        begin, end = int(starts[index]), int(starts[index + 1])

        def inner(fraction: float, text: str, done: int = done) -> None:
            watch((done + fraction) / large.size, text)

        block = _rows(matrix, begin, end)
        trivial = known[begin:end] / np.linalg.norm(known[begin:end])
        colours = components.colours[order[begin:end]] if bipartite[which[index]] else None
        found.large(
            begin, block, trivial, _large(block, trivial, colours, tolerance, generator, inner), tolerance
        )
    return found.finish(matrix, order)


def _by_size(components: Components) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The nodes sorted by the size of their component, then by component; and where each component begins."""
    order = np.lexsort((components.labels, components.sizes[components.labels]))
    starts = np.concatenate([[0], np.cumsum(np.sort(components.sizes))])
    return order, starts.astype(np.int64)


def _rounding(size: int) -> float:
    """By how much a computed eigenvalue of a symmetric matrix of norm 1 may be off."""
    return 4.0 * size * float(np.finfo(np.float64).eps)


def _batches(
    sizes: NDArray[np.int64], starts: NDArray[np.int64], lone: int, limit: int
) -> Iterator[tuple[int, int, int]]:
    """(first row, number of components, their size) of each batch of equal components of 2 … limit nodes."""
    for size in np.unique(sizes[lone:]).tolist():
        if size > limit:
            return
        first, last = np.searchsorted(sizes, [size, size + 1]).tolist()
        step = max(1, _BATCH // size**2)
        for index in range(first, last, step):
            yield int(starts[index]), min(step, last - index), size


def _rows(matrix: sp.csr_array, begin: int, end: int) -> sp.csr_array:
    """The diagonal block of the rows begin … end−1, which have entries nowhere else."""
    entries = slice(matrix.indptr[begin], matrix.indptr[end])
    parts = (matrix.data[entries], matrix.indices[entries] - begin, matrix.indptr[begin : end + 1])
    return sp.csr_array((parts[0], parts[1], parts[2] - parts[2][0]), shape=(end - begin, end - begin))


def _blocks(matrix: sp.csr_array, begin: int, count: int, size: int) -> NDArray[np.float64]:
    """(count, size, size): the dense blocks of ``count`` components of equal size from row ``begin`` on."""
    part = _rows(matrix, begin, begin + count * size)
    row = np.repeat(np.arange(count * size), np.diff(part.indptr))
    blocks = np.zeros((count, size, size))
    blocks[row // size, row % size, part.indices % size] = part.data
    return blocks


@dataclass(frozen=True, eq=False)
class _Candidate:
    """An end of one component: ``vector`` is None where it is to be found from the dense block."""

    value: float
    begin: int
    size: int
    residual: float = 0.0
    vector: Vector | None = None
    converged: bool = True
    distance: float = 0.0


class _Collected:
    """The ends over all components so far."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.ends: dict[End, list[_Candidate]] = {"highest": [], "lowest": []}
        self.ones = self.minus_ones = 0
        self.iterative = False

    def dense(self, begin: int, size: int, values: NDArray[np.floating[Any]]) -> None:
        """All eigenvalues (count, size), ascending, of components of equal size."""
        top, bottom = int(np.argmax(values[:, -2])), int(np.argmin(values[:, 0]))
        self.ends["highest"].append(_Candidate(float(values[top, -2]), begin + top * size, size))
        self.ends["lowest"].append(_Candidate(float(values[bottom, 0]), begin + bottom * size, size))
        self.ones += int(np.count_nonzero(values >= 1 - _rounding(size)))
        self.minus_ones += int(np.count_nonzero(values <= -1 + _rounding(size)))

    def large(
        self,
        begin: int,
        block: sp.csr_array,
        trivial: Vector,
        ends: dict[End, tuple[Ritz, float]],
        tolerance: float,
    ) -> None:
        """The two ends of one component, each with the distance to which it may be beaten."""
        self.iterative = True
        size = trivial.size
        slack = _rounding(size)
        self.ones += int(np.linalg.norm(block @ trivial - trivial) <= slack)
        self.ones += int(ends["highest"][0].value >= 1 - slack)
        self.minus_ones += int(ends["lowest"][0].value <= -1 + slack)
        for end, (ritz, distance) in ends.items():
            self.ends[end].append(
                _Candidate(
                    ritz.value, begin, size, ritz.residual, ritz.vector, ritz.residual <= tolerance, distance
                )
            )

    def finish(self, matrix: sp.csr_array, order: NDArray[np.int64]) -> Extremes:
        """The ends over all components, their vectors on the nodes in their own order."""
        top = self._best(matrix, order, "highest", 1.0)
        bottom = self._best(matrix, order, "lowest", -1.0)
        return Extremes(top, bottom, self.ones, self.minus_ones, self.iterative)

    def _best(
        self, matrix: sp.csr_array, order: NDArray[np.int64], end: End, sign: float
    ) -> Eigenvalue | None:
        candidates = self.ends[end]
        if not candidates:
            return None
        best = max(candidates, key=lambda found: sign * found.value)
        value, residual, local = best.value, best.residual, best.vector
        if local is None:
            block = _blocks(matrix, best.begin, 1, best.size)[0]
            index = best.size - 2 if end == "highest" else 0
            _, vectors = scipy.linalg.eigh(block, subset_by_index=[index, index])
            value, residual, local = measure(lambda x: block @ x, vectors[:, 0])
        vector = np.zeros(self.rows)
        vector[order[best.begin : best.begin + best.size]] = local
        # Another component whose end has not been found may hold the true one.
        residual = max([residual, *(found.residual for found in candidates if not found.converged)])
        farthest = max(sign * found.value + found.distance for found in candidates)
        return Eigenvalue(
            value=value,
            residual=residual,
            converged=all(found.converged for found in candidates),
            margin=max(0.0, min(farthest, 1.0) - sign * value),
            vector=vector,
        )


def _large(
    block: sp.csr_array,
    trivial: Vector,
    colours: NDArray[np.int8] | None,
    tolerance: float,
    generator: np.random.Generator,
    watch: Watch,
) -> dict[End, tuple[Ritz, float]]:
    """Both ends of one component, each with how much farther out an eigenvalue may lie (`Ritz.reach`)."""

    def apply(x: Vector) -> Vector:
        return block @ x

    def project(x: Vector) -> Vector:
        x -= (trivial @ x) * trivial
        return x

    def report(steps: int, residual: float) -> None:
        decades = math.log(max(residual, tolerance)) / math.log(tolerance)
        watch(min(1.0, max(decades, 0.0)), f"Lanczos step {steps}, residual {residual:.1e}")

    found: dict[End, tuple[Ritz, float]] = {}
    ends: list[End] = ["highest"]
    if colours is None:
        ends.append("lowest")
    else:
        value, residual, vector = measure(apply, trivial * (1.0 - 2.0 * colours))
        found["lowest"] = Ritz(value, residual, vector, 0, 0.0), 0.0
    cheap = _envelope(block) <= _ENVELOPE
    limit = _STEPS if cheap else int(min(5000, max(_STEPS, _WORK / (block.nnz + 10 * trivial.size))))
    ritz = extreme_eigenvalues(
        apply,
        project,
        trivial.size,
        ends,
        tolerance=tolerance / 4,
        max_steps=limit,
        generator=generator,
        watch=report,
    )
    for end, pair in ritz.items():
        found[end] = pair, 2.0 * pair.reach
        if cheap and pair.residual > tolerance:
            better, distance = _by_factorisation(block, project, end, tolerance, generator, report)
            if better.residual < pair.residual:
                found[end] = better, distance
    return found


def _by_factorisation(
    block: sp.csr_array,
    project: Callable[[Vector], Vector],
    end: End,
    tolerance: float,
    generator: np.random.Generator,
    report: Callable[[int, float], None],
) -> tuple[Ritz, float]:
    """One end of P from the largest eigenvalue of (I ∓ P + shift)⁻¹, and the distance of its reach."""
    sign = 1.0 if end == "highest" else -1.0
    shifted = sp.csc_array(sp.diags_array(np.full(block.shape[0], 1.0 + _SHIFT)) - sign * block)
    factors = scipy.sparse.linalg.splu(
        shifted, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
    )
    inverse = extreme_eigenvalues(
        factors.solve,
        project,
        block.shape[0],
        ["highest"],
        tolerance=tolerance / 8,
        max_steps=_STEPS,
        generator=generator,
        watch=report,
    )["highest"]
    value, residual, vector = measure(lambda x: block @ x, inverse.vector)
    return Ritz(value, residual, vector, inverse.steps, inverse.reach), inverse.reach / inverse.value


def _envelope(block: sp.csr_array) -> int:
    """Entries of a triangular factor of the matrix, reordered to a narrow band: an upper bound on them.

    Reference: A. George and J. Liu, Computer Solution of Large Sparse Positive Definite Systems (1981),
    section 4.3.
    """
    order = reverse_cuthill_mckee(block, symmetric_mode=True)
    place = np.empty(order.size, dtype=np.int64)
    place[order] = np.arange(order.size)
    row = np.repeat(np.arange(order.size), np.diff(block.indptr))
    reaches = place.copy()
    np.minimum.at(reaches, row, place[block.indices])
    return int((place - reaches).sum()) + order.size
