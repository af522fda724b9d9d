"""Processes started from here: again after a death, not after an orderly end, and none left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rank_talks import learn

from layerlab.errors import UserError
from layerlab.lab import launching

PATHS = [str(Path(__file__).parent)]


@pytest.fixture(autouse=True)
def _paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([*PATHS, *sys.path]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def within(seconds: float, fact: Callable[[], bool]) -> bool:
    ends = time.monotonic() + seconds
    while not (found := fact()) and time.monotonic() < ends:
        time.sleep(0.05)
    return found


def lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_killed_process_costs_no_epoch_that_was_kept(tmp_path: Path) -> None:
    before = dict(os.environ), signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    assert launching.launch("rank_job", ["die", str(tmp_path)], 2) == 0
    assert (dict(os.environ), signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    found = json.loads((tmp_path / "found").read_text())
    assert found["starts"] == 2
    undisturbed = learn(None)
    assert len(found["history"]) == 6
    for mine, theirs in zip(found["history"], undisturbed["history"], strict=True):
        assert mine == pytest.approx(theirs, rel=1e-5)


@pytest.mark.parametrize("what", ["refuse", "leave"])
def test_an_orderly_end_is_the_end(tmp_path: Path, what: str) -> None:
    assert launching.launch("rank_job", [what, str(tmp_path)], 2) == 2
    # Nobody was started a second time.
    assert [len(path.read_text().split()) for path in tmp_path.glob("*.pid")] == [1, 1]


def test_a_process_that_always_dies_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launching, "RESTARTS", 1)
    with pytest.raises(UserError, match="process 1 of 2 ended with status 7, after 1 new start"):
        launching.launch("rank_job", ["fail", str(tmp_path)], 2)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_no_process_is_left_behind(tmp_path: Path, number: signal.Signals, status: int) -> None:
    program = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from layerlab.lab.launching import launch\n"
        f"sys.exit(launch('rank_job', ['wait', {str(tmp_path)!r}], 2))"
    )
    parent = subprocess.Popen([sys.executable, "-c", program])
    files = [tmp_path / f"{rank}.pid" for rank in range(2)]
    assert within(60, lambda: all(file.exists() and file.read_text() for file in files))
    ranks = [int(file.read_text()) for file in files]
    parent.send_signal(number)
    assert parent.wait(60) == status
    assert within(20, lambda: not any(map(lives, ranks)))
