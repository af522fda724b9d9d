"""Training in mini-batches: the full batch where nothing is left out, the same bits however it is run."""

from __future__ import annotations

import gc
import threading
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from planted_data import Columns, planted
from torch import nn

from layerlab.errors import UserError
from layerlab.graph.node_data import NodeDataset
from layerlab.graph.sampling.batching import Batching, parse_fanouts
from layerlab.graph.sampling.task import Batch, BatchTask
from layerlab.graph.settings import Settings
from layerlab.graph.task import NodeTask, parts_for, schedule_for
from layerlab.lab.training import fit

SETTINGS = {
    "gcn": Settings("gcn", hidden=8, epochs=4, layers=2),
    "gat": Settings("gat", hidden=4, heads=2, epochs=4, layers=2),
    "sgc": Settings("sgc", epochs=4, dropout=0.0, steps=2),
    "mlp": Settings("mlp", hidden=8, epochs=4),
}


def task_of(
    model: str, batching: Batching, dataset: NodeDataset | None = None, workers: int = 1, **changes: Any
) -> BatchTask:
    dataset = dataset or planted(150)
    settings = replace(SETTINGS[model], **changes)
    return BatchTask(dataset, parts_for(dataset, "public", 0), settings, batching, workers=workers)


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("model", SETTINGS)
def test_one_batch_of_all_neighbours_is_the_full_batch(model: str) -> None:
    dataset = planted(150)
    settings = replace(SETTINGS[model], dropout=0.0)
    parts = parts_for(dataset, "public", 0)
    whole = fit(NodeTask(dataset, parts, settings), schedule_for(settings), seed=1)
    task = BatchTask(dataset, parts, settings, Batching(1000, (-1, -1) if model in ("gcn", "gat") else ()))
    batch = fit(task, schedule_for(settings), seed=1)
    torch.testing.assert_close(weights(batch.model), weights(whole.model), rtol=1e-3, atol=1e-5)
    for name, value in whole.metrics.items():
        assert batch.metrics[name] == pytest.approx(value, rel=1e-4), name


@pytest.mark.parametrize("model", SETTINGS)
def test_bits_depend_on_the_seed_alone(model: str, tmp_path: Path) -> None:
    batching = Batching(20, (3, 2) if model in ("gcn", "gat") else ())
    schedule = schedule_for(SETTINGS[model])
    once = fit(task_of(model, batching), schedule, seed=3)
    again = fit(task_of(model, batching, workers=3), schedule, seed=3)
    assert torch.equal(weights(once.model), weights(again.model))
    assert once.history == again.history
    other = fit(task_of(model, batching), schedule, seed=4)
    assert not torch.equal(weights(once.model), weights(other.model))

    class StopError(Exception):
        pass

    def stop(epoch: int, _: dict[str, float]) -> None:
        if epoch == 3:
            raise StopError

    file = tmp_path / "checkpoint"
    with pytest.raises(StopError):
        fit(task_of(model, batching), schedule, seed=3, checkpoint=file, every_seconds=0, on_epoch=stop)
    resumed = fit(task_of(model, batching), schedule, seed=3, checkpoint=file)
    assert torch.equal(weights(once.model), weights(resumed.model))
    assert resumed.metrics == once.metrics


def test_an_epoch_has_every_training_node_once_in_an_order_of_its_own() -> None:
    task = task_of("gcn", Batching(32, (2, 2)))
    task.build()
    torch.manual_seed(0)
    first, second = (list(task.batches(epoch)) for epoch in (1, 2))
    assert [len(batch.labels) for batch in first] == [32, 32, 11]
    labels = torch.from_numpy(task.dataset.labels[parts_for(task.dataset, "public", 0).train])
    for batches in (first, second):
        assert torch.equal(torch.cat([b.labels for b in batches]).sort().values, labels.sort().values)
    assert not torch.equal(first[0].labels, second[0].labels)
    # Drawn anew: the fields of two batches, and of two epochs, differ.
    sizes = [tuple(o.nnz for o in b.operators or ()) for b in (*first, *second)]
    assert len(set(sizes)) > 3


@pytest.mark.parametrize("model", SETTINGS)
def test_own_backward_is_autograds(model: str) -> None:
    task = task_of(model, Batching(30, (3, 2) if model in ("gcn", "gat") else ()), dropout=0.0)
    torch.manual_seed(0)
    network = task.build().train()
    batch = next(iter(task.batches(1)))
    assert isinstance(batch, Batch)
    loss = task.loss(network, batch)
    loss.backward()
    gradients = [p.grad.clone() for p in network.parameters() if p.grad is not None]
    network.zero_grad()
    assert task.backward(network, batch) == pytest.approx(loss.item(), rel=1e-5)
    for p, gradient in zip(network.parameters(), gradients, strict=True):
        torch.testing.assert_close(p.grad, gradient)


@pytest.mark.parametrize("model", SETTINGS)
def test_features_in_files_train_the_same(model: str) -> None:
    dataset = planted(150)
    stored = planted(150)
    object.__setattr__(stored, "features", Columns(dataset.features.to_dense(), 6))
    batching = Batching(40, (3, 2) if model in ("gcn", "gat") else ())
    schedule = schedule_for(SETTINGS[model])
    one = fit(task_of(model, batching, dataset), schedule, seed=0)
    other = fit(task_of(model, batching, stored), schedule, seed=0)
    torch.testing.assert_close(weights(one.model), weights(other.model), rtol=1e-3, atol=1e-5)


def test_mini_batches_learn_planted_classes() -> None:
    settings = replace(SETTINGS["gcn"], epochs=30, dropout=0.2)
    dataset = planted(600, signal=1.0)
    task = BatchTask(dataset, parts_for(dataset, "public", 0), settings, Batching(64, (4, 4)))
    found = fit(task, schedule_for(settings), seed=0)
    assert found.metrics["test_accuracy"] > 0.85
    assert not [t for t in threading.enumerate() if t.name.startswith("layerlab-ahead")]


def test_a_failing_draw_is_raised_in_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    task = task_of("gcn", Batching(20, (2, 2)))

    def broken(nodes: torch.Tensor, seed: int, position: int) -> Batch:
        raise UserError("the disk is gone")

    monkeypatch.setattr(task, "_batch", broken)
    with pytest.raises(UserError, match="the disk is gone"):
        fit(task, schedule_for(SETTINGS["gcn"]), seed=0)


def test_the_courses_models_are_refused() -> None:
    with pytest.raises(UserError, match="train in full batches"):
        task_of("gcn", Batching(20), course=True)


def test_a_partition_needs_processes() -> None:
    dataset = planted(nodes=60)
    parts = parts_for(dataset, "random", 0)
    with pytest.raises(UserError, match="a partition is over several processes"):
        BatchTask(dataset, parts, Settings("gcn"), Batching(), partition="hash")


def test_workers_and_lists_of_fanouts_are_checked() -> None:
    dataset = planted(nodes=60)
    parts = parts_for(dataset, "random", 0)
    with pytest.raises(UserError, match="expected workers >= 1, got 0"):
        BatchTask(dataset, parts, Settings("gcn"), Batching(), workers=0)
    with pytest.raises(UserError, match="list of numbers of neighbours, one a layer, got 5"):
        Batching(8, 5)  # type: ignore[arg-type]


def test_fanouts_must_fit_the_layers() -> None:
    with pytest.raises(UserError, match="one fan-out for each of 2 layers, got 3: 15,10,5"):
        task_of("gcn", Batching(20, (15, 10, 5)))
    assert task_of("gcn", Batching(20), layers=4).fanouts == (15, 10, 5, 5)


@pytest.mark.parametrize("size", [0, True, 1.5])
def test_batch_sizes_of_another_kind_are_refused(size: Any) -> None:
    with pytest.raises(UserError, match="batch size"):
        Batching(size)


@pytest.mark.parametrize("text", ["", "3,", "a", "1.5", "3;4"])
def test_fanouts_that_are_no_numbers_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="such as 15,10,5"):
        parse_fanouts(text)


@pytest.mark.parametrize("model", SETTINGS)
def test_a_batch_is_gone_when_the_next_one_is_trained_on(model: str) -> None:
    """Without the collector of rings, which does not know how large a batch is."""
    task = task_of(model, Batching(8))
    torch.manual_seed(0)
    net, seen = task.build(), list[weakref.ref[Any]]()
    task.optimizer(net)
    gc.collect()
    gc.disable()
    try:
        for batch in task.batches(0):
            net.zero_grad()
            task.backward(net, batch)
            seen.append(weakref.ref(batch.x))
            seen += [weakref.ref(operator.pattern) for operator in batch.operators or ()]
            seen += [weakref.ref(operator.pattern.transposed()[0]) for operator in batch.operators or ()]
        del batch
        assert len(seen) > 3
        assert [found for one in seen if (found := one()) is not None] == []
    finally:
        gc.enable()
