"""A process of its own: peak memory and step times of one runner, or the time that kernels take to compile.

Usage: python -m graph_bench.worker '{"task": "train", ...}'; prints one line of JSON.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch
from bench_common.memory import Peak
from bench_common.workers import answer

from graph_bench import runners, workloads


def train(runner: str, kind: str, edges: int, seed: int, steps: int, threads: int) -> dict[str, Any]:
    """Peak memory above the idle process, and the median seconds of a step after the first.

    Idle means: everything imported, code loaded or compiled (two steps on a tiny graph do that), the data there as the
    runner's user holds them. What a package derives from the data is its own.
    """
    torch.set_num_threads(threads)
    make = {"peer": runners.peer, "layerlab": runners.whole}[runner]
    tiny = make(workloads.power_law(500, seed), kind)
    tiny.step()
    tiny.step()
    del tiny
    workload = workloads.power_law(edges, seed)
    if runner == "peer":
        assert len(workload.edge_index) == 2  # made, and kept by the workload
    memory = Peak()
    made = make(workload, kind)
    made.step()
    seconds = []
    for _ in range(steps):
        started = time.perf_counter()
        made.step()
        seconds.append(time.perf_counter() - started)
    peak = memory.found()
    return {
        "nodes": workload.graph.num_nodes,
        "directed_edges": int(workload.graph.indices.size),
        "seconds": seconds,
        "median_seconds": statistics.median(seconds),
        # Without a reset the peak includes the generation of the data, and the difference may be too large.
        **peak,
    }


def first_steps(threads: int) -> dict[str, Any]:
    """Seconds of the first and of the tenth training step of a GCN and a GAT on Cora in a new process."""
    torch.set_num_threads(threads)
    cora = workloads.named("cora")
    first, later = {}, {}
    for kind in ("gcn", "gat"):
        for make in (runners.whole, runners.field):
            made = make(cora, kind)
            name = f"{kind}, {made.name}"
            for number in range(10):
                started = time.perf_counter()
                made.step()
                (first if number == 0 else later)[name] = time.perf_counter() - started
    return {"first": first, "tenth": later, "sum_of_first": sum(first.values())}


if __name__ == "__main__":
    answer({"train": train, "first_steps": first_steps})
