"""A race: every contestant on every seed, in parallel, each finished cell on disk at once.

A *cell* is one contestant trained with one seed. Cells are independent and each runs torch on one thread (see
`layerlab.lab.training`), so the numbers do not depend on how many run at a time.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from statistics import median
from typing import Any

from layerlab.errors import UserError
from layerlab.lab.records import RunFolder
from layerlab.lab.statistics import estimate, paired_difference

CellResult = dict[str, Any]
RunCell = Callable[[str, int], CellResult]


def cell_key(contestant: str, seed: int) -> str:
    """The name of a cell's record.

    >>> cell_key("gcn", 7)
    'gcn-0007'
    """
    return f"{contestant}-{seed:04d}"


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def race(
    run_cell: RunCell,
    contestants: Sequence[str],
    seeds: Sequence[int],
    *,
    jobs: int | None = None,
    folder: RunFolder | None = None,
    on_cell: Callable[[CellResult], None] | None = None,
) -> dict[str, CellResult]:
    """Run every contestant on every seed.

    Args:
        run_cell: ``(contestant, seed) -> result``, a picklable function (a module's function, or a
            ``functools.partial`` of one). The result is JSON and holds ``metrics``, a dict of numbers.
        contestants: their names.
        seeds: the same for every contestant, so that differences are paired.
        jobs: processes; the number of cores when None, one process (this one) when 1.
        folder: where finished cells are written, and read when they are there already.
        on_cell: called with each result, also with those read from the folder.

    Returns:
        Results by `cell_key`, in the order of contestants and seeds, each with ``contestant`` and ``seed`` added.

    Raises:
        UserError: what a cell raised, or a worker was killed. Finished cells stay in the folder.
    """
    if (
        not contestants
        or not seeds
        or len(set(contestants)) < len(contestants)
        or len(set(seeds)) < len(seeds)
    ):
        raise UserError("expected at least one contestant and one seed, each once")
    finished = folder.read_cells() if folder is not None else {}
    # Seeds outside, contestants inside: an interrupted race has compared everybody on the first seeds.
    wanted = {cell_key(name, seed): (name, seed) for seed, name in itertools.product(seeds, contestants)}
    results: dict[str, CellResult] = {}

    def accept(key: str, result: CellResult) -> None:
        results[key] = result
        if on_cell is not None:
            on_cell(result)

    for key in [key for key in wanted if key in finished]:
        accept(key, finished[key])
    missing = {key: cell for key, cell in wanted.items() if key not in results}
    for key, result in _run(run_cell, missing, min(jobs or available_cores(), len(missing) or 1)):
        name, seed = wanted[key]
        result = {"contestant": name, "seed": seed, **result}
        if folder is not None:
            folder.write_cell(key, result)
        accept(key, result)
    return {key: results[key] for name in contestants for seed in seeds for key in [cell_key(name, seed)]}


def _run(
    run_cell: RunCell, cells: Mapping[str, tuple[str, int]], jobs: int
) -> Iterator[tuple[str, CellResult]]:
    if jobs < 1:
        raise UserError(f"expected at least one job, got {jobs}")
    if jobs == 1:
        for key, (name, seed) in cells.items():
            yield key, run_cell(name, seed)
        return
    # spawn: a forked child of a process that has used torch's threads can hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_quiet_worker) as pool:
        futures: dict[Future[CellResult], str] = {
            pool.submit(run_cell, name, seed): key for key, (name, seed) in cells.items()
        }
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool:
            raise UserError(
                "a worker process was killed (out of memory?); run the same command again to go on, with fewer --jobs"
            ) from None
        finally:
            # On an error or Ctrl-C nobody waits for the cells under way; after a normal end there are none.
            pool.shutdown(wait=False, cancel_futures=True)
            for child in multiprocessing.active_children():
                if any(not future.done() for future in futures):
                    child.terminate()


def _quiet_worker() -> None:
    # Ctrl-C reaches the whole process group; the parent alone decides what happens then.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def summarise(cells: Mapping[str, CellResult], metric: str) -> dict[str, Any]:
    """What a race says about one metric.

    Args:
        cells: what `race` returned, or a run's records.
        metric: a name in every cell's ``metrics``.

    Returns:
        ``{"metric", "contestants": {name: {n, mean, sd, low, high, parameters, step_seconds, seconds, values}},
        "differences": [{left, right, n, mean, sd, low, high, wins}]}``. Intervals are 95 per cent; differences are
        left minus right over the seeds that both have run; ``seconds`` is the sum over seeds.

    Raises:
        UserError: a cell lacks the metric.
    """
    values: dict[str, dict[int, float]] = {}
    by_name: dict[str, list[CellResult]] = {}
    for key, cell in cells.items():
        try:
            values.setdefault(cell["contestant"], {})[cell["seed"]] = float(cell["metrics"][metric])
        except (KeyError, TypeError, ValueError):
            raise UserError(f"the record {key!r} has no metric {metric!r}; run the race again") from None
        by_name.setdefault(cell["contestant"], []).append(cell)
    contestants = {
        name: {
            **asdict(estimate(list(scores.values()))),
            "parameters": by_name[name][0]["parameters"],
            "step_seconds": median(cell["step_seconds"] for cell in by_name[name]),
            "seconds": sum(cell["seconds"] for cell in by_name[name]),
            "values": [scores[seed] for seed in sorted(scores)],
        }
        for name, scores in values.items()
    }
    differences = []
    for left, right in itertools.combinations(values, 2):
        shared = sorted(values[left].keys() & values[right].keys())
        if shared:
            a, b = [values[left][seed] for seed in shared], [values[right][seed] for seed in shared]
            wins = sum(x > y for x, y in zip(a, b, strict=True))
            differences.append(
                {"left": left, "right": right, **asdict(paired_difference(a, b)), "wins": wins}
            )
    return {"metric": metric, "contestants": contestants, "differences": differences}


def mean_curves(cells: Mapping[str, CellResult], metric: str) -> dict[str, dict[str, list[float]]]:
    """Every contestant's mean curve over its seeds, with the 95 per cent interval of that mean.

    Seeds stop at different epochs; a curve ends where fewer than half of its seeds still train, so that it is never
    the mean of a few survivors.

    Returns:
        ``{contestant: {"x", "mean", "low", "high"}}``; x counts epochs from 1.
    """
    by_name: dict[str, list[list[float]]] = {}
    for cell in cells.values():
        by_name.setdefault(cell["contestant"], []).append(cell["curves"][metric])
    curves = {}
    for name, runs in by_name.items():
        lengths = sorted(len(run) for run in runs)
        last = lengths[len(lengths) // 2]
        points = [estimate([run[epoch] for run in runs if len(run) > epoch]) for epoch in range(last)]
        curves[name] = {
            "x": [float(epoch + 1) for epoch in range(last)],
            "mean": [point.mean for point in points],
            "low": [point.mean if point.n == 1 else point.low for point in points],
            "high": [point.mean if point.n == 1 else point.high for point in points],
        }
    return curves
