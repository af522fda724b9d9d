"""The experiments of this room: one model trained under a protocol, and the cells of a race."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerlab.errors import UserError
from layerlab.graph.datasets import NodeDataset, load
from layerlab.graph.settings import Settings, settings_for
from layerlab.graph.task import NodeTask, parts_for, schedule_for
from layerlab.lab.race import CellResult, RunCell
from layerlab.lab.training import FitResult, fit


def train(dataset: NodeDataset, settings: Settings, protocol: str, seed: int, **options: Any) -> FitResult:
    """Train one model on one split; ``options`` go to `layerlab.lab.training.fit`."""
    task = NodeTask(dataset, parts_for(dataset, protocol, seed), settings)
    return fit(task, schedule_for(settings), seed=seed, **options)


def fingerprint(dataset: NodeDataset) -> str:
    """A digest of graph, features, labels and split: what a resumed run must find unchanged."""
    digest = hashlib.sha256(str(dataset.features.shape).encode())
    graph, features = dataset.graph, dataset.features
    arrays: list[NDArray[Any] | None] = [graph.indptr, graph.indices, graph.weights, dataset.labels]
    arrays += [part.numpy() for part in (features.crow, features.col, features.values)]
    if dataset.split is not None:
        arrays += [dataset.split.train, dataset.split.validation, dataset.split.test]
    for array in arrays:
        if array is not None:
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
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


def _run_cell(
    data: str, expected: str, protocol: str, overrides: dict[str, dict[str, Any]], model: str, seed: int
) -> CellResult:
    dataset = _loaded(data, expected)
    settings = replace(settings_for(model, protocol, dataset.name), **overrides.get(model, {}))
    return {**train(dataset, settings, protocol, seed).record(), "settings": asdict(settings)}


def cells_of(
    data: str,
    protocol: str,
    overrides: dict[str, dict[str, Any]] | None = None,
    *,
    expected: str | None = None,
) -> RunCell:
    """What `layerlab.lab.race.race` runs: ``(model, seed) -> result`` on a data set under a protocol.

    Args:
        data: a data set's name or folder; every process loads it once.
        protocol: "public", "random" or "course".
        overrides: fields of `Settings` to change, by model.
        expected: the `fingerprint` that the data must have; None takes them as they are now.
    """
    return partial(_run_cell, data, expected or fingerprint(load(data)), protocol, overrides or {})
