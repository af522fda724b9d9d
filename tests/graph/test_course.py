"""The course's variants of GCN and GAT against twins written from the protocol's description alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from layerlab.graph import ops, reference
from layerlab.graph.course import CourseGAT, CourseGCN
from layerlab.graph.sparse import SparseMatrix
from layerlab.graph.structure import Graph
from layerlab.lab import kernels

NODES, FEATURES, CLASSES = 9, 5, 3


@pytest.fixture
def graph() -> Graph:
    # Node 8 is isolated: it has its own self-loop only.
    return Graph.from_edges([0, 0, 1, 2, 3, 4, 5, 6], [1, 2, 3, 3, 4, 5, 6, 7], num_nodes=NODES)


@pytest.fixture
def x() -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    dense = torch.randn(NODES, FEATURES, generator=generator, dtype=torch.float64)
    return torch.where(torch.rand(NODES, FEATURES, generator=generator) < 0.5, dense, 0.0)


def dense_adjacency(graph: Graph) -> torch.Tensor:
    source, target, _ = graph.edges()
    adjacency = torch.zeros(graph.num_nodes, graph.num_nodes, dtype=torch.float64)
    for u, v in zip(source, target, strict=True):
        adjacency[u, v] = adjacency[v, u] = 1.0
    return adjacency


def dense_operator(graph: Graph) -> torch.Tensor:
    """A + I, scaled by the square roots of its row sums."""
    with_loops = dense_adjacency(graph) + torch.eye(graph.num_nodes, dtype=torch.float64)
    root = with_loops.sum(1).sqrt()
    return with_loops / root[:, None] / root[None, :]


def as_sparse(x: torch.Tensor) -> SparseMatrix:
    return SparseMatrix.from_dense(x)


@pytest.mark.parametrize("features", [lambda x: x, as_sparse], ids=["dense", "sparse"])
def test_gcn_adds_its_bias_before_propagation(graph: Graph, x: torch.Tensor, features: Any) -> None:
    torch.manual_seed(0)
    model = CourseGCN(FEATURES, 4, CLASSES).double().eval()
    P = dense_operator(graph)
    first, second = model.first, model.second
    hidden = torch.relu(P @ (x @ first.weight.T + first.bias))
    expected = P @ (hidden @ second.weight.T + second.bias)
    torch.testing.assert_close(model(features(x), graph), expected)
    after = P @ torch.relu(P @ x @ first.weight.T + first.bias) @ second.weight.T + second.bias
    assert (expected - after).abs().max() > 1e-2


@pytest.mark.parametrize("features", [lambda x: x, as_sparse], ids=["dense", "sparse"])
def test_gat_shares_one_attention_vector(graph: Graph, x: torch.Tensor, features: Any) -> None:
    torch.manual_seed(0)
    model = CourseGAT(FEATURES, 2, CLASSES, heads=4).double().eval()
    mask = dense_operator(graph) != 0
    first, second = model.first, model.second
    assert tuple(first.att_target.shape) == tuple(first.att_source.shape) == (1, 2)
    hidden = reference.gat_conv(x, mask, first.weight, first.att_target, first.att_source)
    assert tuple(hidden.shape) == (NODES, 8)
    hidden = nn.functional.elu(hidden)
    expected = reference.gat_conv(
        hidden, mask, second.weight, second.att_target, second.att_source, concat=False
    )
    torch.testing.assert_close(model(features(x), graph), expected)


def test_gradients_are_those_of_the_dense_twin(graph: Graph, x: torch.Tensor) -> None:
    torch.manual_seed(0)
    model = CourseGCN(FEATURES, 4, CLASSES).double().eval()
    P, weights = dense_operator(graph), list(model.parameters())
    found = torch.autograd.grad(model(as_sparse(x), graph).square().sum(), weights)
    w1, b1, w2, b2 = weights
    twin = P @ (torch.relu(P @ (x @ w1.T + b1)) @ w2.T + b2)
    torch.testing.assert_close(found, torch.autograd.grad(twin.square().sum(), weights))


def test_the_parameters_are_those_of_the_notebook() -> None:
    gcn, gat = CourseGCN(1433, 16, 7), CourseGAT(1433, 2, 7, heads=8)
    assert {name: tuple(p.shape) for name, p in gcn.named_parameters()} == {
        "first.weight": (16, 1433),
        "first.bias": (16,),
        "second.weight": (7, 16),
        "second.bias": (7,),
    }
    assert {name: tuple(p.shape) for name, p in gat.named_parameters()} == {
        "first.weight": (16, 1433),
        "first.att_target": (1, 2),
        "first.att_source": (1, 2),
        "second.weight": (7, 16),
        "second.att_target": (1, 7),
        "second.att_source": (1, 7),
    }


def drawn(make: Any, name: str) -> np.ndarray:
    values = []
    for seed in range(100):
        torch.manual_seed(seed)
        values.append(dict(make().named_parameters())[name].detach().flatten().numpy())
    return np.concatenate(values)


@pytest.mark.parametrize(
    ("make", "name", "bound"),
    [
        (lambda: CourseGCN(25, 16, 4), "first.weight", 1 / 5),
        (lambda: CourseGCN(25, 16, 4), "first.bias", 1 / 5),
        (lambda: CourseGCN(25, 16, 4), "second.weight", 1 / 4),
        (lambda: CourseGCN(25, 16, 4), "second.bias", 1 / 4),
        (lambda: CourseGAT(25, 2, 8, heads=8), "first.weight", 1 / 5),
        (lambda: CourseGAT(25, 2, 8, heads=8), "first.att_target", 1 / 2),
        (lambda: CourseGAT(25, 2, 8, heads=8), "first.att_source", 1 / 2),
        (lambda: CourseGAT(25, 2, 8, heads=8), "second.weight", 1 / 4),
        (lambda: CourseGAT(25, 2, 8, heads=8), "second.att_target", 1 / 4),
        (lambda: CourseGAT(25, 2, 8, heads=8), "second.att_source", 1 / 4),
    ],
)
def test_initial_weights_are_uniform_within_the_notebooks_bounds(make: Any, name: str, bound: float) -> None:
    values = drawn(make, name)
    assert np.abs(values).max() <= bound
    assert np.abs(values).max() > 0.95 * bound
    # Uniform on [-b, b]: standard deviation b / sqrt(3), here from at least 200 numbers.
    assert values.std() == pytest.approx(bound / 3**0.5, rel=0.15)


@pytest.fixture
def dropped(monkeypatch: pytest.MonkeyPatch) -> list[tuple[tuple[int, ...], float]]:
    """Shape and probability of every dropout that a forward pass in training mode applies."""
    found: list[tuple[tuple[int, ...], float]] = []

    def record(x: torch.Tensor, p: float, training: bool) -> torch.Tensor:
        if training:
            found.append((tuple(x.shape), p))
        return x

    monkeypatch.setattr(ops, "dropout", record)
    return found


def test_gcn_drops_hidden_features_only(
    graph: Graph, x: torch.Tensor, dropped: list[tuple[tuple[int, ...], float]]
) -> None:
    model = CourseGCN(FEATURES, 4, CLASSES, dropout=0.5).double()
    with kernels.disabled():  # the kernels drop where nobody can look on
        model.train()(as_sparse(x), graph)
    assert dropped == [((NODES, 4), 0.5)]
    model.eval()(as_sparse(x), graph)
    assert len(dropped) == 1


def test_gat_drops_features_and_coefficients(
    graph: Graph, x: torch.Tensor, dropped: list[tuple[tuple[int, ...], float]]
) -> None:
    features = as_sparse(x)
    model = CourseGAT(FEATURES, 2, CLASSES, heads=4, dropout=0.5).double()
    with kernels.disabled():
        model.train()(features, graph)
    arcs = 2 * graph.num_edges + NODES
    assert dropped == [((features.nnz,), 0.5), ((arcs, 4), 0.5), ((NODES, 8), 0.5), ((arcs, 1), 0.5)]
    model.eval()(features, graph)
    assert len(dropped) == 4
