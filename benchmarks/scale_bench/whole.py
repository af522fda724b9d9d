"""What goes over the whole graph: an SGC trained from the store, inference layer by layer, one propagation."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from layerlab.graph import ops
from layerlab.graph.runs import train_run
from layerlab.graph.sampling import Batching, Inputs, infer
from layerlab.graph.sampling.task import BatchTask
from layerlab.graph.store import open_store
from layerlab.graph.task import build_model
from scale_bench import clocks
from scale_bench.batches import SETTINGS, SIZE

STEPS = 3


def sgc(store: str, epochs: int, threads: int) -> dict[str, Any]:
    """``layerlab graph train STORE --model sgc`` with K = 3: the whole run, and its propagation by itself."""
    torch.set_num_threads(threads)
    propagation: dict[str, float] = {}
    build = BatchTask._propagate

    def timed(task: BatchTask) -> None:
        propagation.update(clocks.once(lambda: build(task)))

    BatchTask._propagate = timed  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        taken: list[Any] = []
        overrides = {"steps": STEPS, "epochs": epochs}
        times = clocks.once(
            lambda: taken.append(
                train_run(
                    store, "sgc", out=Path(folder) / "run", overrides=overrides, batching=Batching(SIZE)
                )
            )
        )
        results = taken[0].meta["results"]
    return {
        "steps": STEPS,
        "epochs": epochs,
        "run": times,
        "propagation": propagation,
        "metrics": results["metrics"],
        "memory": results["memory"],
    }


def inference(store: str, kind: str, threads: int) -> dict[str, Any]:
    """All nodes' outputs of a three-layer model of width 256, every neighbour read."""
    torch.set_num_threads(threads)
    opened = open_store(store)
    dataset, graph = opened.dataset(), opened.graph
    torch.manual_seed(0)
    model = build_model(SETTINGS[kind], dataset.num_features, dataset.num_classes).eval()
    inputs = Inputs(dataset.features)
    loading = clocks.once(
        graph.normalized_adjacency if kind == "gcn" else lambda: graph.with_self_loops().adjacency()
    )
    begun = time.monotonic()
    found: list[torch.Tensor] = []
    times = clocks.once(lambda: found.append(infer(model, inputs, graph)))
    assert bool(torch.isfinite(found[0]).all())
    widths = [dataset.num_features, *(conv.weight.shape[0] for conv in model.convs)]  # type: ignore[union-attr]
    return {
        "kind": kind,
        "nodes": dataset.num_nodes,
        "entries": int(graph.indices.size) + dataset.num_nodes - graph.num_self_loops,
        "widths": widths,
        "operator": loading,
        "times": times,
        "window": [begun, time.monotonic()],
    }


def propagation(store: str, columns: int, threads: int) -> dict[str, Any]:
    """Making P, and one product of it with a block of columns: what an SGC's propagation repeats."""
    torch.set_num_threads(threads)
    graph = open_store(store, verify=False).graph
    operator: list[Any] = []
    making = clocks.once(lambda: operator.append(graph.normalized_adjacency()))
    x = torch.randn(graph.num_nodes, columns)
    ops.spmm(operator[0], x)
    products = [clocks.once(lambda: ops.spmm(operator[0], x)) for _ in range(3)]
    return {
        "nodes": graph.num_nodes,
        "entries": operator[0].nnz,
        "making": making,
        "product": min(products, key=lambda times: times["processor_seconds"]),
    }
