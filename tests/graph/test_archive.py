"""The archive of a data set: it gives back what was put in, and a damaged one is an error with its mend."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from small_dataset import same, small

from layerlab.errors import UserError
from layerlab.graph import Graph, archive
from layerlab.graph.datasets import load
from layerlab.graph.sparse import SparseMatrix


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"split": None, "notes": ()},
        {"node_ids": ("0", "1", "2", "3", "4")},
        {"features": SparseMatrix.from_scipy(sparse.eye_array(5, 100_000, format="csr"))},
        {"graph": Graph.from_edges([], [], num_nodes=5)},
    ],
)
def test_an_archive_gives_back_what_was_put_in(changes: dict[str, Any], tmp_path: Path) -> None:
    data = small(**changes)
    path = tmp_path / "small.npz"
    path.write_bytes(archive.encode(data))
    same(archive.read(path, mend=""), data)
    assert archive.encode(data) == path.read_bytes()


def test_an_archive_does_not_drop_what_it_cannot_hold() -> None:
    for graph in (
        Graph.from_edges([0], [1], num_nodes=5, directed=True),
        Graph.from_edges([0], [1], num_nodes=5, weight=[2.0]),
    ):
        with pytest.raises(UserError, match="undirected, unweighted"):
            archive.encode(small(graph=graph))


def _cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _flipped(content: bytes) -> bytes:
    middle = content.index(b"edge_target.npy") + 150
    return content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :]


def _with(**changes: Any) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        with np.load(io.BytesIO(content)) as stored:
            arrays = {key: stored[key] for key in stored.files}
        arrays.update({key: value for key, value in changes.items() if value is not None})
        out = io.BytesIO()
        np.savez(out, **{key: value for key, value in arrays.items() if changes.get(key, 0) is not None})
        return out.getvalue()

    return change


@pytest.mark.parametrize(
    "damage",
    [
        _cut,
        _flipped,
        lambda content: b"",
        lambda content: b"<html>not found</html>",
        lambda content: pickle.dumps([1]),
        _with(format=np.array(99)),
        _with(labels=None),
        _with(labels=np.array([{}], dtype=object)),
        _with(labels=np.array([0, 1, 1, 0, 5])),
        _with(edge_target=np.array([1, 2, 99])),
        _with(edge_target=np.array([1, 2])),
        _with(feature_indices=np.array([0, 1, 0, 77])),
        _with(feature_indptr=np.array([0, 3, 1, 2, 4, 4])),
        _with(feature_indices=np.array([0, 1, 0, 2**32 + 1])),
        _with(labels=np.array([0, 1, 1, 0, 2**64 - 1], dtype=np.uint64)),
        _with(feature_values=np.array([1, np.nan, 2, 3], dtype=np.float32)),
        _with(feature_values=np.array(["a", "b", "c", "d"])),
        _with(edge_target=np.array([1, 2, 1], np.complex64)),
        _with(edge_target=np.array([1, 2.5, 1])),
        _with(feature_values=np.array([1, 1j, 2, 3])),
        _with(num_features=np.array([1, 2])),
        _with(validation=None),
        _with(train=np.array([1])),
        _with(class_names=np.array("a")),
    ],
)
def test_a_damaged_archive_is_an_error_with_its_mend(damage: Callable[[bytes], bytes], cache: Path) -> None:
    cache.mkdir()
    path = cache / "citeseer.npz"
    path.write_bytes(damage(archive.encode(small())))
    with pytest.raises(UserError, match=r"damaged.*layerlab data get citeseer`, which replaces it") as error:
        load("citeseer")
    assert str(error.value).startswith(str(path))
