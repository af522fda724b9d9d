"""A process of its own: a Kerdock set proved, certified and written, with its peak memory.

Usage: python -m projection_bench.worker '{"task": "kerdock", ...}'; prints one line of JSON.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_common.memory import Peak
from bench_common.workers import answer

from layerlab.projection.kerdock import Kerdock


def kerdock(dim: int, measured: int, threads: int) -> dict[str, Any]:
    """All lines: the proof, the certificate with so many pairs measured, and the lines on disk, as int8 and float32."""
    torch.set_num_threads(threads)
    Kerdock(4).certify()  # everything imported, kernels loaded
    memory = Peak()
    seconds: dict[str, float] = {}

    def timed(name: str, step: Any) -> Any:
        started = time.perf_counter()
        made = step()
        seconds[f"{name}_seconds"] = time.perf_counter() - started
        return made

    lines = timed("make", lambda: Kerdock(dim))
    timed("prove", lambda: lines.prove(lines.cosets))
    found = timed("certify", lambda: lines.certify(measured=measured))
    sizes = {}
    with tempfile.TemporaryDirectory() as folder:
        for form in ("int8", "float32"):
            path = Path(folder) / "lines.npy"
            timed(f"write_{form}", lambda form=form, path=path: lines.write(path, form=form))
            sizes[form] = path.stat().st_size
            written = np.load(path, mmap_mode="r")
            assert written.shape == (lines.count, dim)
    counts = found.histogram.counts
    return {
        "dim": dim,
        "lines": found.count,
        "bases": lines.cosets + 1,
        "pairs": found.pairs,
        "measured_pairs": found.measured_pairs,
        "coherence": found.coherence,
        "floor": found.floors[0].value,
        "floor_name": found.floors[0].name,
        "exact": found.exact,
        "error": found.error,
        "proved_by": found.proved_by,
        "cosines": {f"{(2 * k - dim) / dim:g}": int(counts[k]) for k in np.flatnonzero(counts)},
        "file_bytes": sizes,
        **seconds,
        **memory.found(),
    }


if __name__ == "__main__":
    answer({"kerdock": kerdock})
