"""The features of a data set as models take them, each row divided by its sum, read by rows or by columns."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from layerlab.graph.node_data import BlockFeatures
from layerlab.graph.sparse import SparseMatrix
from layerlab.graph.task import normalise_rows

# Numbers of a pass over features in memory: 64 MB of float32.
_TOGETHER = 1 << 24


class Inputs:
    """Row-normalised features: of a matrix in memory, or of blocks in files, of which only parts are ever read.

    Args:
        features: a `SparseMatrix`, or a store's.

    >>> inputs = Inputs(SparseMatrix.from_dense(torch.tensor([[1.0, 3.0], [2.0, 2.0]])))
    >>> inputs.rows(torch.tensor([0])).tolist()
    [[0.25, 0.75]]
    """

    def __init__(self, features: SparseMatrix | BlockFeatures) -> None:
        self.shape = features.shape
        self._blocks: BlockFeatures | None = None
        self._matrix: Tensor | SparseMatrix | None = None
        if isinstance(features, SparseMatrix):
            matrix = normalise_rows(features)
            # 8 bytes an entry against 4 a number: gathering dense rows is faster, too.
            numbers = self.shape[0] * self.shape[1]
            self._matrix = matrix.to_dense() if 2 * matrix.nnz >= numbers else matrix
            return
        sums = np.zeros(self.shape[0])
        for index in range(features.blocks):
            block = features.block(index)
            for part in _parts(len(block), block.shape[1]):
                sums[part] += np.abs(block[part]).sum(axis=1, dtype=np.float64)
        scale = np.zeros(self.shape[0])
        np.divide(1.0, sums, out=scale, where=sums > 0)
        self._blocks, self._scale = features, torch.from_numpy(scale.astype(np.float32))

    def rows(self, nodes: Tensor) -> Tensor | SparseMatrix:
        """The features of the nodes, dense or sparse as they are kept."""
        if self._blocks is not None:
            found = self._blocks.rows(nodes)
            dense = found.to_dense() if isinstance(found, SparseMatrix) else found
            return dense.mul_(self._scale[nodes, None])
        if isinstance(self._matrix, SparseMatrix):
            return self._matrix.rows(nodes)
        assert self._matrix is not None
        return self._matrix.index_select(0, nodes)

    def columns(self) -> Iterator[tuple[slice, Tensor]]:
        """Blocks of columns of all nodes, ``(n, width)``, and which they are; each made when it is asked for."""
        if self._blocks is not None:
            first = 0
            for index in range(self._blocks.blocks):
                block = torch.tensor(self._blocks.block(index))
                yield slice(first, first + block.shape[1]), block.mul_(self._scale[:, None])
                first += block.shape[1]
            return
        assert self._matrix is not None
        by_column = (
            self._matrix.to_scipy().tocsc() if isinstance(self._matrix, SparseMatrix) else self._matrix
        )
        width = min(max(1, _TOGETHER // max(1, self.shape[0])), 64)
        for first in range(0, self.shape[1], width):
            here = slice(first, min(first + width, self.shape[1]))
            block = by_column[:, here]
            yield (
                here,
                torch.from_numpy(block.toarray()) if not isinstance(block, Tensor) else block.contiguous(),
            )


def _parts(rows: int, width: int) -> Iterator[slice]:
    step = max(1, _TOGETHER // max(1, width))
    return (slice(start, start + step) for start in range(0, rows, step))
