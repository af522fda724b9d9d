"""A race: the same results however many processes, nothing run twice, nothing left behind."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import toy_cells as toys

from layerlab.errors import UserError
from layerlab.lab import preloading, records
from layerlab.lab.race import cell_key, mean_curves, race, summarise
from layerlab.lab.statistics import estimate

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterable[None]:
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    yield
    # multiprocessing's tracker of shared names stays until this process ends, whatever a race does.
    left = [child for child in psutil.Process().children(recursive=True) if child.pid not in before]
    assert [child.cmdline() for child in left if "resource_tracker" not in " ".join(child.cmdline())] == []
    assert multiprocessing.active_children() == []


@pytest.fixture(autouse=True)
def workers_are_our_children(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where an earlier test of this process began to import ahead, for workers forked from another process."""
    monkeypatch.setattr(preloading, "_begun", False)


def folder(path: Path) -> records.RunFolder:
    return records.create_run(path / "run", "race", "layerlab race", {})


def cells_on_disk(run: records.RunFolder) -> list[str]:
    return sorted(run.read_cells())


def untimed(cells: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What may not depend on where and when a cell ran."""
    changing = {"step_seconds", "seconds", "process"}
    return {key: {n: v for n, v in cell.items() if n not in changing} for key, cell in cells.items()}


# Running


def test_two_processes_give_what_one_gives_in_the_order_that_was_asked(tmp_path: Path) -> None:
    names, seeds = ["gcn", "a", "gat"], [3, 0, 1]
    heard: list[str] = []
    alone = race(toys.backwards, names, seeds, jobs=1)
    shared = race(
        toys.backwards,
        names,
        seeds,
        jobs=2,
        folder=folder(tmp_path),
        on_cell=lambda result: heard.append(cell_key(result["contestant"], result["seed"])),
    )
    keys = [f"{name}-{seed:04d}" for name in names for seed in seeds]
    assert list(shared) == list(alone) == keys
    assert untimed(shared) == untimed(alone)
    assert all(
        shared[cell_key(n, s)]["contestant"] == n and shared[cell_key(n, s)]["seed"] == s
        for n in names
        for s in seeds
    )
    assert sorted(heard) == sorted(keys)
    assert {cell["process"] for cell in alone.values()} == {os.getpid()}
    workers = {cell["process"] for cell in shared.values()}
    assert len(workers) == 2
    assert os.getpid() not in workers
    # Read from the folder, it is the very same, times included.
    assert race(toys.backwards, names, seeds, jobs=2, folder=folder(tmp_path)) == shared


def test_one_process_goes_seed_by_seed_and_tells_each_cell_when_it_is_on_disk(tmp_path: Path) -> None:
    run, log = folder(tmp_path), tmp_path / "log"
    on_disk: list[list[str]] = []
    race(
        partial(toys.counted, str(log)),
        ["b", "a"],
        [1, 0],
        jobs=1,
        folder=run,
        on_cell=lambda result: on_disk.append(cells_on_disk(run)),
    )
    assert log.read_text().splitlines() == ["b 1", "a 1", "b 0", "a 0"]
    assert [len(cells) for cells in on_disk] == [1, 2, 3, 4]
    assert on_disk[0] == ["b-0001"]


def test_a_race_is_widened_by_seeds_and_contestants_and_runs_only_what_is_missing(tmp_path: Path) -> None:
    run, log = folder(tmp_path), tmp_path / "log"
    run_cell = partial(toys.counted, str(log))
    first = race(run_cell, ["a", "b"], [0, 1], jobs=1, folder=run)
    log.unlink()
    heard: list[tuple[str, int]] = []
    again = race(run_cell, ["a", "b"], [0, 1], jobs=1, folder=run)
    assert again == first
    assert not log.exists()
    wider = race(
        run_cell,
        ["a", "c", "b"],
        [0, 1, 2],
        jobs=1,
        folder=run,
        on_cell=lambda result: heard.append((result["contestant"], result["seed"])),
    )
    assert sorted(log.read_text().splitlines()) == ["a 2", "b 2", "c 0", "c 1", "c 2"]
    assert len(heard) == len(set(heard)) == 9
    assert {key: wider[key] for key in first} == first
    # Narrower: only what was asked comes back, and all stays on disk.
    assert list(race(run_cell, ["c"], [1], folder=run)) == ["c-0001"]
    assert len(run.read_cells()) == 9


def test_without_a_folder_everything_runs_again(tmp_path: Path) -> None:
    run_cell = partial(toys.counted, str(tmp_path / "log"))
    for _ in range(2):
        race(run_cell, ["a"], [0], jobs=1)
    assert (tmp_path / "log").read_text() == "a 0\na 0\n"


@pytest.mark.parametrize(
    ("names", "seeds", "options", "message"),
    [
        (["a", "a"], [0], {}, "at least one contestant and one seed, each once"),
        (["a"], [0, 1, 0], {}, "each once"),
        ([], [0], {}, "at least one contestant"),
        (["a"], [], {}, "one seed"),
        (["a"], [0], {"jobs": 0}, "at least one job, got 0"),
        (["a"], [0], {"jobs": -2}, "at least one job, got -2"),
    ],
)
def test_impossible_races_are_refused_before_a_cell_runs(
    tmp_path: Path,
    names: list[str],
    seeds: list[int],
    options: dict[str, Any],
    message: str,
) -> None:
    with pytest.raises(UserError, match=message):
        race(partial(toys.counted, str(tmp_path / "log")), names, seeds, folder=folder(tmp_path), **options)
    assert not (tmp_path / "log").exists()


def test_a_record_of_another_cell_is_refused(tmp_path: Path) -> None:
    run = folder(tmp_path)
    race(toys.cell, ["a"], [0], jobs=1, folder=run)
    cells = run.path / "cells"
    (cells / "a-0000.json").rename(cells / "b-0000.json")
    with pytest.raises(UserError, match="'b-0000' is of contestant 'a' and seed 0; remove it"):
        race(toys.cell, ["b"], [0], jobs=1, folder=run)


class Elsewhere:
    """An executor that runs cells here, the last first, and notes what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.closed = 0

    def check(self, look: Callable[[], object]) -> None:
        look()

    def run(
        self, run_cell: Callable[[str, int], dict[str, Any]], cells: Mapping[str, tuple[str, int]]
    ) -> Generator[tuple[str, dict[str, Any]], None, None]:
        self.asked.append(list(cells))
        try:
            for key in reversed(cells):
                yield key, run_cell(*cells[key])
        finally:
            self.closed += 1


def test_an_executor_is_given_what_is_missing_and_is_closed_by_an_error(tmp_path: Path) -> None:
    run, elsewhere = folder(tmp_path), Elsewhere()
    race(toys.cell, ["a"], [0], jobs=1, folder=run)
    cells = race(toys.cell, ["a", "b"], [0, 1], workers=elsewhere, folder=run)
    assert elsewhere.asked == [["b-0000", "a-0001", "b-0001"]]
    assert untimed(cells) == untimed(race(toys.cell, ["a", "b"], [0, 1], jobs=1))
    assert untimed(run.read_cells()) == untimed(cells)

    def listener(result: dict[str, Any]) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        race(toys.cell, ["a", "b"], [5], workers=elsewhere, on_cell=listener)
    with pytest.raises(UserError, match="got a bad one"):
        race(partial(toys.failing, str(tmp_path / "log")), ["bad"], [1], workers=elsewhere)
    assert elsewhere.closed == 3


# Errors


def test_an_error_in_this_process_rises_and_finished_cells_stay(tmp_path: Path) -> None:
    run, log = folder(tmp_path), tmp_path / "log"
    run_cell = partial(toys.failing, str(log))
    with pytest.raises(UserError, match=r"nodes.csv:3: expected a good one, got a bad one"):
        race(run_cell, ["good", "bad"], [0, 1, 2], jobs=1, folder=run)
    assert cells_on_disk(run) == ["bad-0000", "good-0000", "good-0001"]


def test_an_error_in_a_worker_rises_at_once_and_finished_cells_stay(tmp_path: Path) -> None:
    run, log = folder(tmp_path), tmp_path / "log"
    started = time.monotonic()
    with pytest.raises(UserError) as caught:
        race(partial(toys.failing, str(log)), ["slow", "bad"], [0, 1, 2], jobs=2, folder=run)
    assert str(caught.value) == "nodes.csv:3: expected a good one, got a bad one"
    assert (caught.value.file, caught.value.line) == ("nodes.csv", 3)
    assert time.monotonic() - started < 30, "the slow cell was waited for"
    # One worker sleeps in slow 0, the other has done bad 0 and slow 1 before bad 1 failed.
    assert cells_on_disk(run) == ["bad-0000", "slow-0001"]


def test_a_killed_worker_is_a_user_error_and_finished_cells_stay(tmp_path: Path) -> None:
    run = folder(tmp_path)
    race(toys.killed, ["a"], [0], jobs=1, folder=run)
    with pytest.raises(UserError, match=r"a worker process died .*; run again to go on, with fewer --jobs"):
        race(toys.killed, ["a", "victim"], [0, 1], jobs=2, folder=run)
    assert "a-0000" in cells_on_disk(run)
    assert not [key for key in cells_on_disk(run) if key.startswith("victim")]


def test_an_error_of_the_listener_ends_the_workers(tmp_path: Path) -> None:
    def listener(result: dict[str, Any]) -> None:
        raise BrokenPipeError

    run = folder(tmp_path)
    started = time.monotonic()
    with pytest.raises(BrokenPipeError):
        race(
            partial(toys.failing, str(tmp_path / "log")),
            ["slow", "good"],
            [0],
            jobs=2,
            folder=run,
            on_cell=listener,
        )
    assert time.monotonic() - started < 30
    assert cells_on_disk(run) == ["good-0000"]


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_ends_the_workers_and_keeps_what_is_finished(tmp_path: Path) -> None:
    run = folder(tmp_path)
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        race(toys.interrupting, ["a", "b"], [0, 1], jobs=2, folder=run)
    assert time.monotonic() - started < 30
    assert set(cells_on_disk(run)) <= {"a-0000", "b-0000"}
    race(toys.cell, ["a", "b"], [0, 1], jobs=1, folder=run)


def test_other_children_of_the_caller_live_on(tmp_path: Path) -> None:
    other = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,))
    other.start()
    try:
        with pytest.raises(UserError):
            race(partial(toys.failing, str(tmp_path / "log")), ["slow", "bad"], [1], jobs=2)
        assert other.is_alive()
    finally:
        other.kill()
        other.join()


def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    # SIGKILL leaves the parent no chance to tell them.
    code = (
        "import sys; from functools import partial; import toy_cells; from layerlab.lab.race import race\n"
        "if __name__ == '__main__':\n"
        "    race(partial(toy_cells.failing, sys.argv[1]), ['slow', 'bad'], [0], jobs=2)\n"
    )
    (tmp_path / "script.py").write_text(code)
    log = tmp_path / "log"
    parent = subprocess.Popen(
        [sys.executable, str(tmp_path / "script.py"), str(log)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])},
    )
    try:
        deadline = time.monotonic() + 60
        while not (log.exists() and len(log.read_text().splitlines()) == 2):
            assert time.monotonic() < deadline
            assert parent.poll() is None
            time.sleep(0.05)
        workers = psutil.Process(parent.pid).children(recursive=True)
        assert len(workers) >= 2
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    _, alive = psutil.wait_procs(workers, timeout=10)
    for worker in alive:
        worker.kill()
    assert alive == []


# What a race says


def record(name: str, seed: int, accuracy: float, /, **changes: Any) -> dict[str, Any]:
    fields = {
        "contestant": name,
        "seed": seed,
        "metrics": {"accuracy": accuracy},
        "curves": {"accuracy": [accuracy]},
        "parameters": 10 * len(name),
        "step_seconds": 1.0 + seed,
        "seconds": 2.0,
    }
    return {**fields, **changes}


def test_a_summary_computed_by_hand() -> None:
    cells = [
        record("gcn", 1, 0.5),
        record("gcn", 0, 0.75),
        record("gcn", 5, 1.0),
        record("mlp", 0, 0.25, step_seconds=4.0),
        record("mlp", 1, 0.5),
        record("mlp", 7, 0.125, seconds=3.5),
        record("a", 9, 0.5),
    ]
    summary = summarise({cell_key(c["contestant"], c["seed"]): c for c in cells}, "accuracy")
    assert summary["metric"] == "accuracy"
    assert list(summary["contestants"]) == ["gcn", "mlp", "a"]
    gcn, mlp, a = summary["contestants"].values()
    # t(0.975, 2) = 4.302653, sd = 0.25, n = 3.
    assert (gcn["n"], gcn["mean"], gcn["sd"], gcn["values"]) == (3, 0.75, 0.25, [0.75, 0.5, 1.0])
    assert gcn["high"] - 0.75 == pytest.approx(4.302653 * 0.25 / 3**0.5, rel=1e-6)
    assert gcn["low"] + gcn["high"] == pytest.approx(1.5)
    assert (gcn["parameters"], gcn["step_seconds"], gcn["seconds"]) == (30, 2.0, 6.0)
    assert (mlp["step_seconds"], mlp["seconds"], mlp["values"]) == (4.0, 7.5, [0.25, 0.5, 0.125])
    assert (a["n"], a["mean"]) == (1, 0.5)
    assert a["sd"] != a["sd"]
    # Only seeds 0 and 1 were run by both, and a shares none.
    (difference,) = summary["differences"]
    assert {name: difference[name] for name in ("left", "right", "n", "mean", "wins")} == {
        "left": "gcn",
        "right": "mlp",
        "n": 2,
        "mean": 0.25,
        "wins": 1,
    }
    assert difference["sd"] == pytest.approx(0.125**0.5)
    # t(0.975, 1) = 12.7062
    assert difference["high"] - 0.25 == pytest.approx(12.7062 * 0.125**0.5 / 2**0.5, rel=1e-5)


def test_every_pair_is_compared_once_in_the_order_of_the_contestants() -> None:
    cells = {cell_key(name, seed): record(name, seed, 0.5) for name in "cab" for seed in (0, 1)}
    differences = summarise(cells, "accuracy")["differences"]
    assert [(d["left"], d["right"]) for d in differences] == [("c", "a"), ("c", "b"), ("a", "b")]
    assert all((d["mean"], d["sd"], d["low"], d["high"], d["wins"]) == (0, 0, 0, 0, 0) for d in differences)


@pytest.mark.parametrize(
    "changes",
    [
        {"metrics": {"loss": 1.0}},
        {"metrics": {"accuracy": None}},
        {"metrics": {"accuracy": "high"}},
        {"metrics": None},
        {"seconds": None},
        {"seed": []},
    ],
    ids=str,
)
def test_a_record_without_what_is_summarised_is_named(changes: dict[str, Any]) -> None:
    cells = {"a-0000": record("a", 0, 0.5), "b-0003": record("b", 3, 0.5, **changes)}
    with pytest.raises(
        UserError, match=r"the record 'b-0003' lacks 'accuracy' or is damaged .*; run the race again"
    ):
        summarise(cells, "accuracy")
    for name in ("contestant", "parameters", "step_seconds", "seconds", "seed", "metrics"):
        lacking = {key: value for key, value in record("a", 0, 0.5).items() if key != name}
        with pytest.raises(UserError, match=f"'a-0000' lacks .*'{name}'"):
            summarise({"a-0000": lacking}, "accuracy")


def test_a_score_that_is_not_finite_is_refused() -> None:
    with pytest.raises(UserError, match="finite"):
        summarise({"a-0000": record("a", 0, float("nan"))}, "accuracy")


def test_curves_of_different_lengths_end_where_half_of_the_seeds_have_stopped() -> None:
    runs = [[1.0, 2.0, 3.0, 4.0], [3.0], [2.0, 6.0], [6.0, 4.0, 5.0]]
    cells = {
        cell_key("a", seed): record("a", seed, 0.5, curves={"accuracy": run}) for seed, run in enumerate(runs)
    }
    curve = mean_curves(cells, "accuracy")["a"]
    # Epoch 3 is still trained by two of four, epoch 4 by one alone.
    assert curve["x"] == [1.0, 2.0, 3.0]
    assert curve["mean"] == [3.0, 4.0, 4.0]
    spread = [estimate(values) for values in ([1.0, 3.0, 2.0, 6.0], [2.0, 6.0, 4.0], [3.0, 5.0])]
    assert curve["low"] == [point.low for point in spread]
    assert curve["high"] == [point.high for point in spread]
    assert json.loads(json.dumps(curve)) == curve


@pytest.mark.parametrize(
    ("lengths", "last"), [([5], 5), ([1, 5], 5), ([1, 2, 5], 2), ([1, 2, 4, 5], 4), ([1, 1, 1, 5], 1)]
)
def test_the_last_epoch_of_a_curve(lengths: list[int], last: int) -> None:
    cells = {
        cell_key("a", seed): record("a", seed, 0.5, curves={"accuracy": [0.5] * length})
        for seed, length in enumerate(lengths)
    }
    assert len(mean_curves(cells, "accuracy")["a"]["x"]) == last
    assert 2 * sum(length >= last for length in lengths) >= len(lengths)
    assert 2 * sum(length >= last + 1 for length in lengths) < len(lengths)


def test_the_curve_of_one_seed_is_that_seeds() -> None:
    cells = {"a-0000": record("a", 0, 0.5, curves={"accuracy": [0.25, 0.5]}), "b-0000": record("b", 0, 0.5)}
    curves = mean_curves(cells, "accuracy")
    assert curves["a"] == {"x": [1.0, 2.0], "mean": [0.25, 0.5], "low": [0.25, 0.5], "high": [0.25, 0.5]}
    assert list(curves) == ["a", "b"]


@pytest.mark.parametrize(
    "changes", [{"curves": {}}, {"curves": None}, {"curves": {"accuracy": [None]}}], ids=str
)
def test_a_record_without_the_curve_is_named(changes: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="the record 'a-0002' lacks 'accuracy'"):
        mean_curves({"a-0002": record("a", 2, 0.5, **changes)}, "accuracy")
