"""The spectral certificate of a graph: the numbers that decide how features spread, each with its error.

``docs/spectrum.md`` says what each number means and what exactly is guaranteed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from layerlab.errors import UserError
from layerlab.graph.components import Components, components
from layerlab.graph.density import Density, density
from layerlab.graph.edges import plural
from layerlab.graph.extremes import Eigenvalue, Extremes, extremes
from layerlab.graph.matrices import laplacian, normalized_laplacian, propagation
from layerlab.graph.structure import Graph

__all__ = [
    "Certificate",
    "Density",
    "Eigenvalue",
    "certificate",
    "density",
    "laplacian",
    "normalized_laplacian",
    "propagation",
]

Progress = Callable[[float, str], None]


@dataclass(frozen=True, eq=False)
class Certificate:
    """What a graph's components and spectrum say about propagation on it.

    L is the normalised Laplacian, P the propagation matrix without self-loops, P̃ the one with them. Values
    are None where they do not exist or are not defined; ``notes`` says why.

    Attributes:
        components: connected components, isolated nodes, 2-colourings.
        zero_multiplicity: eigenvalues of L that are numerically 0; by theory the number of components.
        two_multiplicity: eigenvalues of L that are numerically 2; by theory the bipartite components with an
            edge.
        lambda_2: the second smallest eigenvalue of L, 0 when the graph is disconnected.
        smallest_nonzero: the smallest λ_2 of a component on its own: the slowest component's.
        lambda_max: the largest eigenvalue of L, at most 2; exactly 2 if a component with an edge is bipartite.
        second: the eigenvalue of P of largest magnitude, other than one eigenvalue 1 for each component; with
            its sign, so −1 on a bipartite component.
        second_self_loops: the same of P̃.
        method: "dense" or "lanczos", or "none" when there was nothing to compute.
        notes: hypotheses that fail, and what did not converge, in plain sentences.
    """

    components: Components
    zero_multiplicity: int | None = None
    two_multiplicity: int | None = None
    lambda_2: Eigenvalue | None = None
    smallest_nonzero: Eigenvalue | None = None
    lambda_max: Eigenvalue | None = None
    second: Eigenvalue | None = None
    second_self_loops: Eigenvalue | None = None
    method: Literal["dense", "lanczos", "none"] = "none"
    notes: tuple[str, ...] = ()

    @property
    def gap(self) -> float | None:
        """1 − |second|: the share of the rest that one propagation by P removes at least."""
        return None if self.second is None else 1.0 - abs(self.second.value)

    @property
    def gap_self_loops(self) -> float | None:
        """1 − |second_self_loops|: the same of P̃."""
        return None if self.second_self_loops is None else 1.0 - abs(self.second_self_loops.value)

    @property
    def converged(self) -> bool:
        """Whether every eigenvalue given has converged."""
        return all(value.converged for value in self._eigenvalues().values() if value is not None)

    def _eigenvalues(self) -> dict[str, Eigenvalue | None]:
        return {
            "lambda_2": self.lambda_2,
            "smallest_nonzero": self.smallest_nonzero,
            "lambda_max": self.lambda_max,
            "second": self.second,
            "second_self_loops": self.second_self_loops,
        }

    def to_dict(self) -> dict[str, Any]:
        """For JSON: plain numbers, no vectors."""
        return {
            "components": self.components.to_dict(),
            "zero_multiplicity": self.zero_multiplicity,
            "two_multiplicity": self.two_multiplicity,
            **{name: _plain(value) for name, value in self._eigenvalues().items()},
            "gap": self.gap,
            "gap_self_loops": self.gap_self_loops,
            "method": self.method,
            "converged": self.converged,
            "notes": list(self.notes),
        }


def _plain(found: Eigenvalue | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {name: getattr(found, name) for name in ("value", "residual", "converged", "margin", "proven")}


def certificate(
    graph: Graph,
    *,
    dense_up_to: int = 1500,
    tolerance: float = 1e-8,
    seed: int = 0,
    progress: Progress | None = None,
) -> Certificate:
    """Components and the ends of the spectra of L, P and P̃, each eigenvalue with a residual bound.

    Up to ``dense_up_to`` nodes by LAPACK: every eigenvalue is computed. Above, Lanczos' method component by
    component, with the known eigenvectors D^(1/2) 1 taken out; see ``docs/spectrum.md``.

    Args:
        graph: any graph. A directed one, or one with a negative weight, gets its components and a note, as
            the theory of the spectrum does not hold.
        dense_up_to: nodes.
        tolerance: the residual at which an eigenvalue counts as converged.
        seed: of Lanczos' random starts.
        progress: called with the fraction done and a few words.

    Returns:
        The certificate. What did not converge says so; nothing is raised for it.

    Raises:
        UserError: a tolerance outside (0, 1).

    >>> found = certificate(Graph.from_edges([0, 1], [1, 2], num_nodes=4))
    >>> found.components.count, found.lambda_2.value, found.lambda_max.value, found.second.value
    (2, 0.0, 2.0, -1.0)
    >>> round(found.smallest_nonzero.value, 12), round(found.second_self_loops.value, 12)
    (1.0, 0.5)
    """
    if not 0 < tolerance < 1:
        raise UserError(f"expected a tolerance between 0 and 1, got {tolerance}; 1e-8 is the default")
    tell = _rising(progress)
    tell(0.0, "components")
    parts = components(graph)
    if notes := _obstacles(graph):
        tell(1.0, "done")
        return Certificate(parts, notes=notes)
    matrices = _matrices(graph)
    if matrices is None:
        tell(1.0, "done")
        return Certificate(parts, notes=("weights differ too much in size for float64: no eigenvalue given",))

    generator = np.random.default_rng(seed)
    ends = []
    for step, ((matrix, root), bipartite, name) in enumerate(
        zip(
            matrices,
            (parts.bipartite_with_edge, np.zeros(parts.count, dtype=bool)),
            ("without self-loops", "with self-loops"),
            strict=True,
        )
    ):

        def watch(fraction: float, text: str, step: int = step, name: str = name) -> None:
            tell(0.02 + 0.49 * (step + fraction), f"propagation {name}: {text}")

        watch(0.0, "eigenvalues")
        ends.append(
            extremes(
                matrix,
                root,
                parts,
                bipartite,
                dense_up_to=dense_up_to,
                tolerance=tolerance,
                generator=generator,
                watch=watch,
            )
        )
    found = _gather(graph, matrices[0][0], parts, ends[0], ends[1])
    tell(1.0, "done")
    return found


def _rising(progress: Progress | None) -> Progress:
    """``progress`` with fractions that never fall: an end that is sought anew starts at 0 again."""
    highest = 0.0

    def tell(fraction: float, text: str) -> None:
        nonlocal highest
        highest = max(highest, fraction)
        if progress is not None:
            progress(highest, text)

    return tell


def _obstacles(graph: Graph) -> tuple[str, ...]:
    """Why the theory says nothing about this graph's spectrum."""
    if graph.num_nodes == 0:
        return ("the graph has no node",)
    if graph.directed:
        return (
            "the graph is directed: its matrices are not symmetric and may have complex eigenvalues, so none are"
            " given; components are the weakly connected ones",
        )
    if number := _weights_like(graph, lambda weight: weight < 0):
        notes = [
            f"{plural(number, 'edge')} of negative weight: the Laplacian may have negative eigenvalues and P"
            " eigenvalues beyond ±1, so none are given"
        ]
        if (bad := np.flatnonzero(graph.degrees() < 0)).size:
            notes.append(
                f"the degree of {plural(bad.size, 'node')} is negative (the first is node {bad[0]}):"
                " the normalised Laplacian is not defined"
            )
        return tuple(notes)
    return ()


def _weights_like(graph: Graph, condition: Callable[[NDArray[np.float64]], NDArray[np.bool_]]) -> int:
    """How many edges have such a weight."""
    if graph.weights is None:
        return 0
    weight = graph.edges()[2]
    return 0 if weight is None else int(np.count_nonzero(condition(weight)))


def _matrices(graph: Graph) -> list[tuple[sp.csr_array, NDArray[np.float64]]] | None:
    """P and P̃, each with D^(1/2) 1; None if float64 cannot hold them."""
    found = []
    for self_loops in (False, True):
        degrees = (graph.with_self_loops() if self_loops else graph).degrees()
        smallest = degrees[degrees > 0].min(initial=1.0)
        if not np.isfinite(degrees).all() or smallest < np.finfo(np.float64).tiny:
            return None
        matrix = propagation(graph, self_loops)
        found.append((matrix, np.sqrt(degrees)))
    return found


def _gather(
    graph: Graph, matrix: sp.csr_array, parts: Components, plain: Extremes, looped: Extremes
) -> Certificate:
    """The certificate from the ends of P (``plain``) and P̃ (``looped``)."""
    n = graph.num_nodes
    nothing = int((graph.degrees() == 0).sum())
    slowest = None if plain.top is None else _one_minus(plain.top)
    notes = []
    if parts.bipartite_with_edge.any() or plain.bottom is None:
        vector = _unit(n, 0) if plain.bottom is None else plain.bottom.vector
        value = 0.0 if plain.bottom is None else 2.0
        residual = 0.0 if plain.bottom is None else plain.bottom.residual
        lambda_max = Eigenvalue(value, residual, vector=vector)
    else:
        lambda_max = _one_minus(plain.bottom)
    if n == 1:
        lambda_2 = None
        notes.append("a graph of one node has no second eigenvalue")
    elif parts.count == 1:
        lambda_2 = slowest
    else:
        vector = _null_vector(graph, parts)
        image = np.where(graph.degrees() > 0, vector, 0.0) - matrix @ vector
        lambda_2 = Eigenvalue(0.0, float(np.linalg.norm(image)), vector=vector)
    second = _larger(plain)
    if plain.bottom is not None and parts.bipartite_with_edge.any() and second is not None:
        second = replace(plain.bottom, value=-1.0, converged=True, margin=0.0, proven=True)
    found = Certificate(
        components=parts,
        zero_multiplicity=plain.ones + nothing,
        two_multiplicity=plain.minus_ones,
        lambda_2=lambda_2,
        smallest_nonzero=slowest,
        lambda_max=lambda_max,
        second=second,
        second_self_loops=_larger(looped),
        method="lanczos" if plain.iterative or looped.iterative else "dense",
    )
    return replace(found, notes=(*notes, *_warnings(graph, found)))


def _one_minus(found: Eigenvalue) -> Eigenvalue:
    """The eigenvalue of L from that of P on the same vector."""
    return replace(found, value=1.0 - found.value)


def _larger(ends: Extremes) -> Eigenvalue | None:
    if ends.top is None or ends.bottom is None:
        return None
    best, other = sorted((ends.top, ends.bottom), key=lambda found: -abs(found.value))
    if abs(other.value) + other.margin <= abs(best.value):
        return best
    return replace(
        best,
        residual=best.residual if other.converged else max(best.residual, other.residual),
        converged=best.converged and other.converged,
        margin=max(best.margin, abs(other.value) + other.margin - abs(best.value)),
        proven=best.proven and other.proven,
    )


def _unit(size: int, index: int) -> NDArray[np.float64]:
    vector = np.zeros(size)
    vector[index] = 1.0
    return vector


def _null_vector(graph: Graph, parts: Components) -> NDArray[np.float64]:
    """D^(1/2) 1 on the smallest component, of norm 1; a lone node's is 1."""
    members = parts.labels == int(np.argmin(parts.sizes))
    root = np.where(members, np.sqrt(graph.degrees()), 0.0)
    norm = np.linalg.norm(root)
    return root / norm if norm else members.astype(np.float64)


def _warnings(graph: Graph, found: Certificate) -> list[str]:
    notes = []
    parts = found.components
    if zero := _weights_like(graph, lambda weight: weight == 0):
        notes.append(f"{plural(zero, 'edge')} of weight 0: no matrix sees such an edge, so it joins nothing")
    if parts.isolated.size:
        notes.append(
            f"{plural(parts.isolated.size, 'isolated node')}: D^(-1/2) is taken as 0 there, which adds an"
            " eigenvalue 0 of L for each"
        )
    if found.zero_multiplicity is not None and found.zero_multiplicity > parts.count:
        notes.append(
            f"{found.zero_multiplicity} eigenvalues of L are numerically 0, but the graph has"
            f" {plural(parts.count, 'component')}: some edge is too weak for float64 to tell"
        )
    for name, value in found._eigenvalues().items():
        if value is not None and not value.converged:
            notes.append(f"{name}: not converged, residual {value.residual:.1e}")
    return notes
