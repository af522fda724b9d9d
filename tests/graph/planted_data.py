"""Small data sets with planted classes, and features in blocks of columns as a store has them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from layerlab.graph.generate import block_edges, class_features
from layerlab.graph.node_data import NodeDataset, Split
from layerlab.graph.sparse import SparseMatrix
from layerlab.graph.structure import Graph


def planted(nodes: int, *, degree: int = 8, signal: float = 2.0, sparse: bool = False) -> NodeDataset:
    """Three classes, 20 features, four edges of five within a class; halves train and are judged."""
    generator = np.random.default_rng(0)
    labels = np.arange(nodes) % 3
    mixing = 0.8 * np.eye(3) + 0.2 / 3
    edges = block_edges(labels, (mixing + mixing.T) / 2, nodes * degree // 2, generator)
    features = class_features(labels, 20, signal, generator)
    if sparse:
        features = SparseMatrix.from_dense(features.to_dense().clamp(min=1.0) - 1.0)
    order = generator.permutation(nodes)
    third, half = nodes // 3, nodes // 2
    split = Split(order[:half], order[half : half + third], order[half + third :])
    return NodeDataset(
        "planted",
        Graph.from_edges(*edges, num_nodes=nodes),
        features,
        labels,
        ("a", "b", "c"),
        tuple(map(str, range(nodes))),
        split,
        "made up",
    )


class Columns:
    """What a store's features offer."""

    def __init__(self, matrix: Tensor, width: int) -> None:
        self._blocks = [part.contiguous().numpy() for part in matrix.split(width, dim=1)]
        self._matrix, self.shape, self.blocks = matrix, tuple(matrix.shape), len(self._blocks)

    def block(self, index: int) -> NDArray[np.float32]:
        self._blocks[index].setflags(write=False)
        return self._blocks[index]

    def to_sparse(self) -> SparseMatrix:
        return SparseMatrix.from_dense(self._matrix)

    def rows(self, nodes: Tensor) -> Tensor:
        return self._matrix[nodes]
