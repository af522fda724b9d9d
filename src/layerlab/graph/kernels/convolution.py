"""A layer's whole linear part as one step of autograd: activation, dropout, product with the weights, propagation.

``P (drop(act(x)) W^T) + b``, or without P. On a small graph the kernels take less time than the calls between them, so
a layer makes one. The same numbers as the operators one by one (`layerlab.graph.ops`), with the same random words;
whoever traces, transforms or differentiates twice is led to those.

Dense features are read in blocks of rows: what lies between activation and product never leaves the cache, and is drawn
again in the backward instead of being kept. Where they are narrower than the result, they are propagated before the
product, ``(P y) W^T + b``: gathering is what costs, and it is by the column.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerlab.graph.kernels.operators import ELU, NONE, RELU, array, cpu, keep_law, sum_columns
from layerlab.graph.sparse import Pattern, SparseMatrix
from layerlab.lab.kernels import threads

# Numbers of a block of dense features: 1 MB of float32, which stays in the second-level cache.
_BLOCK = 1 << 18
# Numbers of a chunk for one thread: 64 kB of float32, a part of the second-level cache.
_CHUNK = 1 << 14
# Columns up to which dense products of small features have a kernel of their own, however many rows there are.
_NARROW = 16
# Where leaving out zeros pays: on Cora, 64 columns with 0.6 dropped save a quarter of forward and backward, with 0.5
# dropped nothing in the backward; at 32 columns it costs.
_MANY, _WIDE = 0.55, 64


@cache
def _dropped() -> ModuleType:
    from layerlab.graph.kernels import dropped_cpu

    return dropped_cpu


# What gathering a number takes, in multiply-adds of a dense product.
_GATHER = 16

Single = Callable[[Tensor | SparseMatrix, Tensor, Tensor | None], Tensor]


def _product(
    pattern: Pattern,
    values: NDArray[Any],
    dense: NDArray[Any],
    bias: NDArray[Any] | None = None,
    order: NDArray[Any] | None = None,
    dropped: float = 0.0,
) -> NDArray[Any]:
    """``matrix @ dense + bias``; with an order, the matrix has ``values[order]``; a share ``dropped`` of them is 0."""
    crow, col = pattern.arrays
    width = dense.shape[1]
    out = np.empty((len(crow) - 1, width), dense.dtype)
    if out.size:
        parts = threads.parts_of(crow, len(col) * width // 8)
        arguments = (crow, col, values, order, dense, bias, out)
        if dropped > _MANY and width >= _WIDE:
            threads.run(cpu().spmm_kept, (*arguments, pattern.longest), parts)
        else:
            threads.run(cpu().spmm, arguments, parts)
    return out


def _transposed(matrix: NDArray[Any]) -> NDArray[Any]:
    out = np.empty(matrix.shape[::-1], matrix.dtype)
    threads.run(cpu().transpose, (matrix, out), threads.even_parts(matrix.shape[1], matrix.size // 4, 8))
    return out


class Left(NamedTuple):
    """What the forward leaves for the backward: ``y = drop(act(x))`` where it is kept, and ``P y`` where that is."""

    y: NDArray[Any] | None
    gathered: NDArray[Any] | None = None


class Before:
    """``drop(act(.))`` of flat numbers: which activation, and which random words."""

    def __init__(self, activation: int, seed: int, p: float, dtype: torch.dtype) -> None:
        self.activation, self.p = activation, p
        self.law = (np.uint64(seed), *keep_law(p, dtype))
        self.identity = activation == NONE and p == 0.0

    def work(self, numbers: int) -> int:
        """Nanoseconds: random words cost most."""
        return 2 * numbers if self.law[1] else numbers // 2

    def of(self, x: NDArray[Any], begin: int) -> NDArray[Any]:
        """``drop(act(x))``, x being the elements ``begin, begin + 1, ...`` of a tensor."""
        if self.identity:
            return x
        out = np.empty_like(x)
        parts = threads.even_parts(x.size, self.work(x.size), cpu().BATCH)
        arguments = (x.reshape(-1), self.activation, *self.law, begin, out.reshape(-1))
        threads.run(cpu().activate, arguments, parts)
        return out

    def backward(self, gradient: NDArray[Any], y: NDArray[Any], begin: int, out: NDArray[Any]) -> None:
        """From the gradient of ``y = of(x)`` to that of x."""
        given, result, written = gradient.reshape(-1), y.reshape(-1), out.reshape(-1)
        parts = threads.even_parts(y.size, self.work(y.size), cpu().BATCH)
        if self.activation == RELU:
            threads.run(cpu().relu_backward, (given, result, self.law[2], written), parts)
        elif self.activation == ELU:
            threads.run(cpu().elu_backward, (given, result, *self.law, begin, written), parts)
        else:
            threads.run(cpu().activate, (given, NONE, *self.law, begin, written), parts)


def _block_rows(x: NDArray[Any]) -> int:
    return max(1, _BLOCK // max(1, x.shape[1]))


def _chunks(x: NDArray[Any]) -> tuple[int, int]:
    """Rows of a chunk that a thread makes and uses alone, and how many there are."""
    rows = max(1, _CHUNK // max(1, x.shape[1]))
    return rows, -(-len(x) // rows)


def _small_product(x: NDArray[Any], w: NDArray[Any], work: int) -> NDArray[Any]:
    """``x w`` without a library, whose threads meet even over a few microseconds of work."""
    out = np.empty((len(x), w.shape[1]), x.dtype)
    threads.run(cpu().dense_product, (x, w, out), threads.even_parts(len(x), work))
    return out


def _dense_product(
    x: NDArray[Any], weight: NDArray[Any], before: Before
) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """``drop(act(x)) W^T``, and the left factor where it is small enough to be kept."""
    if x.size <= _BLOCK:
        y = before.of(x, 0)
        work = x.size * len(weight) // 8
        if not 1 <= len(weight) <= _NARROW and work >= threads.SMALL:
            return (torch.from_numpy(y) @ torch.from_numpy(weight).t()).numpy(), y
        return _small_product(y, _transposed(weight), work), y
    z = np.empty((len(x), len(weight)), x.dtype)
    if len(weight) <= _NARROW:
        rows, chunks = _chunks(x)
        arguments = (x, before.activation, before.law, _transposed(weight), rows, z)
        threads.run(_dropped().dropped_product, arguments, threads.even_parts(chunks, 2 * x.size))
        return z, None
    rows, out, factor = _block_rows(x), torch.from_numpy(z), torch.from_numpy(weight).t()
    for start in range(0, len(x), rows):
        block = torch.from_numpy(before.of(x[start : start + rows], start * x.shape[1]))
        torch.mm(block, factor, out=out[start : start + rows])
    return z, None


def _dense_backward(
    x: NDArray[Any],
    y: NDArray[Any] | None,
    weight: NDArray[Any],
    to_z: NDArray[Any],
    before: Before,
    needs_x: bool,
) -> tuple[NDArray[Any] | None, NDArray[Any]]:
    to_x = np.empty_like(x) if needs_x else None
    work = x.size * len(weight) // 8
    if y is not None and work < threads.SMALL:
        # Small features are one block, which is there still.
        to_weight = _small_product(_transposed(to_z), y, work)
        if to_x is not None:
            before.backward(_small_product(to_z, weight, work), y, 0, to_x)
        return to_x, to_weight
    if y is None and not needs_x and len(weight) <= _NARROW:
        rows, chunks = _chunks(x)
        partial = np.empty((chunks, *weight.shape), x.dtype)
        arguments = (x, before.activation, before.law, to_z, rows, partial)
        threads.run(_dropped().dropped_gradient, arguments, threads.even_parts(chunks, 2 * x.size))
        return None, partial.sum(0)
    rows, given = _block_rows(x), torch.from_numpy(to_z)
    factor = torch.from_numpy(weight)
    sums = torch.zeros_like(factor) if y is None else given.t() @ torch.from_numpy(y)
    for start in range(0, len(x), rows):
        begin, here = start * x.shape[1], slice(start, start + rows)
        if y is None:
            block = before.of(x[here], begin)
            sums.addmm_(given[here].t(), torch.from_numpy(block))
        else:
            block = y
        if to_x is not None:
            before.backward((given[here] @ factor).numpy(), block, begin, to_x[here])
    return to_x, sums.numpy()


def _affine(x: NDArray[Any], weight: NDArray[Any], bias: NDArray[Any] | None) -> NDArray[Any]:
    """``x W^T + b``."""
    work = x.size * len(weight) // 8
    if work < threads.SMALL:
        z = _small_product(x, _transposed(weight), work)
        if bias is not None:
            z += bias
        return z
    left, right = torch.from_numpy(x), torch.from_numpy(weight).t()
    product = left @ right if bias is None else torch.addmm(torch.from_numpy(bias), left, right)
    return product.numpy()


def _gathered_backward(
    left: Left,
    operator: SparseMatrix,
    weight: NDArray[Any],
    before: Before,
    given: NDArray[Any],
    needs_x: bool,
) -> tuple[NDArray[Any] | None, NDArray[Any]]:
    y, gathered = left
    assert y is not None and gathered is not None
    work = gathered.size * len(weight) // 8
    if work < threads.SMALL:
        to_weight = _small_product(_transposed(given), gathered, work)
    else:
        to_weight = (torch.from_numpy(given).t() @ torch.from_numpy(gathered)).numpy()
    if not needs_x:
        return None, to_weight
    work = given.size * weight.shape[1] // 8
    if work < threads.SMALL:
        to_gathered = _small_product(given, weight, work)
    else:
        to_gathered = (torch.from_numpy(given) @ torch.from_numpy(weight)).numpy()
    to_y = _product(operator.pattern.transposed()[0], array(operator.transposed_values()), to_gathered)
    if not before.identity:
        before.backward(to_y, y, 0, to_y)
    return to_y, to_weight


def _gathers_first(operator: SparseMatrix, weight: NDArray[Any]) -> bool:
    """Whether ``(P y) W^T`` takes less time than ``P (y W^T)``."""
    (outputs, inputs), (rows, columns) = weight.shape, operator.shape
    if inputs < outputs:
        return True
    if columns * inputs <= _BLOCK or columns < 2 * rows:
        return False
    gathered, product = _GATHER * operator.nnz, inputs * outputs
    return gathered * inputs + rows * product < gathered * outputs + columns * product


def forward(
    x: NDArray[Any] | SparseMatrix,
    operator: SparseMatrix | None,
    weight: NDArray[Any],
    bias: NDArray[Any] | None,
    before: Before,
) -> tuple[NDArray[Any], Left]:
    """``P (drop(act(x)) W^T) + b``, and what `backward` needs beside x."""
    own = bias if operator is None else None
    y: NDArray[Any] | None
    if isinstance(x, SparseMatrix):
        y = values = before.of(x.numbers, 0)
        z = _product(x.pattern, values, _transposed(weight), own, dropped=before.p)
    elif operator is not None and _gathers_first(operator, weight):
        y = before.of(x, 0)
        gathered = _product(operator.pattern, operator.numbers, y)
        return _affine(gathered, weight, bias), Left(y, gathered)
    else:
        z, y = _dense_product(x, weight, before)
        if own is not None:
            z += own
    if operator is not None:
        z = _product(operator.pattern, operator.numbers, z, bias)
    return z, Left(y)


def backward(
    x: NDArray[Any] | SparseMatrix,
    left: Left,
    operator: SparseMatrix | None,
    weight: NDArray[Any],
    before: Before,
    given: NDArray[Any],
    needs_x: bool,
    needs_bias: bool,
) -> tuple[NDArray[Any] | None, NDArray[Any], NDArray[Any] | None]:
    """The gradients of x (dense), the weight and the bias, from that of the result."""
    to_bias = sum_columns(given) if needs_bias else None
    if left.gathered is not None:
        assert operator is not None
        return *_gathered_backward(left, operator, weight, before, given, needs_x), to_bias
    if operator is not None:
        values = array(operator.transposed_values())
        given = _product(operator.pattern.transposed()[0], values, given)
    if not isinstance(x, SparseMatrix):
        return *_dense_backward(x, left.y, weight, given, before, needs_x), to_bias
    assert left.y is not None
    product = _product(x.pattern.transposed()[0], left.y, given, order=x.pattern.order, dropped=before.p)
    return None, _transposed(product), to_bias


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor | SparseMatrix,
        operator: SparseMatrix | None,
        weight: Tensor,
        bias: Tensor | None,
        before: Before,
        single: Single,
    ) -> Tensor:
        sparse = isinstance(x, SparseMatrix)
        numbers = x if isinstance(x, SparseMatrix) else array(x)
        z, left = forward(numbers, operator, array(weight), None if bias is None else array(bias), before)
        ctx.save_for_backward(None if sparse else x, weight, bias)
        ctx.sparse = x if sparse else None
        ctx.left, ctx.operator, ctx.before, ctx.single = left, operator, before, single
        return torch.from_numpy(z)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias = ctx.saved_tensors
        if torch.is_grad_enabled():
            return _differentiable_backward(ctx, x, weight, bias, gradient)
        numbers = ctx.sparse if x is None else array(x)
        needs_x, _, _, needs_bias, _, _ = ctx.needs_input_grad
        found = backward(
            *(numbers, ctx.left, ctx.operator, array(weight), ctx.before, array(gradient)),
            *(needs_x, needs_bias),
        )
        to_x, to_weight, to_bias = (None if part is None else torch.from_numpy(part) for part in found)
        return to_x, None, to_weight, to_bias, None, None


def _differentiable_backward(
    ctx: Any, x: Tensor | None, weight: Tensor, bias: Tensor | None, gradient: Tensor
) -> tuple[Tensor | None, ...]:
    """The gradients as functions that can be differentiated again, through the operators one by one."""
    with torch.enable_grad():
        out = ctx.single(ctx.sparse if x is None else x, weight, bias)
    inputs = (x, weight, bias)
    wanted = [t for t in inputs if t is not None and t.requires_grad]
    given = iter(torch.autograd.grad(out, wanted, gradient, create_graph=True))
    found = [next(given) if t is not None and t.requires_grad else None for t in inputs]
    return found[0], None, found[1], found[2], None, None


def convolve(
    x: Tensor | SparseMatrix,
    operator: SparseMatrix | None,
    weight: Tensor,
    bias: Tensor | None,
    activation: int,
    seed: int,
    p: float,
    single: Single,
) -> Tensor:
    """``P (drop(act(x)) W^T) + b`` for checked arguments that `direct` and `kernels.serve` let through.

    Args:
        x: ``(m, in)``; constant where it is sparse.
        operator: P, ``(n, m)``, constant; None for the identity.
        weight: ``(out, in)``.
        bias: ``(out,)`` or None.
        activation: NONE, RELU or ELU; NONE where x is sparse.
        seed: 64 bits.
        p: probability of dropping.
        single: the same by single operators, for double backward.
    """
    if not torch.is_grad_enabled():
        numbers = x if isinstance(x, SparseMatrix) else array(x)
        added = None if bias is None else array(bias)
        before = Before(activation, seed, p, x.dtype)
        return torch.from_numpy(forward(numbers, operator, array(weight), added, before)[0])
    out: Tensor = _Convolution.apply(x, operator, weight, bias, Before(activation, seed, p, x.dtype), single)
    return out
