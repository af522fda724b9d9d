"""Codebooks on disk: written as numpy archives, and anybody's vectors read, without executing anything."""

from __future__ import annotations

import csv
import io
import itertools
import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from layerlab.errors import UserError
from layerlab.lab.arrays import BROKEN, read_npz
from layerlab.lab.files import stream_atomic
from layerlab.projection.building import Made

FORMAT = "layerlab-codebook"
VERSION = 1

# All lines of the Kerdock set of dimension 4,096 take 34 GB.
_LARGEST = 1 << 36
_SUFFIXES = ".npz, .npy, .safetensors or .csv"


@dataclass(frozen=True)
class Stored:
    """Vectors from a file.

    Args:
        vectors: ``(count, dim)``, a tensor or a (possibly mapped) array; the rows are the vectors.
        name: of the array in its file; empty where it has none.
        record: what `write` kept beside them: construction, why, certificate; None for files of others.
    """

    vectors: Tensor | NDArray[np.generic]
    name: str
    record: dict[str, Any] | None


def write(path: Path, made: Made, record: Mapping[str, Any]) -> None:
    """Write vectors and what is known of them as one ``.npz``, whole or not at all, some rows at a time.

    ``numpy.load(path)["vectors"]`` gives the vectors back: signs are stored as int8 (+1 and -1: divide by their
    length), all others as float64 or complex128 unit vectors. ``record`` is kept as JSON.

    Raises:
        UserError: another suffix than .npz, or the file cannot be written; an old one is still there then.
    """
    check_name(path)
    words = {
        "format": FORMAT,
        "version": str(VERSION),
        "record": json.dumps(dict(record), ensure_ascii=False, allow_nan=False),
    }
    parts: list[tuple[str, Iterable[bytes]]] = [
        (name, [_header((), np.array(text).dtype), np.array(text).tobytes()]) for name, text in words.items()
    ]
    rows = (piece.tobytes() for piece in made.stored())
    parts.append(("vectors", itertools.chain([_header((made.count, made.dim), made.dtype)], rows)))
    stream_atomic(path, _zipped(parts))


def check_name(path: Path) -> None:
    """Refuse a name that `write` would refuse, before anything is made."""
    if path.suffix != ".npz":
        raise UserError(f"a codebook is written as .npz, got the name {path.name!r}; name it codes.npz")
    if not path.parent.is_dir():
        raise UserError("its folder is not there; make it, or choose another", file=path)


def _header(shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> bytes:
    stream = io.BytesIO()
    described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, described)
    return stream.getvalue()


class _Chunks(io.RawIOBase):
    """What `zipfile` writes, to be taken piece by piece."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []

    def write(self, piece: Any, /) -> int:
        self._pieces.append(bytes(piece))
        return len(self._pieces[-1])

    def taken(self) -> bytes:
        joined = b"".join(self._pieces)
        self._pieces.clear()
        return joined


def _zipped(parts: Iterable[tuple[str, Iterable[bytes]]]) -> Iterator[bytes]:
    """The bytes of an uncompressed archive of arrays, without the whole of it in memory. Same parts, same bytes."""
    chunks = _Chunks()
    with zipfile.ZipFile(chunks, "w") as archive:
        for name, content in parts:
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                for piece in content:
                    member.write(piece)
                    yield chunks.taken()
    yield chunks.taken()


def read(path: Path, name: str | None = None, *, columns: bool = False) -> Stored:
    """Read vectors from .npz, .npy, .safetensors or .csv. Nothing in the file is executed.

    Args:
        path: the file. A .npy is mapped, not loaded.
        name: which array of an archive; None takes the one called "vectors", or the only one with two dimensions.
        columns: whether the vectors are the columns, as in a weight matrix (dim, features).

    Raises:
        UserError: no such file, another format, damaged, several arrays to choose from, none, or no table of numbers.
    """
    record = None
    if not path.is_file():
        raise UserError(f"there is no such file; give {_SUFFIXES}", file=path)
    arrays: dict[str, Any]
    if path.suffix == ".npz":
        arrays = {**read_npz(path, expected="an archive of plain arrays", largest=_LARGEST)}
        record = _record(path, arrays)
    elif path.suffix == ".safetensors":
        from layerlab.lab.weights import read_tensors

        arrays = {**read_tensors(path, "write it again with safetensors")[0]}
    elif path.suffix == ".npy":
        arrays = {"": _npy(path)}
    elif path.suffix in (".csv", ".tsv", ".txt"):
        try:
            arrays = {"": _csv(path)}
        except csv.Error as error:
            raise UserError(f"cannot be read as rows of numbers ({error})", file=path) from error
    else:
        raise UserError(f"expected vectors as {_SUFFIXES}, got the suffix {path.suffix!r}", file=path)
    name, vectors = _chosen(path, arrays, name)
    if vectors.ndim != 2:
        raise UserError(
            f"expected a table of vectors, one a row, got an array of shape {tuple(vectors.shape)}; reshape it "
            "to (count, dim)",
            file=path,
        )
    return Stored(vectors.T if columns else vectors, name, None if columns else record)


def _chosen(path: Path, arrays: Mapping[str, Any], name: str | None) -> tuple[str, Any]:
    tables = {key: f"{key} {' x '.join(map(str, a.shape))}" for key, a in arrays.items() if a.ndim == 2}
    if name is not None:
        if name not in arrays:
            raise UserError(
                f"there is no array {name!r}; there are {', '.join(tables.values()) or 'none with 2 dimensions'}",
                file=path,
            )
        return name, arrays[name]
    if not tables and len(arrays) == 1:
        return next(iter(arrays.items()))
    if "vectors" in tables or len(tables) == 1:
        chosen = "vectors" if "vectors" in tables else next(iter(tables))
        return chosen, arrays[chosen]
    if not tables:
        raise UserError("no array with two dimensions, (count, dim), is in it; save one", file=path)
    shown = list(tables.values())
    more = f" and {len(shown) - 6} more" if len(shown) > 6 else ""
    raise UserError(
        f"several arrays could hold the vectors: {', '.join(shown[:6])}{more}; choose one with --array NAME",
        file=path,
    )


def _record(path: Path, arrays: dict[str, Any]) -> dict[str, Any] | None:
    """Takes what `write` put beside the vectors out of the archive; None if it is not one of ours."""
    if str(arrays.get("format")) != FORMAT:
        return None
    # Without one it is read: the arrays say all that is needed.
    if (version := str(arrays.get("version", VERSION))) != str(VERSION):
        raise UserError(
            f"expected a codebook of format version {VERSION}, got {version[:20]!r}; read it with the layerlab that"
            " wrote it, or make it again",
            file=path,
        )
    try:
        record = json.loads(str(arrays.pop("record")))
    except (KeyError, ValueError) as error:
        raise UserError(f"a damaged codebook ({error}); make it again", file=path) from error
    for name in ("format", "version"):
        arrays.pop(name, None)
    return record if isinstance(record, dict) else None


def _npy(path: Path) -> NDArray[np.generic]:
    try:
        # The product of lengths that no file has would overflow, with a warning.
        with np.errstate(over="raise"):
            array: NDArray[np.generic] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, FloatingPointError, *BROKEN) as error:
        raise UserError(
            f"expected an array that numpy.save wrote, but it is damaged or something else ({error})",
            file=path,
        ) from error
    return array


def _csv(path: Path) -> NDArray[np.float64]:
    """Rows of numbers, separated by commas, semicolons, tabs or spaces; the first line may be a heading."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise UserError(f"cannot be read as UTF-8 text ({error})", file=path) from error
    first = next((line for line in text.splitlines() if line.strip()), "")
    separator = next((mark for mark in ",;\t" if mark in first), None)
    lines = (
        csv.reader(io.StringIO(text), delimiter=separator) if separator else map(str.split, text.splitlines())
    )
    rows: list[list[float]] = []
    heading = False
    for number, cells in enumerate(lines, 1):
        if not any(cell.strip() for cell in cells):
            continue
        values = [_number(cell) for cell in cells]
        if None in values:
            if not rows and not heading and all(value is None for value in values):
                heading = True
                continue
            bad = cells[values.index(None)]
            raise UserError(
                f"expected numbers only, got {bad.strip()[:40]!r} in column {values.index(None) + 1}; leave "
                "names and empty cells out",
                file=path,
                line=number,
            )
        rows.append([value for value in values if value is not None])
        if len(rows[-1]) != len(rows[0]):
            raise UserError(
                f"expected {len(rows[0])} numbers as in the first row, got {len(rows[-1])}; fill or leave out the row",
                file=path,
                line=number,
            )
    if not rows:
        raise UserError("expected a row of numbers for each vector, but there are none", file=path)
    return np.array(rows, dtype=np.float64)


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None
