"""The peak memory of a process above what it held while idle."""

from __future__ import annotations

import ctypes
import gc
import resource
import sys
from pathlib import Path
from typing import Any


class Peak:
    """Watches the resident memory of this process from here on.

    "Idle" is what the process holds now; what was freed is given back before.
    """

    def __init__(self) -> None:
        gc.collect()
        if sys.platform == "linux":
            _trim()
        self.idle = _status()["VmRSS"]
        self.exact = _forget_peak()

    def found(self) -> dict[str, Any]:
        """Bytes while idle, at the peak, and between. Without ``peak_reset`` the peak may be older than the watch."""
        peak = _status()["VmHWM"] if self.exact else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return {
            "idle_bytes": self.idle,
            "peak_bytes": peak,
            "above_idle_bytes": peak - self.idle,
            "peak_reset": self.exact,
        }


def _trim() -> None:
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except AttributeError:  # a C library without it
        return


def _status() -> dict[str, int]:
    """Resident bytes now and at the peak."""
    lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    fields = dict(line.split(":", 1) for line in lines if line.startswith(("VmRSS", "VmHWM")))
    return {name: 1024 * int(value.split()[0]) for name, value in fields.items()}


def _forget_peak() -> bool:
    """Make the kernel's record of the peak start anew; False where it does not allow that."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True
