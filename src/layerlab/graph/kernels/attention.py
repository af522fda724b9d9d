"""Graph attention as a torch operator: one forward, one backward, nothing of entries x heads x features between."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from layerlab.graph.kernels import operators, threads
from layerlab.graph.kernels.operators import array, check, check_numbers, check_pattern, law
from layerlab.graph.kernels.registration import operator


@cache
def _cpu() -> ModuleType:
    from layerlab.graph.kernels import attention_cpu

    return attention_cpu


@cache
def _backward_cpu() -> ModuleType:
    from layerlab.graph.kernels import attention_backward_cpu

    return attention_backward_cpu


def _check_attention(
    z: Tensor, target: Tensor, source: Tensor, bias: Tensor | None, heads: int, rows: int, columns: int | None
) -> None:
    check_numbers(z, target, source, bias)
    fits = z.ndim == target.ndim == 2 and heads >= 1 and target.shape == source.shape
    fits = fits and len(target) in (1, heads) and z.shape[1] == heads * target.shape[1]
    fits = fits and rows <= len(z) and columns in (None, len(z))
    fits = fits and (bias is None or bias.shape == z.shape[1:])
    check(
        fits,
        "expected z (nodes, heads * F), two (heads or 1, F) vectors, bias (heads * F,)",
        z,
        target,
        source,
        bias,
    )


def _attention(
    z: Tensor,
    target: Tensor,
    source: Tensor,
    bias: Tensor | None,
    crow: Tensor,
    col: Tensor,
    transposed_crow: Tensor | None,
    transposed_col: Tensor | None,
    order: Tensor | None,
    heads: int,
    longest: int,
    slope: float,
    seed: Tensor | None,
    p: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    check_pattern(crow, col)
    rows, entries, columns = len(crow) - 1, len(col), len(z)
    _check_attention(z, target, source, bias, heads, rows, None)
    out, alpha = z.new_empty(rows, z.shape[1]), z.new_empty(entries, heads)
    to_row, to_entry = z.new_empty(rows, heads), z.new_empty(columns, heads)
    numbers, offsets = array(z), array(crow)
    scores = (numbers, array(target), array(source), to_row.numpy(), to_entry.numpy())
    threads.run(_cpu().node_scores, scores, threads.even_parts(columns, 2 * z.numel()))
    arguments = (
        offsets,
        array(col),
        to_row.numpy(),
        to_entry.numpy(),
        numbers,
        None if bias is None else array(bias),
        numbers.dtype.type(slope),
        *law(seed, p, z.dtype),
        longest,
        alpha.numpy(),
        out.numpy(),
    )
    threads.run(_cpu().attend, arguments, threads.parts_of(offsets, 2 * entries * z.shape[1]))
    return out, alpha, to_row, to_entry


def _attention_fake(
    z: Tensor,
    target: Tensor,
    source: Tensor,
    bias: Tensor | None,
    crow: Tensor,
    col: Tensor,
    transposed_crow: Tensor | None,
    transposed_col: Tensor | None,
    order: Tensor | None,
    heads: int,
    longest: int,
    slope: float,
    seed: Tensor | None,
    p: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rows = crow.shape[0] - 1
    shapes = ((rows, z.shape[1]), (col.shape[0], heads), (rows, heads), (z.shape[0], heads))
    out, alpha, to_row, to_entry = (z.new_empty(shape) for shape in shapes)
    return out, alpha, to_row, to_entry


def _attention_backward(
    gradient: Tensor,
    z: Tensor,
    target: Tensor,
    source: Tensor,
    alpha: Tensor,
    to_row: Tensor,
    to_entry: Tensor,
    crow: Tensor,
    col: Tensor,
    transposed_crow: Tensor,
    transposed_col: Tensor,
    order: Tensor,
    longest: int,
    slope: float,
    seed: Tensor | None,
    p: float,
) -> tuple[Tensor, Tensor, Tensor]:
    check_pattern(crow, col)
    check_pattern(transposed_crow, transposed_col)
    rows, columns, entries, heads = len(crow) - 1, len(z), len(col), alpha.shape[1]
    _check_attention(z, target, source, None, heads, rows, len(transposed_crow) - 1)
    check_numbers(z, gradient, alpha, to_row, to_entry)
    fits = gradient.shape == (rows, z.shape[1]) and alpha.shape == (entries, heads)
    fits = fits and to_row.shape == (rows, heads) and to_entry.shape == (columns, heads)
    fits = fits and order.shape == transposed_col.shape == col.shape
    check(fits, "expected the forward's tensors", gradient, alpha, to_row, to_entry, order)
    numbers, upstream, offsets = array(z), array(gradient), array(crow)
    received, sent = np.empty((rows, heads), numbers.dtype), np.empty((columns, heads), numbers.dtype)
    pairs = np.empty((entries, 2 * heads), numbers.dtype)
    by_rows = (
        offsets,
        array(col),
        array(to_row),
        array(to_entry),
        numbers,
        numbers.dtype.type(slope),
        *law(seed, p, z.dtype),
        longest,
        array(alpha),
        upstream,
        pairs,
        received,
    )
    work = 2 * entries * z.shape[1]
    threads.run(_backward_cpu().attend_backward_rows, by_rows, threads.parts_of(offsets, work))
    to_z = torch.empty_like(z, memory_format=torch.contiguous_format)
    offsets, to_target, to_source = array(transposed_crow), array(target), array(source)
    by_columns = (
        offsets,
        array(transposed_col),
        array(order),
        pairs,
        upstream,
        received,
        to_target,
        to_source,
        sent,
        to_z.numpy(),
    )
    threads.run(_backward_cpu().attend_backward_columns, by_columns, threads.parts_of(offsets, work))
    sums = []
    for weights in (received, sent):
        chunks = -(-len(weights) // operators.CHUNK)
        partial = np.empty((chunks, heads, target.shape[1]), numbers.dtype)
        products = (numbers, weights, partial, operators.CHUNK)
        threads.run(_backward_cpu().weighted_sums, products, threads.even_parts(chunks, numbers.size))
        total = partial.sum(0)
        sums.append(torch.from_numpy(total.sum(0, keepdims=True) if len(target) == 1 else total))
    return to_z, sums[0], sums[1]


class _AttentionFunction(torch.autograd.Function):
    call: Callable[..., tuple[Tensor, Tensor, Tensor, Tensor]]

    @staticmethod
    def forward(
        ctx: Any,
        z: Tensor,
        target: Tensor,
        source: Tensor,
        bias: Tensor | None,
        crow: Tensor,
        col: Tensor,
        transposed_crow: Tensor | None,
        transposed_col: Tensor | None,
        order: Tensor | None,
        heads: int,
        longest: int,
        slope: float,
        seed: Tensor | None,
        p: float,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        pattern = (crow, col, transposed_crow, transposed_col, order)
        out, alpha, to_row, to_entry = _AttentionFunction.call(
            z, target, source, bias, *pattern, heads, longest, slope, seed, p
        )
        ctx.mark_non_differentiable(alpha, to_row, to_entry)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(z, target, source, alpha, to_row, to_entry, *pattern, seed)
        ctx.heads, ctx.longest, ctx.slope, ctx.p = heads, longest, slope, p
        return out, alpha, to_row, to_entry

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *unused: Any) -> tuple[Any, ...]:
        if gradient is None:
            return (None,) * 14
        z, target, source, alpha, to_row, to_entry, *pattern, seed = ctx.saved_tensors
        to_bias = None
        if ctx.needs_input_grad[3]:
            to_bias = operators.column_sum(gradient)
        if torch.is_grad_enabled():
            with torch.enable_grad():
                out = _differentiable(z, target, source, pattern, ctx.heads, ctx.slope, seed, ctx.p)
            wanted = [t for t in (z, target, source) if t.requires_grad]
            given = iter(torch.autograd.grad(out, wanted, gradient, create_graph=True))
            sums = tuple(next(given) if t.requires_grad else None for t in (z, target, source))
        else:
            sums = attention_backward(
                gradient,
                z,
                target,
                source,
                alpha,
                to_row,
                to_entry,
                *pattern,
                ctx.longest,
                ctx.slope,
                seed,
                ctx.p,
            )
        return *sums, to_bias, *(None,) * 10


def _differentiable(
    z: Tensor,
    target: Tensor,
    source: Tensor,
    pattern: list[Tensor],
    heads: int,
    slope: float,
    seed: Tensor | None,
    p: float,
) -> Tensor:
    """The forward in torch operations that can be differentiated twice; entries x heads x features in size."""
    crow, col = pattern[0], pattern[1].long()
    rows = len(crow) - 1
    row = torch.repeat_interleave(crow[1:] - crow[:-1])
    values = z.view(len(z), heads, -1)
    scores = (values[:rows] * target).sum(2)[row] + (values * source).sum(2)[col]
    scores = torch.nn.functional.leaky_relu(scores, slope)
    index = row[:, None].expand_as(scores)
    peak = (
        scores.detach().new_full((rows, heads), -torch.inf).scatter_reduce(0, index, scores.detach(), "amax")
    )
    weights = (scores - peak[row]).exp()
    coefficients = weights / torch.zeros_like(peak).index_add(0, row, weights)[row]
    coefficients = coefficients * operators.activate(torch.ones_like(coefficients).detach(), 0, seed, p)
    messages = coefficients[:, :, None] * values[col]
    return torch.zeros_like(values[:rows]).index_add(0, row, messages).flatten(1)


attention = operator(
    "attention(Tensor z, Tensor target, Tensor source, Tensor? bias, Tensor crow, Tensor col, "
    "Tensor? transposed_crow, Tensor? transposed_col, Tensor? order, int heads, int longest, float slope, "
    "Tensor? seed, float p) -> (Tensor, Tensor, Tensor, Tensor)",
    _attention,
    _attention_fake,
    _AttentionFunction,
)
attention_backward = operator(
    "attention_backward(Tensor gradient, Tensor z, Tensor target, Tensor source, Tensor alpha, Tensor to_row, "
    "Tensor to_entry, Tensor crow, Tensor col, Tensor transposed_crow, Tensor transposed_col, Tensor order, "
    "int longest, float slope, Tensor? seed, float p) -> (Tensor, Tensor, Tensor)",
    _attention_backward,
    lambda gradient, z, target, source, *rest: tuple(
        torch.empty_like(t, memory_format=torch.contiguous_format) for t in (z, target, source)
    ),
)
