"""Opening a store: everything in it as read-only memory maps, after a look at whether it is whole."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from layerlab.errors import UserError
from layerlab.graph.edges import index_dtype
from layerlab.graph.node_data import UNKNOWN, NodeDataset, Split
from layerlab.graph.sparse import SparseMatrix
from layerlab.graph.store.arrays import check_array, open_array
from layerlab.graph.store.features import StoredFeatures
from layerlab.graph.store.layout import PARTS, Manifest, block_name, read_manifest
from layerlab.graph.structure import Graph

# Larger stores are compared with their checksums on request only: reading 4 GiB takes a few seconds.
_VERIFIED_UP_TO = 4 << 30


class NodeIds(Sequence[str]):
    """The source's own names of the nodes, made into text when asked for: a tuple would take more than the graph."""

    def __init__(
        self,
        nodes: int,
        numbers: NDArray[np.int64] | None = None,
        text: tuple[NDArray[np.uint8], NDArray[np.int64]] | None = None,
    ) -> None:
        self._nodes, self._numbers, self._text = nodes, numbers, text

    def __len__(self) -> int:
        return self._nodes

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return tuple(self[at] for at in range(*index.indices(self._nodes)))
        at = range(self._nodes)[index]
        if self._text is not None:
            letters, offsets = self._text
            return letters[offsets[at] : offsets[at + 1]].tobytes().decode("utf-8", errors="replace")
        return str(at if self._numbers is None else int(self._numbers[at]))


class Store:
    """An opened store; see `open_store`.

    Attributes:
        path: its folder.
        name: the folder's name.
        manifest: what it says of itself.
        graph: the graph, over memory maps.
        features: the features, None where there are none.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        self.name = path.resolve().name
        self.graph = self._graph()
        blocks = tuple(self._array(block_name(index)) for index in range(manifest.blocks))
        self.features = StoredFeatures(blocks) if blocks else None

    def _array(self, name: str) -> NDArray[Any]:
        return open_array(self.path / name, self.manifest.files[name])

    def _optional(self, name: str) -> NDArray[Any] | None:
        return self._array(name) if name in self.manifest.files else None

    def _graph(self) -> Graph:
        manifest = self.manifest
        directions = [self._direction("")]
        if manifest.directed:
            directions.append(self._direction("transpose_"))
        graph, *others = [
            Graph(manifest.num_nodes, manifest.directed, *parts, manifest.notes) for parts in directions
        ]
        graph.remember(self_loops=manifest.self_loops, transpose=others[0] if others else None)
        return graph

    def _direction(self, prefix: str) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.float64] | None]:
        """Offsets, columns and weights. Of all that is copied, offsets alone, and those are n numbers."""
        offsets, indices = self._array(f"{prefix}indptr.npy"), self._array(f"{prefix}indices.npy")
        stored = self.manifest.stored
        if offsets[0] != 0 or offsets[-1] != stored or (np.diff(offsets) < 0).any():
            raise UserError(
                f"damaged store: the offsets do not rise from 0 to {stored}; convert the graph anew",
                file=self.path / f"{prefix}indptr.npy",
            )
        dtype = index_dtype(self.manifest.num_nodes, stored)
        return offsets.astype(dtype, copy=False), indices, self._optional(f"{prefix}weights.npy")

    @property
    def num_nodes(self) -> int:
        """n."""
        return self.manifest.num_nodes

    @property
    def num_classes(self) -> int:
        """Number of classes; 0 without labels."""
        return len(self.class_names)

    @property
    def class_names(self) -> tuple[str, ...]:
        """In the order of the labels."""
        return self.manifest.class_names

    @property
    def notes(self) -> tuple[str, ...]:
        """What validation did or saw when the store was made."""
        return self.manifest.notes

    @property
    def fingerprint(self) -> str:
        """A checksum of all that is in the store: two stores of one fingerprint are the same."""
        return self.manifest.fingerprint

    @cached_property
    def degrees(self) -> NDArray[np.float64]:
        """(n) float64, the row sums, a memory map."""
        return self._array("degrees.npy")

    @cached_property
    def labels(self) -> NDArray[np.int32]:
        """(n) int32, the class of each node; -1 where it is unknown."""
        found = self._optional("labels.npy")
        return np.full(self.num_nodes, UNKNOWN, dtype=np.int32) if found is None else found

    @cached_property
    def split(self) -> Split | None:
        """The split, None where the node table had none."""
        parts = self._optional("split.npy")
        if parts is None:
            return None
        return Split(*(np.flatnonzero(parts == number) for number in range(1, len(PARTS) + 1)))

    @cached_property
    def node_ids(self) -> NodeIds:
        """The names of the nodes in the files the store was made of."""
        letters = self._optional("ids_bytes.npy")
        offsets = self._optional("ids_offsets.npy")
        text = None if letters is None or offsets is None else (letters, offsets)
        return NodeIds(self.num_nodes, self._optional("ids.npy"), text)

    def dataset(self, *, need_labels: bool = True) -> NodeDataset:
        """The store as a data set for training; nothing large is copied.

        Raises:
            UserError: ``need_labels``, and there are none, or one class only.
        """
        if need_labels and self.num_classes < 2:
            there = f"only the class '{self.class_names[0]}'" if self.num_classes else "no label"
            raise UserError(
                f"{there} in this store, and a classifier needs at least two classes; convert it with --nodes, a"
                " table with a column 'label'",
                file=self.path,
            )
        notes: tuple[str, ...] = ()
        features: SparseMatrix | StoredFeatures
        if self.features is None:
            from scipy import sparse

            n = self.num_nodes
            features = SparseMatrix.from_scipy(sparse.eye_array(n, format="csr"))
            notes = (f"no features given: each node has itself as its only feature (the {n} x {n} identity)",)
        else:
            features = self.features
        return NodeDataset(
            name=self.name,
            graph=self.graph,
            features=features,
            labels=self.labels.astype(np.int64),
            class_names=self.class_names,
            node_ids=self.node_ids,
            split=self.split,
            source=f"store '{self.name}'",
            notes=notes,
        )

    def __repr__(self) -> str:
        return f"Store({self.name}: {self.graph!r}, {self.features!r}, {self.num_classes} classes)"


def open_store(path: str | Path, *, verify: bool | None = None) -> Store:
    """Open a store that `layerlab graph convert` made.

    Sizes, types and shapes of all files are looked at, and the offsets of the rows. Arrays stay in their files: what is
    read of them comes into memory page by page, and may leave it again.

    Args:
        path: the folder.
        verify: whether every file is read and its checksum compared; None: where that is at most 4 GiB.

    Returns:
        The store.

    Raises:
        UserError: no store, one of another version or byte order, or a damaged one.

    >>> import tempfile
    >>> from layerlab.graph import load
    >>> from layerlab.graph.store import save_dataset
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_dataset(load("cora"), Path(folder) / "store")
    ...     open_store(Path(folder) / "store")
    Store(store: Graph(2708 nodes, 5278 undirected edges), StoredFeatures(2708 x 1433, 63 blocks), 7 classes)
    """
    path = Path(path)
    manifest = read_manifest(path)
    store = Store(path, manifest)
    size = sum(file.bytes for file in manifest.files.values())
    if verify or (verify is None and size <= _VERIFIED_UP_TO):
        for name, file in manifest.files.items():
            open_array(path / name, file)
            check_array(path / name, file)
    _in_range("labels", store.labels, UNKNOWN, len(manifest.class_names), path)
    if (parts := store._optional("split.npy")) is not None:
        _in_range("split", parts, 0, len(PARTS) + 1, path)
    return store


def _in_range(what: str, values: NDArray[Any], lowest: int, end: int, path: Path) -> None:
    if values.size and not (values.min() >= lowest and values.max() < end):
        raise UserError(
            f"damaged store: expected {what} from {lowest} to {end - 1}, got {values.min()} to {values.max()};"
            " convert the graph anew",
            file=path,
        )
