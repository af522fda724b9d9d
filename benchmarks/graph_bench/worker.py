"""A process of its own: peak memory and step times of one runner, or the time that kernels take to compile.

Usage: python -m graph_bench.worker '{"task": "train", ...}'; prints one line of JSON.
"""

from __future__ import annotations

import ctypes
import gc
import json
import resource
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch

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
    _settle()
    before = _status()
    exact = _forget_peak()
    made = make(workload, kind)
    made.step()
    seconds = []
    for _ in range(steps):
        started = time.perf_counter()
        made.step()
        seconds.append(time.perf_counter() - started)
    peak = _status()["VmHWM"] if exact else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "nodes": workload.graph.num_nodes,
        "directed_edges": int(workload.graph.indices.size),
        "seconds": seconds,
        "median_seconds": statistics.median(seconds),
        "idle_bytes": before["VmRSS"],
        "peak_bytes": peak,
        "above_idle_bytes": peak - before["VmRSS"],
        # Else the peak includes the generation of the data, and the difference may be too large.
        "peak_reset": exact,
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


def _settle() -> None:
    """Give back what is freed, so that "idle" means what the process holds."""
    gc.collect()
    if sys.platform == "linux":
        try:
            ctypes.CDLL(None).malloc_trim(0)
        except AttributeError:  # a C library without it
            return


def _status() -> dict[str, int]:
    """Resident bytes now and at the peak."""
    lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    fields = dict(line.split(":", 1) for line in lines if line.startswith(("VmRSS", "VmHWM")))
    return {name: 1024 * int(value.split()[0]) for name, value in fields.items()}


def _forget_peak() -> bool:
    """Make the kernel's record of the peak start anew; False where it does not allow that."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def main() -> None:
    request = json.loads(sys.argv[1])
    task = {"train": train, "first_steps": first_steps}[request.pop("task")]
    print(json.dumps(task(**request)))


if __name__ == "__main__":
    main()
