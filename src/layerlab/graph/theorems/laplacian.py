"""The claims about the Laplacian L = D − A and the end 0 of its spectrum (homework 4, section 3.1)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.sparse as sp

from layerlab.claims import Claim, Falsifier, Measurement, Slack, exact, rounding
from layerlab.graph.components import Components, components
from layerlab.graph.matrices import laplacian, normalized_laplacian
from layerlab.graph.structure import Graph
from layerlab.graph.theorems import spectra, subjects

Matrix = Callable[[Graph], sp.csr_array]

_UNDIRECTED = "the graph is undirected and has at least one node"
_ORDINARY = "weights lie between 1e-140 and 1e140 in magnitude"
_NOT_NEGATIVE = "weights are not negative"


def _laplacian(graph: Graph) -> sp.csr_array:
    """D − A of the graph without its self-loops: they cancel, but D − A would keep the rounding of a heavy one."""
    if not graph.num_self_loops:
        return laplacian(graph)
    source, target, weight = graph.edges()
    kept = source != target
    weight = None if weight is None else weight[kept]
    return laplacian(Graph.from_edges(source[kept], target[kept], num_nodes=graph.num_nodes, weight=weight))


# ------------------------------------------------------------------------------------------- quadratic-form


def _one_direction(graph: Graph) -> sp.csr_array:
    """Broken: A holds every edge in one direction only, as that of a directed graph does."""
    source, target, weight = graph.edges()
    return laplacian(
        Graph.from_edges(source, target, num_nodes=graph.num_nodes, weight=weight, directed=True)
    )


def _signless(graph: Graph) -> sp.csr_array:
    """Broken: D + A."""
    return sp.csr_array(2 * sp.diags_array(graph.degrees()) - laplacian(graph))


def _measure_quadratic_form(
    graph: Graph, generator: np.random.Generator, *, matrix: Matrix = _laplacian
) -> Measurement:
    """Largest relative difference of the two sides over four random x."""
    if reason := subjects.unmet(graph, negative=True):
        return Measurement.unmet_because(reason)
    built = matrix(graph)
    x = generator.standard_normal((graph.num_nodes, 4))
    source, target, weight = graph.edges()
    terms = (x[source] - x[target]) ** 2
    if weight is not None:
        terms *= weight[:, None]
    # Magnitudes of all that is added up on the left; with weights of both signs the sums themselves may cancel.
    scale = np.maximum((np.abs(x) * (np.abs(built) @ np.abs(x))).sum(axis=0), np.abs(terms).sum(axis=0))
    difference = np.abs((x * (built @ x)).sum(axis=0) - terms.sum(axis=0))
    relative = np.divide(difference, scale, out=np.zeros_like(scale), where=scale > 0)
    # A term passes through the sum of its degree, of its row of L, and of all nodes or edges.
    size = 2 * int(np.diff(graph.indptr).max(initial=0)) + graph.num_nodes + source.size + 4
    return Measurement(relative.max(), bound=0.0, slack=rounding("float64", size, scale=1.0))


QUADRATIC_FORM = Claim(
    id="graph.quadratic-form",
    title="The Laplacian measures how much a function differs along edges",
    source="Homework 4, question 3.1.1",
    statement=(
        "xᵀ L x = Σ over edges {u, v} of w_uv (x_u − x_v)², for L = D − A and every x; each edge counts once;"
        " measured: |left − right| / |x|ᵀ|L||x|, the largest over four random x"
    ),
    hypotheses=(_UNDIRECTED, _ORDINARY),
    relation="==",
    extreme="least",
    measure=_measure_quadratic_form,
    subjects={
        "single-node": lambda: subjects.bare(1),
        "path-50": lambda: subjects.path(50),
        "complete-8": lambda: subjects.complete(8),
        "star-20": lambda: subjects.star(20),
        "mixed": subjects.mixed,
        "negative-weight": subjects.negative_weight,
        "random-300": lambda: subjects.erdos_renyi(300, 0.02),
        "cora": subjects.cora,
    },
    falsifiers={
        "one-direction": Falsifier(
            "A that is not symmetric: each edge in one direction only",
            lambda: subjects.cycle(7),
            replaces={"matrix": _one_direction},
        ),
        "signless": Falsifier(
            "D + A in place of D − A", lambda: subjects.path(5), replaces={"matrix": _signless}
        ),
        "normalised": Falsifier(
            "the normalised Laplacian, on a graph whose degrees differ",
            lambda: subjects.star(4),
            replaces={"matrix": normalized_laplacian},
        ),
        "directed": Falsifier("a directed graph", subjects.directed, expected="hypotheses unmet"),
    },
)


# ----------------------------------------------------------------------------------------------- lambda-min


def _degrees_off_by_one(graph: Graph) -> sp.csr_array:
    """Broken: D + I − A."""
    return sp.csr_array(laplacian(graph) + sp.eye_array(graph.num_nodes))


def _degrees_less_one(graph: Graph) -> sp.csr_array:
    """Broken: D − I − A."""
    return sp.csr_array(laplacian(graph) - sp.eye_array(graph.num_nodes))


def _scaled(matrix: sp.csr_array) -> tuple[sp.csr_array, np.ndarray]:
    """S M S with S = diag(M)^(−1/2), 0 where the diagonal is; and diag(M)^(1/2), 1 where the diagonal is 0.

    By Sylvester's law of inertia as many eigenvalues are negative and as many are 0 as of M itself. The second vector
    is what S M S maps to 0 where M maps 1 to 0.
    """
    diagonal = matrix.diagonal()
    root = np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
    inverse = sp.diags_array(np.where(diagonal > 0, 1.0 / root, 0.0))
    return sp.csr_array(inverse @ matrix @ inverse), root


def _measure_lambda_min(
    graph: Graph, generator: np.random.Generator, *, matrix: Matrix = _laplacian
) -> Measurement:
    """The larger of |λ_min(L)| and max |L 1|, both relative to ‖L‖."""
    if reason := subjects.unmet(graph):
        return Measurement.unmet_because(reason)
    built = matrix(graph)
    norm = spectra.row_norm(built)
    if norm == 0:
        return Measurement(0.0, 0.0, exact("L is 0"))
    ones = float(np.abs(built.sum(axis=1)).max()) / norm
    if graph.num_nodes <= spectra.DENSE_UP_TO:
        found = spectra.ends(built, ("lowest",), generator)
    else:
        # On the complement of the vectors that belong to 0, where Lanczos need not wait for them.
        built, root = _scaled(built)
        norm = spectra.row_norm(built)
        kernel = spectra.Span(components(graph).labels, root)
        kernel = kernel.eigenvectors(built, 0.0, spectra.tolerance(graph.num_nodes, norm))
        found = spectra.ends(built, ("lowest",), generator, kernel.project)
    if isinstance(found, spectra.Unconverged):
        return Measurement.unmet_because(str(found))
    lowest, residual = found["lowest"].value / norm, found["lowest"].residual / norm
    if graph.num_nodes > spectra.DENSE_UP_TO:
        lowest = min(lowest, 0.0)
    slack = Slack(
        spectra.tolerance(graph.num_nodes, 1.0) + residual,
        f"rounding: 2 n ε ‖L‖ with n = {graph.num_nodes:,}, and the residual {residual:.1e} of the eigenvector",
        1.0,
    )
    return Measurement(max(abs(lowest), ones), bound=0.0, slack=slack)


LAMBDA_MIN = Claim(
    id="graph.lambda-min",
    title="The Laplacian's smallest eigenvalue is 0, of the constant vector",
    source="Homework 4, question 3.1.2",
    statement=(
        "L = D − A is positive semi-definite, λ_min(L) = 0, and L 1 = 0; measured: the larger of |λ_min(L)| and"
        " max |L 1|, relative to ‖L‖. Above 1,000 nodes, on the complement of the known kernel, the negative part of"
        " the smallest eigenvalue of S L S, S = diag(L)^(−1/2), which is negative exactly if that of L is"
    ),
    hypotheses=(_UNDIRECTED, _NOT_NEGATIVE, _ORDINARY),
    relation="==",
    extreme="least",
    measure=_measure_lambda_min,
    subjects={
        "single-node": lambda: subjects.bare(1),
        "path-50": lambda: subjects.path(50),
        "cycle-7": lambda: subjects.cycle(7),
        "complete-8": lambda: subjects.complete(8),
        "star-20": lambda: subjects.star(20),
        "mixed": subjects.mixed,
        "random-300": lambda: subjects.erdos_renyi(300, 0.02),
        "cora": subjects.cora,
    },
    falsifiers={
        "degrees-off-by-one": Falsifier(
            "D + I in place of D", lambda: subjects.path(9), replaces={"matrix": _degrees_off_by_one}
        ),
        "degrees-less-one": Falsifier(
            "D − I in place of D: no longer semi-definite",
            lambda: subjects.path(9),
            replaces={"matrix": _degrees_less_one},
        ),
        "normalised": Falsifier(
            "the normalised Laplacian: 1 is no eigenvector where degrees differ",
            lambda: subjects.star(4),
            replaces={"matrix": normalized_laplacian},
        ),
        "negative-weight": Falsifier(
            "a negative weight", subjects.negative_weight, expected="hypotheses unmet"
        ),
    },
)


# ----------------------------------------------------------------------------------------------- components


def _with_an_edge_between(graph: Graph) -> sp.csr_array:
    """Broken: L of the graph with an edge more, between its first two components."""
    labels = components(graph).labels
    source, target, _ = graph.edges()
    bridge = int(np.flatnonzero(labels == 0)[0]), int(np.flatnonzero(labels == 1)[0])
    return laplacian(
        Graph.from_edges(
            np.append(source, bridge[0]), np.append(target, bridge[1]), num_nodes=graph.num_nodes
        )
    )


def _without_the_first_edge(graph: Graph) -> sp.csr_array:
    """Broken: L of the graph with an edge less."""
    source, target, _ = graph.edges()
    return laplacian(Graph.from_edges(source[1:], target[1:], num_nodes=graph.num_nodes))


def _isolated_nodes_forgotten(graph: Graph) -> int:
    """Broken: a lone node is not counted as a component."""
    found = components(graph)
    return found.count - found.isolated.size


def _count(graph: Graph) -> int:
    return components(graph).count


def _measure_components(
    graph: Graph,
    generator: np.random.Generator,
    *,
    matrix: Matrix = _laplacian,
    count: Callable[[Graph], int] = _count,
) -> Measurement:
    if reason := subjects.unmet(graph):
        return Measurement.unmet_because(reason)
    expected = count(graph)
    built, known = matrix(graph), components(graph)
    least = _least_positive(graph, known)
    root, norm = np.ones(graph.num_nodes), spectra.row_norm(built)
    if graph.num_nodes > spectra.DENSE_UP_TO:
        (built, root), norm = _scaled(built), 2.0
        least = spectra.resolution(graph, known)
    found = spectra.multiplicity(built, 0.0, "lowest", spectra.Span(known.labels, root), norm, generator)
    if isinstance(found, spectra.Unconverged):
        return Measurement.unmet_because(str(found))
    multiplicity, threshold = found
    if multiplicity > expected and least <= 2 * threshold:
        return Measurement.unmet_because(
            f"{multiplicity} eigenvalues are within {threshold:.1e} of 0, but those above 0 may be as small as"
            f" {least:.1e}: float64 cannot tell them apart"
        )
    return Measurement(multiplicity, expected, exact("counts of eigenvalues and of components"))


def _least_positive(graph: Graph, known: Components) -> float:
    """A lower bound on the eigenvalues of L above 0: w / n², by the argument of `spectra.resolution`."""
    weights = graph.weights if graph.weights is not None else np.ones(1)
    positive = weights[weights > 0]
    return float(positive.min() / known.sizes.max() ** 2) if positive.size else np.inf


COMPONENTS = Claim(
    id="graph.components",
    title="Eigenvalue 0 counts the connected components",
    source="Homework 4, question 3.1.3",
    statement=(
        "the multiplicity of the eigenvalue 0 of L = D − A is the number of connected components; measured: how many"
        " eigenvalues lie within 2 n ε ‖L‖ of 0; bound: the components, found by walking along edges. Above 1,000"
        " nodes the multiplicity is that of S L S, S = diag(L)^(−1/2), which is the same"
    ),
    hypotheses=(
        _UNDIRECTED,
        _NOT_NEGATIVE,
        _ORDINARY,
        "an edge of weight 0 joins nothing; an isolated node is a component",
        "the eigenvalues above 0 are not too small for float64 to tell from 0",
    ),
    relation="==",
    measure=_measure_components,
    subjects={
        "single-node": lambda: subjects.bare(1),
        "no-edges": lambda: subjects.bare(5),
        "path-300": lambda: subjects.path(300),
        "two-triangles": lambda: subjects.union(subjects.cycle(3), subjects.cycle(3)),
        "many": lambda: subjects.union(*(subjects.path(k) for k in range(1, 25)), subjects.complete(6)),
        "mixed": subjects.mixed,
        "random-300": lambda: subjects.erdos_renyi(300, 0.005),
        "cora": subjects.cora,
    },
    falsifiers={
        "edge-added": Falsifier(
            "an edge added between two components",
            lambda: subjects.union(subjects.cycle(3), subjects.cycle(3)),
            replaces={"matrix": _with_an_edge_between},
        ),
        "edge-removed": Falsifier(
            "an edge of a path removed",
            lambda: subjects.path(30),
            replaces={"matrix": _without_the_first_edge},
        ),
        "isolated-forgotten": Falsifier(
            "isolated nodes are not counted as components",
            subjects.mixed,
            replaces={"count": _isolated_nodes_forgotten},
        ),
        "undecidable": Falsifier(
            "two triangles joined by an edge of weight 1e-30, which float64 cannot tell from none",
            lambda: Graph.from_edges(
                [0, 1, 2, 3, 4, 5, 0], [1, 2, 0, 4, 5, 3, 3], weight=[1.0] * 6 + [1e-30]
            ),
            expected="hypotheses unmet",
        ),
        "negative-weight": Falsifier(
            "a negative weight", subjects.negative_weight, expected="hypotheses unmet"
        ),
    },
)
