"""Components and 2-colourings against networkx."""

from __future__ import annotations

import time

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layerlab.graph import components as components_module
from layerlab.graph.components import components
from layerlab.graph.structure import Graph


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Up to 14 nodes and 16 edges: scattered ones, trees, odd and even cycles, self-loops, arcs."""
    nodes = draw(st.integers(0, 14))
    ids = st.integers(0, max(nodes - 1, 0))
    pairs = draw(st.lists(st.tuples(ids, ids), max_size=16 if nodes else 0))
    source, target = [u for u, _ in pairs], [v for _, v in pairs]
    return Graph.from_edges(source, target, num_nodes=nodes, directed=draw(st.booleans()))


def as_networkx(graph: Graph) -> nx.Graph:
    source, target, _ = graph.edges()
    other = nx.DiGraph() if graph.directed else nx.Graph()
    other.add_nodes_from(range(graph.num_nodes))
    other.add_edges_from(zip(source.tolist(), target.tolist(), strict=True))
    return other


@settings(derandomize=True, deadline=None, max_examples=200)
@given(graphs())
def test_components_are_those_of_networkx(graph: Graph) -> None:
    found, other = components(graph), as_networkx(graph)
    expected = sorted(sorted(part) for part in nx.connected_components(other.to_undirected()))
    assert [np.flatnonzero(found.labels == part).tolist() for part in range(found.count)] == expected
    assert found.sizes.tolist() == [len(part) for part in expected]
    assert found.edges.tolist() == [other.subgraph(part).number_of_edges() for part in expected]
    assert found.bipartite.tolist() == [nx.is_bipartite(other.subgraph(part)) for part in expected]
    assert found.isolated.tolist() == graph.isolated_nodes().tolist()


@settings(derandomize=True, deadline=None, max_examples=200)
@given(graphs())
def test_colours_part_every_edge_of_a_bipartite_component(graph: Graph) -> None:
    found = components(graph)
    source, target, _ = graph.edges()
    for part in range(found.count):
        members = found.labels == part
        if found.bipartite[part]:
            inside = members[source]
            assert (found.colours[source[inside]] + found.colours[target[inside]] == 1).all()
            assert found.colours[np.flatnonzero(members)[0]] == 0
        else:
            assert (found.colours[members] == -1).all()


@pytest.mark.parametrize(("nodes", "bipartite"), [(4, True), (5, False), (101, False), (102, True)])
def test_a_cycle_is_bipartite_exactly_if_it_is_even(nodes: int, bipartite: bool) -> None:
    cycle = Graph.from_edges(np.arange(nodes), (np.arange(nodes) + 1) % nodes)
    assert components(cycle).bipartite.tolist() == [bipartite]


def test_an_edge_of_weight_zero_joins_nothing() -> None:
    found = components(Graph.from_edges([0, 1, 2], [1, 2, 2], weight=[0.0, -1.0, 0.0]))
    assert found.labels.tolist() == [0, 1, 1]
    assert found.edges.tolist() == [0, 1]
    assert found.bipartite.tolist() == [True, True]
    assert found.isolated.tolist() == [0]


def test_the_graph_without_nodes_has_no_component() -> None:
    found = components(Graph.from_edges([], [], num_nodes=0))
    assert (found.count, found.labels.size, found.isolated.size) == (0, 0, 0)
    assert found.to_dict() == {"count": 0, "isolated": 0, "bipartite": 0, "largest": []}


def test_a_hundred_thousand_components_take_no_loop() -> None:
    graph = Graph.from_edges(np.arange(0, 200_000, 2), np.arange(1, 200_000, 2), num_nodes=200_001)
    begin = time.process_time()
    found = components(graph)
    assert time.process_time() - begin < 2
    assert found.count == 100_001
    assert found.to_dict()["bipartite"] == 100_000


@settings(derandomize=True, deadline=None, max_examples=150)
@given(
    st.integers(1, 14),
    st.lists(st.tuples(st.integers(0, 13), st.integers(0, 13), st.sampled_from([0.0, 1.0])), max_size=25),
    st.booleans(),
    st.booleans(),
)
def test_a_large_graph_has_the_components_of_a_small_one(
    n: int, listed: list[tuple[int, int, float]], directed: bool, weighted: bool
) -> None:
    kept = [edge for edge in listed if max(edge[:2]) < n]
    source, target, weight = ([edge[at] for edge in kept] for at in range(3))
    graph = Graph.from_edges(
        source, target, num_nodes=n, weight=weight if weighted else None, directed=directed
    )
    one, other = components(graph), components_module._by_union(graph)
    for name in ("labels", "sizes", "edges", "bipartite", "colours", "isolated"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
        assert getattr(one, name).dtype == getattr(other, name).dtype
