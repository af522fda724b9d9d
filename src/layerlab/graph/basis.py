"""Long vectors that are needed once more: kept in a temporary file as far as there is room."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from layerlab.lab.memory import available

Vector = NDArray[np.float64]

# Bytes up to which vectors stay in memory.
_IN_MEMORY = 1 << 28


class Basis:
    """Vectors of one length in the order in which they came, the first ones of them: as many as were kept.

    What does not fit into 256 MB goes to a file in ``TMPDIR`` that has no name and is gone with this object. It is not
    begun unless the disk, and the memory (in which such folders lie on some machines), have twice the room for all.

    Args:
        rows: length of the vectors.
        most: how many there may be.

    >>> kept = Basis(3, 2)
    >>> kept.append(np.ones(3)), kept.append(np.zeros(3)), len(kept)
    (True, True, 2)
    >>> [vector.sum() for vector in kept]
    [np.float64(3.0), np.float64(0.0)]
    """

    def __init__(self, rows: int, most: int) -> None:
        self._rows, self._vectors, self._written = rows, list[Vector](), 0
        self._file = None
        wanted = 8 * rows * most
        self._full = wanted > _IN_MEMORY and not _fits(2 * wanted)
        if wanted > _IN_MEMORY and not self._full:
            try:
                self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 (it lives as long as this object)
                weakref.finalize(self, self._file.close)
            except OSError:
                self._full = True

    def append(self, vector: Vector) -> bool:
        """Keep one more; False where there is no room for it, nor for any that follows."""
        if self._full:
            return False
        if self._file is None:
            self._vectors.append(vector)
            return True
        try:
            vector.tofile(self._file)
        except OSError:  # the disk is full after all
            self._full = True
            return False
        self._written += 1
        return True

    def __len__(self) -> int:
        return len(self._vectors) + self._written

    def __iter__(self) -> Iterator[Vector]:
        yield from self._vectors
        if self._file is not None:
            self._file.seek(0)
            for _ in range(self._written):
                yield np.fromfile(self._file, count=self._rows)


def _fits(size: int) -> bool:
    """Whether so many bytes fit on the disk of temporary files and into memory."""
    try:
        free = shutil.disk_usage(tempfile.gettempdir()).free
    except OSError:
        return False
    return free >= size and (available() or 0) >= size
