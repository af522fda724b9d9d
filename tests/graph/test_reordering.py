"""Renumbered graphs: the same graph, with its neighbours closer together."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from layerlab.graph import ops
from layerlab.graph.sparse import SparseMatrix
from layerlab.graph.structure import Graph


def example(directed: bool, weighted: bool, nodes: int = 60) -> Graph:
    rng = np.random.default_rng(0)
    source, target = rng.integers(0, nodes - 5, (2, 90))
    weight = rng.normal(size=90) if weighted else None
    if weight is not None:
        weight[0] = 0.0
    return Graph.from_edges(source, target, num_nodes=nodes, weight=weight, directed=directed)


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_graph_is_the_same_one(directed: bool, weighted: bool) -> None:
    graph = example(directed, weighted)
    moved, permutation = graph.reorder()
    assert sorted(permutation.tolist()) == list(range(60))
    dense = graph.to_scipy().toarray()
    assert np.array_equal(moved.to_scipy().toarray(), dense[permutation][:, permutation])
    assert moved.indices.size == graph.indices.size  # an edge of weight 0 is an edge
    assert (moved.directed, moved.weighted, moved.notes) == (directed, weighted, graph.notes)
    assert (moved.indptr.dtype, moved.indices.dtype) == (graph.indptr.dtype, graph.indices.dtype)
    for row in range(60):
        assert (np.diff(moved.indices[moved.indptr[row] : moved.indptr[row + 1]]) > 0).all()
    # As built by the front door.
    source, target, weight = moved.edges()
    assert Graph.from_edges(source, target, num_nodes=60, weight=weight, directed=directed) == moved


def test_features_and_results_follow_the_permutation() -> None:
    graph = example(directed=False, weighted=False)
    moved, permutation = graph.reorder()
    x = torch.randn(60, 5, generator=torch.Generator().manual_seed(0))
    features = SparseMatrix.from_dense(x).rows(torch.from_numpy(permutation))
    out = ops.propagate(moved.normalized_adjacency(), features, 2)
    torch.testing.assert_close(out, ops.propagate(graph.normalized_adjacency(), x, 2)[permutation])


def test_neighbours_come_close_together() -> None:
    shuffled = np.random.default_rng(1).permutation(500)
    ring = Graph.from_edges(shuffled, np.roll(shuffled, 1))
    moved, _ = ring.reorder()
    source, target, _ = moved.edges()
    assert np.abs(source - target).max() <= 2


@pytest.mark.parametrize("nodes", [0, 1, 4])
def test_graphs_without_edges(nodes: int) -> None:
    moved, permutation = Graph.from_edges([], [], num_nodes=nodes).reorder()
    assert moved == Graph.from_edges([], [], num_nodes=nodes)
    assert sorted(permutation.tolist()) == list(range(nodes))
