"""The claims about the eigenvalue 2: on any graph, against networkx, and the erratum of question 3.2.3."""

from __future__ import annotations

import math

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from random_graphs import graphs, measured

from layerlab.graph.convert import to_networkx
from layerlab.graph.matrices import laplacian, normalized_laplacian
from layerlab.graph.structure import Graph
from layerlab.graph.theorems import (
    BIPARTITE_TWO,
    LAMBDA_MAX,
    LEADING_EIGENVECTOR,
    LEADING_EIGENVECTOR_AS_PRINTED,
    spectra,
    subjects,
)

ANY = settings(derandomize=True, deadline=None, max_examples=60)


# ------------------------------------------------------------------------------------------------ lambda-max


@pytest.mark.parametrize(
    ("graph", "expected"),
    [
        (subjects.path(7), 2.0),
        (subjects.cycle(10), 2.0),
        (subjects.cycle(9), 1 + math.cos(math.pi / 9)),
        (subjects.complete(6), 6 / 5),
        (subjects.star(5), 2.0),
        (subjects.bare(3), 0.0),
        (Graph.from_edges([0], [0]), 0.0),
        # A triangle beside an edge and an isolated node: the edge is bipartite.
        (Graph.from_edges([0, 1, 2, 3], [1, 2, 0, 4], num_nodes=6), 2.0),
    ],
)
def test_lambda_max_of_graphs_whose_spectrum_is_known(graph: Graph, expected: float) -> None:
    outcome = measured(LAMBDA_MAX, graph)
    assert outcome.measured == pytest.approx(expected, abs=1e-14)
    assert outcome.verdict == "holds"


@ANY
@given(graphs())
def test_lambda_max_holds_on_any_undirected_graph(graph: Graph) -> None:
    assert measured(LAMBDA_MAX, graph).verdict == "holds"


def test_lanczos_finds_the_largest_eigenvalue_to_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = subjects.erdos_renyi(200, 0.05)
    dense = measured(LAMBDA_MAX, graph).measured
    monkeypatch.setattr(spectra, "DENSE_UP_TO", 100)
    assert measured(LAMBDA_MAX, graph).measured == pytest.approx(dense, abs=1e-12)


@pytest.mark.parametrize(
    ("graph", "reason"),
    [
        (subjects.bare(0), "the graph has no node"),
        (subjects.directed(), "the graph is directed"),
        (subjects.negative_weight(), "a weight is negative"),
        (Graph.from_edges([0], [1], weight=[1e200]), "a weight has a magnitude outside 1e-140 to 1e+140"),
        *(
            (
                Graph.from_edges([0, 1], [1, 2], weight=[1.0, outside]),
                "a weight has a magnitude outside 1e-140 to 1e+140",
            )
            for outside in (1e-200, 1e200)
        ),
    ],
)
def test_the_hypothesis_that_fails_is_named(graph: Graph, reason: str) -> None:
    for claim in (LAMBDA_MAX, BIPARTITE_TWO, LEADING_EIGENVECTOR):
        outcome = measured(claim, graph)
        assert (outcome.verdict, outcome.unmet) == ("hypotheses unmet", reason)


def test_the_bound_is_really_needed_of_the_normalisation() -> None:
    # D − A of the complete graph on n nodes has largest eigenvalue n; a normalisation slightly off fails too.
    assert measured(LAMBDA_MAX, subjects.complete(9), matrix=laplacian).measured == pytest.approx(9.0)

    def slightly(graph: Graph) -> object:
        return normalized_laplacian(graph) * (1 + 1e-12)

    assert measured(LAMBDA_MAX, subjects.path(5), matrix=slightly).verdict == "violated"


# --------------------------------------------------------------------------------------------- bipartite-two


def bipartite_parts(graph: Graph) -> int:
    """By networkx: components with an edge that are bipartite."""
    network = to_networkx(graph)
    parts = [network.subgraph(nodes) for nodes in nx.connected_components(network)]
    return sum(part.number_of_edges() > 0 and nx.is_bipartite(part) for part in parts)


@ANY
@given(graphs())
def test_eigenvalue_2_counts_the_bipartite_components_of_networkx(graph: Graph) -> None:
    outcome = measured(BIPARTITE_TWO, graph)
    assert outcome.verdict == "holds"
    assert outcome.measured == bipartite_parts(graph)


@pytest.mark.parametrize("dense_up_to", [5, 1000])
@pytest.mark.parametrize(
    ("graph", "count"),
    [
        (subjects.cycle(40), 1),
        (subjects.cycle(41), 0),
        (subjects.union(subjects.star(9), subjects.path(2), subjects.cycle(9), subjects.bare(3)), 2),
        (subjects.bare(9), 0),
        (Graph.from_edges([0, 1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 5]), 0),
    ],
)
def test_eigenvalue_2_is_counted_both_ways(
    graph: Graph, count: int, dense_up_to: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spectra, "DENSE_UP_TO", dense_up_to)
    outcome = measured(BIPARTITE_TWO, graph)
    assert (outcome.measured, outcome.verdict) == (count, "holds")
    for wrong in (count + 1, count - 1):
        verdict = measured(BIPARTITE_TWO, graph, count=lambda _, wrong=wrong: wrong).verdict
        assert verdict == "violated"


def test_a_self_loop_too_light_for_float64_is_no_violation() -> None:
    light = BIPARTITE_TWO.falsifiers["undecidable"].subject()
    assert "float64 cannot tell them apart" in str(measured(BIPARTITE_TWO, light).unmet)
    none = Graph.from_edges([0, 1, 0], [1, 2, 0], weight=[1.0, 1.0, 0.0])
    assert measured(BIPARTITE_TWO, none, count=lambda _: 0).verdict == "violated"
    heavier = Graph.from_edges([0, 1, 0], [1, 2, 0], weight=[1.0, 1.0, 1e-10])
    assert measured(BIPARTITE_TWO, heavier).verdict == "holds"


# --------------------------------------------------------------------------------------- leading-eigenvector


def test_the_erratum_of_3_2_3_on_the_path_of_three_nodes() -> None:
    path = subjects.path(3)
    printed = measured(LEADING_EIGENVECTOR_AS_PRINTED, path)
    # v = (1, −√2, 1) / 2: the sum along an edge is 1 − √2, relative to the largest entry √2.
    assert printed.measured == pytest.approx((math.sqrt(2) - 1) / math.sqrt(2), abs=1e-14)
    assert printed.verdict == "violated"
    # Read as D − A, with (1, −2, 1): a sum of −1, relative to 2.
    other = measured(LEADING_EIGENVECTOR_AS_PRINTED, path, matrix=laplacian)
    assert other.measured == pytest.approx(0.5, abs=1e-14)
    corrected = measured(LEADING_EIGENVECTOR, path)
    assert corrected.verdict == "holds"
    assert corrected.measured < 1e-14


@ANY
@given(graphs(lowest=0.1))
def test_the_corrected_hint_holds_wherever_a_component_is_bipartite(graph: Graph) -> None:
    outcome = measured(LEADING_EIGENVECTOR, graph)
    if bipartite_parts(graph):
        assert outcome.verdict == "holds" or "gap" in str(outcome.unmet)
    else:
        assert "no component with an edge is bipartite" in str(outcome.unmet)


def test_the_printed_hint_is_true_on_regular_graphs_and_false_where_degrees_differ() -> None:
    for regular in (subjects.cycle(10), subjects.complete_bipartite(4, 4)):
        assert measured(LEADING_EIGENVECTOR_AS_PRINTED, regular).verdict == "holds"
    for other in (subjects.path(4), subjects.complete_bipartite(4, 5)):
        assert measured(LEADING_EIGENVECTOR_AS_PRINTED, other).verdict == "violated"


def test_the_eigenvector_claim_sees_one_wrong_entry_and_stays_dense(monkeypatch: pytest.MonkeyPatch) -> None:
    def off(graph: Graph) -> np.ndarray:
        scale = 1 / np.sqrt(graph.degrees())
        scale[3] *= 1 + 1e-9
        return np.asarray(scale)

    assert measured(LEADING_EIGENVECTOR, subjects.star(8), scale=off).verdict == "violated"
    monkeypatch.setattr(spectra, "DENSE_UP_TO", 5)
    assert "9 nodes are too many" in str(measured(LEADING_EIGENVECTOR, subjects.star(8)).unmet)
