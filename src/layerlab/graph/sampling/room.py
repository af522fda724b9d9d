"""Room for activations: in memory where they fit, else in a file without a name."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from layerlab.errors import UserError
from layerlab.lab.memory import available, size

# The share of the free memory up to which arrays are ordinary ones.
_SHARE = 0.4


class Room:
    """Makes float32 arrays, in memory or mapped from files that end with the room; see `room`."""

    def __init__(self, folder: Path | None, limit: int | None) -> None:
        self._folder, self._limit, self._made = folder, limit, 0

    def array(self, rows: int, columns: int) -> Tensor:
        """``(rows, columns)``, not filled.

        Raises:
            UserError: neither in memory nor on the disk is room.
        """
        wanted = 4 * rows * columns
        free = available() if self._limit is None else self._limit
        if free is None or wanted <= _SHARE * free or self._folder is None:
            return torch.empty(rows, columns)
        self._made += 1
        path = self._folder / f"{self._made}.f32"
        try:
            with path.open("wb") as file:
                _reserve(file.fileno(), wanted)
            numbers = np.memmap(path, np.float32, "r+", shape=(rows, columns))
        except OSError as error:
            raise UserError(
                f"{size(wanted)} of activations fit neither into memory nor into {self._folder}"
                f" ({error.strerror or error}); set TMPDIR to a folder with more room"
            ) from None
        # Its pages stay until the last array over them is gone.
        path.unlink()
        return torch.from_numpy(numbers)


def _reserve(file: int, count: int) -> None:
    """Take the bytes now: writing to a map of a file that the disk has no room for kills the process."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, count)
    else:
        os.truncate(file, count)


@contextmanager
def room(limit: int | None = None) -> Iterator[Room]:
    """Room for the arrays of the block.

    Args:
        limit: bytes of memory to reckon with; None asks the machine.

    >>> with room() as rooms:
    ...     rooms.array(2, 3).shape
    torch.Size([2, 3])
    """
    with tempfile.TemporaryDirectory(prefix="layerlab-") as folder:
        yield Room(Path(folder), limit)
