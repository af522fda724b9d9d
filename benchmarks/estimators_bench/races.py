"""Optimisers on the ten problems over twenty seeds, in processes of one thread each."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from statistics import fmean
from typing import Any

import torch
from bench_common.command import say

from estimators_bench.functions import PROBLEMS, Problem
from estimators_bench.rivals import RIVALS, serves, spend

SEEDS = 20
CHECKPOINTS = 25
TURN = 20  # runs between two lines of progress

Run = Callable[[Problem, str, int], list[float]]


def of_rival(problem: Problem, name: str, seed: int) -> list[float]:
    """The best value after each evaluation of a rival."""
    return spend(name, problem, seed)


def race(
    run: Run, names: Sequence[str], seeds: int, processes: int, budget: int | None = None
) -> list[dict[str, Any]]:
    """One row a problem, optimiser and seed: the best value found, its curve and the seconds.

    Args:
        run: called in other processes, so a function of a module.
        names: the optimisers' names, handed on to ``run``.
        seeds: 0, 1, ... seeds - 1.
        processes: at once.
        budget: evaluations in place of the problems' own.
    """
    cells = [
        (run, problem.name, name, seed, budget)
        for seed in range(seeds)
        for problem in PROBLEMS
        for name in names
        if name not in RIVALS or serves(name, problem)
    ]
    rows = in_processes(_timed, cells, processes)
    return sorted(rows, key=lambda row: (row["problem"], row["optimiser"], row["seed"]))


def stored(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What is kept of a race: every run's best value, and each optimiser's mean curve on each problem."""
    curves: dict[str, dict[str, list[list[float]]]] = {}
    for row in rows:
        curves.setdefault(row["problem"], {}).setdefault(row["optimiser"], []).append(row["curve"])
    return {
        "rows": [{name: value for name, value in row.items() if name != "curve"} for row in rows],
        "curves": {
            problem: {
                # Six digits are more than a figure shows.
                name: [float(f"{fmean(column):.6g}") for column in zip(*found, strict=True)]
                for name, found in by_name.items()
            }
            for problem, by_name in curves.items()
        },
    }


def in_processes(
    function: Callable[..., dict[str, Any]], cells: Sequence[tuple[Any, ...]], processes: int
) -> list[dict[str, Any]]:
    """The function of each cell's arguments, in no order; each process has one thread.

    Args:
        function: of a module.
        cells: arguments that can be pickled.
        processes: at once.
    """
    rows = []
    # A child that is forked after torch has started threads may hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        processes, mp_context=context, initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        waiting = [pool.submit(function, *cell) for cell in cells]
        try:
            for done, future in enumerate(as_completed(waiting), 1):
                rows.append(future.result())
                if done % TURN == 0 or done == len(waiting):
                    say(f"    {done} of {len(waiting)} runs")
        except BaseException:
            # What has not begun need not: a failed run or Ctrl-C ends the others with it.
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return rows


def problem_of(name: str) -> Problem:
    """By its name."""
    return next(problem for problem in PROBLEMS if problem.name == name)


def _timed(run: Run, problem_name: str, name: str, seed: int, budget: int | None) -> dict[str, Any]:
    problem = problem_of(problem_name)
    problem = replace(problem, budget=budget or problem.budget)
    started = time.perf_counter()
    curve = run(problem, name, seed)
    marks = [round(problem.budget * (k + 1) / CHECKPOINTS) - 1 for k in range(CHECKPOINTS)]
    return {
        "problem": problem.name,
        "optimiser": name,
        "seed": seed,
        "best": curve[-1],
        "evaluations": len(curve),
        "curve": [curve[min(mark, len(curve) - 1)] for mark in marks],
        "seconds": round(time.perf_counter() - started, 3),
    }
