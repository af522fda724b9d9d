"""The claims about Ã and its powers: on any graph, against numpy, and each kind of damage is seen."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from random_graphs import graphs, measured

from layerlab.graph.matrices import propagation
from layerlab.graph.structure import Graph
from layerlab.graph.theorems import (
    ADJACENCY_INTERVAL,
    OVERSMOOTHING,
    OVERSMOOTHING_WITH_LOOPS,
    POWER,
    spectra,
    subjects,
)
from layerlab.graph.theorems.propagation import _DECOMPOSED_UP_TO, _limit, _slowest_decay, _spectral

ANY = settings(derandomize=True, deadline=None, max_examples=60)


@ANY
@given(graphs())
def test_the_claims_hold_on_any_undirected_graph(graph: Graph) -> None:
    for claim in (ADJACENCY_INTERVAL, OVERSMOOTHING, OVERSMOOTHING_WITH_LOOPS):
        outcome = measured(claim, graph)
        assert outcome.verdict == "holds", claim.id
        assert outcome.slack < 1e-8


@settings(derandomize=True, deadline=None, max_examples=25)
@given(graphs())
def test_power_holds_on_any_undirected_graph(graph: Graph) -> None:
    outcome = measured(POWER, graph)
    assert outcome.verdict == "holds"
    assert outcome.slack < 1e-12


def test_the_interval_is_reached_and_sees_a_normalisation_slightly_off() -> None:
    assert measured(ADJACENCY_INTERVAL, subjects.path(5)).measured == pytest.approx(1.0, abs=1e-15)

    def slightly(graph: Graph) -> sp.csr_array:
        return sp.csr_array(propagation(graph, self_loops=False) * (1 + 1e-12))

    assert measured(ADJACENCY_INTERVAL, subjects.cycle(7), matrix=slightly).verdict == "violated"
    # The lower end counts as well: the complete bipartite graph's is −1, pushed beyond.
    lower = measured(
        ADJACENCY_INTERVAL,
        subjects.complete_bipartite(3, 3),
        matrix=lambda graph: sp.csr_array(propagation(graph, self_loops=False) - 1e-9 * sp.eye_array(6)),
    )
    assert lower.verdict == "violated"


# ----------------------------------------------------------------------------------------------------- power


def test_power_says_when_a_graph_is_too_large() -> None:
    large = subjects.bare(_DECOMPOSED_UP_TO + 1)
    assert "3,001 nodes are too many for an eigendecomposition" in str(measured(POWER, large).unmet)


@pytest.mark.parametrize("K", [0, 1, 2, 101])
def test_power_looks_at_every_exponent(K: int) -> None:
    def off(matrix: sp.csr_array) -> object:
        shipped = _spectral(matrix)
        return lambda x, exponent: shipped(x, exponent) * (1 + 1e-8 * (exponent == K))

    # Not smaller: of the 101st power little is left, and the error counts once for 101 factors.
    assert measured(POWER, subjects.path(9), spectral=off).verdict == "violated"


@pytest.mark.parametrize(("K", "factors"), [(0, 1), (1, 1), (3, 3)])
def test_power_measures_the_length_of_the_difference_of_each_x(K: int, factors: int) -> None:
    def off(matrix: sp.csr_array) -> object:
        shipped = _spectral(matrix)
        return lambda x, exponent: shipped(x, exponent) + 1e-3 * (exponent == K) * np.array([1.0, 2.0])

    found = measured(POWER, subjects.path(9), spectral=off)
    # Of nine nodes, and the larger of two.
    assert found.measured == pytest.approx(2e-3 * 3 / factors, rel=1e-9)


# --------------------------------------------------------------------------------------------- oversmoothing


def rate_by_numpy(graph: Graph, self_loops: bool) -> float:
    """Largest magnitude of the eigenvalues that are neither 1 nor −1."""
    values = np.linalg.eigvalsh(propagation(graph, self_loops=self_loops).toarray())
    rest = np.abs(values[np.abs(np.abs(values) - 1) > 1e-9])
    return float(rest.max(initial=0.0))


@ANY
@given(graphs(lowest=0.1))
def test_the_rate_is_that_of_the_other_eigenvalues(graph: Graph) -> None:
    for claim, self_loops in ((OVERSMOOTHING, False), (OVERSMOOTHING_WITH_LOOPS, True)):
        outcome = measured(claim, graph)
        assert outcome.bound == pytest.approx(rate_by_numpy(graph, self_loops), abs=1e-8)


@pytest.mark.parametrize(
    ("graph", "rate"),
    [
        (subjects.cycle(7), math.cos(math.pi / 7)),
        (subjects.cycle(8), math.cos(math.pi / 4)),
        (subjects.complete(8), 1 / 7),
        (subjects.star(9), 0.0),
        (subjects.path(2), 0.0),
        (subjects.bare(3), 0.0),
    ],
)
def test_the_rate_of_graphs_whose_spectrum_is_known(graph: Graph, rate: float) -> None:
    outcome = measured(OVERSMOOTHING, graph)
    assert (outcome.measured, outcome.bound) == (pytest.approx(rate, abs=1e-8), pytest.approx(rate, abs=1e-8))
    assert outcome.verdict == "holds"


@pytest.mark.parametrize("factor", [0.9, 1 - 1e-7, 1 + 1e-7, 1.1])
def test_a_rate_slightly_off_is_a_violation(factor: float) -> None:
    from dataclasses import replace

    from layerlab.graph.theorems.propagation import _by_magnitude

    def off(found: object) -> object:
        chosen = _by_magnitude(found)
        return replace(chosen, value=factor * chosen.value)

    for graph in (subjects.cycle(9), subjects.near_bipartite(5, 6), subjects.erdos_renyi(60, 0.1)):
        assert measured(OVERSMOOTHING, graph, rate=off).verdict == "violated"


def test_the_first_layer_counts_even_where_nothing_is_left_for_a_second() -> None:
    mean = np.full((2, 2), 0.5)
    matrix = sp.csr_array(mean + 5e-4 * (np.eye(2) - mean))
    constant, none = (
        spectra.Span(np.zeros(2, dtype=np.int64), values) for values in (np.ones(2), np.zeros(2))
    )
    assert _slowest_decay(matrix, np.array([[2.0], [1.0]]), constant, none) == pytest.approx(5e-4, rel=1e-9)
    # About what swings, too.
    signs = spectra.Span(np.zeros(2, dtype=np.int64), np.array([1.0, -1.0]))
    swings = sp.csr_array(1e-4 * mean - (np.eye(2) - mean))
    assert _slowest_decay(swings, np.array([[2.0], [1.0]]), none, signs) == pytest.approx(1e-4, rel=1e-9)


def test_a_bipartite_graph_oscillates_for_ever_and_self_loops_stop_it() -> None:
    graph = subjects.complete_bipartite(3, 4)
    x = np.random.default_rng(0).standard_normal(7)
    constant, alternating = _limit(graph)
    matrix = np.linalg.matrix_power(propagation(graph, self_loops=False).toarray(), 1000)
    even, odd = matrix @ x, propagation(graph, self_loops=False) @ (matrix @ x)
    assert np.linalg.norm(even - odd) == pytest.approx(2 * np.linalg.norm(alternating.project(x)), rel=1e-9)
    assert (even + odd) / 2 == pytest.approx(constant.project(x), abs=1e-9)
    assert _limit(graph.with_self_loops())[1].dimension == 0
    assert measured(OVERSMOOTHING_WITH_LOOPS, graph).bound < 1
