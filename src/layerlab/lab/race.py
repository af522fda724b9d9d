"""A race: every contestant on every seed, in parallel, each finished cell on disk at once.

A *cell* is one contestant trained with one seed. Cells are independent and each runs torch on one thread (see
`layerlab.lab.training`), so the numbers do not depend on how many run at a time.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, nullcontext
from dataclasses import asdict
from multiprocessing import connection
from statistics import median
from typing import Any, Protocol

from layerlab.errors import UserError
from layerlab.lab.machine import available_cores
from layerlab.lab.preloading import start_method
from layerlab.lab.records import RunFolder
from layerlab.lab.statistics import estimate, paired_difference

CellResult = dict[str, Any]
RunCell = Callable[[str, int], CellResult]


class Executor(Protocol):
    """What runs the cells of a race: `Workers` of this machine, or a cluster (`layerlab.lab.cluster.executor`)."""

    def check(self, look: Callable[[], object]) -> None:
        """Call a picklable function once on every *other* machine that would run cells, before anything is written.

        Raises:
            UserError: what the function raised, with the machine.
        """

    def run(
        self, run_cell: RunCell, cells: Mapping[str, tuple[str, int]]
    ) -> Generator[tuple[str, CellResult], None, None]:
        """The cells' keys and results as they come, each once; closing the generator ends those under way.

        Raises:
            UserError: what a cell raised, or a cell could not be run to its end.
        """


def cell_key(contestant: str, seed: int) -> str:
    """The name of a cell's record.

    >>> cell_key("gcn", 7)
    'gcn-0007'
    """
    return f"{contestant}-{seed:04d}"


def race(
    run_cell: RunCell,
    contestants: Sequence[str],
    seeds: Sequence[int],
    *,
    jobs: int | None = None,
    workers: Executor | None = None,
    folder: RunFolder | None = None,
    on_cell: Callable[[CellResult], None] | None = None,
) -> dict[str, CellResult]:
    """Run every contestant on every seed.

    Args:
        run_cell: ``(contestant, seed) -> result``, a picklable function (a module's function, or a
            ``functools.partial`` of one). The result is JSON and holds ``metrics``, a dict of numbers.
        contestants: their names.
        seeds: the same for every contestant, so that differences are paired.
        jobs: processes; the number of cores when None, one process (this one) when 1. Worker processes import
            the main module, so a script that asks for several needs ``if __name__ == "__main__":``.
        workers: processes that are there already, or a cluster, in place of ``jobs`` new processes.
        folder: where finished cells are written, and read when they are there already.
        on_cell: called with each result, also with those read from the folder.

    Returns:
        Results by `cell_key`, in the order of contestants and seeds, each with ``contestant`` and ``seed`` added.

    Raises:
        UserError: what a cell raised, a worker was killed, or a record in the folder is of another cell. Finished
            cells stay in the folder, and no process is left behind.
    """
    if jobs is not None and jobs < 1:
        raise UserError(f"expected at least one job, got {jobs}")
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
        found = (finished[key].get("contestant"), finished[key].get("seed"))
        if found != wanted[key]:
            raise UserError(
                f"the record {key!r} is of contestant {found[0]!r} and seed {found[1]!r}; remove it and run again"
            )
        accept(key, finished[key])
    missing = {key: cell for key, cell in wanted.items() if key not in results}
    # Closed at once, not when somebody collects it: an error in here ends the workers.
    hired = Workers(min(jobs or available_cores(), len(missing))) if workers is None else nullcontext(workers)
    with hired as those, closing(those.run(run_cell, missing)) as arriving:
        for key, result in arriving:
            name, seed = wanted[key]
            result = {**result, "contestant": name, "seed": seed}
            if folder is not None:
                folder.write_cell(key, result)
            accept(key, result)
    return {key: results[key] for name in contestants for seed in seeds for key in [cell_key(name, seed)]}


class Workers:
    """Processes that run cells, for one race after another: each has imported once what it needs.

    A context manager. However it is left, by Ctrl-C too, its processes have ended then.

    Args:
        jobs: how many; one is this process.
    """

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self._pool: ProcessPoolExecutor | None = None
        self._others: set[multiprocessing.process.BaseProcess] = set()

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._pool is None:
            return
        # An error or Ctrl-C: nobody waits for the cells under way.
        self._pool.shutdown(wait=kind is None, cancel_futures=True)
        if kind is not None:
            for worker in set(multiprocessing.active_children()) - self._others:
                worker.terminate()
                worker.join()
        self._pool = None

    def check(self, look: Callable[[], object]) -> None:
        """See `Executor.check`: there is no other machine."""

    def run(
        self, run_cell: RunCell, cells: Mapping[str, tuple[str, int]]
    ) -> Generator[tuple[str, CellResult], None, None]:
        """The cells' results as they come.

        Raises:
            UserError: a process died.
        """
        if self.jobs <= 1:
            for key, (name, seed) in cells.items():
                yield key, run_cell(name, seed)
            return
        if self._pool is None:
            self._others = set(multiprocessing.active_children())
            context = multiprocessing.get_context(start_method())
            self._pool = ProcessPoolExecutor(self.jobs, mp_context=context, initializer=_prepare_worker)
        try:
            futures: dict[Future[CellResult], str] = {
                self._pool.submit(run_cell, name, seed): key for key, (name, seed) in cells.items()
            }
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool:
            raise UserError(
                "a worker process died (out of memory? or a script without `if __name__ == '__main__':`?); "
                "run again to go on, with fewer --jobs"
            ) from None


def _prepare_worker() -> None:
    # Ctrl-C reaches the whole process group; the parent alone decides what happens then.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A killed parent tells nobody: without this, its workers would wait for work for ever.
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


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
        UserError: a cell lacks the metric, or what else is summarised.
    """
    values: dict[str, dict[int, float]] = {}
    times: dict[str, list[tuple[float, float]]] = {}
    parameters: dict[str, int] = {}
    for key, cell in cells.items():
        try:
            name = cell["contestant"]
            values.setdefault(name, {})[cell["seed"]] = float(cell["metrics"][metric])
            times.setdefault(name, []).append((float(cell["step_seconds"]), float(cell["seconds"])))
            parameters.setdefault(name, cell["parameters"])
        except (KeyError, TypeError, ValueError) as error:
            raise _incomplete(key, metric, error) from None
    contestants = {
        name: {
            **asdict(estimate(list(scores.values()))),
            "parameters": parameters[name],
            "step_seconds": median(step for step, _ in times[name]),
            "seconds": sum(total for _, total in times[name]),
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


def _incomplete(key: str, metric: str, error: Exception) -> UserError:
    return UserError(f"the record {key!r} lacks {metric!r} or is damaged ({error}); run the race again")


def mean_curves(cells: Mapping[str, CellResult], metric: str) -> dict[str, dict[str, list[float]]]:
    """Every contestant's mean curve over its seeds, with the 95 per cent interval of that mean.

    Seeds stop at different epochs; a curve ends where fewer than half of its seeds still train, so that it is never
    the mean of a few survivors.

    Returns:
        ``{contestant: {"x", "mean", "low", "high"}}``; x counts epochs from 1.

    Raises:
        UserError: a cell has no curve of the metric.
    """
    by_name: dict[str, list[list[float]]] = {}
    for key, cell in cells.items():
        try:
            curve = [float(value) for value in cell["curves"][metric]]
            by_name.setdefault(cell["contestant"], []).append(curve)
        except (KeyError, TypeError, ValueError) as error:
            raise _incomplete(key, metric, error) from None
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
