"""The kernels as torch operators, ``torch.ops.layerlab.*``: implementations, shapes, gradients.

Each operator has a CPU implementation, a fake one (shapes only, for ``torch.compile``) and an autograd kernel. Other
devices have the pure-torch path of `layerlab.graph.ops`, which decides, and which looks once at each pattern, since
kernels trust indices; the operators check shapes and types only.

The gradient of a product is a product, so it can be differentiated again and again. The backwards of `activate` and
`attention` are operators without a gradient of their own: under ``create_graph=True`` they are built from
differentiable torch operations instead, with the same random words.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerlab.errors import UserError
from layerlab.lab.kernels import threads
from layerlab.lab.kernels.registration import operator

NONE, RELU, ELU = 0, 1, 2
# Rows whose sum is one number of a chunked reduction: fixed, so that bits do not depend on threads.
CHUNK = 1024


@cache
def cpu() -> ModuleType:
    # numba takes half a second to import, and kernels are compiled (once a machine) at their first call.
    from layerlab.graph.kernels import products_cpu

    return products_cpu


def array(tensor: Tensor) -> NDArray[Any]:
    """The tensor's memory, or that of a contiguous copy."""
    if tensor.requires_grad:
        tensor = tensor.detach()
    return (tensor if tensor.is_contiguous() else tensor.contiguous()).numpy()


def check(fits: bool, message: str, *tensors: Tensor | None) -> None:
    if not fits:
        shapes = ", ".join(f"{tuple(t.shape)} {t.dtype}" for t in tensors if t is not None)
        raise UserError(f"{message}, got {shapes}")


def check_numbers(first: Tensor, *others: Tensor | None) -> None:
    dtype = first.dtype
    fits = dtype is torch.float32 or dtype is torch.float64
    for other in others:
        fits = fits and (other is None or other.dtype is dtype)
    check(fits, "expected float32 or float64 tensors of one dtype", first, *others)


def check_pattern(crow: Tensor, col: Tensor) -> None:
    fits = crow.ndim == col.ndim == 1 and len(crow) > 0 and crow.dtype == col.dtype
    fits = fits and crow.dtype in (torch.int32, torch.int64)
    check(fits, "expected row offsets and columns of one integer dtype", crow, col)


# --- products -------------------------------------------------------------------------------------------------------


def _spmm(
    values: Tensor,
    crow: Tensor,
    col: Tensor,
    transposed_values: Tensor | None,
    transposed_crow: Tensor | None,
    transposed_col: Tensor | None,
    dense: Tensor,
    bias: Tensor | None,
) -> Tensor:
    check_numbers(values, dense, bias)
    check_pattern(crow, col)
    fits = dense.ndim == 2 and values.shape == col.shape and (bias is None or bias.shape == dense.shape[1:])
    check(fits, "expected values (entries,), dense (columns, d) and bias (d,)", values, dense, bias)
    rows, width = len(crow) - 1, dense.shape[1]
    out = dense.new_empty(rows, width)
    if rows and width:
        offsets = array(crow)
        arguments = (
            offsets,
            array(col),
            array(values),
            None,
            array(dense),
            None if bias is None else array(bias),
            out.numpy(),
        )
        threads.run(cpu().spmm, arguments, threads.parts_of(offsets, len(col) * width // 8))
    return out


def _spmm_fake(
    values: Tensor,
    crow: Tensor,
    col: Tensor,
    transposed_values: Tensor | None,
    transposed_crow: Tensor | None,
    transposed_col: Tensor | None,
    dense: Tensor,
    bias: Tensor | None,
) -> Tensor:
    return dense.new_empty(crow.shape[0] - 1, dense.shape[1])


class _SpmmFunction(torch.autograd.Function):
    call: Callable[..., Tensor]

    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        crow: Tensor,
        col: Tensor,
        transposed_values: Tensor | None,
        transposed_crow: Tensor | None,
        transposed_col: Tensor | None,
        dense: Tensor,
        bias: Tensor | None,
    ) -> Tensor:
        ctx.save_for_backward(
            values,
            crow,
            col,
            transposed_values,
            transposed_crow,
            transposed_col,
            dense if values.requires_grad else None,
        )
        return _SpmmFunction.call(
            values, crow, col, transposed_values, transposed_crow, transposed_col, dense, bias
        )

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        values, crow, col, transposed_values, transposed_crow, transposed_col, dense = ctx.saved_tensors
        to_values = to_dense = to_bias = None
        if ctx.needs_input_grad[0]:
            to_values = sampled_product(crow, col, gradient, dense)
        if ctx.needs_input_grad[6]:
            to_dense = spmm(
                transposed_values, transposed_crow, transposed_col, values, crow, col, gradient, None
            )
        if ctx.needs_input_grad[7]:
            to_bias = column_sum(gradient)
        return to_values, None, None, None, None, None, to_dense, to_bias


spmm = operator(
    "spmm(Tensor values, Tensor crow, Tensor col, Tensor? transposed_values, Tensor? transposed_crow, "
    "Tensor? transposed_col, Tensor dense, Tensor? bias) -> Tensor",
    _spmm,
    _spmm_fake,
    _SpmmFunction,
)


def _sampled_product(crow: Tensor, col: Tensor, left: Tensor, right: Tensor) -> Tensor:
    check_numbers(left, right)
    check_pattern(crow, col)
    fits = left.ndim == right.ndim == 2 and len(left) == len(crow) - 1 and left.shape[1] == right.shape[1]
    check(fits, "expected (rows, d) and (columns, d)", left, right)
    out = left.new_zeros(len(col))
    if len(col):
        offsets = array(crow)
        arguments = (offsets, array(col), array(left), array(right), out.numpy())
        parts = threads.parts_of(offsets, len(col) * left.shape[1] // 8)
        threads.run(cpu().sampled_product, arguments, parts)
    return out


class _SampledProductFunction(torch.autograd.Function):
    call: Callable[..., Tensor]

    @staticmethod
    def forward(ctx: Any, crow: Tensor, col: Tensor, left: Tensor, right: Tensor) -> Tensor:
        ctx.save_for_backward(crow, col, left, right)
        return _SampledProductFunction.call(crow, col, left, right)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, Tensor, Tensor]:
        crow, col, left, right = ctx.saved_tensors
        row = torch.repeat_interleave(crow[1:] - crow[:-1])
        to_left = torch.zeros_like(left).index_add(0, row, gradient[:, None] * right[col.long()])
        to_right = torch.zeros_like(right).index_add(0, col.long(), gradient[:, None] * left[row])
        return None, None, to_left, to_right


sampled_product = operator(
    "sampled_product(Tensor crow, Tensor col, Tensor left, Tensor right) -> Tensor",
    _sampled_product,
    lambda crow, col, left, right: left.new_empty(col.shape[0]),
    _SampledProductFunction,
)


def sum_columns(x: NDArray[Any]) -> NDArray[Any]:
    """``x.sum(0)``, added chunk by chunk: the same bits on any number of threads."""
    chunks = -(-len(x) // CHUNK)
    if x.size == 0:
        return np.zeros(x.shape[1], x.dtype)
    partial = np.empty((chunks, x.shape[1]), x.dtype)
    threads.run(cpu().column_sums, (x, partial, CHUNK), threads.even_parts(chunks, x.size // 8))
    return partial[0] if chunks == 1 else partial.sum(0)


def _column_sum(x: Tensor) -> Tensor:
    check_numbers(x)
    check(x.ndim == 2, "expected a matrix", x)
    return torch.from_numpy(sum_columns(array(x)))


class _ColumnSumFunction(torch.autograd.Function):
    call: Callable[..., Tensor]

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.shape = x.shape
        return _ColumnSumFunction.call(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.expand(ctx.shape)


column_sum = operator(
    "column_sum(Tensor x) -> Tensor", _column_sum, lambda x: x.new_empty(x.shape[1]), _ColumnSumFunction
)


# --- activation and dropout -----------------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def keep_law(p: float, dtype: torch.dtype) -> tuple[Any, Any]:
    """Threshold and scale as the kernels want them: words below the threshold drop, what stays is scaled."""
    from layerlab.lab.random import drop_threshold

    threshold = np.uint32(drop_threshold(p))  # refuses a p outside [0, 1)
    scale = 1.0 / (1.0 - p)
    return threshold, np.float32(scale) if dtype is torch.float32 else np.float64(scale)


def law(seed: Tensor | None, p: float, dtype: torch.dtype) -> tuple[Any, Any, Any]:
    """Seed, threshold and scale as the kernels want them."""
    threshold, scale = keep_law(p, dtype)
    if not threshold:
        return np.uint64(0), threshold, scale
    if seed is None or seed.dtype != torch.int64 or seed.numel() != 1:
        raise UserError("dropout needs a seed, one int64")
    return np.uint64(int(seed) % 2**64), threshold, scale


def _activate(x: Tensor, activation: int, seed: Tensor | None, p: float) -> Tensor:
    check_numbers(x)
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    flat = array(x).reshape(-1)
    parts = threads.even_parts(len(flat), 2 * len(flat), cpu().BATCH)
    arguments = (flat, activation, *law(seed, p, x.dtype), 0, out.numpy().reshape(-1))
    threads.run(cpu().activate, arguments, parts)
    return out


def _activate_backward(
    gradient: Tensor, out: Tensor, activation: int, seed: Tensor | None, p: float
) -> Tensor:
    check_numbers(gradient, out)
    check(gradient.shape == out.shape, "expected a gradient of the result's shape", gradient, out)
    to_x = torch.empty_like(out, memory_format=torch.contiguous_format)
    flat, result = array(gradient).reshape(-1), array(out).reshape(-1)
    parts = threads.even_parts(len(flat), 2 * len(flat), cpu().BATCH)
    drawn, written = law(seed, p, out.dtype), to_x.numpy().reshape(-1)
    if activation == RELU:
        threads.run(cpu().relu_backward, (flat, result, drawn[2], written), parts)
    else:
        threads.run(cpu().elu_backward, (flat, result, *drawn, 0, written), parts)
    return to_x


def _same_shape(x: Tensor, *others: Any) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


class _ActivateFunction(torch.autograd.Function):
    call: Callable[..., Tensor]

    @staticmethod
    def forward(ctx: Any, x: Tensor, activation: int, seed: Tensor | None, p: float) -> Tensor:
        out = _ActivateFunction.call(x, activation, seed, p)
        # Dropout alone does not need its result.
        ctx.save_for_backward(out if activation != NONE else None, seed)
        ctx.activation, ctx.p = activation, p
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        out, seed = ctx.saved_tensors
        if ctx.activation == NONE:
            return activate(gradient, NONE, seed, ctx.p), None, None, None
        if not torch.is_grad_enabled():
            to_x = activate_backward(gradient, out, ctx.activation, seed, ctx.p)
            return to_x, None, None, None
        mask = activate(torch.ones_like(out).detach(), NONE, seed, ctx.p)
        slope = (out > 0).to(out.dtype)
        if ctx.activation == ELU:
            slope = slope + (1 - slope) * (out * (1 - ctx.p) + 1)
        return gradient * mask * slope, None, None, None


activate = operator(
    "activate(Tensor x, int activation, Tensor? seed, float p) -> Tensor",
    _activate,
    _same_shape,
    _ActivateFunction,
)
activate_backward = operator(
    "activate_backward(Tensor gradient, Tensor out, int activation, Tensor? seed, float p) -> Tensor",
    _activate_backward,
    _same_shape,
)
