"""The ends of the spectrum of a propagation matrix, component by component."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from numpy.typing import NDArray

from layerlab.graph.components import Components
from layerlab.graph.ends import Found, Watch, component_ends
from layerlab.graph.lanczos import End, Vector, measure

# Components of up to this many nodes are solved densely, many at once, in graphs of any size.
_BATCHED_UP_TO = 256
# Numbers in one batch of dense blocks: 64 MiB.
_BATCH = 8_000_000


@dataclass(frozen=True)
class Eigenvalue:
    """An eigenvalue of a symmetric matrix A, with what is known of its error.

    Attributes:
        value: the eigenvalue.
        residual: ‖Av − value·v‖ for the unit vector v: value ± residual holds an eigenvalue of A. Of an end of
            the spectrum that has not converged in every component, the largest residual.
        converged: whether the residual reached the tolerance, in every component.
        margin: the sought end of the spectrum lies no farther out than this from ``value``: another
            eigenvalue may have been missed by so much. 0 where every eigenvalue was computed.
        proven: whether the margin is certain (all eigenvalues computed, or counted by Sylvester's law), or
            holds with probability 1 − 1e-6 over the random start of Lanczos' method.
        vector: v, (n) float64.
    """

    value: float
    residual: float
    converged: bool = True
    margin: float = 0.0
    proven: bool = True
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
    densely, those of one size together; the others by `component_ends`.

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
    if not matrix.data.all():
        # In a copy: the arrays may be those of the graph.
        matrix = matrix.copy()
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
            begin,
            block,
            trivial,
            component_ends(block, trivial, colours, tolerance=tolerance, generator=generator, watch=inner),
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
    """An end of one component; ``found`` is None where it is still to be taken from the dense block."""

    value: float
    begin: int
    size: int
    found: Found | None = None


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

    def large(self, begin: int, block: sp.csr_array, trivial: Vector, ends: dict[End, Found]) -> None:
        """The two ends of one component."""
        self.iterative = True
        slack = _rounding(trivial.size)
        self.ones += int(np.linalg.norm(block @ trivial - trivial) <= slack)
        self.ones += int(ends["highest"].value >= 1 - slack)
        self.minus_ones += int(ends["lowest"].value <= -1 + slack)
        for end, found in ends.items():
            self.ends[end].append(_Candidate(found.value, begin, trivial.size, found))

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
        best = max(candidates, key=lambda candidate: sign * candidate.value)
        value, local = best.value, None if best.found is None else best.found.vector
        residual = 0.0 if best.found is None else best.found.residual
        if local is None:
            local = _dense_vector(_blocks(matrix, best.begin, 1, best.size)[0], end, value)
            value, residual, local = measure(_rows(matrix, best.begin, best.begin + best.size), local)
        vector = np.zeros(self.rows)
        vector[order[best.begin : best.begin + best.size]] = local
        iterated = [candidate.found for candidate in candidates if candidate.found is not None]
        # Another component whose end has not been found may hold the true one.
        residual = max([residual, *(found.residual for found in iterated if not found.converged)])
        margin = max([0.0, *(sign * found.value + found.margin - sign * value for found in iterated)])
        return Eigenvalue(
            value=value,
            residual=residual,
            converged=all(found.converged for found in iterated),
            margin=margin,
            proven=all(
                found.proven or sign * found.value + found.margin <= sign * value for found in iterated
            ),
            vector=vector,
        )


def _dense_vector(block: NDArray[np.float64], end: End, value: float) -> Vector:
    """The eigenvector of an end of a dense block: by LAPACK, or where that is long by inverse iteration."""
    size = block.shape[0]
    if size <= _BATCHED_UP_TO:
        # All of them: LAPACK's solver for a chosen one may return none where eigenvalues repeat.
        return np.linalg.eigh(block)[1][:, -2 if end == "highest" else 0]
    # Not the eigenvalue itself: the matrix must not be singular.
    shifted = block - (value + _rounding(size)) * np.eye(size)
    factors = scipy.linalg.lu_factor(shifted, overwrite_a=True)
    vector = np.random.default_rng(0).standard_normal((size,))
    for _ in range(3):
        vector = np.asarray(scipy.linalg.lu_solve(factors, vector))
        vector /= np.linalg.norm(vector)
    return vector
