"""What the tests of `layerlab.lab.race` race. Worker processes import this file, so it stays light."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

from layerlab.errors import UserError


def cell(name: str, seed: int) -> dict[str, Any]:
    """A result that depends on contestant and seed alone, apart from its times."""
    value = round((sum(map(ord, name)) * 37 + seed * 101) % 997 / 997, 6)
    return {
        "metrics": {"accuracy": value},
        "curves": {"accuracy": [value, value / 3]},
        "parameters": len(name),
        "step_seconds": time.perf_counter(),
        "seconds": time.perf_counter(),
        "process": os.getpid(),
    }


def counted(file: str, name: str, seed: int) -> dict[str, Any]:
    """`cell`, and one line in ``file`` a call."""
    with Path(file).open("a", encoding="utf-8") as stream:
        stream.write(f"{name} {seed}\n")
    return cell(name, seed)


def backwards(name: str, seed: int) -> dict[str, Any]:
    """`cell`; the first seeds come last, and a worker gets the Ctrl-C that its parent has not heard of (yet)."""
    if multiprocessing.parent_process() is not None:
        os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.3 / (1 + seed))
    return cell(name, seed)


def failing(file: str, name: str, seed: int) -> dict[str, Any]:
    """`counted`; "bad" fails with seed 1, and "slow" would take a minute with seed 0."""
    if (name, seed) == ("bad", 1):
        raise UserError("expected a good one, got a bad one", file="nodes.csv", line=3)
    result = counted(file, name, seed)
    if (name, seed) == ("slow", 0):
        time.sleep(60)
    return result


def killed(name: str, seed: int) -> dict[str, Any]:
    """`cell`; the process of "victim" is killed, as for lack of memory."""
    if name == "victim":
        os.kill(os.getpid(), signal.SIGKILL)
    return cell(name, seed)


def interrupting(name: str, seed: int) -> dict[str, Any]:
    """`cell`; with seed 1, Ctrl-C reaches this process and its parent, and the cell would take a minute."""
    if seed == 1:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getppid(), signal.SIGINT)
        time.sleep(60)
    return cell(name, seed)


def overlapping(file: str, name: str, seed: int) -> dict[str, Any]:
    """`cell`, with a line in ``file`` when it begins and another, half a second later, when it ends."""
    for word in ("begins", "ends"):
        with Path(file).open("a", encoding="utf-8") as stream:
            stream.write(f"{word} {name} {seed} {os.getpid()}\n")
        if word == "begins":
            time.sleep(0.5)
    return cell(name, seed)


def waiting(folder: str, name: str, seed: int) -> dict[str, Any]:
    """`cell`; "slow" writes its process into a file of ``folder`` and waits there for the file "go"."""
    if name == "slow":
        place = Path(folder)
        (place / f"{seed}-{time.time_ns()}").write_text(f"{os.getpid()} {os.getppid()}")
        ends = time.monotonic() + 60
        while not (place / "go").exists() and time.monotonic() < ends:
            time.sleep(0.05)
    return cell(name, seed)


def mistaken(name: str, seed: int) -> dict[str, Any]:
    """A defect of the cell's own; "far" is one that looks as if a cluster had gone."""
    raise (ConnectionResetError if name == "far" else ZeroDivisionError)(f"{name} {seed}")


def missing(name: str, seed: int) -> None:
    """What a look at a machine may find."""
    raise UserError(f"{name} {seed} is not here")


def killed_once(file: str, name: str, seed: int) -> dict[str, Any]:
    """`cell`; the first time that "b" is run with seed 1, its process is killed."""
    if (name, seed) == ("b", 1) and not Path(file).exists():
        Path(file).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return cell(name, seed)
