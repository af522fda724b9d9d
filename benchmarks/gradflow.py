"""What a profile of a model costs: correctness first, then seconds, memory, and the peers that form Jacobians.

Usage: python benchmarks/gradflow.py [--quick] [--only gate,cost,...] [--threads N] [--docs] [--results FILE]

Parts: gate (twelve small architectures against dense float64 Jacobians; always run, and nothing is timed if one
differs), cost (whole profiles of two transformers, each in a process of its own), jacobians (σ_max of single layers
against forming their Jacobians), power (against power iteration), monitor (a training with and without it). Each is
written to the results as soon as it is finished. `--quick` is a smoke run at small sizes: its figures mean nothing, and
it writes to build/. `--docs` measures nothing and writes docs/benchmarks-gradflow.md from the stored results.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shlex
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from gradflow_bench import gate, models, page, peers, watching
from gradflow_bench.models import Size
from graph_bench import store

from layerlab.errors import UserError

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "gradflow.json"


def say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


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
            {"model": name, "size": dataclasses.asdict(size), "threads": threads, "forwards": 10}
        )
        say(
            f"    {rows[name]['seconds']:.1f} s ({rows[name]['processor_seconds']:.1f} s of processors), "
            f"{rows[name]['above_idle_bytes'] / 1e6:.0f} MB above idle"
        )
    return {"size": dataclasses.asdict(size), "models": rows}


def ask(request: dict[str, Any]) -> dict[str, Any]:
    """Run a worker; its last line of output is the answer."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "gradflow_bench.worker", json.dumps(request)],
        cwd=Path(__file__).parent,
        env=dict(os.environ),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


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


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a smoke run, under a minute")
    parser.add_argument("--only", default=None, metavar="PARTS", help=f"some of {','.join(PARTS)}")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="for both sides")
    parser.add_argument("--docs", action="store_true", help="write the page from the stored results")
    parser.add_argument("--results", type=Path, default=None, metavar="FILE")
    given = parser.parse_args()
    wanted = given.only.split(",") if given.only else list(PARTS)
    if unknown := [name for name in wanted if name not in PARTS]:
        parser.error(f"unknown part {unknown[0]!r}; expected some of {', '.join(PARTS)}")
    if given.threads < 1:
        parser.error(f"expected --threads >= 1, got {given.threads}")
    # Whatever is timed, the gate comes first.
    given.only = ["gate", *(name for name in wanted if name != "gate")]
    given.results = given.results or (
        ROOT / "build" / "benchmarks" / "gradflow.json" if given.quick else RESULTS
    )
    return given


def measure(given: argparse.Namespace) -> int:
    """Run the parts; returns the exit status."""
    command = shlex.join(["python", "benchmarks/gradflow.py", *sys.argv[1:]])
    written = store.Store(given.results, command, given.quick, "gradflow")
    torch.set_num_threads(given.threads)
    for name in given.only:
        around = store.circumstances(given.threads)
        started = time.perf_counter()
        try:
            part = PARTS[name](given.quick, given.threads)
        except gate.GateError as error:
            print(f"error: {error}: nothing is timed", file=sys.stderr)
            return 1
        written.put(name, {**around, "took_seconds": time.perf_counter() - started, **part})
        say(f"{name}: done in {time.perf_counter() - started:.0f} s")
    return 0


def main() -> int:
    given = arguments()
    warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")
    try:
        if not given.docs and (status := measure(given)):
            return status
        documents = ROOT / "docs" if given.results == RESULTS else given.results.parent
        page.write(store.read(given.results, "gradflow"), documents)
        say("the page is written")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: finished parts are kept", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
