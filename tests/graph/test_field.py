"""Receptive fields: exactly the nodes that matter, and the same loss and gradients as on the whole graph."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from layerlab.errors import UserError
from layerlab.graph.course import CourseGAT, CourseGCN
from layerlab.graph.field import receptive_field
from layerlab.graph.layers import GATConv, GCNConv, neighbourhoods
from layerlab.graph.models import GAT, GCN
from layerlab.graph.sparse import SparseMatrix
from layerlab.graph.structure import Graph

pytestmark = pytest.mark.usefixtures("either_path")


def random_graph(nodes: int = 40, edges: int = 60, directed: bool = False) -> Graph:
    rng = np.random.default_rng(0)
    source, target = rng.integers(0, nodes, (2, edges))
    return Graph.from_edges(
        source, target, num_nodes=nodes, weight=rng.uniform(0.5, 2.0, edges), directed=directed
    )


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
@pytest.mark.parametrize("directed", [False, True])
def test_the_field_is_the_k_hop_neighbourhood(depth: int, directed: bool) -> None:
    operator = random_graph(directed=directed).normalized_adjacency(dtype=torch.float64)
    nodes = torch.tensor([17, 3, 30])
    field = receptive_field(operator, nodes, depth)
    reach = torch.linalg.matrix_power((operator.to_dense() != 0).double(), depth)[nodes].sum(0) > 0
    assert set(field.inputs.tolist()) == set(reach.nonzero().flatten().tolist())
    assert len(field.operators) == depth
    x = torch.randn(40, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    out = x[field.inputs]
    for block in field.operators:
        columns = block.col
        for row in range(block.shape[0]):
            names = columns[block.crow[row] : block.crow[row + 1]]
            assert (names[1:] > names[:-1]).all()
        out = block.to_dense() @ out
    expected = torch.linalg.matrix_power(operator.to_dense(), depth) @ x
    torch.testing.assert_close(out, expected[nodes], rtol=1e-12, atol=1e-14)


MODELS = {
    "gcn": lambda: GCN(5, 4, 3),
    "gcn 3": lambda: GCN(5, 4, 3, layers=3),
    "gat": lambda: GAT(5, 4, 3, heads=2, out_heads=2),
    "course gcn": lambda: CourseGCN(5, 4, 3),
    "course gat": lambda: CourseGAT(5, 2, 3, heads=2),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("directed", [False, True])
def test_models_give_the_same_output_and_gradients_on_the_field(name: str, directed: bool) -> None:
    torch.manual_seed(0)
    graph, model = random_graph(directed=directed), MODELS[name]().double().eval()
    dense = torch.randn(40, 5, dtype=torch.float64) * (torch.rand(40, 5) < 0.5)
    x, nodes = SparseMatrix.from_dense(dense), torch.tensor([17, 3, 30, 0])
    attends = any(isinstance(module, GATConv) for module in model.modules())
    operator = neighbourhoods(graph, torch.float64) if attends else graph.normalized_adjacency(dtype=x.dtype)
    field = receptive_field(operator, nodes, 3 if name == "gcn 3" else 2)
    assert len(field.inputs) < 40
    whole = model(x, graph)[nodes]
    part = model(x.rows(field.inputs), field.operators)
    torch.testing.assert_close(part, whole, rtol=1e-12, atol=1e-14)
    cotangent = torch.linspace(-1, 1, part.numel(), dtype=torch.float64).view_as(part)
    parameters = list(model.parameters())
    for ours, theirs in zip(
        torch.autograd.grad((part * cotangent).sum(), parameters),
        torch.autograd.grad((whole * cotangent).sum(), parameters),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-13)


def test_zero_weight_edges_stay_in_the_field_of_attention() -> None:
    graph = Graph.from_edges([0, 1], [1, 2], weight=[0.0, 1.0])
    field = receptive_field(neighbourhoods(graph), torch.tensor([0]), 1)
    assert field.inputs.tolist() == [0, 1]


def test_rows_of_a_sparse_matrix() -> None:
    dense = torch.tensor([[0.0, 2.0, 1.0], [0.0, 0.0, 0.0], [3.0, 0.0, 4.0]])
    matrix = SparseMatrix.from_dense(dense)
    for index in ([2, 0], [1], [], [0, 0, 2, 1]):
        picked = torch.tensor(index, dtype=torch.int64)
        assert torch.equal(matrix.rows(picked).to_dense(), dense[picked])


def test_refusals() -> None:
    operator = random_graph().normalized_adjacency()
    for nodes in ([0, 0], [40], [-1], [[0]]):
        with pytest.raises(UserError):
            receptive_field(operator, torch.tensor(nodes), 1)
    with pytest.raises(UserError, match="square"):
        receptive_field(SparseMatrix.from_dense(torch.ones(2, 3)), torch.tensor([0]), 1)
    field = receptive_field(operator, torch.tensor([0]), 3)
    x = torch.zeros(len(field.inputs), 5)
    with pytest.raises(UserError, match="each of 2 layers, got 3"):
        GCN(5, 4, 3)(x, field.operators)
    with pytest.raises(UserError, match="expected a Graph"):
        GCN(5, 4, 3)(x, 7)
    model: nn.Module = GCNConv(5, 2)
    with pytest.raises(UserError, match="features"):
        model(x[:-1], field.operators[0])


def test_nodes_that_repeat_and_depths_below_0_are_named() -> None:
    operator = random_graph().normalized_adjacency()
    with pytest.raises(UserError, match="every node once, got node 7 again"):
        receptive_field(operator, torch.tensor([3, 7, 9, 7]), 1)
    with pytest.raises(UserError, match="expected a depth >= 0, got -1"):
        receptive_field(operator, torch.tensor([3]), -1)
