"""A node-classification data set: a graph, features, labels and, where it has one, a split of its nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from layerlab.errors import UserError
from layerlab.graph.sparse import SparseMatrix
from layerlab.graph.structure import Graph

UNKNOWN = -1


def _positions(part: str, given: ArrayLike) -> NDArray[np.int64]:
    raw = np.asarray(given)
    if raw.ndim != 1 or (raw.size and raw.dtype.kind not in "iu"):
        raise UserError(
            f"split part '{part}': expected a list of node positions, got shape {raw.shape}, {raw.dtype}"
        )
    positions = np.sort(raw.astype(np.int64))
    if positions.size and positions[0] < 0:
        raise UserError(f"split part '{part}': expected node positions from 0 on, got {positions[0]}")
    if (positions[1:] == positions[:-1]).any():
        raise UserError(f"split part '{part}' names a node more than once; name each node once")
    positions.flags.writeable = False
    return positions


@dataclass(frozen=True, eq=False)
class Split:
    """Which nodes train, which choose (early stopping, tuning) and which are tested.

    Args:
        train, validation, test: node positions, any integer array-like; kept as sorted, read-only int64
        arrays.

    Raises:
        UserError: a negative position, a node twice in a part, or a node in two parts.

    >>> split = Split([2, 0], [1], [3])
    >>> split.train.tolist(), split.sizes
    ([0, 2], (2, 1, 1))
    """

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]

    def __post_init__(self) -> None:
        for part in ("train", "validation", "test"):
            object.__setattr__(self, part, _positions(part, getattr(self, part)))
        for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
            shared = np.intersect1d(getattr(self, one), getattr(self, other), assume_unique=True)
            if shared.size:
                raise UserError(
                    f"node {shared[0]} is both in '{one}' and in '{other}'; a split's parts are disjoint"
                )

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Number of nodes in train, validation and test."""
        return self.train.size, self.validation.size, self.test.size


class Features(Protocol):
    """What every kind of features can do: a `SparseMatrix` in memory, or the blocks of a store's files."""

    @property
    def shape(self) -> tuple[int, int]:
        """Nodes, columns."""
        ...

    def rows(self, nodes: Tensor) -> SparseMatrix | Tensor:
        """The features of the given nodes, float32, in the given order: sparse or dense, as they are kept."""
        ...


@runtime_checkable
class BlockFeatures(Features, Protocol):
    """Features that stay in their files, in blocks of columns."""

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        ...

    def block(self, index: int) -> NDArray[np.float32]:
        """The columns of one block: ``(n, width)``."""
        ...

    def to_sparse(self) -> SparseMatrix:
        """All of them in memory; UserError where they are too large for that."""
        ...


@dataclass(frozen=True, eq=False)
class NodeDataset:
    """A graph whose nodes have features and (some of them) a class.

    Args:
        name: short name.
        graph: the graph.
        features: nodes x features, float32, as given (not normalised): a matrix, or those of a store.
        labels: ``(nodes,)``, the position of each node's class in ``class_names``; -1 where it is unknown.
        class_names: one name a class.
        node_ids: the source's own name of each node.
        split: the data set's own split, ``None`` where it has none.
        source: one line on where it comes from.
        notes: what a reader should know of how it was read.

    Raises:
        UserError: the parts do not fit together, or a split holds a node whose label is unknown.

    >>> import torch
    >>> from layerlab.graph.sparse import SparseMatrix
    >>> data = NodeDataset("pair", Graph.from_edges([0], [1]), SparseMatrix.from_dense(torch.eye(2)), [0, -1],
    ...                    ("red",), ("a", "b"), None, "two nodes")
    >>> data.num_nodes, data.num_features, data.num_classes, data.labels.tolist()
    (2, 2, 1, [0, -1])
    """

    name: str
    graph: Graph
    features: SparseMatrix | BlockFeatures
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    node_ids: Sequence[str]
    split: Split | None
    source: str
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        nodes = self.graph.num_nodes
        given = np.asarray(self.labels)
        if given.ndim != 1 or (given.size and given.dtype.kind not in "biu"):
            raise UserError(
                f"data set '{self.name}': expected one whole-number label a node, -1 where it is unknown, "
                f"got shape {given.shape}, {given.dtype}"
            )
        labels = np.array(given, dtype=np.int64)
        labels.flags.writeable = False
        object.__setattr__(self, "labels", labels)
        for what, count in (
            ("feature rows", self.features.shape[0]),
            ("labels", labels.size),
            ("node ids", len(self.node_ids)),
        ):
            if count != nodes:
                raise UserError(
                    f"data set '{self.name}': the graph has {nodes} nodes, but there are {count} {what}"
                )
        if labels.size and not (labels.min() >= UNKNOWN and labels.max() < self.num_classes):
            raise UserError(
                f"data set '{self.name}': expected labels from -1 (unknown) to {self.num_classes - 1}, "
                f"got {labels.min()} to {labels.max()}"
            )
        if self.split is None:
            return
        for part in ("train", "validation", "test"):
            positions = getattr(self.split, part)
            if positions.size and positions[-1] >= nodes:
                raise UserError(
                    f"data set '{self.name}': '{part}' names node {positions[-1]} of {nodes} nodes"
                )
            unlabelled = positions[labels[positions] == UNKNOWN]
            if unlabelled.size:
                node = self.node_ids[unlabelled[0]]
                raise UserError(
                    f"data set '{self.name}': node '{node}' is in '{part}' but has no label; "
                    "give it one or take it out of the split"
                )

    @property
    def num_nodes(self) -> int:
        return self.graph.num_nodes

    @property
    def num_features(self) -> int:
        return self.features.shape[1]

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def feature_matrix(self) -> SparseMatrix:
        """The features as one matrix in memory, which full-batch models and the inspection take.

        Raises:
            UserError: a store's features are too large for that.
        """
        return self.features if isinstance(self.features, SparseMatrix) else self.features.to_sparse()
