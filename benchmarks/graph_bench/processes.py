"""What needs processes of their own: memory, growth, compilation."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from typing import Any

from bench_common import timing
from bench_common.workers import ask

from graph_bench import workloads

Say = Callable[[str], None]


WORKER = "graph_bench.worker"


def memory(edges: int, kinds: Sequence[str], threads: int, say: Say) -> dict[str, Any]:
    """Peak memory above the idle process of both packages' models on a power-law graph."""
    result: dict[str, Any] = {"edges": 2 * edges}
    for kind in kinds:
        rows = {}
        for runner in ("peer", "layerlab"):
            say(f"memory: {kind}, {runner}")
            request = {"task": "train", "runner": runner, "kind": kind, "edges": edges}
            rows[runner] = ask(WORKER, {**request, "seed": 0, "steps": 1, "threads": threads})
        share = rows["layerlab"]["above_idle_bytes"] / rows["peer"]["above_idle_bytes"]
        result[kind] = {**rows, "share": share}
    return result


def growth(sizes: Sequence[int], kinds: Sequence[str], threads: int, say: Say) -> dict[str, Any]:
    """Seconds of a step and peak memory of ours at each number of directed edges, and their exponents."""
    result: dict[str, Any] = {}
    for kind in kinds:
        rows = []
        for size in sizes:
            say(f"growth: {kind}, {size:,} directed edges")
            request = {"task": "train", "runner": "layerlab", "kind": kind, "edges": size // 2}
            steps = max(3, min(50, 20_000_000 // size))
            rows.append(ask(WORKER, {**request, "seed": 0, "steps": steps, "threads": threads}))
        edges = [row["directed_edges"] for row in rows]
        result[kind] = {
            "rows": rows,
            "seconds": timing.growth(edges, [row["median_seconds"] for row in rows]),
            "memory": timing.growth(edges, [row["above_idle_bytes"] for row in rows]),
        }
    return result


def compilation(threads: int, say: Say) -> dict[str, Any]:
    """First steps in a process that finds no compiled kernels, and in one that finds those of the first."""
    with tempfile.TemporaryDirectory() as folder:
        answers = {}
        for name in ("empty cache", "filled cache"):
            say(f"compilation: {name}")
            request = {"task": "first_steps", "threads": threads}
            answers[name] = ask(WORKER, request, NUMBA_CACHE_DIR=folder)
    return answers


def default_sizes(quick: bool) -> list[int]:
    """Directed edges of the growth fit."""
    return [20_000, 60_000, 200_000] if quick else [100_000, 300_000, 1_000_000, 3_000_000, 10_000_000]


def arxiv_edges(quick: bool) -> int:
    """Undirected edges of the arxiv-sized graph; a fiftieth for a smoke run."""
    return workloads.ARXIV_EDGES // 50 if quick else workloads.ARXIV_EDGES
