"""How the cost grows with edges and nodes: measured on graphs of several sizes and densities, and fitted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from bench_common import words
from bench_common.command import say
from scipy.optimize import nnls

from layerlab.lab.files import write_atomic
from scale_bench import places, watched
from scale_bench.batches import SIZE
from scale_bench.generate import Shape

# Listed edges and nodes. Two densities, or edges and nodes could not be told apart.
SIZES = (
    (1_000_000, 40_000),
    (1_000_000, 300_000),
    (10_000_000, 400_000),
    (10_000_000, 2_000_000),
    (63_600_000, 2_400_000),
    (100_000_000, 4_000_000),
)
QUICK = ((50_000, 2_000), (50_000, 8_000), (200_000, 8_000), (200_000, 20_000))
COLUMNS = 16
# Name, seconds of processor of it, and in what it is fitted.
WORK = ("convert", "operator", "product", "batch")


def scaling(quick: bool, threads: int) -> dict[str, Any]:
    """Measure every size, those first that were not measured in an interrupted run."""
    rows = []
    for edges, nodes in QUICK if quick else SIZES:
        shape = places.of_size(edges, nodes)
        kept = places.folder() / f"scaling-{places.name(shape)}-{threads}.json"
        if not kept.exists():
            write_atomic(kept, json.dumps(measured(shape, threads)).encode())
        rows.append(json.loads(kept.read_text(encoding="utf-8")))
    for edges, nodes in QUICK if quick else SIZES:
        (places.folder() / f"scaling-{places.name(places.of_size(edges, nodes))}-{threads}.json").unlink()
    return {"columns": COLUMNS, "size": SIZE, "rows": rows}


def measured(shape: Shape, threads: int) -> dict[str, Any]:
    """One size: conversion, P, a product with 16 columns, a GCN's batch."""
    say(f"scaling: {shape.edges:,} edges of {shape.nodes:,} nodes")
    made = places.tables(shape)
    out = places.folder() / f"scaling-{places.name(shape)}"
    places.forget(out)
    converted = watched.command(*places.conversion(made, out), threads=threads)
    answer = json.loads(converted.output)
    spread, propagating = watched.worker("propagation", threads, store=str(out), columns=COLUMNS)
    batch, training = watched.worker("batch", threads, store=str(out), size=SIZE, rounds=5)
    places.forget(out)
    if shape != places.PRODUCTS:
        places.forget(made)
    row = {
        "listed": shape.edges,
        "nodes": shape.nodes,
        "edges": answer["edges"],
        "columns": shape.columns,
        "store_bytes": answer["bytes"],
        "seconds": {
            "convert": converted.processor,
            "operator": spread["making"]["processor_seconds"],
            "product": spread["product"]["processor_seconds"],
            "batch": batch["processor_seconds"],
        },
        "wall": {
            "convert": converted.wall,
            "operator": spread["making"]["wall_seconds"],
            "product": spread["product"]["wall_seconds"],
            "batch": batch["wall_seconds"],
        },
        "batch": batch,
        "peaks": {
            "convert": converted.record(),
            "propagation": propagating.record(),
            "batch": training.record(),
        },
    }
    for name, seconds in row["seconds"].items():
        say(f"    {name}: {words.seconds(seconds)} of processor")
    return row


def fits(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """A model of each cost over the stored edges E and the nodes n; of a batch over what it reads, too."""
    edges = [row["edges"] for row in rows]
    nodes = [row["nodes"] for row in rows]
    found = {}
    for name in WORK:
        found[name] = fit(edges, nodes, [row["seconds"][name] for row in rows])
    found["convert memory"] = fit(edges, nodes, [row["peaks"]["convert"]["peak_bytes"] for row in rows])
    found["store"] = fit(edges, nodes, [row["store_bytes"] for row in rows])
    return found


def fit(edges: Sequence[float], nodes: Sequence[float], cost: Sequence[float]) -> dict[str, Any]:
    """``cost = a + b E + c n`` with a, b, c >= 0, by least squares of the relative residuals.

    >>> found = fit([1e6, 1e6, 1e7, 1e8], [1e4, 1e5, 1e5, 1e7], [2.1e6, 3e6, 12e6, 201e6])
    >>> round(found["edge"], 3), round(found["node"], 3)
    (1.0, 10.0)
    """
    y = np.asarray(cost, float)
    x = np.stack([np.ones(len(y)), np.asarray(edges, float), np.asarray(nodes, float)], axis=1)
    scale = np.abs(x).max(axis=0)
    weights, _ = nnls(x / scale / y[:, None], np.ones(len(y)))
    constant, edge, node = weights / scale
    residuals = x @ (weights / scale) / y - 1
    return {
        "constant": float(constant),
        "edge": float(edge),
        "node": float(node),
        "residuals": residuals.tolist(),
        "power": power(edges, nodes, cost),
    }


def power(edges: Sequence[float], nodes: Sequence[float], cost: Sequence[float]) -> dict[str, Any]:
    """``cost = k E^p n^q`` by least squares of the logarithms: for what gets dearer as the graph leaves the caches.

    >>> found = power([1e6, 1e6, 1e7], [1e4, 1e5, 1e5], [2e10, 2e11, 2e12])
    >>> round(found["edge"], 3), round(found["node"], 3), round(found["factor"], 3)
    (1.0, 1.0, 2.0)
    """
    y = np.log(np.asarray(cost, float))
    x = np.stack(
        [np.ones(len(y)), np.log(np.asarray(edges, float)), np.log(np.asarray(nodes, float))], axis=1
    )
    weights, *_ = np.linalg.lstsq(x, y, rcond=None)
    return {
        "factor": float(np.exp(weights[0])),
        "edge": float(weights[1]),
        "node": float(weights[2]),
        "residuals": (np.exp(x @ weights - y) - 1).tolist(),
    }


def predicted(found: dict[str, Any], edges: float, nodes: float) -> float:
    """What a fitted model says of another graph."""
    return float(found["constant"] + found["edge"] * edges + found["node"] * nodes)
