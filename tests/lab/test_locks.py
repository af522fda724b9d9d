"""One process a folder: who comes second is told so, a dead one holds nothing."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from layerlab.errors import UserError
from layerlab.lab import locks
from layerlab.lab.locks import lock_folder
from layerlab.lab.records import create_run, open_run

HOLDER = """
import sys, time
from pathlib import Path
from layerlab.lab.locks import lock_folder
held = lock_folder(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no flock on Windows")


@contextmanager
def another_process_in(folder: Path) -> Iterator[subprocess.Popen[str]]:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    with holder:
        try:
            assert holder.stdout.readline() == "held\n"
            yield holder
        finally:
            holder.kill()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_folder, "__defaults__", (0.0,))


@pytest.mark.usefixtures("impatient")
def test_the_second_process_is_refused_until_the_first_is_killed(tmp_path: Path) -> None:
    run = create_run(tmp_path / "run", "race", "", {})
    run.write_cell("a-0000", {"x": 1})
    del run
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with another_process_in(tmp_path / "run") as holder:
        with pytest.raises(
            UserError, match=r"run: another process of layerlab is working in this folder; wait"
        ):
            create_run(tmp_path / "run", "race", "", {})
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
        assert open_run(tmp_path / "run").read_cells() == {"a-0000": {"x": 1}}
        holder.kill()
        holder.wait()
        assert create_run(tmp_path / "run", "race", "", {}).read_cells() == {"a-0000": {"x": 1}}


@pytest.mark.usefixtures("impatient")
def test_a_new_folder_is_held_before_anything_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with another_process_in(tmp_path / "run"):
        with pytest.raises(UserError, match="another process"):
            create_run(tmp_path / "run", "race", "", {})
        assert list((tmp_path / "run").iterdir()) == []


def test_a_lock_waits_for_a_process_that_is_about_to_end(tmp_path: Path) -> None:
    with another_process_in(tmp_path) as holder:
        began = time.monotonic()
        killer = threading.Timer(0.3, holder.kill)
        killer.start()
        assert lock_folder(tmp_path, patience=20.0) is not None
        assert time.monotonic() - began > 0.2
        killer.join()


def test_a_lock_ends_with_the_last_that_keeps_it(tmp_path: Path) -> None:
    first = create_run(tmp_path / "run", "race", "", {})
    second = create_run(tmp_path / "run", "race", "", {})
    assert first.lock is second.lock is not None
    del first
    assert _is_held(tmp_path / "run")
    del second
    gc.collect()
    assert not _is_held(tmp_path / "run")


def _is_held(folder: Path) -> bool:
    code = (
        "import sys, pathlib, layerlab.lab.locks as locks; locks.lock_folder(pathlib.Path(sys.argv[1]), 0.0)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, check=False)
    return done.returncode != 0


def test_a_run_opened_to_be_read_holds_nothing(tmp_path: Path) -> None:
    create_run(tmp_path / "run", "race", "", {})
    assert open_run(tmp_path / "run").lock is None


@pytest.mark.parametrize("answer", [OSError(95, "not supported"), None])
def test_without_locks_runs_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: OSError | None
) -> None:
    import fcntl

    if answer is None:
        monkeypatch.setattr(locks, "_HAS_LOCKS", False)
    else:

        def refuse(*_: object) -> None:
            raise answer

        monkeypatch.setattr(fcntl, "flock", refuse)
    assert lock_folder(tmp_path) is None
    assert create_run(tmp_path / "run", "race", "", {}).lock is None


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    def open_ones() -> int:
        return len(list(Path("/dev/fd").iterdir()))

    create_run(tmp_path / "run", "race", "", {})
    before = open_ones()
    for _ in range(5):
        create_run(tmp_path / "run", "race", "", {})
    with pytest.raises(UserError, match="holds another run"):
        create_run(tmp_path / "run", "train", "", {})
    gc.collect()
    assert open_ones() == before
