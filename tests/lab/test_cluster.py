"""Races on Ray: a cluster of three nodes on this machine, of which one is lost. Skipped where Ray is not installed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import toy_cells as toys

from layerlab.errors import UserError
from layerlab.lab.cluster.executor import RayExecutor, opened
from layerlab.lab.race import race
from layerlab.lab.records import RunFolder, create_run, open_run

ray = pytest.importorskip("ray", reason='Ray is not installed: pip install -c constraints.txt -e ".[ray]"')

# Ray leaves files and processes of its own open when it starts nodes.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

HERE = Path(__file__).parent
CLUB = HERE.parents[1] / "examples" / "graph_folder"
MODELS = ["gcn", "gat", "sgc", "mlp"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head without processors and two nodes of one each; this process is connected to it."""
    from ray.cluster_utils import Cluster

    place = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", place)  # a Ray of the person who runs the tests keeps its address
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), *filter(None, sys.path)]))
        head = {
            "num_cpus": 0,
            "ray_client_server_port": _free_port(),
            "include_dashboard": False,
        }
        found = Cluster(initialize_head=True, head_node_args=head)
        found.client_port = head["ray_client_server_port"]
        for _ in range(2):
            found.add_node(num_cpus=1)
        ray.init(address=found.address, log_to_driver=False, logging_level=40)
        yield found
        ray.shutdown()
        found.shutdown()
    shutil.rmtree(place, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def folder(path: Path) -> RunFolder:
    return create_run(path / "run", "race", "layerlab race", {})


def untimed(cells: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What may not depend on where and when a cell ran."""
    changing = {"step_seconds", "seconds", "process"}
    return {key: {n: v for n, v in cell.items() if n not in changing} for key, cell in cells.items()}


def until(done: Callable[[], Any], seconds: float = 40) -> None:
    ends = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < ends, "waited in vain"
        time.sleep(0.05)


@contextlib.contextmanager
def beside(act: Callable[[], None]) -> Iterator[None]:
    """Do something in another thread, and end with it."""
    thread = threading.Thread(target=act)
    thread.start()
    try:
        yield
    finally:
        thread.join()


@pytest.mark.usefixtures("cluster")
def test_a_cluster_gives_what_this_process_gives_and_runs_only_what_is_missing(tmp_path: Path) -> None:
    run, log = folder(tmp_path), tmp_path / "log"
    cell = partial(toys.counted, str(log))
    race(cell, ["a", "b"], [0], jobs=1, folder=run)
    log.unlink()
    with opened("ray") as workers:
        assert workers is not None
        shared = race(cell, ["a", "b"], [0, 1, 2], workers=workers, folder=run)
    assert sorted(log.read_text().splitlines()) == ["a 1", "a 2", "b 1", "b 2"]
    alone = race(toys.cell, ["a", "b"], [0, 1, 2], jobs=1)
    assert list(shared) == list(alone)
    assert untimed(shared) == untimed(alone)
    assert untimed(run.read_cells()) == untimed(alone)
    assert ray.is_initialized(), "a connection that was there is no run's to end"


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("jobs", [1, 2])
def test_no_more_cells_at_a_time_than_jobs(tmp_path: Path, jobs: int) -> None:
    log = tmp_path / "log"
    with opened("ray", jobs) as workers:
        race(partial(toys.overlapping, str(log)), ["a"], range(4), workers=workers)
    now, most = 0, 0
    for line in log.read_text().splitlines():
        now += 1 if line.startswith("begins") else -1
        most = max(most, now)
    assert most == jobs


@pytest.mark.usefixtures("cluster")
def test_a_cell_s_error_rises_as_it_is_and_ends_the_others(tmp_path: Path) -> None:
    run, log = folder(tmp_path), tmp_path / "log"
    started = time.monotonic()
    with pytest.raises(UserError) as caught, opened("ray") as workers:
        race(partial(toys.failing, str(log)), ["slow", "bad"], [0, 1, 2], workers=workers, folder=run)
    assert str(caught.value) == "nodes.csv:3: expected a good one, got a bad one"
    assert (caught.value.file, caught.value.line) == ("nodes.csv", 3)
    assert time.monotonic() - started < 40, "the slow cell was waited for"
    assert "bad-0000" in run.read_cells()
    assert "slow-0000" not in run.read_cells()
    # Both nodes are free again, long before the slow cell would have ended.
    with opened("ray") as workers:
        race(partial(toys.overlapping, str(tmp_path / "next")), ["a"], [0, 1], workers=workers)
    assert time.monotonic() - started < 40
    for name, kind in (("a", ZeroDivisionError), ("far", ConnectionResetError)):
        with pytest.raises(kind, match=f"{name} 7"), opened("ray") as workers:
            race(toys.mistaken, [name], [7], workers=workers)


@pytest.mark.usefixtures("cluster")
def test_a_cluster_that_goes_is_one_line_and_finished_cells_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, wait = folder(tmp_path), ray.wait

    def gone(*arguments: Any, **options: Any) -> Any:
        if run.read_cells():
            raise ConnectionError("Client is shutting down.\nMore of it.")
        return wait(*arguments, **options)

    monkeypatch.setattr(ray, "wait", gone)
    message = r"^the cluster was lost \(Client is shutting down\.\); run again to go on$"
    with pytest.raises(UserError, match=message), opened("ray", 1) as workers:
        race(toys.cell, ["a"], [0, 1], workers=workers, folder=run)
    assert list(run.read_cells()) == ["a-0000"]


@pytest.mark.usefixtures("cluster")
def test_a_cell_that_kills_its_process_every_time_is_told(tmp_path: Path) -> None:
    run = folder(tmp_path)
    message = r"the cluster lost the cell victim-0000 4 times .*run again to go on, with fewer --jobs"
    with pytest.raises(UserError, match=message), opened("ray") as workers:
        race(toys.killed, ["a", "victim"], [0], workers=workers, folder=run)
    assert list(run.read_cells()) == ["a-0000"]


@pytest.mark.usefixtures("cluster", "ctrl_c")
def test_ctrl_c_cancels_what_runs_and_keeps_what_is_finished(tmp_path: Path) -> None:
    run, marks = folder(tmp_path), tmp_path / "marks"
    marks.mkdir()

    def interrupt() -> None:
        until(lambda: len(list(marks.iterdir())) == 1 and run.read_cells())
        os.kill(os.getpid(), signal.SIGINT)

    with beside(interrupt), pytest.raises(KeyboardInterrupt), opened("ray", 1) as workers:
        race(partial(toys.waiting, str(marks)), ["a", "slow"], [0, 1], workers=workers, folder=run)
    (mark,) = list(marks.iterdir())
    until(lambda: not psutil.pid_exists(int(mark.read_text().split()[0])), 10)
    assert "a-0000" in run.read_cells()
    assert "slow-0000" not in run.read_cells()


@pytest.mark.usefixtures("cluster")
def test_every_machine_is_asked_before_a_race() -> None:
    executor = RayExecutor(None, alone=False)
    executor.compare_versions()
    nodes = len([node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")])
    assert len(executor._machines()) == nodes >= 2
    with pytest.raises(UserError, match=r"on the cluster's machine \S+ \(\w{8}\): a 0 is not here"):
        executor.check(partial(toys.missing, "a", 0))
    executor._here = {"layerlab": "9.9", "torch": "1.0", "numpy": executor._here["numpy"]}
    for act in (executor.compare_versions, lambda: race(toys.cell, ["a"], [0], workers=executor)):
        with pytest.raises(
            UserError, match=r"has layerlab .* \(here 9\.9\), torch .* \(here 1\.0\); install"
        ):
            act()


@pytest.mark.usefixtures("cluster")
def test_models_are_trained_to_the_same_bits(tmp_path: Path) -> None:
    from layerlab.graph.racing import race_run

    def raced(out: str, **options: Any) -> dict[str, dict[str, Any]]:
        overrides = {model: {"epochs": 6, "hidden": 3} for model in MODELS}
        run, _ = race_run(
            str(CLUB), MODELS, range(2), out=tmp_path / out, protocol="random", overrides=overrides, **options
        )
        return untimed(run.read_cells())

    with opened("ray") as workers:
        assert raced("there", workers=workers) == raced("here", jobs=1)


@pytest.mark.usefixtures("cluster")
def test_segmentation_networks_are_trained_to_the_same_bits(tmp_path: Path) -> None:
    from layerlab.segmentation.digits import Digits
    from layerlab.segmentation.experiments import race_run
    from layerlab.segmentation.settings import Settings

    settings = Settings(widths=(2, 2), size=16, batch=4, epochs=1, patience=None)

    def raced(out: str, **options: Any) -> dict[str, dict[str, Any]]:
        run, _ = race_run(
            Digits(10, 16), settings, arms=["on", "off"], seeds=[0], out=tmp_path / out, **options
        )
        return untimed(run.read_cells())

    with opened("ray") as workers:
        there = raced("there", workers=workers)
    assert set(there) == {"on-0000", "off-0000"}
    assert there == raced("here", jobs=1)


@pytest.mark.parametrize("outside", [True, False])
def test_a_process_of_its_own_races_there_and_hears_nothing_of_a_worker_that_died(
    cluster: Any, tmp_path: Path, outside: bool
) -> None:
    script = """
import json, sys
from functools import partial
import toy_cells
from layerlab.lab.cluster.executor import opened
from layerlab.lab.race import race
with opened(sys.argv[1], 2) as workers:
    print(json.dumps(race(partial(toy_cells.killed_once, sys.argv[2]), ["a", "b"], [0, 1], workers=workers)))
"""
    where = f"ray://127.0.0.1:{cluster.client_port}" if outside else "ray"
    done = _python("-c", script, where, str(tmp_path / "mark"), RAY_ADDRESS=cluster.address)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert untimed(found) == untimed(race(toys.cell, ["a", "b"], [0, 1], jobs=1))
    assert (tmp_path / "mark").exists()


def test_a_lost_node_s_cell_is_done_again_elsewhere(cluster: Any, tmp_path: Path) -> None:
    run, marks = folder(tmp_path), tmp_path / "marks"
    marks.mkdir()
    victim = cluster.add_node(num_cpus=1)
    raylet = victim.all_processes["raylet"][0].process.pid

    def on_victim() -> list[Path]:
        return [mark for mark in marks.iterdir() if mark.read_text().endswith(f" {raylet}")]

    def kill() -> None:
        try:
            until(lambda: len(list(marks.iterdir())) == 3 and on_victim())
            cluster.remove_node(victim, allow_graceful=False)
        finally:
            (marks / "go").touch()

    heard: list[str] = []
    with beside(kill), opened("ray") as workers:
        cells = race(
            partial(toys.waiting, str(marks)),
            ["slow", "a"],
            [0, 1, 2],
            workers=workers,
            folder=run,
            on_cell=lambda cell: heard.append(f"{cell['contestant']}-{cell['seed']:04d}"),
        )
    (lost,) = on_victim()
    # The lost one's seed was begun twice, the others' once; of each there is one result.
    begun = [mark.name.split("-")[0] for mark in marks.iterdir() if mark.name != "go"]
    assert sorted(begun) == sorted(["0", "1", "2", lost.name.split("-")[0]])
    assert sorted(heard) == sorted(cells)
    assert len(set(heard)) == 6
    assert untimed(run.read_cells()) == untimed(race(toys.cell, ["slow", "a"], [0, 1, 2], jobs=1))


def test_a_ray_of_its_own_is_gone_behind_a_race(tmp_path: Path) -> None:
    before = set(Path("/tmp").glob("layerlab-ray-*"))
    command = f"graph race {CLUB} --models mlp --seeds 2 --protocol random --jobs 1 --on ray --out"
    done = _python("-m", "layerlab", *command.split(), str(tmp_path / "run"), HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert len(open_run(tmp_path / "run", "graph-race").read_cells()) == 2
    assert set(Path("/tmp").glob("layerlab-ray-*")) <= before
    assert not (tmp_path / ".ray").exists(), "no key in a person's home"


def _python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    known = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    path = os.pathsep.join([str(HERE), *filter(None, sys.path)])
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**known, "PYTHONPATH": path, **environment},
    )
