"""What the processes of `test_sharded` do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from planted_data import planted

from layerlab.errors import UserError
from layerlab.graph.runs import train_run
from layerlab.graph.sampling.batching import Batching
from layerlab.graph.sampling.partition import PartitionedInputs
from layerlab.graph.sampling.task import BatchTask
from layerlab.graph.settings import Settings
from layerlab.graph.task import parts_for, schedule_for
from layerlab.lab.process_group import Group
from layerlab.lab.training import fit

SETTINGS = {
    "gcn": Settings("gcn", hidden=8, epochs=3, layers=2, dropout=0.0),
    "gat": Settings("gat", hidden=4, heads=2, epochs=3, layers=2, dropout=0.0),
    "sgc": Settings("sgc", epochs=3, dropout=0.0, steps=2),
    "mlp": Settings("mlp", hidden=8, epochs=3, dropout=0.0),
}
# 81 nodes train: four batches of 20, and one of a single node, of which all processes but one have no share.
NODES, BATCH = 162, 20


def task_of(
    model: str, group: Group | None, size: int = BATCH, partition: str | None = None, **changes: Any
) -> BatchTask:
    dataset = planted(NODES)
    settings = replace(SETTINGS[model], **changes)
    batching = Batching(size, (3, 2) if model in ("gcn", "gat") else ())
    parts = parts_for(dataset, "public", 0)
    return BatchTask(dataset, parts, settings, batching, group=group, partition=partition)


def train(group: Group | None, model: str, **changes: Any) -> dict[str, Any]:
    task = task_of(model, group, **changes)
    found = fit(task, schedule_for(task.settings), seed=3, group=group)
    weights = torch.cat([p.detach().flatten() for p in found.model.parameters()])
    return {"history": found.history, "weights": weights.tolist(), "best": found.best_epoch}


def every_model(group: Group | None, stores: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {model: train(group, model) for model in SETTINGS}
    if group is not None:
        found["stores"] = [
            _refused(group, Path(stores) / str(group.rank)),
            _refused(group, Path(stores) / str(2 * group.rank)),
            _refused(group, Path(stores) / "0", seed=group.rank),
        ]
        found["dropout"] = train(group, "gcn", dropout=0.5)
        try:
            task_of("mlp", group, size=1)
        except UserError as error:
            found["error"] = str(error)
    return found


def _refused(group: Group, store: Path, seed: int = 0) -> str:
    """What is said where each process has a store (or a seed) of its own."""
    try:
        train_run(str(store), "mlp", out=store.parent / "run", seed=seed, group=group)
    except UserError as error:
        return str(error)
    return "nothing"


def one_model(group: Group | None) -> dict[str, Any]:
    return train(group, "gcn")


def in_parts(group: Group, kinds: list[str]) -> dict[str, Any]:
    """Trainings with features in parts, and what each process holds of them."""
    found: dict[str, Any] = {}
    for kind in kinds:
        for model in ("gcn", "gat", "mlp"):
            found[f"{kind} {model}"] = train(group, model, partition=kind)
    task = task_of("gcn", group, partition=kinds[0])
    task.build()
    assert isinstance(task.inputs, PartitionedInputs)
    nodes = torch.arange(NODES)[group.rank :: 2]
    read = task.inputs.rows(nodes)
    # A matrix in memory is divided in float64, and rounded then.
    found["rows"] = torch.allclose(read, task_of("gcn", None).inputs.rows(nodes), rtol=1e-6)
    held = len(task.inputs._held)
    found["held"] = [held, int((task.inputs.owners == group.rank).sum())]
    try:
        task_of("sgc", group, partition=kinds[0])
    except UserError as error:
        found["error"] = str(error)
    return found
