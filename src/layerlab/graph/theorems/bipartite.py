"""The claims about the end 2 of the normalised Laplacian's spectrum (homework 4, questions 3.2.1 to 3.2.4)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.linalg
import scipy.sparse as sp

from layerlab.claims import Claim, Falsifier, Measurement, Slack, exact
from layerlab.graph.components import Components, components
from layerlab.graph.matrices import laplacian, normalized_laplacian
from layerlab.graph.structure import Graph
from layerlab.graph.theorems import spectra, subjects

Matrix = Callable[[Graph], sp.csr_array]

_HYPOTHESES = (
    "the graph is undirected and has at least one node",
    "weights are not negative, and lie between 1e-140 and 1e140 where they are not 0",
    "D^(−1/2) is taken as 0 at isolated nodes, which adds an eigenvalue 0 for each",
)


# ----------------------------------------------------------------------------------------------- lambda-max


def _measure_lambda_max(
    graph: Graph, generator: np.random.Generator, *, matrix: Matrix = normalized_laplacian
) -> Measurement:
    if reason := subjects.unmet(graph):
        return Measurement.unmet_because(reason)
    found = spectra.ends(matrix(graph), ("highest",), generator)
    if isinstance(found, spectra.Unconverged):
        return Measurement.unmet_because(str(found))
    # A Ritz value is never above λ_max but for rounding, so its residual is no part of the slack.
    slack = Slack(
        spectra.tolerance(graph.num_nodes, 2.0),
        f"rounding of an eigenvalue: 2 n ε ‖L‖ with n = {graph.num_nodes:,}",
        2.0,
    )
    return Measurement(found["highest"].value, bound=2.0, slack=slack)


LAMBDA_MAX = Claim(
    id="graph.lambda-max",
    title="The spectrum of the normalised Laplacian ends at 2",
    source="Homework 4, question 3.2.1; Chung, Spectral Graph Theory (1997), lemma 1.7",
    statement="λ_max(L) ≤ 2 for the normalised Laplacian L = D^(−1/2) (D − A) D^(−1/2)",
    hypotheses=_HYPOTHESES,
    relation="<=",
    measure=_measure_lambda_max,
    subjects={
        "single-node": lambda: subjects.bare(1),
        "path-50": lambda: subjects.path(50),
        "cycle-6": lambda: subjects.cycle(6),
        "cycle-7": lambda: subjects.cycle(7),
        "complete-8": lambda: subjects.complete(8),
        "star-20": lambda: subjects.star(20),
        "mixed": subjects.mixed,
        "random-300": lambda: subjects.erdos_renyi(300, 0.02),
        "cora": subjects.cora,
    },
    falsifiers={
        "unnormalised": Falsifier(
            "D − A in place of the normalised Laplacian",
            lambda: subjects.complete(8),
            replaces={"matrix": laplacian},
        ),
        "directed": Falsifier("a directed graph", subjects.directed, expected="hypotheses unmet"),
        "negative-weight": Falsifier(
            "a negative weight", subjects.negative_weight, expected="hypotheses unmet"
        ),
    },
)


# -------------------------------------------------------------------------------------------- bipartite-two


def _with_self_loops(graph: Graph) -> sp.csr_array:
    """Broken: the normalised Laplacian of the graph with self-loops added."""
    return normalized_laplacian(graph.with_self_loops())


def _count_two_colourable(graph: Graph) -> int:
    return int(components(graph).bipartite_with_edge.sum())


def _count_every_component(graph: Graph) -> int:
    """Broken: every component with an edge is taken for bipartite."""
    return int(np.count_nonzero(components(graph).edges))


def _count_at_most_one(graph: Graph) -> int:
    """Broken: whether there is a bipartite component, not how many."""
    return min(1, _count_two_colourable(graph))


def _count_lone_nodes_too(graph: Graph) -> int:
    """Broken: a node without an edge is two-colourable, but has no eigenvalue 2."""
    return int(components(graph).bipartite.sum())


def _signed(graph: Graph, known: Components) -> np.ndarray:
    """D^(1/2) with the sign of the colour on bipartite components, 0 elsewhere: eigenvectors to 2."""
    roots = np.sqrt(graph.degrees())
    return np.asarray(roots * np.where(known.colours < 0, 0.0, 1.0 - 2.0 * known.colours))


def _measure_bipartite_two(
    graph: Graph,
    generator: np.random.Generator,
    *,
    matrix: Matrix = normalized_laplacian,
    count: Callable[[Graph], int] = _count_two_colourable,
) -> Measurement:
    if reason := subjects.unmet(graph):
        return Measurement.unmet_because(reason)
    expected, known = count(graph), components(graph)
    span = spectra.Span(known.labels, _signed(graph, known))
    found = spectra.multiplicity(matrix(graph), 2.0, "highest", span, 2.0, generator)
    if isinstance(found, spectra.Unconverged):
        return Measurement.unmet_because(str(found))
    multiplicity, threshold = found
    least = spectra.resolution(graph, known)
    if multiplicity > expected and least <= 2 * threshold:
        return Measurement.unmet_because(
            f"{multiplicity} eigenvalues are within {threshold:.1e} of 2, but those below 2 may be as near as"
            f" {least:.1e}: float64 cannot tell them apart"
        )
    return Measurement(multiplicity, expected, exact("counts of eigenvalues and of components"))


BIPARTITE_TWO = Claim(
    id="graph.bipartite-two",
    title="Eigenvalue 2 counts the bipartite components",
    source="Homework 4, questions 3.2.3 and 3.2.4; Chung, Spectral Graph Theory (1997), lemma 1.7",
    statement=(
        "the multiplicity of the eigenvalue 2 of the normalised Laplacian is the number of bipartite components with"
        " at least one edge; so for a connected graph with an edge: λ_max = 2 if and only if it is bipartite;"
        " measured: how many eigenvalues lie within 2 n ε ‖L‖ of 2; bound: the components found by 2-colouring"
    ),
    hypotheses=(
        *_HYPOTHESES,
        "a self-loop is an odd cycle; an edge of weight 0 joins nothing",
        "the eigenvalues below 2 are not too near for float64 to tell from 2",
    ),
    relation="==",
    measure=_measure_bipartite_two,
    subjects={
        "single-node": lambda: subjects.bare(1),
        "edge": lambda: subjects.path(2),
        "path-300": lambda: subjects.path(300),
        "cycle-6": lambda: subjects.cycle(6),
        "cycle-301": lambda: subjects.cycle(301),
        "complete-8": lambda: subjects.complete(8),
        "near-bipartite": lambda: subjects.near_bipartite(20, 20),
        "union": lambda: subjects.union(
            subjects.path(4), subjects.cycle(5), subjects.star(3), subjects.bare(2), subjects.cycle(8)
        ),
        "mixed": subjects.mixed,
        "random-300": lambda: subjects.erdos_renyi(300, 0.005),
        "cora": subjects.cora,
    },
    falsifiers={
        "self-loops": Falsifier(
            "self-loops added", lambda: subjects.path(9), replaces={"matrix": _with_self_loops}
        ),
        "odd-cycle": Falsifier(
            "an odd cycle taken for bipartite",
            lambda: subjects.cycle(31),
            replaces={"count": _count_every_component},
        ),
        "lone-node": Falsifier(
            "a node without an edge, which is two-colourable but has no eigenvalue 2",
            lambda: subjects.bare(1),
            replaces={"count": _count_lone_nodes_too},
        ),
        "at-most-one": Falsifier(
            "1 for any number of bipartite components",
            lambda: subjects.union(subjects.path(4), subjects.cycle(5), subjects.star(3)),
            replaces={"count": _count_at_most_one},
        ),
        "unnormalised": Falsifier(
            "D − A in place of the normalised Laplacian",
            lambda: subjects.star(3),
            replaces={"matrix": laplacian},
        ),
        "undecidable": Falsifier(
            "a path with a self-loop of weight 1e-30, which float64 cannot tell from none",
            lambda: Graph.from_edges([0, 1, 0], [1, 2, 0], weight=[1.0, 1.0, 1e-30]),
            expected="hypotheses unmet",
        ),
        "directed": Falsifier("a directed graph", subjects.directed, expected="hypotheses unmet"),
    },
)


# -------------------------------------------------------------------------------------- leading-eigenvector


def _inverse_root(graph: Graph) -> np.ndarray:
    degrees = graph.degrees()
    return np.asarray(np.where(degrees > 0, 1.0 / np.sqrt(np.where(degrees > 0, degrees, 1.0)), 0.0))


def _unscaled(graph: Graph) -> np.ndarray:
    """As printed: the eigenvector itself."""
    return np.ones(graph.num_nodes)


def _measure_leading_eigenvector(
    graph: Graph,
    generator: np.random.Generator,
    *,
    matrix: Matrix = normalized_laplacian,
    scale: Callable[[Graph], np.ndarray] = _inverse_root,
) -> Measurement:
    """Largest |y_u + y_v| over the edges, where y is the scaled leading eigenvector, max |y| = 1."""
    if reason := subjects.unmet(graph):
        return Measurement.unmet_because(reason)
    known = components(graph)
    if not known.bipartite_with_edge.any():
        return Measurement.unmet_because("no component with an edge is bipartite, so λ_max(L) < 2")
    if graph.num_nodes > spectra.DENSE_UP_TO:
        return Measurement.unmet_because(
            f"{graph.num_nodes:,} nodes are too many for an eigenvector to full precision"
            f" (dense work, up to {spectra.DENSE_UP_TO:,})"
        )
    values, vectors = scipy.linalg.eigh(matrix(graph).toarray())
    norm, factor = float(np.abs(values).max()), scale(graph)
    threshold = spectra.tolerance(graph.num_nodes, norm)
    below = values[values < values[-1] - 2 * threshold]
    gap = float(values[-1] - below[-1]) if below.size else norm
    y = factor * vectors[:, -1]
    largest = float(np.abs(y).max())
    source, target, weight = graph.edges()
    joined = np.ones(source.size, dtype=bool) if weight is None else weight != 0
    sums = np.abs(y[source] + y[target])[joined] / largest
    # The vector is off by threshold / gap (Davis and Kahan), and scaling spreads that by its largest factor.
    slack = Slack(
        2 * threshold / gap * float(factor.max()) / largest,
        f"rounding of an eigenvector: 2 n ε ‖L‖ / gap with n = {graph.num_nodes:,}, gap {gap:.1e}, scaled",
        1.0,
    )
    if slack.value >= 0.5 or values.size - below.size > known.bipartite_with_edge.sum():
        return Measurement.unmet_because("the gap below λ_max is too small for float64")
    return Measurement(sums.max(), bound=0.0, slack=slack)


LEADING_EIGENVECTOR = Claim(
    id="graph.leading-eigenvector",
    title="Of a bipartite graph, the leading eigenvector over √degree changes sign along every edge",
    source="Homework 4, question 3.2.3, hint, corrected",
    statement=(
        "v an eigenvector of the normalised Laplacian to λ_max = 2, y = D^(−1/2) v: y_u + y_v = 0 for every edge"
        " {u, v}; measured: max |y_u + y_v| over the edges, y scaled to max |y| = 1"
    ),
    hypotheses=(*_HYPOTHESES, "some component with an edge is bipartite", "at most 1,000 nodes (dense work)"),
    relation="==",
    extreme="least",
    measure=_measure_leading_eigenvector,
    subjects={
        "path-3": lambda: subjects.path(3),
        "path-50": lambda: subjects.path(50),
        "cycle-6": lambda: subjects.cycle(6),
        "star-20": lambda: subjects.star(20),
        "complete-bipartite": lambda: subjects.complete_bipartite(4, 9),
        "weighted": lambda: Graph.from_edges([0, 1, 2], [1, 2, 3], weight=[0.1, 5.0, 2.0]),
        "beside-a-triangle": lambda: subjects.union(subjects.cycle(3), subjects.star(4)),
    },
    falsifiers={
        "unscaled": Falsifier(
            "the eigenvector itself, as printed", lambda: subjects.path(3), replaces={"scale": _unscaled}
        ),
        "unnormalised": Falsifier(
            "the leading eigenvector of D − A", lambda: subjects.path(3), replaces={"matrix": laplacian}
        ),
        "odd-cycle": Falsifier("an odd cycle", lambda: subjects.cycle(5), expected="hypotheses unmet"),
    },
)


def _measure_as_printed(
    graph: Graph,
    generator: np.random.Generator,
    *,
    matrix: Matrix = normalized_laplacian,
    scale: Callable[[Graph], np.ndarray] = _unscaled,
) -> Measurement:
    return _measure_leading_eigenvector(graph, generator, matrix=matrix, scale=scale)


LEADING_EIGENVECTOR_AS_PRINTED = Claim(
    id="graph.leading-eigenvector-as-printed",
    title="As printed: the leading eigenvector itself changes sign along every edge",
    source="Homework 4, question 3.2.3, hint, as printed",
    statement=(
        "v the leading eigenvector of the normalised Laplacian of a bipartite graph: v_u + v_v = 0 for every edge"
        " {u, v}. False where degrees differ: on the path of three nodes v = (1, −√2, 1) / 2, so v_u + v_v ≠ 0;"
        " the leading eigenvector (1, −2, 1) / √6 of D − A does no better; measured: max |v_u + v_v| / max |v|"
    ),
    hypotheses=(*_HYPOTHESES, "some component with an edge is bipartite", "at most 1,000 nodes (dense work)"),
    relation="==",
    measure=_measure_as_printed,
    subjects={"path-3": lambda: subjects.path(3), "star-20": lambda: subjects.star(20)},
    falsifiers={
        "scaled": Falsifier(
            "the eigenvector over √degree, as corrected",
            lambda: subjects.path(3),
            replaces={"scale": _inverse_root},
            expected="holds",
        ),
        "regular": Falsifier(
            "a cycle of six nodes, all of one degree: there it is true",
            lambda: subjects.cycle(6),
            expected="holds",
        ),
    },
    expected="refuted",
)
