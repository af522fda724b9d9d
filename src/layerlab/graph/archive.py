"""A data set in one ``.npz`` file: compact, pickle-free, checked when it is read."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from layerlab.errors import UserError
from layerlab.graph.node_data import NodeDataset, Split
from layerlab.graph.sparse import SparseMatrix
from layerlab.graph.structure import Graph
from layerlab.lab.arrays import BROKEN

FORMAT = 1


def _compact(numbers: Any) -> np.ndarray[Any, Any]:
    """The same whole numbers in the smallest dtype that holds them."""
    values = np.asarray(numbers)
    low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
    return values.astype(np.promote_types(np.min_scalar_type(low), np.min_scalar_type(high)))


def encode(dataset: NodeDataset) -> bytes:
    """A data set as the content of an ``.npz`` file. The same data set gives the same bytes.

    Stored are: each undirected edge once, the features' compressed rows (no values where all of them are 1),
    labels, names, and the split's positions.
    """
    source, target, weight = dataset.graph.edges()
    features = dataset.feature_matrix
    arrays = {
        "format": np.array(FORMAT, dtype=np.uint8),
        "name": np.array(dataset.name),
        "source": np.array(dataset.source),
        "notes": np.array(dataset.notes, dtype=np.str_),
        "class_names": np.array(dataset.class_names),
        "labels": _compact(dataset.labels),
        "edge_source": _compact(source),
        "edge_target": _compact(target),
        "feature_indptr": _compact(features.crow.numpy()),
        "feature_indices": _compact(features.col.numpy()),
        "num_features": np.array(dataset.num_features, dtype=np.int64),
    }
    if dataset.graph.directed or weight is not None:
        raise UserError(
            "the archive holds undirected, unweighted graphs only; use layerlab.graph.convert.to_npz"
        )
    values = features.values.numpy()
    if not (values == 1).all():
        arrays["feature_values"] = values
    if tuple(dataset.node_ids) != tuple(map(str, range(dataset.num_nodes))):
        arrays["node_ids"] = np.array(dataset.node_ids)
    if dataset.split is not None:
        for part in ("train", "validation", "test"):
            arrays[part] = _compact(getattr(dataset.split, part))
    out = io.BytesIO()
    np.savez_compressed(out, allow_pickle=False, **arrays)
    return out.getvalue()


def _whole(arrays: Mapping[str, np.ndarray[Any, Any]], name: str, dtype: type[np.signedinteger[Any]]) -> Any:
    """Whole numbers; a cast alone would take complex ones, and make others of fractions and of what is too large."""
    array = arrays[name]
    if array.dtype.kind not in "iu":
        raise UserError(f"expected whole numbers as {name}, got {array.dtype}")
    whole = array.astype(dtype)
    if not np.array_equal(whole, array):
        raise UserError(
            f"expected numbers of {np.dtype(dtype)} as {name}, got {array.min()} to {array.max()}"
        )
    return whole


def _read(arrays: Mapping[str, np.ndarray[Any, Any]]) -> NodeDataset:
    if arrays["format"] != FORMAT:
        raise UserError(f"it has format {arrays['format']}, and this layerlab reads format {FORMAT}")
    labels = _whole(arrays, "labels", np.int64)
    indices = _whole(arrays, "feature_indices", np.int32)
    values = arrays.get("feature_values", np.ones(indices.size, dtype=np.float32))
    if values.dtype.kind not in "fiu":
        raise UserError(f"expected numbers as feature_values, got {values.dtype}")
    shape = (labels.size, int(arrays["num_features"]))
    features = sparse.csr_array((values, indices, _whole(arrays, "feature_indptr", np.int32)), shape=shape)
    features.check_format(full_check=True)
    ids = arrays.get("node_ids")
    has_split = "train" in arrays
    return NodeDataset(
        name=str(arrays["name"]),
        graph=Graph.from_edges(
            _whole(arrays, "edge_source", np.int64),
            _whole(arrays, "edge_target", np.int64),
            num_nodes=labels.size,
        ),
        features=SparseMatrix.from_scipy(features),
        labels=labels,
        class_names=tuple(arrays["class_names"].tolist()),
        node_ids=tuple(map(str, range(labels.size)) if ids is None else ids.tolist()),
        split=Split(arrays["train"], arrays["validation"], arrays["test"]) if has_split else None,
        source=str(arrays["source"]),
        notes=tuple(arrays["notes"].tolist()),
    )


def read(path: Path, *, mend: str) -> NodeDataset:
    """Read a data set that `encode` gave.

    Args:
        path: the file.
        mend: what the person should do when it is damaged.

    Raises:
        UserError: it is damaged, of another format, or unreadable.
    """
    try:
        # Opened here: numpy does not close a file that it opened and then found damaged.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in stored.files}
        return _read(arrays)
    # UserError is a ValueError: an archive whose parts do not fit together is a damaged archive.
    except (OSError, AttributeError, *BROKEN) as error:
        raise UserError(f"this data file is damaged ({error}); {mend}", file=path) from error
