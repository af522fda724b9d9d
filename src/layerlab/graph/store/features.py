"""The features of a store: blocks of columns in files, of which rows are gathered on demand."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from layerlab.errors import UserError
from layerlab.graph.sparse import SparseMatrix, expect_nodes

# Up to so many numbers (8 bytes each as entries of a sparse matrix) features are small: 512 MiB.
SMALL = 1 << 26


class StoredFeatures:
    """The features of each node, float32, in memory-mapped blocks of columns.

    Args:
        blocks: each ``(n, width)`` float32; the last may be narrower.

    >>> features = StoredFeatures((np.eye(3, 2, dtype=np.float32), np.full((3, 1), 7, dtype=np.float32)))
    >>> features.shape, features.rows(torch.tensor([1, 0])).tolist()
    ((3, 3), [[0.0, 1.0, 7.0], [1.0, 0.0, 7.0]])
    """

    def __init__(self, blocks: tuple[NDArray[np.float32], ...]) -> None:
        self._blocks = blocks
        self._columns = np.concatenate([[0], np.cumsum([block.shape[1] for block in blocks])])

    @property
    def shape(self) -> tuple[int, int]:
        """Nodes, columns."""
        return self._blocks[0].shape[0], int(self._columns[-1])

    @property
    def blocks(self) -> int:
        """Number of blocks of columns."""
        return len(self._blocks)

    def block(self, index: int) -> NDArray[np.float32]:
        """The columns of one block: ``(n, width)``, a memory map."""
        return self._blocks[index]

    def columns(self, index: int) -> slice:
        """Which columns a block holds."""
        return slice(int(self._columns[index]), int(self._columns[index + 1]))

    def rows(self, nodes: Tensor) -> Tensor:
        """The features of the given nodes: ``(len(nodes), columns)`` float32, in memory.

        Raises:
            UserError: nodes that are no integers, or out of range.
        """
        expect_nodes(nodes, self.shape[0])
        wanted = nodes.numpy()
        found = torch.empty(len(nodes), self.shape[1])
        out = found.numpy()
        for index, block in enumerate(self._blocks):
            out[:, self.columns(index)] = block[wanted]
        return found

    def to_sparse(self) -> SparseMatrix:
        """All of them as the sparse matrix that full-batch models take.

        Raises:
            UserError: more than 67 million numbers.
        """
        rows, columns = self.shape
        if rows * columns > SMALL:
            raise UserError(
                f"the features of {rows} nodes x {columns} columns are too large for a sparse matrix in memory;"
                " train in mini-batches (--batch-size), which reads only the rows it needs"
            )
        whole = np.concatenate(self._blocks, axis=1)
        return SparseMatrix.from_scipy(sparse.csr_array(whole))

    def __repr__(self) -> str:
        rows, columns = self.shape
        return f"StoredFeatures({rows} x {columns}, {self.blocks} blocks)"
