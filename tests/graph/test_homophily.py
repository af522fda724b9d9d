"""Homophily: against torch_geometric, against a formula read node by node, and at its defined ends."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from layerlab.errors import UserError
from layerlab.graph.homophily import homophily
from layerlab.graph.structure import Graph


def _random(seed: int, nodes: int = 40, classes: int = 4) -> tuple[Graph, np.ndarray]:
    generator = np.random.default_rng(seed)
    source, target = generator.integers(0, nodes, (2, 90))
    proper = source != target
    labels = np.concatenate([np.arange(classes), generator.integers(0, classes, nodes - classes)])
    return Graph.from_edges(source[proper], target[proper], num_nodes=nodes), labels


@pytest.mark.parametrize("seed", range(5))
def test_it_agrees_with_torch_geometric(seed: int) -> None:
    peer = pytest.importorskip("torch_geometric.utils", reason="torch_geometric is an extra")
    graph, labels = _random(seed)
    source, target, _ = graph.edges()
    index = torch.from_numpy(np.stack([np.concatenate([source, target]), np.concatenate([target, source])]))
    classes = torch.from_numpy(labels)
    got = homophily(graph, labels)
    assert got.edge == pytest.approx(peer.homophily(index, classes, method="edge"), abs=1e-6)
    # The peer counts nodes without neighbours as 0; we leave them out.
    touched = (graph.degrees() > 0).mean()
    assert got.node * touched == pytest.approx(peer.homophily(index, classes, method="node"), abs=1e-6)
    insensitive = peer.homophily(index, classes, method="edge_insensitive")
    assert got.class_insensitive == pytest.approx(insensitive, abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_adjusted_and_informativeness_read_from_the_formula(seed: int) -> None:
    graph, labels = _random(seed, classes=3)
    ends = [(int(u), int(v)) for u, v in zip(*graph.edges()[:2], strict=True)]
    ends += [(v, u) for u, v in ends]
    share = {k: sum(labels[u] == k for u, _ in ends) / len(ends) for k in range(3)}
    both = {
        (a, b): sum((labels[u], labels[v]) == (a, b) for u, v in ends) / len(ends)
        for a in range(3)
        for b in range(3)
    }
    expected = sum(p**2 for p in share.values())
    edge = sum(both[k, k] for k in range(3))
    mutual = sum(p * math.log(p / (share[a] * share[b])) for (a, b), p in both.items() if p)
    entropy = -sum(p * math.log(p) for p in share.values())
    got = homophily(graph, labels)
    assert got.expected == pytest.approx(expected)
    assert got.adjusted == pytest.approx((edge - expected) / (1 - expected))
    assert got.informativeness == pytest.approx(mutual / entropy)


def test_two_cliques_are_wholly_homophilous_and_a_bipartite_graph_wholly_heterophilous() -> None:
    cliques = Graph.from_edges([0, 0, 1, 3, 3, 4], [1, 2, 2, 4, 5, 5])
    same = homophily(cliques, [0, 0, 0, 1, 1, 1])
    assert (same.edge, same.node, same.class_insensitive, same.adjusted) == (1, 1, 1, 1)
    assert same.informativeness == pytest.approx(1)
    sides = homophily(Graph.from_edges([0, 0, 1, 1], [2, 3, 2, 3]), [0, 0, 1, 1])
    assert (sides.edge, sides.node, sides.class_insensitive, sides.adjusted) == (0, 0, 0, -1)
    # The neighbour's class says everything all the same.
    assert sides.informativeness == pytest.approx(1)


def test_unlabelled_nodes_and_self_loops_are_left_out() -> None:
    plain = homophily(Graph.from_edges([0, 1, 2], [1, 2, 3]), [0, 0, 1, 1])
    padded = Graph.from_edges([0, 1, 2, 3, 4, 0], [1, 2, 3, 4, 5, 0])
    got = homophily(padded, [0, 0, 1, 1, -1, -1])
    assert (got.edges, got.unlabelled_edges) == (3, 2)
    assert (got.edge, got.node, got.class_insensitive, got.adjusted) == (
        plain.edge,
        plain.node,
        plain.class_insensitive,
        plain.adjusted,
    )


def test_class_names_may_have_gaps() -> None:
    graph = Graph.from_edges([0, 1, 2], [1, 2, 3])
    assert homophily(graph, [7, 7, 3, 3]) == homophily(graph, [1, 1, 0, 0])


@pytest.mark.parametrize(
    ("graph", "labels"),
    [
        (Graph.from_edges([], [], num_nodes=0), []),
        (Graph.from_edges([], [], num_nodes=3), [0, 1, 1]),
        (Graph.from_edges([0], [1]), [0, 0]),
        (Graph.from_edges([0, 1], [1, 2]), [0, -1, 1]),
    ],
)
def test_what_is_not_defined_is_nan_and_said(graph: Graph, labels: list[int]) -> None:
    got = homophily(graph, np.array(labels, dtype=np.int64))
    assert got.kind == "unknown"
    assert math.isnan(got.edge)
    assert got.to_dict()["edge"] is None
    assert "cannot be measured" in got.words()


@pytest.mark.parametrize(
    ("labels", "message"),
    [([0], "each of 2 nodes"), ([0.0, 1.0], "whole-number"), ([-2, 0], "from -1")],
)
def test_wrong_labels_are_refused(labels: list[float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        homophily(Graph.from_edges([0], [1]), labels)


@pytest.mark.parametrize(
    ("wanted", "kind", "word"),
    [
        (0.8, "homophilous", "strengthens"),
        (0.02, "heterophilous", "blurs"),
        (0.25, "neutral", "without edges"),
    ],
)
def test_the_words_fit_the_graph(wanted: float, kind: str, word: str) -> None:
    from layerlab.graph.generate import block_model

    data = block_model(1200, homophily=wanted, degree=8.0, seed=4)
    got = homophily(data.graph, data.labels)
    assert got.kind == kind
    assert word in got.words()
    assert got.to_dict()["kind"] == kind


def test_a_graph_may_be_neutral_and_tell_much() -> None:
    # Classes on a directed cycle of four: a neighbour is of a's class as often as chance has it, never of the third.
    generator = np.random.default_rng(0)
    labels = np.arange(400) % 4
    source = generator.integers(0, 400, 3000)
    step = generator.choice([0, 1, 3], size=3000, p=[0.25, 0.375, 0.375])
    target = (generator.integers(0, 100, 3000) * 4 + (labels[source] + step) % 4) % 400
    got = homophily(Graph.from_edges(source, target, num_nodes=400), labels)
    assert got.kind == "neutral"
    assert got.informativeness > 0.05
    assert "trained model" in got.words()
