"""A graph in one file: a numpy archive of plain arrays, read without executing anything."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from layerlab.errors import UserError
from layerlab.graph.structure import Graph
from layerlab.lab.arrays import read_npz
from layerlab.lab.files import write_atomic

_FORMAT = "layerlab-graph"
_VERSION = 1
_ARRAYS = (
    ("num_nodes", "i", 0),
    ("directed", "b", 0),
    ("source", "i", 1),
    ("target", "i", 1),
    ("notes", "U", 1),
)
# More than any graph; what announces more would take all memory when it is unpacked.
_LARGEST = 1 << 36


def to_npz(graph: Graph, path: str | Path) -> None:
    """Write the graph to one compressed numpy archive, all of it, notes included.

    Raises:
        UserError: the file cannot be written.
    """
    source, target, weight = graph.edges()
    dtype = graph.indices.dtype
    arrays: dict[str, Any] = {
        "format": np.array(_FORMAT),
        "version": np.array(_VERSION),
        "num_nodes": np.array(graph.num_nodes),
        "directed": np.array(graph.directed),
        "source": source.astype(dtype),
        "target": target.astype(dtype),
        "notes": np.array(graph.notes, dtype=np.str_),
    }
    if weight is not None:
        arrays["weight"] = weight
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    write_atomic(path, buffer.getvalue())


def from_npz(path: str | Path) -> Graph:
    """Read what `to_npz` wrote. Nothing in the file is ever executed, and all of it is validated.

    Raises:
        UserError: the file is not there, not such an archive, of another version, or does not hold a graph.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     to_npz(Graph.from_edges([0], [1], num_nodes=3), Path(folder) / "graph.npz")
    ...     from_npz(Path(folder) / "graph.npz")
    Graph(3 nodes, 1 undirected edge)
    """
    arrays: dict[str, Any] = {**read_npz(path, expected="a graph saved by layerlab", largest=_LARGEST)}
    if str(arrays.get("format")) != _FORMAT:
        raise UserError("not a graph saved by layerlab; write one with Graph.to_npz", file=path)
    if str(version := arrays.get("version")) != str(_VERSION):
        raise UserError(
            f"written in version {version} of the format, and this layerlab reads version {_VERSION};"
            " save the graph again",
            file=path,
        )
    for name, kind, dimensions in _ARRAYS:
        array = arrays.get(name)
        if array is None or array.dtype.kind != kind or array.ndim != dimensions:
            raise UserError(
                f"damaged: '{name}' is missing or of a wrong type; save the graph again", file=path
            )
    try:
        graph = Graph.from_edges(
            arrays["source"],
            arrays["target"],
            num_nodes=int(arrays["num_nodes"]),
            weight=arrays.get("weight"),
            directed=bool(arrays["directed"]),
        )
    except UserError as error:
        raise UserError(f"damaged: {error}", file=path) from None
    return graph.with_notes(tuple(arrays["notes"].tolist()))
