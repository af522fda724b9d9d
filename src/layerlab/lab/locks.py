"""One process a folder: a lock that is not a file, and that ends with whoever holds it, however they end."""

from __future__ import annotations

import os
import threading
import time
import weakref
from pathlib import Path

from layerlab.errors import UserError

PATIENCE = 3.0
"""Seconds to wait for a lock: the workers of a run that was killed a moment ago need some to go."""

# Windows has no flock.
_HAS_LOCKS = os.name == "posix"
_guard = threading.Lock()
_held: weakref.WeakValueDictionary[tuple[int, int], FolderLock] = weakref.WeakValueDictionary()


class FolderLock:
    """A folder that no other process holds, until this object is gone or the process is. Made by `lock_folder`."""

    def __init__(self, descriptor: int) -> None:
        self._close = weakref.finalize(self, os.close, descriptor)


def lock_folder(
    path: Path, patience: float = PATIENCE, *, mend: str = "choose another --out"
) -> FolderLock | None:
    """Hold a folder against other processes; within one process, all that ask share the lock.

    It is the operating system's lock on the open folder itself (``flock``): nothing is written, nothing stale can
    stay behind, and it ends with its process, by ``kill -9`` too.

    Args:
        path: an existing folder.
        patience: seconds to wait for another process.
        mend: what else the caller can do, for the message.

    Returns:
        The lock, to be kept; None where there are no such locks (Windows, some network file systems).

    Raises:
        UserError: another process holds the folder.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     first = lock_folder(Path(folder))
    ...     lock_folder(Path(folder)) is first
    True
    """
    if not _HAS_LOCKS:
        return None
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        # Whoever writes into the folder says why they cannot.
        return None
    found = os.fstat(descriptor)
    key = (found.st_dev, found.st_ino)
    with _guard:
        if (held := _held.get(key)) is not None:
            os.close(descriptor)
            return held
        locked = _locked_within(descriptor, patience)
        if locked:
            lock = _held[key] = FolderLock(descriptor)
            return lock
    os.close(descriptor)
    if locked is None:
        return None
    raise UserError(
        f"another process of layerlab is working in this folder; wait for it, end it, or {mend}",
        file=path,
    )


def try_lock(descriptor: int) -> bool | None:
    """Lock an open file or folder until it is closed: whether that went, None where there are no such locks."""
    if not _HAS_LOCKS:
        return None
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        # Some network file systems know no locks; what was to be locked works without.
        return None
    return True


def _locked_within(descriptor: int, patience: float) -> bool | None:
    ends = time.monotonic() + patience
    while (locked := try_lock(descriptor)) is False and time.monotonic() < ends:
        time.sleep(0.05)
    return locked
