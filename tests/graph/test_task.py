"""Protocols and the node classification task: what trains, what decays, what is measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from communities import communities, small
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from layerlab.errors import UserError
from layerlab.graph import ops
from layerlab.graph.course import CourseGAT, CourseGCN
from layerlab.graph.datasets import load
from layerlab.graph.experiments import train
from layerlab.graph.models import GAT, GCN, MLP, SGC
from layerlab.graph.settings import MODELS, settings_for
from layerlab.graph.sparse import SparseMatrix
from layerlab.graph.structure import Graph
from layerlab.graph.task import NodeTask, Parts, build_model, normalise_rows, parts_for

# -------------------------------------------------------------------- features


def test_rows_are_divided_by_the_sum_of_their_absolute_values() -> None:
    dense = torch.tensor([[2.0, 0.0, -6.0], [0.0, 0.0, 0.0], [0.0, 5.0, 0.0], [1.0, 1.0, 1.0]])
    given = SparseMatrix.from_dense(dense)
    expected = torch.tensor([[0.25, 0.0, -0.75], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1 / 3, 1 / 3, 1 / 3]])
    found = normalise_rows(given)
    assert torch.equal(found.to_dense(), expected)
    assert found.pattern is given.pattern
    assert torch.equal(given.to_dense(), dense)


def test_rows_of_cora_sum_to_one() -> None:
    features = normalise_rows(load("cora").features)
    sums = torch.zeros(features.shape[0]).index_add_(0, features.row.long(), features.values)
    torch.testing.assert_close(sums, torch.ones_like(sums))


# ------------------------------------------------------------------- protocols


def same(left: Parts, right: Parts) -> bool:
    return all(
        np.array_equal(getattr(left, name), getattr(right, name)) for name in ("train", "validation", "test")
    )


def test_the_public_protocol_is_the_data_sets_own_split() -> None:
    data = communities()
    assert data.split is not None
    for seed in (0, 7):
        parts = parts_for(data, "public", seed)
        assert np.array_equal(parts.train, data.split.train)
        assert np.array_equal(parts.validation, data.split.validation)
        assert np.array_equal(parts.test, data.split.test)
    with pytest.raises(UserError, match="no split of its own; use --protocol random, or add a split column"):
        parts_for(communities(split=False), "public", 0)


def test_the_random_protocol_draws_disjoint_parts_of_the_labelled_nodes() -> None:
    data = communities(unlabelled=10)
    parts = parts_for(data, "random", 3)
    everything = np.concatenate([parts.train, parts.validation, parts.test])
    assert sorted(everything.tolist()) == list(range(50))
    assert (len(parts.train), len(parts.validation), len(parts.test)) == (30, 10, 10)
    assert same(parts, parts_for(data, "random", 3))
    assert not same(parts, parts_for(data, "random", 4))


def test_the_course_protocol_validates_and_tests_on_all_the_rest() -> None:
    data = communities(200, unlabelled=10)
    parts = parts_for(data, "course", 3)
    assert len(parts.train) == 140
    assert np.array_equal(parts.validation, parts.test)
    assert sorted([*parts.train.tolist(), *parts.test.tolist()]) == list(range(190))
    assert same(parts, parts_for(data, "course", 3))
    assert not same(parts, parts_for(data, "course", 4))
    with pytest.raises(
        UserError, match="trains on 140 nodes, communities has 140 labelled ones; use --protocol random"
    ):
        parts_for(communities(150, unlabelled=10), "course", 0)


def test_the_course_protocol_on_cora() -> None:
    parts = parts_for(load("cora"), "course", 0)
    assert (len(parts.train), len(parts.test)) == (140, 2568)


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(UserError, match="seed >= 0, got -1"):
        parts_for(communities(), "random", -1)


@pytest.mark.parametrize(("part", "word"), [("train", "training"), ("validation", "validation")])
def test_a_part_without_nodes_is_refused(part: str, word: str) -> None:
    data = communities()
    parts = replace(parts_for(data, "public", 0), **{part: np.zeros(0, dtype=np.int64)})
    with pytest.raises(UserError, match=f"no {word} nodes"):
        NodeTask(data, parts, small("gcn"))


# -------------------------------------------------------- models and optimizer

BUILT = [
    ("gcn", {}, GCN),
    ("gcn", {"layers": 3}, GCN),
    ("gcn", {"layers": 1}, GCN),
    ("gat", {}, GAT),
    ("sgc", {}, SGC),
    ("mlp", {}, MLP),
    ("gcn", {"course": True}, CourseGCN),
    ("gat", {"course": True}, CourseGAT),
]


@pytest.mark.parametrize(("name", "changes", "kind"), BUILT)
@pytest.mark.parametrize("decay_all", [True, False])
def test_every_parameter_is_in_one_group_and_decays_as_asked(
    name: str, changes: dict[str, Any], kind: type, decay_all: bool
) -> None:
    data = communities()
    settings = small(name, decay_all=decay_all, weight_decay=0.125, learning_rate=0.03, **changes)
    task = NodeTask(data, parts_for(data, "public", 0), settings)
    model = task.build()
    assert type(model) is kind
    groups = task.optimizer(model).param_groups
    grouped = [id(p) for group in groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters())
    assert {group["lr"] for group in groups} == {0.03}
    decaying = {id(p) for group in groups if group["weight_decay"] == 0.125 for p in group["params"]}
    assert {group["weight_decay"] for group in groups} <= {0.0, 0.125}
    expected = model.parameters() if decay_all else model.first_layer.parameters()
    assert decaying == {id(p) for p in expected}


@pytest.mark.parametrize(("name", "changes", "kind"), BUILT)
def test_the_first_layer_is_the_one_that_reads_the_features(
    name: str, changes: dict[str, Any], kind: type
) -> None:
    model = build_model(small(name, **changes), features=37, classes=5)
    reading = {id(p) for p in model.parameters() if p.ndim == 2 and p.shape[1] == 37}
    first = {id(p) for p in model.first_layer.parameters()}
    assert len(reading) == 1
    assert reading <= first
    if changes.get("layers") != 1 and kind is not SGC:
        assert first < {id(p) for p in model.parameters()}
        # A bias of the first layer decays with it, as in the authors' code.
        assert len(first) == sum(1 for _ in model.first_layer.parameters())


def test_gcn_on_the_public_split_decays_its_first_layer_only() -> None:
    data = communities()
    task = NodeTask(data, parts_for(data, "public", 0), settings_for("gcn", "public", "cora"))
    model = task.build()
    assert isinstance(model, GCN)
    decaying, others = task.optimizer(model).param_groups
    assert [p is q for p, q in zip(decaying["params"], model.convs[0].parameters(), strict=True)] == [
        True,
        True,
    ]
    assert [p is q for p, q in zip(others["params"], model.convs[1].parameters(), strict=True)] == [
        True,
        True,
    ]
    assert (decaying["weight_decay"], others["weight_decay"]) == (5e-4, 0.0)


def test_settings_reach_the_model() -> None:
    gat = build_model(small("gat", hidden=3, heads=5, out_heads=2, layers=3, dropout=0.25), 7, 4)
    assert isinstance(gat, GAT)
    assert [tuple(conv.weight.shape) for conv in gat.convs] == [(15, 7), (15, 15), (8, 15)]
    assert gat.dropout == 0.25
    assert {conv.dropout for conv in gat.convs} == {0.25}
    sgc = build_model(small("sgc", steps=5), 7, 4)
    assert isinstance(sgc, SGC)
    assert sgc.conv.steps == 5
    course = build_model(small("gat", hidden=3, heads=5, dropout=0.25, course=True), 7, 4)
    assert isinstance(course, CourseGAT)
    assert (course.first.heads, course.first.out_features, course.dropout) == (5, 3, 0.25)


# -------------------------------------------------------------------- the task

VARIANTS = [
    ("gcn", {}),
    ("gcn", {"layers": 1}),
    ("gcn", {"layers": 3}),
    ("gat", {"heads": 2}),
    ("sgc", {}),
    ("mlp", {}),
    ("gcn", {"course": True}),
    ("gat", {"course": True, "heads": 2}),
]


@pytest.mark.parametrize(("name", "changes"), VARIANTS)
@pytest.mark.parametrize("protocol", ["public", "course"])
def test_loss_gradient_and_metrics_are_those_of_the_whole_graph(
    name: str, changes: dict[str, Any], protocol: str
) -> None:
    data = communities(180, unlabelled=8)
    parts = parts_for(data, protocol, 1)
    task = NodeTask(data, parts, small(name, dropout=0.0, **changes))
    torch.manual_seed(0)
    model = task.build()

    model.train()
    (batch,) = task.batches(1)
    loss = task.loss(model, batch)
    found = torch.autograd.grad(loss, list(model.parameters()))
    out = model(task.features, data.graph)
    labels = torch.from_numpy(data.labels.copy())
    train = torch.from_numpy(parts.train.copy())
    whole = nn.functional.cross_entropy(out[train], labels[train])
    torch.testing.assert_close(loss, whole)
    torch.testing.assert_close(
        found, torch.autograd.grad(whole, list(model.parameters())), atol=1e-6, rtol=1e-4
    )

    model.eval()
    with torch.no_grad():
        metrics = task.evaluate(model)
        out = model(task.features, data.graph)
    for part in ("validation", "test"):
        nodes = torch.from_numpy(getattr(parts, part).copy())
        expected = nn.functional.cross_entropy(out[nodes], labels[nodes]).item()
        assert metrics[f"{part}_loss"] == pytest.approx(expected, rel=1e-5)
        right = (out[nodes].argmax(1) == labels[nodes]).float().mean().item()
        assert metrics[f"{part}_accuracy"] == pytest.approx(right, abs=1e-6)


def test_no_metric_of_a_test_part_that_is_not_there() -> None:
    data = communities()
    parts = replace(parts_for(data, "public", 0), test=np.zeros(0, dtype=np.int64))
    task = NodeTask(data, parts, small("gcn"))
    with torch.no_grad():
        metrics = task.evaluate(task.build().eval())
    assert set(metrics) == {"validation_loss", "validation_accuracy"}


class _Largest(TorchDispatchMode):
    """Remembers the number of elements of the largest tensor that any operation returns."""

    numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for entry in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(entry, torch.Tensor) and entry.layout is torch.strided:
                self.numel = max(self.numel, entry.numel())
        return out


@pytest.fixture
def no_densifying(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("something was made dense on the training path")

    monkeypatch.setattr(SparseMatrix, "to_dense", refuse)
    monkeypatch.setattr(torch.Tensor, "to_dense", refuse)
    yield


@pytest.mark.parametrize(
    ("name", "protocol"),
    [("gcn", "public"), ("gat", "public"), ("mlp", "public"), ("gcn", "course"), ("gat", "course")],
)
@pytest.mark.usefixtures("no_densifying")
def test_training_never_makes_the_features_dense(name: str, protocol: str) -> None:
    cora = load("cora")
    settings = replace(settings_for(name, protocol, "cora"), epochs=1)
    with _Largest() as seen:
        train(cora, settings, protocol, seed=0)
    # The features have 49,216 non-zeros of 3.9 million numbers; attention over all edges is 8 x 13,264.
    assert 49_216 <= seen.numel < 500_000


def test_sgc_propagates_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    product, propagate = SparseMatrix.product, ops.propagate

    def counted(left: SparseMatrix, right: SparseMatrix) -> SparseMatrix:
        calls.append("product")
        return product(left, right)

    def seen(*arguments: Any) -> torch.Tensor:
        calls.append("propagate")
        return propagate(*arguments)

    monkeypatch.setattr(SparseMatrix, "product", counted)
    monkeypatch.setattr(ops, "propagate", seen)
    train(communities(), small("sgc", epochs=4), "public", seed=0)
    # P^2 X at the training nodes, and not again in any epoch; an evaluation propagates classes, not features.
    assert calls == ["product"] * 2


@pytest.mark.parametrize("name", ["gcn", "gat", "sgc"])
def test_it_learns_communities(name: str) -> None:
    settings = small(name, epochs=60, patience=None, hidden=8, learning_rate=0.05, heads=2)
    result = train(communities(120), settings, "public", seed=0)
    assert result.metrics["test_accuracy"] >= 0.95
    assert result.history[-1]["loss"] < 0.5 * result.history[0]["loss"]
    first = {name: value for name, value in result.history[0].items() if name.startswith("test")}
    assert first["test_accuracy"] < 0.95


def test_the_mlp_sees_no_edge() -> None:
    data = communities(120)
    scrambled = replace(data, graph=Graph.from_edges([0], [1], num_nodes=120))
    settings = small("mlp", epochs=5)
    assert train(data, settings, "public", 0).metrics == train(scrambled, settings, "public", 0).metrics
    gcn = small("gcn", epochs=5)
    assert train(data, gcn, "public", 0).metrics != train(scrambled, gcn, "public", 0).metrics


@pytest.mark.parametrize("name", MODELS)
def test_the_same_seed_gives_the_same_bits_on_any_number_of_threads(name: str) -> None:
    data, states = communities(120), []
    before = torch.get_num_threads()
    try:
        for threads, seed in ((1, 5), (3, 5), (1, 6)):
            torch.set_num_threads(threads)
            states.append(train(data, small(name), "random", seed=seed).model.state_dict())
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not all(torch.equal(states[0][key], states[2][key]) for key in states[0])


@pytest.mark.parametrize("dense", [False, True])
def test_sgc_reads_the_propagated_features_of_its_nodes(dense: bool) -> None:
    dataset = load("cora")
    settings = settings_for("sgc", "public", "cora")
    task = NodeTask(dataset, parts_for(dataset, "public", 0), settings)
    if dense:
        full = SparseMatrix.from_dense(1.0 + torch.rand(2708, 20, generator=torch.Generator().manual_seed(0)))
        task.features = full
    task.build()
    expected = task.features.to_dense()
    for _ in range(settings.steps):
        expected = dataset.graph.normalized_adjacency().to_dense() @ expected
    x, graph = task._reads["train"]
    assert graph is None
    assert isinstance(x, SparseMatrix) != dense
    torch.testing.assert_close(
        x if dense else x.to_dense(), expected[task.parts["train"]], rtol=1e-5, atol=1e-7
    )
    model = SGC(full.shape[1] if dense else dataset.num_features, dataset.num_classes, steps=settings.steps)
    linear = model.conv.linear
    logits = expected[task.evaluated] @ linear.weight.t() + linear.bias
    torch.testing.assert_close(model(*task._reads["evaluate"]), logits, rtol=1e-4, atol=1e-6)
