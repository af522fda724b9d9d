"""Inference layer by layer: the model's own output, whatever the size of a block and wherever activations lie."""

from __future__ import annotations

import weakref

import pytest
import torch
from planted_data import Columns, planted
from torch import nn

from layerlab.errors import UserError
from layerlab.graph.course import CourseGCN
from layerlab.graph.models import GAT, GCN, MLP, SGC
from layerlab.graph.sampling.inference import infer
from layerlab.graph.sampling.inputs import Inputs
from layerlab.graph.sampling.propagation import propagate_columns
from layerlab.graph.sampling.room import Room, room
from layerlab.graph.sparse import SparseMatrix
from layerlab.graph.task import normalise_rows

MODELS = {
    "gcn": lambda: GCN(20, 8, 3, layers=3),
    "gcn that widens": lambda: GCN(20, 40, 3, layers=2),
    "gat": lambda: GAT(20, 4, 3, heads=2, out_heads=3, layers=3),
    "sgc": lambda: SGC(20, 3, steps=3),
    "sgc without a step": lambda: SGC(20, 3, steps=0),
    "mlp": lambda: MLP(20, 8, 3, layers=2),
}


@pytest.mark.parametrize("memory", [None, 0])
@pytest.mark.parametrize("entries", [1, 700, 1 << 20])
@pytest.mark.parametrize("name", MODELS)
def test_it_is_what_the_model_has(name: str, entries: int, memory: int | None) -> None:
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    dataset = planted(nodes=150)
    with torch.no_grad():
        expected = model(normalise_rows(dataset.features), dataset.graph)
    nodes = torch.tensor([5, 149, 0])
    inputs = Inputs(dataset.features)
    found = infer(model, inputs, dataset.graph, nodes, entries=entries, memory=memory)
    torch.testing.assert_close(found, expected[nodes], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(
        infer(model, inputs, dataset.graph, entries=entries), expected, rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("name", MODELS)
def test_nothing_is_dropped_of_a_model_in_training(name: str) -> None:
    torch.manual_seed(0)
    model, dataset = MODELS[name](), planted(nodes=150)
    inputs = Inputs(dataset.features)
    found = infer(model.train(), inputs, dataset.graph)
    assert model.training
    assert torch.equal(found, infer(model.eval(), inputs, dataset.graph))


@pytest.mark.parametrize("name", MODELS)
def test_nodes_and_features_of_another_graph_are_refused(name: str) -> None:
    model, dataset = MODELS[name](), planted(nodes=150)
    inputs = Inputs(dataset.features)
    for nodes in ([-1], [150], [0.5], [[0]]):
        with pytest.raises(UserError, match=r"expected nodes in 0 \.\.\. 149|expected a list of nodes, got"):
            infer(model, inputs, dataset.graph, torch.tensor(nodes))
    with pytest.raises(UserError, match="the graph has 100 nodes, the features 150 rows"):
        infer(model, inputs, planted(nodes=100).graph)


@pytest.mark.parametrize("sparse", [True, False])
def test_features_in_blocks_of_columns_are_read_alike(sparse: bool) -> None:
    dataset = planted(nodes=100, sparse=sparse)
    whole, blocks = Inputs(dataset.features), Inputs(Columns(dataset.features.to_dense(), 7))
    nodes = torch.tensor([3, 99, 3])
    one, other = whole.rows(nodes), blocks.rows(nodes)
    one = one.to_dense() if isinstance(one, SparseMatrix) else one
    torch.testing.assert_close(one, other)
    for inputs in (whole, blocks):
        columns = [(part, block) for part, block in inputs.columns()]
        assert [part.stop - part.start for part, _ in columns] == ([20] if inputs is whole else [7, 7, 6])
        every = torch.cat([block for _, block in columns], 1)
        torch.testing.assert_close(every, normalise_rows(dataset.features).to_dense())


def test_rows_of_zeros_stay() -> None:
    inputs = Inputs(Columns(torch.tensor([[0.0, 0], [1, 3]]), 1))
    assert inputs.rows(torch.arange(2)).tolist() == [[0, 0], [0.25, 0.75]]


@pytest.mark.parametrize("limit", [None, 0])
def test_propagation_by_columns_is_propagation(limit: int | None) -> None:
    dataset = planted(nodes=100)
    operator, x = dataset.graph.normalized_adjacency(), normalise_rows(dataset.features).to_dense()
    nodes, seen = torch.tensor([7, 3]), []
    with room(limit) as rooms:
        inputs = Inputs(Columns(dataset.features.to_dense(), 8))
        found = propagate_columns(operator, inputs, 3, nodes, rooms, lambda *done: seen.append(done))
    p = operator.to_dense()
    torch.testing.assert_close(found, (p @ p @ p @ x)[nodes], rtol=1e-4, atol=1e-6)
    assert seen == [(8, 20), (16, 20), (20, 20)]


def test_room_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("layerlab.graph.sampling.room._reserve", full)
    with room(0) as rooms, pytest.raises(UserError, match=r"1\.2 KB of activations.*No space left.*TMPDIR"):
        rooms.array(10, 30)


def test_other_models_are_refused() -> None:
    dataset = planted(nodes=50)
    for model in (nn.Linear(2, 2), CourseGCN(20, 4, 3)):
        with pytest.raises(UserError, match="expected a GCN, GAT, SGC or MLP"):
            infer(model, Inputs(dataset.features), dataset.graph)


@pytest.mark.parametrize("name", ["gcn", "gat", "sgc"])
def test_no_more_than_two_arrays_of_all_nodes_are_there_at_a_time(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, made, alive = planted(nodes=150), list[weakref.ref[torch.Tensor]](), list[int]()
    make = Room.array

    def watched(self: Room, rows: int, columns: int) -> torch.Tensor:
        found = make(self, rows, columns)
        made.append(weakref.ref(found))
        alive.append(sum(one() is not None for one in made))
        return found

    monkeypatch.setattr(Room, "array", watched)
    infer(MODELS[name]().eval(), Inputs(dataset.features), dataset.graph)
    assert len(alive) > 3
    assert max(alive) == 2
