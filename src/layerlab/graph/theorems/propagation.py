"""The claims about Ã = D^(−1/2) A D^(−1/2) and its powers (homework 4, questions 3.2.2, 3.3.1 and 3.3.2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import numpy as np
import scipy.sparse as sp

from layerlab.claims import Claim, Falsifier, Measurement, Slack, rounding
from layerlab.graph.components import components
from layerlab.graph.convert import to_scipy
from layerlab.graph.lanczos import End
from layerlab.graph.matrices import propagation
from layerlab.graph.powers import Decomposition, decompose, power
from layerlab.graph.structure import Graph
from layerlab.graph.theorems import spectra, subjects

Matrix = Callable[[Graph], sp.csr_array]
Vector = np.ndarray

_HYPOTHESES = (
    "the graph is undirected and has at least one node",
    "weights are not negative, and lie between 1e-140 and 1e140 where they are not 0",
    "D^(−1/2) is taken as 0 at nodes of degree 0",
)


def _without_loops(graph: Graph) -> sp.csr_array:
    return propagation(graph, self_loops=False)


# --------------------------------------------------------------------------------------- adjacency-interval


def _one_sided(graph: Graph) -> sp.csr_array:
    """Broken: D^(−1/2) A, symmetrised: half of the normalisation."""
    half = sp.diags_array(1.0 / np.sqrt(np.maximum(graph.degrees(), 1.0))) @ to_scipy(graph)
    return sp.csr_array((half + half.T) / 2)


def _measure_adjacency_interval(
    graph: Graph, generator: np.random.Generator, *, matrix: Matrix = _without_loops
) -> Measurement:
    if reason := subjects.unmet(graph):
        return Measurement.unmet_because(reason)
    found = spectra.ends(matrix(graph), ("lowest", "highest"), generator)
    if isinstance(found, spectra.Unconverged):
        return Measurement.unmet_because(str(found))
    # A Ritz value lies inside the spectrum, so its residual is no part of the slack.
    slack = Slack(
        spectra.tolerance(graph.num_nodes, 1.0),
        f"rounding of an eigenvalue: 2 n ε ‖Ã‖ with n = {graph.num_nodes:,}",
        1.0,
    )
    return Measurement(max(abs(end.value) for end in found.values()), bound=1.0, slack=slack)


ADJACENCY_INTERVAL = Claim(
    id="graph.adjacency-interval",
    title="The spectrum of the normalised adjacency lies in [−1, 1]",
    source="Homework 4, question 3.2.2",
    statement="|λ_i(Ã)| ≤ 1 for every eigenvalue of Ã = D^(−1/2) A D^(−1/2); measured: max |λ_i|",
    hypotheses=_HYPOTHESES,
    relation="<=",
    measure=_measure_adjacency_interval,
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
        "unnormalised": Falsifier(
            "A in place of Ã", lambda: subjects.cycle(7), replaces={"matrix": to_scipy}
        ),
        "one-sided": Falsifier(
            "D^(−1/2) on one side only, symmetrised",
            lambda: subjects.complete(8),
            replaces={"matrix": _one_sided},
        ),
        "directed": Falsifier("a directed graph", subjects.directed, expected="hypotheses unmet"),
        "negative-weight": Falsifier(
            "a negative weight", subjects.negative_weight, expected="hypotheses unmet"
        ),
    },
)


# ---------------------------------------------------------------------------------------------------- power

Power = Callable[[Vector, int], Vector]

_EXPONENTS = (0, 1, 2, 3, 10, 101)
# The eigendecomposition of this many nodes takes half a minute and 300 MB.
_DECOMPOSED_UP_TO = 3000


def _spectral(matrix: sp.csr_array) -> Power:
    return decompose(matrix).power


def _multiplied(matrix: sp.csr_array) -> Power:
    return lambda x, K: power(matrix, x, K, "multiply")


def _row_normalized(graph: Graph) -> sp.csr_array:
    """D^(−1) A."""
    degrees = graph.degrees()
    inverse = np.divide(1.0, degrees, out=np.zeros_like(degrees), where=degrees > 0)
    return sp.csr_array(sp.diags_array(inverse) @ to_scipy(graph))


def _taken_for_orthonormal(matrix: sp.csr_array) -> Power:
    """Broken for a matrix that is not symmetric: V Λ^K Vᵀ with unit eigenvectors, Vᵀ in place of V^(−1)."""
    values, vectors = np.linalg.eig(matrix.toarray())
    return lambda x, K: np.asarray((vectors @ (values[:, None] ** K * (vectors.T @ x))).real)


def _magnitudes(matrix: sp.csr_array) -> Power:
    """Broken: |Λ|^K."""
    found = decompose(matrix)
    return Decomposition(np.abs(found.values), found.vectors).power


def _one_short(matrix: sp.csr_array) -> Power:
    """Broken: K − 1 products."""
    return lambda x, K: power(matrix, x, max(K - 1, 0), "multiply")


def _measure_power(
    graph: Graph,
    generator: np.random.Generator,
    *,
    matrix: Matrix = _without_loops,
    spectral: Callable[[sp.csr_array], Power] = _spectral,
    multiplied: Callable[[sp.csr_array], Power] = _multiplied,
) -> Measurement:
    """Largest ‖difference‖ / max(K, 1) of a unit x, over exponents and two random x."""
    if reason := subjects.unmet(graph):
        return Measurement.unmet_because(reason)
    if graph.num_nodes > _DECOMPOSED_UP_TO:
        return Measurement.unmet_because(
            f"{graph.num_nodes:,} nodes are too many for an eigendecomposition"
            f" (dense work, up to {_DECOMPOSED_UP_TO:,})"
        )
    built = matrix(graph)
    left, right = spectral(built), multiplied(built)
    x = generator.standard_normal((graph.num_nodes, 2))
    x /= np.linalg.norm(x, axis=0)
    apart = [np.linalg.norm(left(x, K) - right(x, K), axis=0).max() / max(K, 1) for K in _EXPONENTS]
    # Of each factor Ã: the eigendecomposition is that of a matrix 2 n ε away, and a product rounds a row's sum; once:
    # the products with Q and Qᵀ. No factor amplifies, since ‖Ã‖ ≤ 1.
    size = 6 * graph.num_nodes + int(np.diff(graph.indptr).max(initial=0)) + 4
    return Measurement(max(apart), bound=0.0, slack=rounding("float64", size, scale=1.0))


POWER = Claim(
    id="graph.power",
    title="A power by eigendecomposition equals repeated multiplication",
    source="Homework 4, question 3.3.1; Wu et al., Simplifying graph convolutional networks (ICML 2019)",
    statement=(
        "Ã = Q Λ Qᵀ with orthonormal Q, so Ã^K x = Q Λ^K Qᵀ x, for every K ≥ 0; measured: ‖difference‖ / K for unit x,"
        " the largest over K = 0, 1, 2, 3, 10, 101"
    ),
    hypotheses=(*_HYPOTHESES, "at most 3,000 nodes (dense work)"),
    relation="==",
    extreme="least",
    measure=_measure_power,
    subjects={
        "single-node": lambda: subjects.bare(1),
        "path-50": lambda: subjects.path(50),
        "cycle-6": lambda: subjects.cycle(6),
        "complete-8": lambda: subjects.complete(8),
        "star-20": lambda: subjects.star(20),
        "mixed": subjects.mixed,
        "random-300": lambda: subjects.erdos_renyi(300, 0.02),
    },
    falsifiers={
        "row-normalised": Falsifier(
            "D^(−1) A in place of Ã: its eigenvectors are not orthonormal",
            lambda: subjects.star(5),
            replaces={"matrix": _row_normalized, "spectral": _taken_for_orthonormal},
        ),
        "magnitudes": Falsifier(
            "|Λ| in place of Λ: the sign of odd powers is lost",
            lambda: subjects.cycle(6),
            replaces={"spectral": _magnitudes},
        ),
        "one-short": Falsifier(
            "K − 1 products", lambda: subjects.path(9), replaces={"multiplied": _one_short}
        ),
        "directed": Falsifier("a directed graph", subjects.directed, expected="hypotheses unmet"),
    },
)


# -------------------------------------------------------------------------------------------- oversmoothing

Choice = Callable[[Mapping[End, spectra.Extreme]], spectra.Extreme]
Limit = Callable[[Graph], tuple[spectra.Span, spectra.Span]]

_LAYERS = 200
# Distances below this share of x are no longer measured: rounding would be amplified by its inverse.
_FLOOR = 1e-3


def _by_magnitude(found: Mapping[End, spectra.Extreme]) -> spectra.Extreme:
    return max(found.values(), key=lambda end: abs(end.value))


def _by_value(found: Mapping[End, spectra.Extreme]) -> spectra.Extreme:
    """Broken: the largest of the other eigenvalues, whatever the smallest is."""
    return found["highest"]


def _norm(found: Mapping[End, spectra.Extreme]) -> spectra.Extreme:
    """Broken: 1, the largest of all eigenvalues, in place of the next."""
    return replace(_by_magnitude(found), value=1.0)


def _limit(graph: Graph) -> tuple[spectra.Span, spectra.Span]:
    """D^(1/2) 1 on each component; and with the signs of a 2-colouring, on the bipartite ones only."""
    known, root = components(graph), np.sqrt(graph.degrees())
    signs = np.where(known.colours < 0, 0.0, 1.0 - 2.0 * known.colours)
    return spectra.Span(known.labels, root), spectra.Span(known.labels, root * signs)


def _no_oscillation(graph: Graph) -> tuple[spectra.Span, spectra.Span]:
    """Broken: a bipartite component is taken to converge."""
    constant, alternating = _limit(graph)
    return constant, spectra.Span(alternating.labels, np.zeros(graph.num_nodes))


def _flat(graph: Graph) -> tuple[spectra.Span, spectra.Span]:
    """Broken: the limit is taken to be the mean, as if all degrees were equal."""
    constant, alternating = _limit(graph)
    return spectra.Span(constant.labels, np.ones(graph.num_nodes)), alternating


def _measure_oversmoothing(
    graph: Graph,
    generator: np.random.Generator,
    *,
    self_loops: bool = False,
    rate: Choice = _by_magnitude,
    limit: Limit = _limit,
) -> Measurement:
    """The slowest decay of the distance to the limit in one layer, over three random x and an eigenvector."""
    if reason := subjects.unmet(graph):
        return Measurement.unmet_because(reason)
    graph = graph.with_self_loops() if self_loops else graph
    matrix = _without_loops(graph)
    constant, alternating = _limit(graph)
    x = generator.standard_normal((graph.num_nodes, 3))
    predicted = residual = 0.0
    if constant.dimension + alternating.dimension < graph.num_nodes:
        found = spectra.ends(
            matrix, ("lowest", "highest"), generator, lambda y: constant.project(y) + alternating.project(y)
        )
        if isinstance(found, spectra.Unconverged):
            return Measurement.unmet_because(str(found))
        chosen = rate(found)
        predicted, residual = abs(chosen.value), chosen.residual
        x = np.column_stack([x, chosen.vector])
    measured = _slowest_decay(matrix, x / np.linalg.norm(x, axis=0), *limit(graph))
    size = _LAYERS * (int(np.diff(graph.indptr).max(initial=0)) + 2) + 4 * graph.num_nodes
    error = rounding("float64", size, scale=1.0, condition=1.0 / _FLOOR)
    slack = Slack(
        error.value + residual, f"{error.reason}; and the residual {residual:.1e} of the eigenvector", 1.0
    )
    return Measurement(measured, predicted if predicted > slack.value else 0.0, slack)


def _slowest_decay(
    matrix: sp.csr_array, x: Vector, constant: spectra.Span, alternating: spectra.Span
) -> float:
    """max over K and columns of ‖d_(K+1)‖ / ‖d_K‖, where d_K = Ã^K x − Π x − (−1)^K Π' x."""
    still = np.column_stack([constant.project(column) for column in x.T])
    swinging = np.column_stack([alternating.project(column) for column in x.T])
    before = np.linalg.norm(x - still - swinging, axis=0)
    slowest, state = 0.0, x
    for layer in range(1, _LAYERS + 1):
        measurable = before > _FLOOR
        if not measurable.any():
            break
        state = matrix @ state
        after = np.linalg.norm(state - still - (-1) ** layer * swinging, axis=0)
        slowest = max(slowest, float((after[measurable] / before[measurable]).max()))
        before = after
    return slowest


def _oversmoothing(self_loops: bool) -> Claim:
    operator = "P = D^(−1/2) (A + I) D^(−1/2), D with the loops," if self_loops else "Ã = D^(−1/2) A D^(−1/2)"
    letter = "P" if self_loops else "Ã"
    # With loops no component is bipartite, so there is nothing to forget but the degrees.
    swing = {
        "no-oscillation": Falsifier(
            "the oscillation of a bipartite graph left out",
            lambda: subjects.complete_bipartite(3, 4),
            replaces={"limit": _no_oscillation},
        ),
        "by-value": Falsifier(
            "the second eigenvalue by value in place of the largest by magnitude, near a bipartite graph",
            lambda: subjects.near_bipartite(5, 5),
            replaces={"rate": _by_value},
        ),
    }
    return Claim(
        id="graph.oversmoothing-with-loops" if self_loops else "graph.oversmoothing",
        title="Deep propagation forgets all but degrees, at the rate of the next eigenvalue"
        + (" (with self-loops)" if self_loops else ""),
        source="Homework 4, question 3.3.2; Li et al., Deeper insights into GCNs (AAAI 2018), theorem 1",
        statement=(
            f"d_K = {letter}^K x − Π x − (−1)^K Π' x, for {operator} Π the projection on D^(1/2) 1 of each component,"
            " Π' on D^(1/2) times a 2-colouring's signs of each bipartite one: ‖d_(K+1)‖ ≤ ρ ‖d_K‖, ρ = max |λ| of the"
            " other eigenvalues, with equality for an eigenvector. So without a bipartite component it tends to Π x,"
            " else it oscillates; measured: the slowest decay over up to 200 layers, of three random x and that"
            " eigenvector; bound: ρ"
        ),
        hypotheses=_HYPOTHESES,
        relation="==",
        measure=partial(_measure_oversmoothing, self_loops=True) if self_loops else _measure_oversmoothing,
        subjects={
            "single-node": lambda: subjects.bare(1),
            "path-50": lambda: subjects.path(50),
            "cycle-7": lambda: subjects.cycle(7),
            "cycle-8": lambda: subjects.cycle(8),
            "complete-8": lambda: subjects.complete(8),
            "star-20": lambda: subjects.star(20),
            "near-bipartite": lambda: subjects.near_bipartite(5, 5),
            "mixed": subjects.mixed,
            "random-300": lambda: subjects.erdos_renyi(300, 0.02),
            "cora": subjects.cora,
        },
        falsifiers={
            **({} if self_loops else swing),
            "norm": Falsifier(
                "the largest of all eigenvalues, 1, in place of the next",
                lambda: subjects.cycle(7),
                replaces={"rate": _norm},
            ),
            "flat-limit": Falsifier(
                "the mean as limit, where degrees differ",
                lambda: subjects.star(20),
                replaces={"limit": _flat},
            ),
            "directed": Falsifier("a directed graph", subjects.directed, expected="hypotheses unmet"),
        },
    )


OVERSMOOTHING = _oversmoothing(self_loops=False)
OVERSMOOTHING_WITH_LOOPS = _oversmoothing(self_loops=True)
