"""Signs as bits: packed, unpacked to vectors, and streamed to files."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerlab.errors import UserError
from layerlab.lab.files import stream_atomic
from layerlab.projection.memory import refuse_beyond

Packed = NDArray[np.uint64]
Rows = NDArray[np.float32] | NDArray[np.int8]
Form = Literal["float32", "int8"]

# Entries made at a time.
_AT_ONCE = 1 << 24


def pack(bits: NDArray[np.generic]) -> Packed:
    """Rows of 0 and 1 to rows of 64-bit words, the first bit lowest.

    >>> pack(np.array([[1, 0, 1, 1]])).tolist()
    [[13]]
    """
    octets = np.packbits(bits.astype(bool), axis=1, bitorder="little")
    padded = np.zeros((len(octets), -(-octets.shape[1] // 8) * 8), np.uint8)
    padded[:, : octets.shape[1]] = octets
    return padded.view("<u8").astype(np.uint64)


def unpacked(packed: Packed, dim: int, form: Form = "float32") -> Rows:
    """Rows of signs from their bits.

    Args:
        packed: (count, words), a bit for each minus.
        dim: how many bits of a row are used.
        form: ``"float32"``: unit vectors, ±1/√n; ``"int8"``: ±1.

    >>> unpacked(np.array([[13]], np.uint64), 4, "int8").tolist()
    [[-1, 1, -1, -1]]
    """
    bits = np.unpackbits(packed.astype("<u8").view(np.uint8), axis=1, bitorder="little", count=dim)
    scale = 1 / math.sqrt(dim) if form == "float32" else 1
    return np.array([scale, -scale], form)[bits]


def pieces(count: int, dim: int) -> Iterator[tuple[int, int]]:
    """First and last rows of pieces that take little memory."""
    step = max(1, _AT_ONCE // dim)
    for first in range(0, count, step):
        yield first, min(first + step, count)


def all_rows(count: int, dim: int, rows: Callable[[int, int], Rows]) -> Tensor:
    """(count, dim) float32, made piece by piece.

    Raises:
        UserError: they take more than the memory that is free.
    """
    refuse_beyond(
        4 * count * dim,
        f"{count:,} vectors of {dim:,} dimensions in float32",
        "ask for fewer, or stream them to a file with .write(path)",
    )
    out = torch.empty(count, dim)
    for first, last in pieces(count, dim):
        out[first:last] = torch.from_numpy(rows(first, last))
    return out


def write_rows(
    path: str | Path,
    count: int,
    dim: int,
    form: Form,
    rows: Callable[[int, int, Form], Rows],
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Stream rows into a ``.npy`` file, which appears when it is whole.

    Args:
        path: the file; its folder must exist.
        count: rows.
        dim: entries of a row.
        form: of the entries.
        rows: makes the rows from one to before another.
        progress: called with the rows written and all.

    Raises:
        UserError: another form, or the file cannot be written.
    """
    if form not in ("float32", "int8"):
        raise UserError(f"expected the form 'float32' or 'int8', got {form!r}; take one of the two")

    def content() -> Iterator[bytes]:
        header = BytesIO()
        description = {
            "descr": np.lib.format.dtype_to_descr(np.dtype(form)),
            "fortran_order": False,
            "shape": (count, dim),
        }
        np.lib.format.write_array_header_1_0(header, description)
        yield header.getvalue()
        for first, last in pieces(count, dim):
            yield rows(first, last, form).tobytes()
            if progress is not None:
                progress(last, count)

    stream_atomic(path, content())
