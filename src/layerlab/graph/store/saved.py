"""A data set that is in memory as a store: small ones, for tests and for moving data about."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from layerlab.errors import UserError
from layerlab.graph.node_data import Features, NodeDataset
from layerlab.graph.sparse import SparseMatrix
from layerlab.graph.store.arrays import ArrayWriter
from layerlab.graph.store.layout import PARTS, ArrayFile, Manifest, write_manifest
from layerlab.graph.store.nodes import BlockWriter, block_width
from layerlab.graph.store.publishing import publish, work_folder

_ROWS = 1 << 16


def save_dataset(dataset: NodeDataset, path: str | Path) -> None:
    """Write a data set as a store, whole or not at all.

    Args:
        dataset: any.
        path: the folder; it must not exist.

    Raises:
        UserError: there is something already, or it cannot be written.
    """
    path = Path(path)
    if path.exists():
        raise UserError("is there already; choose another place for the store", file=path)
    graph, features = dataset.graph, dataset.features
    arrays: dict[str, NDArray[np.generic]] = {"degrees.npy": graph.degrees()}
    for prefix, one in (("", graph), *((("transpose_", graph.transpose()),) if graph.directed else ())):
        arrays[f"{prefix}indptr.npy"] = one.indptr.astype(np.int64)
        arrays[f"{prefix}indices.npy"] = one.indices
        if one.weights is not None:
            arrays[f"{prefix}weights.npy"] = one.weights
    arrays["labels.npy"] = dataset.labels.astype(np.int32)
    if dataset.split is not None:
        parts = np.zeros(dataset.num_nodes, dtype=np.uint8)
        for number, part in enumerate(PARTS, 1):
            parts[getattr(dataset.split, part)] = number
        arrays["split.npy"] = parts
    names = [name.encode() for name in dataset.node_ids]
    if names != [b"%d" % at for at in range(len(names))]:
        arrays["ids_offsets.npy"] = np.cumsum([0, *map(len, names)], dtype=np.int64)
        arrays["ids_bytes.npy"] = np.frombuffer(b"".join(names), dtype=np.uint8)
    columns = dataset.num_features
    work = work_folder(path)
    try:
        (work / "features").mkdir(parents=True, exist_ok=True)
        files: dict[str, ArrayFile] = {}
        for name, array in arrays.items():
            with ArrayWriter(work / name, array.dtype) as writer:
                writer.append(array)
            files[name] = writer.file
        width = block_width(columns)
        with ExitStack() as stack:
            blocks = BlockWriter(work, columns, width, stack)
            for begin in range(0, dataset.num_nodes if columns else 0, _ROWS):
                blocks.append(_dense(features, begin, min(begin + _ROWS, dataset.num_nodes)))
        files |= blocks.files
    except OSError as error:
        raise UserError(
            f"cannot be written ({error.strerror or error}); choose a writable place, or free space",
            file=path,
        ) from error
    manifest = Manifest(
        num_nodes=dataset.num_nodes,
        stored=graph.indices.size,
        self_loops=graph.num_self_loops,
        directed=graph.directed,
        columns=columns,
        width=width,
        class_names=dataset.class_names,
        source=dataset.source,
        notes=graph.notes,
        files=files,
    )
    write_manifest(work, manifest)
    publish(work, path)


def _dense(features: Features, begin: int, end: int) -> NDArray[np.float32]:
    import torch

    rows = features.rows(torch.arange(begin, end))
    return rows.to_dense().numpy() if isinstance(rows, SparseMatrix) else rows.numpy()
