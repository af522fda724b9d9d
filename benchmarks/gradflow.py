"""What a profile of a model costs: correctness first, then seconds, memory, and the peers that form Jacobians.

Usage: python benchmarks/gradflow.py [--quick] [--only gate,cost,...] [--threads N] [--docs] [--results FILE]

Parts: gate (twelve small architectures against dense float64 Jacobians; always run, and nothing is timed if one
differs), cost (whole profiles of two transformers, each in a process of its own), jacobians (σ_max of single layers
against forming their Jacobians), power (against power iteration), monitor (a training with and without it). Each is
written to the results as soon as it is finished. `--quick` is a smoke run at small sizes: its figures mean nothing, and
it writes to build/. `--docs` measures nothing and writes docs/benchmarks-gradflow.md from the stored results.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from typing import Any

from bench_common import command
from bench_common.command import Benchmark, say
from bench_common.workers import ask
from gradflow_bench import gate, models, page, peers, watching
from gradflow_bench.models import Size

WORKER = "gradflow_bench.worker"


def check(quick: bool, threads: int) -> dict[str, Any]:
    names = ["mlp", "transformer"] if quick else list(models.small().SUBJECTS)
    say(f"gate: {', '.join(names)}")
    found = gate.check_all(names)
    say(f"    largest relative difference {found['largest']:.1e}, allowed {gate.ALLOWED:.0e}")
    return found


def cost(quick: bool, threads: int) -> dict[str, Any]:
    size = models.QUICK if quick else models.GOAL
    rows = {}
    for name in models.MODELS:
        say(f"cost: {models.NAMES[name]}, {size.describe()}")
        rows[name] = ask(
            WORKER,
            {
                "task": "whole",
                "model": name,
                "size": dataclasses.asdict(size),
                "threads": threads,
                "forwards": 10,
            },
        )
        say(
            f"    {rows[name]['seconds']:.1f} s ({rows[name]['processor_seconds']:.1f} s of processors), "
            f"{rows[name]['above_idle_bytes'] / 1e6:.0f} MB above idle"
        )
    return {"size": dataclasses.asdict(size), "models": rows}


def jacobians(quick: bool, threads: int) -> dict[str, Any]:
    sizes = (
        [Size(1, 32, 4, 8)]
        if quick
        else [Size(1, 64, 4, 32), Size(1, 128, 4, 64), Size(1, 256, 8, 128), Size(1, 512, 8, 128)]
    )
    rows = []
    for size in sizes:
        say(f"jacobians: {size.width} wide, {size.tokens} tokens")
        rounds = 2 if quick else 9 if size.width < 512 else 5
        steps = peers.race(size, rounds)
        rows.append({"size": dataclasses.asdict(size), "steps": steps})
        for name, step in steps.items():
            told = " (extrapolated)" if step["extrapolated"] else ""
            say(f"    {name}: {step['times_cheaper']['ratio']:.0f} times{told}")
    return {
        "rows": rows,
        "vectorized": peers.vectorized(Size(1, 32, 4, 8) if quick else Size(1, 64, 4, 16), 2 if quick else 9),
    }


def power(quick: bool, threads: int) -> dict[str, Any]:
    size = Size(1, 32, 4, 8) if quick else Size(1, 256, 8, 128)
    rows = {}
    for tolerance in (1e-1,) if quick else (1e-2, 1e-3):
        say(f"power iteration: {size.width} wide, residual {tolerance:g}")
        rows[f"{tolerance:g}"] = peers.race_power(size, tolerance, 2 if quick else 5)
    return {"size": dataclasses.asdict(size), "rows": rows}


def monitor(quick: bool, threads: int) -> dict[str, Any]:
    size = models.QUICK if quick else Size(4, 128, 4, 32)
    say(f"monitor: {size.describe()}")
    found = watching.overhead(size, 8, 3 if quick else 100, 2 if quick else 7)
    say(f"    {100 * (found['ratio']['ratio'] - 1):.1f} per cent")
    return {"size": dataclasses.asdict(size), **found}


PARTS: dict[str, Callable[[bool, int], dict[str, Any]]] = {
    "gate": check,
    "cost": cost,
    "jacobians": jacobians,
    "power": power,
    "monitor": monitor,
}


# Whatever is timed, the gate comes first.
BENCHMARK = Benchmark("gradflow", __doc__, PARTS, page.write, page.goals, first=("gate",))


def main() -> int:
    return command.main(BENCHMARK)


if __name__ == "__main__":
    sys.exit(main())
