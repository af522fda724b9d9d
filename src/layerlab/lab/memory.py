"""How much memory there is, and how to say so."""

from __future__ import annotations

import os
from pathlib import Path

_GROUP = Path("/sys/fs/cgroup")


def available() -> int | None:
    """Bytes of memory that can be had without swapping; all of the machine's where that is not told; None: unknown.

    The limit of the container that this process runs in counts, too.
    """
    found = [count for count in (_of_machine(), _of_container()) if count is not None]
    return min(found, default=None)


def _of_machine() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _of_container() -> int | None:
    try:
        limit, used = (int((_GROUP / f"memory.{name}").read_text()) for name in ("max", "current"))
        stat = dict(line.split() for line in (_GROUP / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no such control group, or "max": no limit
        return None
    # What was read from files and can be dropped counts as used there.
    return max(0, limit - used + int(stat.get("inactive_file", 0)))


def size(count: int) -> str:
    """Bytes in words.

    >>> size(512), size(2_151_677_952), size(10**19)
    ('512 bytes', '2.15 GB', '10 EB')
    """
    units = ["bytes", "KB", "MB", "GB", "TB", "PB", "EB"]
    value = float(count)
    while value >= 999.5 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return f"{value:.3g} {units[0]}"
