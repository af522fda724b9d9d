"""What lies in a store's folder: ``store.json``, which describes it, and plain ``.npy`` files.

``docs/scale.md`` says what each file holds. Nothing here is ever unpickled: a manifest is JSON, an array is a header
and its bytes.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from layerlab.errors import UserError
from layerlab.lab.files import write_atomic

MANIFEST = "store.json"
FORMAT = "layerlab graph store"
VERSION = 1
PARTS = ("train", "validation", "test")

# What each array is made of; the files of features and of a transpose are named below.
DTYPES: dict[str, tuple[str, ...]] = {
    "indptr.npy": ("int64",),
    "indices.npy": ("int32", "int64"),
    "weights.npy": ("float64",),
    "transpose_indptr.npy": ("int64",),
    "transpose_indices.npy": ("int32", "int64"),
    "transpose_weights.npy": ("float64",),
    "degrees.npy": ("float64",),
    "labels.npy": ("int32",),
    "split.npy": ("uint8",),
    "ids.npy": ("int64",),
    "ids_bytes.npy": ("uint8",),
    "ids_offsets.npy": ("int64",),
}


def block_name(block: int) -> str:
    """The file of a block of feature columns.

    >>> block_name(2)
    'features/002.npy'
    """
    return f"features/{block:03d}.npy"


@dataclass(frozen=True)
class ArrayFile:
    """One array of a store: what its header must say, and the BLAKE2b of the bytes behind the header."""

    dtype: str
    shape: tuple[int, ...]
    checksum: str

    @property
    def bytes(self) -> int:
        """Size of the data behind the header."""
        return np.dtype(self.dtype).itemsize * math.prod(self.shape)

    def to_dict(self) -> dict[str, Any]:
        return {"dtype": self.dtype, "shape": list(self.shape), "checksum": self.checksum}


@dataclass(frozen=True)
class Manifest:
    """``store.json``.

    Attributes:
        num_nodes: n.
        stored: entries of the adjacency matrix.
        self_loops: of these on the diagonal.
        directed: whether the matrix may be asymmetric.
        columns: of the features; 0 without features.
        width: columns of a block of features, the last one may have fewer.
        class_names: in the order of the labels.
        source: one line on where it comes from.
        notes: what validation did or saw.
        files: by name.
    """

    num_nodes: int
    stored: int
    self_loops: int
    directed: bool
    columns: int = 0
    width: int = 0
    class_names: tuple[str, ...] = ()
    source: str = ""
    notes: tuple[str, ...] = ()
    files: dict[str, ArrayFile] = field(default_factory=dict)

    @property
    def weighted(self) -> bool:
        """Whether the edges carry weights."""
        return "weights.npy" in self.files

    @property
    def blocks(self) -> int:
        """Number of blocks of features."""
        return -(-self.columns // self.width) if self.columns else 0

    def to_dict(self) -> dict[str, Any]:
        plain = {name: getattr(self, name) for name in _FIELDS}
        plain |= {"class_names": list(self.class_names), "notes": list(self.notes)}
        files = {name: file.to_dict() for name, file in sorted(self.files.items())}
        return {
            "format": FORMAT,
            "version": VERSION,
            "byte_order": sys.byteorder,
            **plain,
            "weighted": self.weighted,
            "files": files,
        }

    @property
    def fingerprint(self) -> str:
        """A checksum of the whole store: of the manifest, which holds the checksums of the arrays."""
        return _fingerprint(self.to_dict())


_FIELDS = {
    "num_nodes": int,
    "stored": int,
    "self_loops": int,
    "directed": bool,
    "columns": int,
    "width": int,
    "class_names": list,
    "source": str,
    "notes": list,
}


def _fingerprint(content: dict[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, ensure_ascii=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def is_store(folder: str | Path) -> bool:
    """Whether a folder says that it is a store."""
    return (Path(folder) / MANIFEST).is_file()


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write ``store.json`` into ``folder``.

    Raises:
        UserError: it cannot be written.
    """
    content = manifest.to_dict()
    content["fingerprint"] = _fingerprint(content)
    write_atomic(folder / MANIFEST, (json.dumps(content, indent=1, sort_keys=True) + "\n").encode())


def read_manifest(folder: str | Path) -> Manifest:
    """``store.json`` of a folder, checked as far as it can be without the arrays.

    Raises:
        UserError: no store, a damaged manifest, or a store of another version or byte order.
    """
    file = Path(folder) / MANIFEST
    if not file.is_file():
        raise UserError(
            f"expected a graph store, a folder with {MANIFEST}; make one with `layerlab graph convert`",
            file=folder,
        )
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror}); check its permissions", file=file) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"damaged: it is no JSON ({error}); convert the graph anew", file=file) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"expected the manifest of a graph store ('format': '{FORMAT}')", file=file)
    if content.get("version") != VERSION:
        raise UserError(
            f"this store is of version {content.get('version')!r}, this layerlab reads version {VERSION};"
            " convert the graph anew",
            file=file,
        )
    if content.get("byte_order") != sys.byteorder:
        raise UserError(
            f"this store is of byte order {content.get('byte_order')!r}, this machine's is '{sys.byteorder}';"
            " convert the graph anew on this machine",
            file=file,
        )
    claimed = content.pop("fingerprint", None)
    if claimed != _fingerprint(content):
        raise UserError("damaged: it is not what was written; convert the graph anew", file=file)
    return _manifest(content, file)


def _manifest(content: dict[str, Any], file: Path) -> Manifest:
    for name, kind in _FIELDS.items():
        if type(content.get(name)) is not kind:
            raise _wrong(file, f"'{name}' is {content.get(name)!r}")
    for name in ("class_names", "notes"):
        if not all(isinstance(item, str) for item in content[name]):
            raise _wrong(file, f"'{name}' holds more than text")
    if not isinstance(content.get("files"), dict):
        raise _wrong(file, "'files' is no table")
    files = {name: _array_file(name, entry, file) for name, entry in content["files"].items()}
    plain = {name: content[name] for name in _FIELDS}
    plain |= {"class_names": tuple(content["class_names"]), "notes": tuple(content["notes"])}
    manifest = Manifest(**plain, files=files)
    expected = _shapes(manifest)
    for name in expected:
        if name not in files:
            raise _wrong(file, f"'{name}' is not among its files")
    for name, entry in files.items():
        if name not in expected:
            raise _wrong(file, f"a file '{name}' is unknown")
        if entry.shape != expected[name] and expected[name] != (-1,):
            raise _wrong(file, f"'{name}' has shape {entry.shape}, expected {expected[name]}")
    return manifest


def _shapes(manifest: Manifest) -> dict[str, tuple[int, ...]]:
    """The shape of each file that a manifest of such counts must or may have; (-1,) where any length will do."""
    if min(manifest.num_nodes, manifest.stored, manifest.columns) < 0 or manifest.width < bool(
        manifest.columns
    ):
        return {}
    n = manifest.num_nodes
    shapes: dict[str, tuple[int, ...]] = {
        "indptr.npy": (n + 1,),
        "indices.npy": (manifest.stored,),
        "degrees.npy": (n,),
    }
    if manifest.weighted:
        shapes["weights.npy"] = (manifest.stored,)
    if manifest.directed:
        shapes |= {f"transpose_{name}": shapes[name] for name in list(shapes) if name != "degrees.npy"}
    optional = {"labels.npy": (n,), "split.npy": (n,), "ids.npy": (n,), "ids_offsets.npy": (n + 1,)}
    shapes |= {name: shape for name, shape in optional.items() if name in manifest.files}
    if "ids_offsets.npy" in manifest.files:
        shapes["ids_bytes.npy"] = (-1,)
    # A false number of columns must not make a table of all its blocks: the first that is not there is enough.
    for block in range(min(manifest.blocks, len(manifest.files) + 1)):
        begin = block * manifest.width
        shapes[block_name(block)] = (n, min(manifest.width, manifest.columns - begin))
    return shapes


def _array_file(name: str, entry: Any, file: Path) -> ArrayFile:
    allowed = DTYPES.get(name, ("float32",))
    if not isinstance(entry, dict) or not isinstance(entry.get("checksum"), str):
        raise _wrong(file, f"'{name}' is not described")
    shape, dtype = entry.get("shape"), entry.get("dtype")
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        raise _wrong(file, f"the shape of '{name}' is {shape!r}")
    if dtype not in allowed:
        raise _wrong(file, f"'{name}' holds {dtype!r}, expected {' or '.join(allowed)}")
    return ArrayFile(dtype, tuple(shape), entry["checksum"])


def _wrong(file: Path, what: str) -> UserError:
    return UserError(f"damaged: {what}; convert the graph anew", file=file)
