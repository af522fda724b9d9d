"""Optimisers on ten functions at equal evaluations, CartPole, and what an estimate costs beyond the function itself.

Usage: python benchmarks/estimators.py [--quick] [--only gate,optimise,...] [--threads N] [--docs] [--results FILE]

Parts: gate (variances against closed forms, and the bias test; always run, nothing is raced if one fails),
optimise (layerlab's optimiser and plain REINFORCE on the ten functions, twenty seeds), rivals (random search, simulated
annealing, CMA-ES and nevergrad on the same; most of the time is nevergrad's), policy (CartPole-v1, ten seeds), overhead
(an estimate of 64 samples). Runs go to as many processes as there are threads, one thread each. The functions stand in
estimators_bench/functions.py and were committed before anything was run on them. `--quick` is a smoke run with small
budgets: its figures mean nothing, and it writes to build/. `--docs` measures nothing and writes
docs/benchmarks-estimators.md from the stored results.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from bench_common import command
from bench_common.command import Benchmark, say
from estimators_bench import gate, ours, overhead, page, policies, races
from estimators_bench.rivals import RIVALS

QUICK_BUDGET = 200


def check(quick: bool, threads: int) -> dict[str, Any]:
    say("gate: closed forms and the bias test")
    found = gate.check_all(400 if quick else gate.REPETITIONS)
    say(f"    largest relative difference {found['largest']:.1e}, allowed {gate.ALLOWED:.0e}")
    return found


def optimise(quick: bool, threads: int) -> dict[str, Any]:
    return _race(ours.run, list(ours.SETTINGS), quick, threads)


def rivals(quick: bool, threads: int) -> dict[str, Any]:
    return _race(races.of_rival, list(RIVALS), quick, threads)


def _race(run: races.Run, names: list[str], quick: bool, threads: int) -> dict[str, Any]:
    seeds, budget = (2, QUICK_BUDGET) if quick else (races.SEEDS, None)
    say(f"{', '.join(names)}: {seeds} seeds")
    return {"seeds": seeds, **races.stored(races.race(run, names, seeds, threads, budget))}


def policy(quick: bool, threads: int) -> dict[str, Any]:
    seeds, steps = (policies.SEEDS[:2], 5000) if quick else (policies.SEEDS, None)
    say(f"policy: {policies.ENVIRONMENT}, {len(seeds)} seeds")
    rows = races.in_processes(policies.cell, [(seed, steps) for seed in seeds], threads)
    return {"rows": sorted(rows, key=lambda row: row["seed"])}


def beyond_f(quick: bool, threads: int) -> dict[str, Any]:
    say("overhead: 64 samples")
    return {"rows": overhead.measure(20 if quick else 500)}


PARTS: dict[str, Callable[[bool, int], dict[str, Any]]] = {
    "gate": check,
    "overhead": beyond_f,
    "policy": policy,
    "optimise": optimise,
    "rivals": rivals,
}

BENCHMARK = Benchmark("estimators", __doc__, PARTS, page.write, page.goals, first=("gate",))


def main() -> int:
    return command.main(BENCHMARK)


if __name__ == "__main__":
    sys.exit(main())
