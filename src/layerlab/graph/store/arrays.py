"""Arrays of a store as files: written piece by piece with a checksum, opened as read-only memory maps."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from layerlab.errors import UserError
from layerlab.graph.store.layout import ArrayFile
from layerlab.lab.arrays import BROKEN

_READ = 1 << 22


class ArrayWriter:
    """An ``.npy`` file whose length becomes known while it is written.

    Args:
        path: of the file; an existing one is replaced.
        dtype: of its entries.
        row: shape of what one entry of the first axis holds: () for a vector.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with ArrayWriter(Path(folder) / "a.npy", np.int32) as writer:
    ...         for piece in ([1, 2], [3]):
    ...             writer.append(np.array(piece, dtype=np.int32))
    ...     writer.file.shape, np.load(Path(folder) / "a.npy").tolist()
    ((3,), [1, 2, 3])
    """

    def __init__(self, path: Path, dtype: Any, row: tuple[int, ...] = ()) -> None:
        self.dtype = np.dtype(dtype)
        self.row = row
        self.length = 0
        self._hash = hashlib.blake2b(digest_size=16)
        # Unbuffered: pieces are large, and np.ndarray.tofile would hide how much was written when the disk is full.
        self._stream = path.open("wb", buffering=0)
        self._write(self._header())

    def append(self, piece: NDArray[Any]) -> None:
        """Write the next entries."""
        piece = np.ascontiguousarray(piece, dtype=self.dtype)
        raw = piece.reshape(-1).view(np.uint8).data
        self._hash.update(raw)
        self._write(raw)
        self.length += piece.shape[0]

    def _write(self, raw: bytes | memoryview) -> None:
        view = memoryview(raw)
        while view:
            view = view[self._stream.write(view) :]

    @property
    def file(self) -> ArrayFile:
        """What the manifest says of the file."""
        return ArrayFile(self.dtype.name, (self.length, *self.row), self._hash.hexdigest())

    def _header(self) -> bytes:
        header = io.BytesIO()
        description = np.lib.format.dtype_to_descr(self.dtype)
        shape = (self.length, *self.row)
        np.lib.format.write_array_header_1_0(
            header, {"descr": description, "fortran_order": False, "shape": shape}
        )
        return header.getvalue()

    def close(self) -> None:
        """Complete the header and flush the file to the disk."""
        # numpy leaves room in a header for a first axis that grows, so it keeps its length.
        with self._stream:
            self._stream.seek(0)
            self._write(self._header())
            os.fsync(self._stream.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._stream.close()


def open_array(path: Path, expected: ArrayFile) -> NDArray[Any]:
    """The array of a file as a memory map.

    The map is private: writing into it, which nobody should, changes neither the file nor what others read; and torch
    can look at it without a copy.

    Raises:
        UserError: not there, cut short, or not of the dtype and shape that the manifest states.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            version = np.lib.format.read_magic(stream)
            if version != (1, 0):
                raise ValueError(f"header of version {version}")
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
            offset = stream.tell()
    except OSError as error:
        raise UserError(
            f"damaged store: cannot be read ({error.strerror or error}); convert the graph anew", file=path
        ) from error
    except BROKEN as error:
        raise UserError(
            f"damaged store: no array of numpy ({error}); convert the graph anew", file=path
        ) from error
    if dtype != np.dtype(expected.dtype) or shape != expected.shape or fortran:
        raise UserError(
            f"damaged store: expected {expected.dtype} of shape {expected.shape} as {path.parent.name} states, got"
            f" {dtype.name} ({dtype.byteorder}) of shape {shape}; convert the graph anew",
            file=path,
        )
    if size - offset != expected.bytes:
        word = "cut short" if size - offset < expected.bytes else "too long"
        raise UserError(
            f"damaged store: {word}, {size - offset} bytes instead of {expected.bytes}; convert the graph anew",
            file=path,
        )
    if not expected.bytes:
        return np.zeros(shape, dtype=dtype)
    # A plain array over the map: np.memmap's own class costs time at every slice.
    return np.asarray(np.memmap(path, dtype=dtype, mode="c", offset=offset, shape=shape))


def read_pieces(path: Path, expected: ArrayFile, length: int) -> Iterator[NDArray[Any]]:
    """The entries of a vector's file, ``length`` at a time, read and not mapped: pages of a map count as memory."""
    dtype = np.dtype(expected.dtype)
    with path.open("rb", buffering=0) as stream:
        np.lib.format.read_magic(stream)
        np.lib.format.read_array_header_1_0(stream)
        for begin in range(0, expected.shape[0], length):
            yield np.fromfile(stream, dtype, min(length, expected.shape[0] - begin))


def check_array(path: Path, expected: ArrayFile) -> None:
    """Read a file and compare its checksum; what `open_array` looks at must be right already.

    Raises:
        UserError: it is not what was written.
    """
    found = hashlib.blake2b(digest_size=16)
    with path.open("rb") as stream:
        np.lib.format.read_magic(stream)
        np.lib.format.read_array_header_1_0(stream)
        while piece := stream.read(_READ):
            found.update(piece)
    if found.hexdigest() != expected.checksum:
        raise UserError(
            "damaged store: its checksum is not the one it was written with; convert the graph anew",
            file=path,
        )
