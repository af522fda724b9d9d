"""The memory that a training is estimated to take, and what it takes."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

import torch
from bench_common.memory import Peak

from layerlab.graph.datasets import NodeDataset, load
from layerlab.graph.experiments import task_for
from layerlab.graph.sampling import Batching
from layerlab.graph.sampling.memory import full_batch, mini_batch
from layerlab.graph.settings import Settings
from layerlab.graph.task import Parts, parts_for
from layerlab.lab import optimizing

# Steps of training before the evaluation: as many as fill what waits.
STEPS = 6


def needs(
    data: str, model: str, options: dict[str, Any], size: int, fanouts: list[int], threads: int
) -> dict[str, Any]:
    """A few steps and an evaluation; ``size`` 0 trains in full batches.

    Idle means: everything imported, kernels compiled (a training on Cora does that), the data loaded. The answer has
    the times between which the work was done: what watches from outside reads the process's own pages there.
    """
    torch.set_num_threads(threads)
    cora = load("cora")
    settings = Settings(model, **options)
    batching = Batching(size, tuple(fanouts)) if size else None
    _train(cora, parts_for(cora, "public", 0), settings, batching)
    dataset = load(data)
    parts = parts_for(dataset, "public", 0)
    estimate = (
        full_batch(dataset, parts, settings)
        if batching is None
        else mini_batch(dataset, parts, settings, batching)
    )
    memory, begun = Peak(), time.monotonic()
    # One look from outside sees the idle process.
    time.sleep(0.2)
    working = time.monotonic()
    trained = _train(dataset, parts, settings, batching)
    ended = time.monotonic()
    return {
        "nodes": dataset.num_nodes,
        "entries": int(dataset.graph.indices.size),
        "estimate": {**asdict(estimate), "total": estimate.total},
        "idle_window": [begun, working],
        "windows": {"training": [working, trained], "evaluation": [trained, ended]},
        "seconds": ended - working,
        **memory.found(),
    }


def _train(dataset: NodeDataset, parts: Parts, settings: Settings, batching: Batching | None) -> float:
    """A few steps and an evaluation; the time between them."""
    task = task_for(dataset, parts, settings, batching)
    torch.manual_seed(0)
    net = task.build()
    optimizer = task.optimizer(net)
    for epoch in range(STEPS):
        waiting = iter(task.batches(epoch))
        for _, batch in zip(range(STEPS), waiting, strict=False):
            optimizing.zero_grad(optimizer)
            task.backward(net, batch)
            optimizing.step(optimizer)
        if batching is not None:
            waiting.close()  # type: ignore[attr-defined]
            break
    del waiting
    trained = time.monotonic()
    net.eval()
    with torch.no_grad():
        task.evaluate(net)
    return trained
