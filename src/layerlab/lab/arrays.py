"""Plain arrays from a file that somebody else made: numpy's archive, read without executing anything."""

from __future__ import annotations

import lzma
import mmap
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from layerlab.errors import UserError

LARGEST = 1 << 31
"""Bytes that an archive may hold when unpacked, unless told otherwise."""

BROKEN = (
    ValueError,
    TypeError,
    KeyError,
    EOFError,
    SyntaxError,
    RuntimeError,
    MemoryError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    tokenize.TokenError,
)
"""All that numpy and zipfile raise on bytes that are no array or archive, or a damaged one."""


def read_npz(
    path: str | Path,
    *,
    expected: str = "an archive of plain arrays, as numpy.savez writes it",
    largest: int = LARGEST,
) -> dict[str, NDArray[np.generic]]:
    """The arrays of an ``.npz`` by name. Pickled objects are refused, not loaded.

    Args:
        path: the file, as `numpy.savez` writes it.
        expected: what the file should be, for the message when it is not.
        largest: bytes that all arrays may take together, looked up before anything is unpacked.

    Raises:
        UserError: the file is not there, cannot be read, is damaged, holds objects or too much.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(Path(folder) / "batch.npz", x=np.ones((2, 3), np.float32))
    ...     read_npz(Path(folder) / "batch.npz")["x"].shape
    (2, 3)
    """
    try:
        with Path(path).open("rb") as stream:
            size = _announced(stream)
            if size > largest:
                raise UserError(
                    f"holds {size / 1e9:.1f} GB of arrays, more than {largest / 1e9:.1f} GB; save less in one file",
                    file=path,
                )
            stream.seek(0)
            with np.load(stream, allow_pickle=False) as archive:
                return {name: np.asarray(archive[name]) for name in archive.files}
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror or error})", file=path) from None
    except BROKEN as error:
        raise UserError(
            f"expected {expected}, but it is damaged or something else ({error})", file=path
        ) from None


def _announced(stream: IO[bytes]) -> int:
    """Bytes that the arrays take in memory, by the headers of the archive and of each array in it."""
    total = 0
    with zipfile.ZipFile(stream) as archive:
        for entry in archive.infolist():
            with archive.open(entry) as member:
                version = np.lib.format.read_magic(member)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else None
                read = read or np.lib.format.read_array_header_2_0
                shape, _, dtype = read(member)
            count = 1
            for length in shape:
                count *= int(length)
            # An array of length 0 along one side may announce any length along another.
            total += max(count * dtype.itemsize, entry.file_size)
    return total


def is_mapped(array: NDArray[Any]) -> bool:
    """Whether an array lies in a file and not in memory of its own."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    return isinstance(base, mmap.mmap)
