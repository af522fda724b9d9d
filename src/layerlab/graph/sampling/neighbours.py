"""Sampled receptive fields: a few neighbours of each node instead of all, layer by layer.

The field of K layers holds most of a large graph after two or three steps: one node of mean degree 50 reads up to
50 + 50^2 + 50^3 others. With ``f`` neighbours drawn a node, a batch of b nodes reads at most ``b (1 + f)^K``, whatever
the size of the graph. Reference: Hamilton, Ying and Leskovec, Inductive representation learning on large graphs,
NeurIPS 2017.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from types import ModuleType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerlab.errors import UserError
from layerlab.graph.field import Field
from layerlab.graph.sparse import Pattern, SparseMatrix, expect_nodes

ALL = -1
_LARGEST_SEED = 2**64 - 1
_LARGEST_INT32 = 2**31 - 1


@cache
def _cpu() -> ModuleType:
    from layerlab.graph.sampling import kernel_cpu

    return kernel_cpu


class Sampler:
    """Draws fields of one operator; keeps its scratch (4 bytes and a bit a node), so a thread needs one of its own.

    Args:
        operator: ``(n, n)``, rows receive; float32 or float64 on a CPU, constant.
        fanouts: neighbours to draw, first of the batch's own nodes, then of those they reach, and so on: one a layer,
            the last layer's first. -1 takes all.
        scaled: whether a drawn value is divided by its probability of being drawn, so that a product with the sampled
            operator has the expectation of the product with the operator. Attention uses the pattern alone.

    Raises:
        UserError: an operator or fan-outs of another kind.

    >>> path = SparseMatrix.from_dense(torch.tensor([[1.0, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 1], [0, 0, 1, 1]]))
    >>> field = Sampler(path, [1, 1]).field(torch.tensor([1]), seed=0)
    >>> field.inputs.tolist(), field.operators[-1].to_dense().tolist()
    ([1, 2], [[1.0, 2.0]])
    """

    def __init__(self, operator: SparseMatrix, fanouts: Sequence[int], *, scaled: bool = True) -> None:
        size = operator.shape[0]
        if operator.shape != (size, size) or not operator.multiplies_sparsely:
            raise UserError(
                f"expected a square operator of float32 or float64 on a CPU, without gradients, got {operator}"
            )
        if size > _LARGEST_INT32:
            raise UserError(f"expected at most {_LARGEST_INT32} nodes, got {size}")
        self.operator, self.fanouts, self.scaled = operator, checked_fanouts(fanouts), scaled
        _ = operator.pattern.trusted
        self._position = np.full(size, -1, np.int32)
        self._seen = np.zeros(size // 64 + 1, np.uint64)
        self._taken = np.zeros(operator.pattern.longest // 64 + 1, np.uint64)

    def field(self, nodes: Tensor, seed: int) -> Field:
        """A field for the output at ``nodes``: of the same arguments, the same bits.

        Args:
            nodes: ``(k,)`` integers in 0 ... n - 1, each once, in the order in which the output is wanted.
            seed: from 0 to 2^64 - 1. Fields of different seeds are independent, and so are a field's layers.

        Raises:
            UserError: nodes repeat, are out of range or no integers, or another seed.
        """
        expect_nodes(nodes, self.operator.shape[0])
        if not 0 <= seed <= _LARGEST_SEED:
            raise UserError(f"expected a seed from 0 to {_LARGEST_SEED}, got {seed}")
        level: NDArray[np.int64] = nodes.long().contiguous().numpy()
        operators = []
        try:
            if (again := _cpu().begin(level, self._position)) >= 0:
                raise UserError(f"expected every node once, got node {level[again]} again")
            for layer, fanout in enumerate(self.fanouts):
                block, level = self._layer(level, fanout, np.uint64(seed), layer)
                operators.append(block)
        finally:
            _cpu().forget(level, self._position)
        inputs = level if self.fanouts else level.copy()  # never the caller's own memory
        return Field(torch.from_numpy(inputs), tuple(reversed(operators)))

    def _layer(
        self, nodes: NDArray[np.int64], fanout: int, seed: np.uint64, layer: int
    ) -> tuple[SparseMatrix, NDArray[np.int64]]:
        offsets, columns, numbers, level = _cpu().one_layer(
            *(*self.operator.pattern.arrays, self.operator.numbers, nodes, fanout, self.scaled, seed, layer),
            *(self._position, self._seen, self._taken),
        )
        crow, col = torch.from_numpy(offsets), torch.from_numpy(columns)
        # Both of one dtype, as kernels want them.
        crow, col = (crow, col.long()) if len(col) > _LARGEST_INT32 else (crow.int(), col)
        pattern = Pattern(crow, col, (len(nodes), len(level)))
        return SparseMatrix(pattern, torch.from_numpy(numbers)), level


def sample_field(
    operator: SparseMatrix, nodes: Tensor, fanouts: Sequence[int], seed: int, *, scaled: bool = True
) -> Field:
    """The rows and columns of ``operator`` that a model reads for its output at ``nodes``, some neighbours drawn.

    Of a node's neighbours, ``min(fanout, neighbours)`` are drawn without replacement, every subset being equally
    likely; the node itself is kept where the operator has it, with its own value. A drawn value is multiplied by
    ``neighbours / fanout``. Fan-outs that take all give `layerlab.graph.field.receptive_field`, to the bit.

    Args:
        operator: as for `Sampler`.
        nodes: ``(k,)``, as for `Sampler.field`.
        fanouts: as for `Sampler`.
        seed: as for `Sampler.field`.
        scaled: as for `Sampler`.

    Raises:
        UserError: as `Sampler`.

    >>> path = SparseMatrix.from_dense(torch.tensor([[1.0, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 1], [0, 0, 1, 1]]))
    >>> field = sample_field(path, torch.tensor([0]), [-1, -1], seed=0)
    >>> field.inputs.tolist(), [tuple(operator.shape) for operator in field.operators]
    ([0, 1, 2], [(2, 3), (1, 2)])
    """
    return Sampler(operator, fanouts, scaled=scaled).field(nodes, seed)


def checked_fanouts(fanouts: Sequence[int]) -> tuple[int, ...]:
    """Fan-outs as whole numbers from -1 on.

    Raises:
        UserError: something else.

    >>> checked_fanouts([15, 10, -1])
    (15, 10, -1)
    """
    if not isinstance(fanouts, Sequence):
        raise UserError(f"expected a list of numbers of neighbours, one a layer, got {fanouts!r}")
    for fanout in fanouts:
        if isinstance(fanout, bool) or not isinstance(fanout, int) or not ALL <= fanout < 2**31:
            raise UserError(
                f"expected a number of neighbours for each layer, 0 or more, or -1 for all, got {fanout!r}"
            )
    return tuple(fanouts)
