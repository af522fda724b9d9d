"""What needs processes of their own: peak memory over n, and very long sequences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bench_common import timing
from bench_common.workers import ask

from attention_bench.contestants import HEADS, MODES, OURS, PLAIN, SIZE, SOFTMAX

Say = Callable[[str], None]
WORKER = "attention_bench.worker"
PIECE = 1 << 16  # tokens


def memory(sizes: Sequence[int], compared: int, threads: int, say: Say) -> dict[str, Any]:
    """Peak memory of a training step above the idle process, ours at each n and the others' at one; exponents."""

    def peak(mode: str, runner: str, n: int) -> dict[str, Any]:
        say(f"memory: {mode}, {runner}, {n:,} tokens")
        return ask(WORKER, {"task": "training", "mode": mode, "runner": runner, "n": n, "threads": threads})

    modes = {}
    for mode in MODES:
        rows = [peak(mode, OURS, n) for n in sizes]
        found = [row["above_idle_bytes"] for row in rows]
        modes[mode] = {
            "rows": rows,
            "growth": timing.growth(sizes, found),
            "line": line(sizes, found),
            "others": {runner: peak(mode, runner, compared) for runner in (SOFTMAX, PLAIN)},
        }
    return {"modes": modes, "compared": compared}


def long(sizes: Sequence[int], largest: int, threads: int, say: Say) -> dict[str, Any]:
    """Causal passes over ``sizes``, the line through their times, and the longest pass beside it, in both forms."""

    def passed(n: int, form: str) -> dict[str, Any]:
        say(f"long: {n:,} tokens, {form}")
        request = {"task": "causal", "n": n, "form": form, "piece": PIECE, "runs": 3}
        return ask(WORKER, {**request, "threads": threads})

    rows = [passed(n, "whole") for n in sizes]
    fit = line(sizes, [row["median_seconds"] for row in rows])
    forms = {"pieces": passed(largest, "pieces")}
    # q, k, v and the result, and what else the machine does.
    needed = 5 * HEADS * SIZE * 4 * largest
    if _available() > needed:
        forms["whole"] = passed(largest, "whole")
    else:
        say(f"long: {largest:,} tokens, whole: left out, it needs {needed / 1e9:.0f} GB of free memory")
    expected = fit["start"] + fit["slope"] * largest
    for row in forms.values():
        row["off_the_line"] = row["median_seconds"] / expected - 1
    return {
        "rows": rows,
        "line": fit,
        "growth": timing.growth(sizes, [row["median_seconds"] for row in rows]),
        "largest": largest,
        "expected_seconds": expected,
        "piece": PIECE,
        "forms": forms,
    }


def line(x: Sequence[float], y: Sequence[float]) -> dict[str, float]:
    """y = start + slope x with the least sum of squared relative errors, and the largest of these.

    >>> fit = line([1, 2, 4], [3, 5, 9])
    >>> round(fit["start"], 9), round(fit["slope"], 9), round(fit["largest_error"], 9)
    (1.0, 2.0, 0.0)
    """
    xs, ys = np.asarray(x, float), np.asarray(y, float)
    (start, slope), *_ = np.linalg.lstsq(np.stack([1 / ys, xs / ys], 1), np.ones(len(ys)), rcond=None)
    off = np.abs((start + slope * xs) / ys - 1)
    return {"start": float(start), "slope": float(slope), "largest_error": float(off.max())}


def _available() -> int:
    """Bytes of memory that a new process may take."""
    for text in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if text.startswith("MemAvailable"):
            return 1024 * int(text.split()[1])
    return 0
