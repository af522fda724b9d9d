"""The graph against dense matrices, and what makes it safe to share."""

from __future__ import annotations

import copy
import pickle
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from layerlab.errors import UserError
from layerlab.graph.structure import Graph

EXACT = settings(derandomize=True, deadline=None, max_examples=60)
DOUBLE = torch.float64


@st.composite
def edge_lists(draw: st.DrawFn) -> dict:
    """Arguments of from_edges: repeats, loops, isolated nodes, both directions, weights of either sign."""
    n = draw(st.integers(0, 7))
    nodes = st.integers(0, max(n - 1, 0))
    pairs = draw(st.lists(st.tuples(nodes, nodes), max_size=20 if n else 0))
    weight = None
    if draw(st.booleans()):
        # Few values, so that repeats with the same and with other weights both happen; sums are exact.
        values = st.sampled_from([-1.5, 0.0, 0.25, 1.0, 3.0])
        weight = draw(st.lists(values, min_size=len(pairs), max_size=len(pairs)))
    source, target = [u for u, _ in pairs], [v for _, v in pairs]
    return {
        "source": source,
        "target": target,
        "num_nodes": n,
        "weight": weight,
        "directed": draw(st.booleans()),
    }


def dense(arguments: dict) -> np.ndarray:
    """The adjacency matrix by the stated rule, slow and obvious."""
    given_weights: dict[tuple[int, int], set[float]] = {}
    weight = arguments["weight"] or [1.0] * len(arguments["source"])
    for u, v, w in zip(arguments["source"], arguments["target"], weight, strict=True):
        given_weights.setdefault((u, v), set()).add(w)
        if not arguments["directed"]:
            given_weights.setdefault((v, u), set()).add(w)
    matrix = np.zeros((arguments["num_nodes"], arguments["num_nodes"]))
    for pair, values in given_weights.items():
        matrix[pair] = sum(values)
    return matrix


@EXACT
@given(edge_lists())
def test_adjacency_is_what_the_edges_say(arguments: dict) -> None:
    g, A = Graph.from_edges(**arguments), dense(arguments)
    pairs = set(zip(arguments["source"], arguments["target"], strict=True))
    stored = pairs if g.directed else pairs | {(v, u) for u, v in pairs}
    np.testing.assert_array_equal(g.adjacency(DOUBLE).to_dense().numpy(), A)
    assert g.indices.size == len(stored)  # edges of weight 0 are kept
    for u in range(g.num_nodes):
        assert g.indices[g.indptr[u] : g.indptr[u + 1]].tolist() == sorted(v for w, v in stored if w == u)
    np.testing.assert_array_equal(g.degrees("out"), A.sum(1))
    np.testing.assert_array_equal(g.degrees("in"), A.sum(0))
    np.testing.assert_array_equal(g.transpose().adjacency(DOUBLE).to_dense().numpy(), A.T)
    assert g.num_edges == len(stored if g.directed else {tuple(sorted(pair)) for pair in pairs})
    assert g.num_self_loops == sum(u == v for u, v in stored)
    assert g.isolated_nodes().tolist() == sorted(
        set(range(g.num_nodes)) - {u for pair in pairs for u in pair}
    )
    assert g.weighted == (arguments["weight"] is not None)


@EXACT
@given(edge_lists(), st.randoms(use_true_random=False))
def test_order_and_orientation_of_the_list_do_not_matter(arguments: dict, random) -> None:
    g = Graph.from_edges(**arguments)
    order = list(range(len(arguments["source"])))
    random.shuffle(order)
    shuffled = dict(arguments)
    for name in ("source", "target", "weight"):
        if arguments[name] is not None:
            shuffled[name] = [arguments[name][i] for i in order]
    assert Graph.from_edges(**shuffled) == g
    shuffled["source"], shuffled["target"] = shuffled["target"], shuffled["source"]
    assert Graph.from_edges(**shuffled) == g.transpose()


@EXACT
@given(edge_lists())
def test_edges_rebuild_the_graph(arguments: dict) -> None:
    g = Graph.from_edges(**arguments)
    source, target, weight = g.edges()
    again = Graph.from_edges(source, target, num_nodes=g.num_nodes, weight=weight, directed=g.directed)
    assert again == g
    assert source.dtype == target.dtype == np.int64
    assert g.directed or (source <= target).all()
    assert source.size == g.num_edges


@EXACT
@given(edge_lists())
def test_self_loops_are_added_where_there_is_none(arguments: dict) -> None:
    g, A = Graph.from_edges(**arguments), dense(arguments)
    looped = g.with_self_loops()
    has_loop = {u for u, v in zip(arguments["source"], arguments["target"], strict=True) if u == v}
    for u in range(g.num_nodes):
        if u not in has_loop:
            A[u, u] = 1.0
    np.testing.assert_array_equal(looped.adjacency(DOUBLE).to_dense().numpy(), A)
    assert looped.num_self_loops == g.num_nodes
    assert looped.with_self_loops() is looped
    assert g.with_self_loops() is looped
    row, col = looped.adjacency().row, looped.adjacency().col
    assert ((row[1:] > row[:-1]) | (col[1:] > col[:-1])).all()  # still sorted


def reference_normalization(arguments: dict, self_loops: bool) -> np.ndarray:
    """D^-1/2 (Aᵀ + remaining loops) D^-1/2, written out."""
    M = dense(arguments).T.copy()
    loops = {u for u, v in zip(arguments["source"], arguments["target"], strict=True) if u == v}
    for u in range(arguments["num_nodes"]):
        if self_loops and u not in loops:
            M[u, u] = 1.0
    degree = M.sum(1)
    root = np.array([d**-0.5 if d > 0 else 0.0 for d in degree])
    return np.diag(root) @ M @ np.diag(root) if degree.size else M


@EXACT
@given(edge_lists(), st.booleans())
def test_normalized_adjacency_is_its_formula(arguments: dict, self_loops: bool) -> None:
    if arguments["weight"] is not None:
        arguments["weight"] = [abs(w) for w in arguments["weight"]]
    P = Graph.from_edges(**arguments).normalized_adjacency(self_loops, DOUBLE)
    np.testing.assert_allclose(
        P.to_dense().numpy(), reference_normalization(arguments, self_loops), rtol=1e-14, atol=0
    )


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("self_loops", [False, True])
def test_normalized_adjacency_is_that_of_torch_geometric(
    directed: bool, weighted: bool, self_loops: bool
) -> None:
    pytest.importorskip("torch_geometric")
    from torch_geometric.nn.conv.gcn_conv import gcn_norm

    rng = np.random.default_rng(7)
    source, target = rng.integers(0, 40, 120), rng.integers(0, 40, 120)  # nodes 40..49 are isolated
    source[:5] = target[:5] = [3, 8, 9, 21, 39]
    weight = rng.uniform(0.1, 4.0, 120) if weighted else None
    g = Graph.from_edges(source, target, num_nodes=50, weight=weight, directed=directed)
    assert g.num_self_loops >= 5
    assert g.isolated_nodes().size >= 10

    A = g.adjacency(DOUBLE)
    edge_index = torch.stack([A.row.long(), A.col.long()])
    edge_index, values = gcn_norm(edge_index, A.values, 50, add_self_loops=self_loops, dtype=DOUBLE)
    expected = torch.zeros(50, 50, dtype=DOUBLE)
    expected[edge_index[1], edge_index[0]] = values  # row: who receives
    P = g.normalized_adjacency(self_loops, DOUBLE).to_dense()
    torch.testing.assert_close(P, expected, rtol=1e-14, atol=0)
    assert directed != torch.equal(P, P.T)  # symmetric to the last bit, or not at all


def test_isolated_nodes_send_to_themselves_only_with_self_loops() -> None:
    g = Graph.from_edges([0], [1], num_nodes=3)
    assert g.normalized_adjacency().to_dense()[2].tolist() == [0.0, 0.0, 1.0]
    assert g.normalized_adjacency(self_loops=False).to_dense()[2].tolist() == [0.0, 0.0, 0.0]


def test_a_negative_degree_has_no_square_root() -> None:
    g = Graph.from_edges([0, 1], [1, 2], weight=[1.0, -3.0])
    with pytest.raises(UserError, match="node 1 has -1;"):
        g.normalized_adjacency()
    with pytest.raises(UserError, match="node 1 has -2;"):
        g.normalized_adjacency(self_loops=False)
    huge = Graph.from_edges([0, 1], [1, 2], weight=[1e308, 1.5e308])
    with pytest.raises(UserError, match="node 1 has inf;"):
        huge.normalized_adjacency()
    # Weights that cancel leave a degree of 0: a zero row, like that of an isolated node.
    cancelled = Graph.from_edges([0, 1, 2], [3, 3, 0], weight=[1.0, -1.0, 1.0], directed=True)
    assert not cancelled.normalized_adjacency(self_loops=False).to_dense()[3].any()


def test_operators_refuse_types_that_cannot_hold_them() -> None:
    g = Graph.from_edges([0], [1], weight=[1e300])
    with pytest.raises(UserError, match=r"floating dtype, got torch\.int64"):
        g.adjacency(torch.int64)
    with pytest.raises(UserError, match=r"too large for torch\.float32"):
        g.adjacency()
    assert g.adjacency(DOUBLE).values.tolist() == [1e300, 1e300]
    with pytest.raises(UserError, match="'out' or 'in', got 'both'"):
        g.degrees("both")


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("nodes", [0, 3])
def test_a_graph_without_edges_works(nodes: int, directed: bool) -> None:
    for weight in (None, []):
        g = Graph.from_edges([], [], num_nodes=nodes, weight=weight, directed=directed)
        assert (g.num_nodes, g.num_edges, g.num_self_loops) == (nodes, 0, 0)
        assert g.notes == (("3 isolated nodes",) if nodes else ())
        assert g.degrees().tolist() == g.degrees("in").tolist() == [0.0] * nodes
        assert g.degrees().dtype == np.float64
        assert torch.equal(g.adjacency().to_dense(), torch.zeros(nodes, nodes))
        assert torch.equal(g.normalized_adjacency(False).to_dense(), torch.zeros(nodes, nodes))
        assert torch.equal(g.normalized_adjacency().to_dense(), torch.eye(nodes))
        assert g.transpose() == g
        assert [part.size for part in g.edges()[:2]] == [0, 0]
    assert Graph.from_edges([], []).num_nodes == 0


# ---------------------------------------------------------------------- safe to share


@pytest.fixture(params=[False, True], ids=["undirected", "directed"])
def graph(request: pytest.FixtureRequest) -> Graph:
    return Graph.from_edges(
        [0, 1, 2, 2], [1, 2, 2, 3], num_nodes=5, weight=[1.0, 2.0, 3.0, 4.0], directed=request.param
    )


def test_nothing_can_be_written(graph: Graph) -> None:
    for g in (graph, graph.transpose(), graph.with_self_loops(), pickle.loads(pickle.dumps(graph))):
        for array in (g.indptr, g.indices, g.weights):
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 1
    with pytest.raises(FrozenInstanceError):
        graph.num_nodes = 7
    with pytest.raises(FrozenInstanceError):
        graph.weights = None
    with pytest.raises(AttributeError):
        graph.num_edges = 7


def test_writing_into_an_operator_does_not_reach_the_graph(graph: Graph) -> None:
    before = graph.weights.copy()
    graph.adjacency(DOUBLE).values.zero_()
    np.testing.assert_array_equal(graph.weights, before)


def test_derived_objects_are_made_once(graph: Graph) -> None:
    assert graph.transpose() is graph.transpose()
    assert graph.transpose().transpose() is graph
    assert (graph.transpose() is graph) == (not graph.directed)
    assert graph.adjacency() is graph.adjacency(torch.float32)
    assert graph.adjacency() is not graph.adjacency(DOUBLE)
    assert graph.adjacency().dtype == torch.float32
    assert graph.adjacency().pattern is graph.adjacency(DOUBLE).pattern
    assert graph.normalized_adjacency() is graph.normalized_adjacency(True, torch.float32)
    assert graph.normalized_adjacency() is not graph.normalized_adjacency(False)
    assert graph.normalized_adjacency(dtype=DOUBLE).dtype == DOUBLE


def test_copies_are_the_graph_itself(graph: Graph) -> None:
    assert copy.copy(graph) is graph
    assert copy.deepcopy([graph])[0] is graph


def test_pickling_to_a_worker_keeps_the_content_and_not_the_cache(graph: Graph) -> None:
    small = len(pickle.dumps(graph))
    graph.normalized_adjacency()
    graph.transpose()
    again = pickle.loads(pickle.dumps(graph))
    assert len(pickle.dumps(graph)) == small
    assert again == graph
    assert again.notes == graph.notes
    assert torch.equal(again.normalized_adjacency().values, graph.normalized_adjacency().values)


def test_equality_is_by_content() -> None:
    g = Graph.from_edges([0, 1], [1, 2])
    assert g == Graph.from_edges([2, 1, 1], [1, 0, 0])  # notes differ, content does not
    assert g != Graph.from_edges([0, 1], [1, 2], num_nodes=4)
    assert g != Graph.from_edges([0, 0], [1, 2])
    assert g != Graph.from_edges([0, 1, 1, 2], [1, 2, 0, 1], directed=True)
    assert g != Graph.from_edges([0, 1], [1, 2], weight=[1.0, 1.0])
    assert Graph.from_edges([0], [1], weight=[1.0]) != Graph.from_edges([0], [1], weight=[2.0])
    assert g != "a graph"
    assert len({g, Graph.from_edges([0, 1], [1, 2])}) == 2  # hashed by identity


def test_repr_says_what_it_is() -> None:
    assert repr(Graph.from_edges([0], [1])) == "Graph(2 nodes, 1 undirected edge)"
    assert (
        repr(Graph.from_edges([0, 1], [1, 0], weight=[1, 2], directed=True))
        == "Graph(2 nodes, 2 weighted arcs)"
    )
