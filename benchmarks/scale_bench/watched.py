"""A command in a process of its own, watched from outside: processor time, peak memory, and how much of that is pages
of its own rather than of mapped files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).parents[1]
_EVERY = 0.02  # seconds between two looks
_FIELDS = ("VmHWM", "RssAnon")


@dataclass
class Watched:
    """What a finished command took.

    Attributes:
        output: what it wrote to standard output.
        wall: seconds.
        processor: seconds of all its threads and children, in the program and in the kernel.
        peak: resident bytes at most, pages of mapped files included (the kernel's record of the process).
        samples: (time of the monotonic clock, bytes that are the process's own), fifty a second: short peaks between
            two looks are not seen.
    """

    output: str
    wall: float
    processor: float
    peak: int
    samples: list[tuple[float, int]] = field(default_factory=list)

    def own(self, begin: float = 0.0, end: float = float("inf")) -> int:
        """The most bytes of its own that were seen between two times."""
        return max((size for at, size in self.samples if begin <= at <= end), default=0)

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "wall_seconds": self.wall,
            "processor_seconds": self.processor,
            "peak_bytes": self.peak,
            "own_bytes": self.own(),
        }


def watch(command: Sequence[str], *, threads: int, limit: float = 3600.0) -> Watched:
    """Run a command to its end.

    Args:
        command: program and arguments; it runs in the folder of the benchmarks.
        threads: of torch and of the kernels.
        limit: seconds after which it is killed.

    Raises:
        subprocess.CalledProcessError: it failed; what it said is on standard error.
    """
    peak, samples, begun = 0, [], time.monotonic()
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "NO_COLOR": "1"}
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen(list(command), cwd=BENCHMARKS, env=environment, stdout=out)
        try:
            while True:
                found, status, usage = os.wait4(process.pid, os.WNOHANG)
                if found:
                    break
                now = time.monotonic()
                if (seen := _status(process.pid)) is not None:
                    peak = max(peak, seen["VmHWM"])
                    samples.append((now, seen["RssAnon"]))
                if now - begun > limit:
                    process.kill()
                time.sleep(_EVERY)
        except BaseException:
            process.kill()
            process.wait()
            raise
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.monotonic() - begun
        out.seek(0)
        output = out.read()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, list(command))
    return Watched(output, wall, usage.ru_utime + usage.ru_stime, peak, samples)


def command(*words: str | Path, threads: int, limit: float = 3600.0) -> Watched:
    """``layerlab WORDS``, as a user types it."""
    return watch([sys.executable, "-m", "layerlab", *map(str, words)], threads=threads, limit=limit)


def worker(task: str, threads: int, limit: float = 3600.0, **given: Any) -> tuple[dict[str, Any], Watched]:
    """A task of `scale_bench.worker`: what it answers, and what it took."""
    request = json.dumps({"task": task, "threads": threads, **given})
    watched = watch(
        [sys.executable, "-W", "ignore", "-m", "scale_bench.worker", request], threads=threads, limit=limit
    )
    return json.loads(watched.output.splitlines()[-1]), watched


def _status(process: int) -> dict[str, int] | None:
    """Bytes of a running process; None where it has just ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    fields = dict(line.split(":", 1) for line in lines if line.startswith(_FIELDS))
    if set(fields) != set(_FIELDS):
        return None
    return {name: 1024 * int(value.split()[0]) for name, value in fields.items()}
