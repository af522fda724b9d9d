"""The experiments of this room: one model trained under a protocol, and the cells of a race."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerlab.errors import UserError
from layerlab.graph.datasets import NodeDataset, load
from layerlab.graph.known import KNOWN
from layerlab.graph.sampling.batching import Batching
from layerlab.graph.sampling.task import BatchTask
from layerlab.graph.settings import Settings, settings_for
from layerlab.graph.sparse import SparseMatrix
from layerlab.graph.task import NodeTask, Parts, parts_for, schedule_for
from layerlab.lab.process_group import Group
from layerlab.lab.race import CellResult, RunCell
from layerlab.lab.training import FitResult, fit


def task_for(
    dataset: NodeDataset,
    parts: Parts,
    settings: Settings,
    batching: Batching | None,
    group: Group | None = None,
    partition: str | None = None,
) -> NodeTask | BatchTask:
    """What is trained: in one batch, or in mini-batches, which several processes may share."""
    if batching is None:
        return NodeTask(dataset, parts, settings)
    return BatchTask(dataset, parts, settings, batching, group=group, partition=partition)


def train(
    dataset: NodeDataset,
    settings: Settings,
    protocol: str,
    seed: int,
    *,
    batching: Batching | None = None,
    **options: Any,
) -> FitResult:
    """Train one model on one split; ``options`` go to `layerlab.lab.training.fit`."""
    task = task_for(dataset, parts_for(dataset, protocol, seed), settings, batching)
    return fit(task, schedule_for(settings), seed=seed, **options)


def fingerprint(dataset: NodeDataset) -> str:
    """A digest of graph, features, labels and split: what a resumed run must find unchanged."""
    digest = hashlib.sha256(str(dataset.features.shape).encode())
    graph, features = dataset.graph, dataset.features
    arrays: list[NDArray[Any] | None] = [graph.indptr, graph.indices, graph.weights, dataset.labels]
    if isinstance(features, SparseMatrix):
        arrays += [part.numpy() for part in (features.crow, features.col, features.values)]
    else:
        arrays += [features.block(index) for index in range(features.blocks)]
    if dataset.split is not None:
        arrays += [dataset.split.train, dataset.split.validation, dataset.split.test]
    for array in arrays:
        if array is not None:
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]


@lru_cache(maxsize=2)
def _loaded(data: str, expected: str) -> NodeDataset:
    # A process runs many cells on one data set. Its files may change meanwhile, or between two races.
    dataset = load(data)
    if fingerprint(dataset) != expected:
        raise UserError(
            f"the data set {data} has changed since the race began; race again with another --out"
        )
    return dataset


def check_data(data: str, expected: str) -> None:
    """That the data set is here, as it is where it was asked for; another machine runs this.

    Raises:
        UserError: it is not, or it is another one.
    """
    place = data if data in KNOWN else Path(data).absolute()
    if isinstance(place, Path) and not place.exists():
        raise UserError(f"there is no {place} here; copy the data to the same path")
    if fingerprint(load(data)) != expected:
        raise UserError(f"the data set {place} is another one than where the race began; copy that one here")


def _run_cell(
    data: str,
    expected: str,
    protocol: str,
    overrides: dict[str, dict[str, Any]],
    batchings: dict[str, Batching],
    model: str,
    seed: int,
) -> CellResult:
    dataset = _loaded(data, expected)
    settings = replace(settings_for(model, protocol, dataset.name), **overrides.get(model, {}))
    result = train(dataset, settings, protocol, seed, batching=batchings.get(model))
    return {**result.record(), "settings": asdict(settings)}


def cells_of(
    data: str,
    protocol: str,
    overrides: dict[str, dict[str, Any]] | None = None,
    *,
    expected: str | None = None,
    batchings: dict[str, Batching] | None = None,
) -> RunCell:
    """What `layerlab.lab.race.race` runs: ``(model, seed) -> result`` on a data set under a protocol.

    Args:
        data: a data set's name or folder; every process loads it once.
        protocol: "public", "random" or "course".
        overrides: fields of `Settings` to change, by model.
        expected: the `fingerprint` that the data must have; None takes them as they are now.
        batchings: the models that train in mini-batches.
    """
    digest = expected or fingerprint(load(data))
    return partial(_run_cell, data, digest, protocol, overrides or {}, batchings or {})
