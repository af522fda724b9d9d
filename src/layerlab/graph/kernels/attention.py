"""Graph attention as a torch operator: one forward, one backward, nothing of entries x heads x features between."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerlab.graph.kernels import operators
from layerlab.graph.kernels.operators import CHUNK, array, check, check_numbers, check_pattern, keep_law, law
from layerlab.lab.kernels import threads
from layerlab.lab.kernels.registration import operator

# Parts of columns at most, each with sums of its own: no more threads than that share a backward.
_MOST_SLABS = 8


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
    fits = fits and target.shape[0] in (1, heads) and z.shape[1] == heads * target.shape[1]
    fits = fits and rows <= z.shape[0] and columns in (None, z.shape[0])
    fits = fits and (bias is None or bias.shape == z.shape[1:])
    check(
        fits,
        "expected z (nodes, heads * F), two (heads or 1, F) vectors, bias (heads * F,)",
        z,
        target,
        source,
        bias,
    )


def vector(of: NDArray[Any], heads: int) -> NDArray[Any]:
    """The vector of every head, one after the other."""
    return (of if of.shape[0] == heads else of.repeat(heads, 0)).reshape(-1)


def _bytes(heads: int) -> int:
    """Bytes an entry that say which heads were kept: one for each 8 heads, then one for each that is left."""
    return heads // 8 + heads % 8


def slabs_of(crow: NDArray[Any], rows: int) -> NDArray[np.int64]:
    """Where to cut columns, of as many entries each, into slabs that sum up by themselves what rows receive.

    Never so many that these sums take more memory than one number for each entry would. The pattern alone decides.
    """
    columns, entries = len(crow) - 1, int(crow[-1])
    count = min(_MOST_SLABS, max(2, entries // max(1, 2 * rows)))
    # An empty column costs something, too: count each column as one entry more.
    shares = (entries + columns) * np.arange(1, count) // count
    return np.array([0, *np.searchsorted(crow[:-1] + np.arange(columns), shares), columns])


def _total(chunks: NDArray[Any]) -> NDArray[Any]:
    """The sum of the chunks' sums; mostly there is one chunk."""
    total: NDArray[Any] = chunks[0] if len(chunks) == 1 else chunks.sum(0)
    return total


class Kept(NamedTuple):
    """What the forward leaves for the backward."""

    out: NDArray[Any]
    stats: NDArray[Any]
    to_entry: NDArray[Any]
    kept: NDArray[Any]


def forward(
    z: NDArray[Any],
    target: NDArray[Any],
    source: NDArray[Any],
    bias: NDArray[Any] | None,
    crow: NDArray[Any],
    col: NDArray[Any],
    heads: int,
    longest: int,
    slope: float,
    drawn: tuple[Any, Any, Any],
) -> Kept:
    """The aggregate of `layerlab.graph.attention.attend`.

    Args:
        target: ``(heads * F,)``, the vector of every head; source likewise.
        drawn: seed, threshold and scale, as `operators.law` gives them.
    """
    rows, entries, columns, kind = crow.shape[0] - 1, col.shape[0], z.shape[0], z.dtype
    out, stats = np.empty((rows, z.shape[1]), kind), np.empty((rows, 3, heads), kind)
    to_entry = np.empty((columns, heads), kind)
    kept = np.empty((entries if drawn[1] else 0, _bytes(heads)), np.uint8)
    threads.run(
        _cpu().node_scores, (z, target, source, stats, to_entry), threads.even_parts(columns, z.size // 4)
    )
    arguments = (crow, col, to_entry, z, bias, kind.type(slope), *drawn, longest, stats, kept, out)
    threads.run(_cpu().attend, arguments, threads.parts_of(crow, entries * z.shape[1] // 2))
    return Kept(out, stats, to_entry, kept)


def backward(
    gradient: NDArray[Any],
    z: NDArray[Any],
    target: NDArray[Any],
    source: NDArray[Any],
    bias: NDArray[Any] | None,
    left: Kept,
    crow: NDArray[Any],
    col: NDArray[Any],
    order: NDArray[Any],
    cuts: NDArray[Any],
    slope: float,
    scale: Any,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """The gradients of z, of both vectors ``(2, heads * F)``, and of the bias.

    Args:
        crow: the pattern transposed; likewise col and order.
        cuts: what `slabs_of` says of it.
    """
    out, stats, to_entry, kept = left
    (rows, _, heads), (columns, width), entries, kind = stats.shape, z.shape, col.shape[0], z.dtype
    records = np.empty((rows, 4, heads), kind)
    bias_sums = np.empty((-(-rows // CHUNK), width), kind)
    means = (gradient, out, bias, stats, records, bias_sums, CHUNK)
    threads.run(_backward_cpu().attend_means, means, threads.even_parts(len(bias_sums), gradient.size // 4))
    slabs, work = len(cuts) - 1, entries * width // 2
    received, sent = np.empty((slabs, rows, heads), kind), np.empty((columns, heads), kind)
    to_z = np.empty((columns, width), kind)
    by_columns = (
        *(crow, col, order, records, to_entry, z, gradient, kind.type(slope), scale, kept, cuts),
        *(received, sent, to_z),
    )
    threads.run(_backward_cpu().attend_backward, by_columns, threads.even_parts(slabs, work))
    sums = np.empty((-(-columns // CHUNK), 2, width), kind)
    vectors = (z, target, source, received, sent, to_z, sums, CHUNK)
    threads.run(_backward_cpu().attend_vectors, vectors, threads.even_parts(len(sums), z.size // 2))
    return to_z, _total(sums), _total(bias_sums)


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
    _check_attention(z, target, source, bias, heads, crow.shape[0] - 1, None)
    added, drawn = None if bias is None else array(bias), law(seed, p, z.dtype)
    vectors = vector(array(target), heads), vector(array(source), heads)
    left = forward(array(z), *vectors, added, array(crow), array(col), heads, longest, slope, drawn)
    out, stats, to_entry, kept = (torch.from_numpy(part) for part in left)
    return out, stats, to_entry, kept


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
    shapes = ((rows, z.shape[1]), (rows, 3, heads), (z.shape[0], heads))
    out, stats, to_entry = (z.new_empty(shape) for shape in shapes)
    kept = z.new_empty((col.shape[0] if p else 0, _bytes(heads)), dtype=torch.uint8)
    return out, stats, to_entry, kept


def _attention_backward(
    gradient: Tensor,
    z: Tensor,
    target: Tensor,
    source: Tensor,
    bias: Tensor | None,
    out: Tensor,
    stats: Tensor,
    to_entry: Tensor,
    kept: Tensor,
    transposed_crow: Tensor,
    transposed_col: Tensor,
    order: Tensor,
    slope: float,
    p: float,
) -> tuple[Tensor, ...]:
    check_pattern(transposed_crow, transposed_col)
    (rows, _, heads), columns, entries = stats.shape, len(z), transposed_col.shape[0]
    _check_attention(z, target, source, bias, heads, rows, transposed_crow.shape[0] - 1)
    check_numbers(z, gradient, out, stats, to_entry)
    fits = gradient.shape == out.shape == (rows, z.shape[1]) and stats.shape == (rows, 3, heads)
    fits = fits and to_entry.shape == (columns, heads) and order.shape == transposed_col.shape
    fits = fits and kept.shape == (entries if p else 0, _bytes(heads)) and kept.dtype is torch.uint8
    check(fits, "expected the forward's tensors", gradient, out, stats, to_entry, kept, order)
    offsets = array(transposed_crow)
    to_z, sums, to_bias = backward(
        *(array(gradient), array(z), vector(array(target), heads), vector(array(source), heads)),
        *(None if bias is None else array(bias), Kept(*(array(t) for t in (out, stats, to_entry, kept)))),
        *(offsets, array(transposed_col), array(order), slabs_of(offsets, rows)),
        *(slope, keep_law(p, z.dtype)[1]),
    )
    totals = of_vectors(sums, heads, target.shape[0])
    return tuple(torch.from_numpy(result) for result in (to_z, totals[0], totals[1], to_bias))


def of_vectors(sums: NDArray[Any], heads: int, vectors: int) -> NDArray[Any]:
    """``(2, vectors, F)`` from ``(2, heads * F)``: one vector for all heads gets the sum over them."""
    totals = sums.reshape(2, heads, -1)
    return totals.sum(1, keepdims=True) if vectors == 1 else totals


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
        results = _AttentionFunction.call(z, target, source, bias, *pattern, heads, longest, slope, seed, p)
        ctx.mark_non_differentiable(*results[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(z, target, source, bias, *results, *pattern, seed)
        ctx.heads, ctx.slope, ctx.p = heads, slope, p
        return results

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *unused: Any) -> tuple[Any, ...]:
        if gradient is None:
            return (None,) * 14
        z, target, source, bias, *results, crow, col, other_crow, other_col, order, seed = ctx.saved_tensors
        if not torch.is_grad_enabled():
            transposed = (other_crow, other_col, order)
            sums = attention_backward(
                gradient, z, target, source, bias, *results, *transposed, ctx.slope, ctx.p
            )
            return *sums[:3], sums[3] if bias is not None else None, *(None,) * 10
        with torch.enable_grad():
            out = _differentiable(z, target, source, crow, col, ctx.heads, ctx.slope, seed, ctx.p)
        wanted = [t for t in (z, target, source) if t.requires_grad]
        given = iter(torch.autograd.grad(out, wanted, gradient, create_graph=True))
        found = [next(given) if t.requires_grad else None for t in (z, target, source)]
        to_bias = operators.column_sum(gradient) if ctx.needs_input_grad[3] else None
        return *found, to_bias, *(None,) * 10


def _differentiable(
    z: Tensor,
    target: Tensor,
    source: Tensor,
    crow: Tensor,
    col: Tensor,
    heads: int,
    slope: float,
    seed: Tensor | None,
    p: float,
) -> Tensor:
    """The forward in torch operations that can be differentiated twice; entries x heads x features in size."""
    rows, col = len(crow) - 1, col.long()
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


def _attention_backward_fake(
    gradient: Tensor, z: Tensor, target: Tensor, source: Tensor, *rest: Any
) -> tuple[Tensor, ...]:
    shapes = (z.shape, target.shape, source.shape, z.shape[1:])
    return tuple(z.new_empty(shape) for shape in shapes)


attention_backward = operator(
    "attention_backward(Tensor gradient, Tensor z, Tensor target, Tensor source, Tensor? bias, Tensor out, "
    "Tensor stats, Tensor to_entry, Tensor kept, Tensor transposed_crow, Tensor transposed_col, Tensor order, "
    "float slope, float p) -> (Tensor, Tensor, Tensor, Tensor)",
    _attention_backward,
    _attention_backward_fake,
)
