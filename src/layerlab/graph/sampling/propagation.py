"""The propagated features of an SGC, block of columns by block of columns.

``P^K X`` acts on each column of X by itself: two blocks of columns are all that has to be in memory beside P, however
wide the features are, and of the result only the rows that are trained on and judged are kept.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from layerlab.graph import ops
from layerlab.graph.sampling.inputs import Inputs
from layerlab.graph.sampling.room import Room
from layerlab.graph.sparse import SparseMatrix


def propagate_columns(
    operator: SparseMatrix,
    inputs: Inputs,
    steps: int,
    nodes: Tensor,
    rooms: Room,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """The rows ``nodes`` of ``P^K X``, dense.

    Args:
        operator: P, ``(n, n)`` float32.
        inputs: X.
        steps: K.
        nodes: ``(k,)`` integers.
        rooms: where the result is kept: in memory or in a file.
        progress: called with the columns done and all columns.

    Returns:
        ``(k, columns)`` float32.

    >>> import torch
    >>> from layerlab.graph.sampling.room import room
    >>> path = SparseMatrix.from_dense(torch.tensor([[0.5, 0.5], [0.5, 0.5]]))
    >>> x = Inputs(SparseMatrix.from_dense(torch.eye(2)))
    >>> with room() as rooms:
    ...     propagate_columns(path, x, 1, torch.tensor([1]), rooms).tolist()
    [[0.5, 0.5]]
    """
    out = rooms.array(len(nodes), inputs.shape[1])
    for columns, block in inputs.columns():
        for _ in range(steps):
            block = ops.spmm(operator, block)
        out[:, columns] = block[nodes]
        if progress is not None:
            progress(columns.stop, inputs.shape[1])
    return out
