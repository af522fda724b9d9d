"""What fits into memory, and what does not and is refused before anything is made."""

from __future__ import annotations

import os
from pathlib import Path

from layerlab.errors import UserError

# Kept free for everything else.
_SHARE = 0.8


def available() -> int | None:
    """Bytes of memory that can be had without swapping; all of the machine's where that is not told; None: unknown."""
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


def refuse_beyond(needed: int, what: str, mend: str) -> None:
    """Refuse what takes more than four fifths of the memory there is.

    Args:
        needed: bytes.
        what: the thing, for the message: "10 vectors of 3 dimensions in float32".
        mend: what to do in place of it.

    Raises:
        UserError: it does not fit; the message has both sizes.
    """
    free = available()
    if free is not None and needed > _SHARE * free:
        raise UserError(f"{what} take {size(needed)}, and {size(free)} of memory are free; {mend}")


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
