"""The machine that this process runs on, as far as figures that are measured here depend on it."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

from layerlab import __version__


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def environment() -> dict[str, Any]:
    """What a figure measured here depends on: versions, the processor, the threads.

    No host name, no path and no user name: the record is made to be handed on.

    Returns:
        ``python``, ``layerlab``, ``torch``, ``numpy``, ``scipy`` (versions), ``os`` (system and machine),
        ``cpu`` (model name), ``cores`` (that this process may use), ``threads`` (that torch uses).

    >>> environment()["layerlab"] == __version__
    True
    """
    import torch

    return {
        "python": platform.python_version(),
        "layerlab": __version__,
        "torch": str(torch.__version__),
        "numpy": metadata.version("numpy"),
        "scipy": metadata.version("scipy"),
        "os": f"{platform.system()} {platform.machine()}".strip(),
        "cpu": _cpu_model(),
        "cores": available_cores(),
        "threads": torch.get_num_threads(),
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() == "model name" and value.strip():
            return value.strip()
    return platform.processor() or platform.machine() or "unknown"
