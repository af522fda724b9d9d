"""Relative-position attention: a score for each offset i - j, and zero tokens beyond the ends of the sequence.

Only the offsets that have a score are computed: O(n w d) operations and O(n (w + d)) memory for a window of w offsets.
The same code serves sequences and images; what a window is on a grid is a `Window`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from layerlab.attention.arguments import (
    check,
    check_lengths,
    inside,
    rows_within,
    scale_of,
    softmax_where,
    wide,
)
from layerlab.attention.softmax import softmax_attention
from layerlab.errors import UserError

# Windows of more offsets than this are computed in blocks.
_WIDE = 16
_SMALLEST_BLOCK = 32  # queries


@dataclass(frozen=True)
class Window:
    """Which tokens of a grid a query sees: those at its own position minus each offset.

    Attributes:
        offsets: for each column of the scores, ``i - j`` along each axis of the grid.
        pads: for each axis, how many zero tokens stand before the first token and after the last.
        stride: for each axis, the step from one query to the next; the first is at position 0.
    """

    offsets: tuple[tuple[int, ...], ...]
    pads: tuple[tuple[int, int], ...]
    stride: tuple[int, ...]

    def reach(self, axis: int, grid: int, count: int) -> tuple[int, int]:
        """How far the keys of ``count`` queries stand out of a grid of that size, before it and after it."""
        along = [offset[axis] for offset in self.offsets]
        last = (count - 1) * self.stride[axis] - min(along)
        return max(0, max(along)), max(0, last - (grid - 1))


def relative_attention(
    q: Tensor | None,
    k: Tensor | None,
    v: Tensor,
    p: Tensor,
    *,
    offsets: Sequence[int] | None = None,
    pads: int | tuple[int, int] = 0,
    lengths: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """Attention by relative position, ``out_i = sum_j softmax_j(scale q_i . k_j + p[i - j]) v_j``.

    j runs over the offsets that p has a score for. Pad tokens stand at j = -1, -2, ... and j = m, m + 1, ...: their key
    and value are 0, so that they take part with the score p alone. With them the softmax of every row runs over the
    same window, and the edges of a zero-padded convolution come out right; without them it renormalises over what
    remains of the window. A row that sees nothing gives 0 and passes no gradient on.

    Reference: Shaw, Uszkoreit and Vaswani, Self-Attention with Relative Position Representations, NAACL 2018;
    Cordonnier, Loukas and Jaggi, On the Relationship between Self-Attention and Convolutional Layers, ICLR 2020; the
    course's assignment, question 1.4.

    Args:
        q: ``(batch, heads, n, d)``, or None for scores from the position alone (then n = m).
        k: ``(batch, kv_heads, m, d)``; None where q is.
        v: ``(batch, kv_heads, m, e)``; kv_heads divides heads.
        p: ``(heads or 1, w)``; minus infinity closes an offset. Heads are those of q, or else of p.
        offsets: i - j for each column of p. None takes -r, ..., r for w = 2 r + 1.
        pads: number of pad tokens on each side, or (before, after).
        lengths: ``(batch,)`` int64: each sequence ends there, its pad tokens follow at once, and rows at or beyond it
            are 0; needs n = m.
        scale: factor of q . k, 1 / sqrt(d) if None.

    Returns:
        ``(batch, heads, n, e)``, in v's dtype.

    Raises:
        UserError: sizes, dtypes or devices that do not fit, scores that are NaN or plus infinity.

    >>> x, p = torch.tensor([[[[1.0], [2.0], [4.0]]]]), torch.tensor([[0.0, 0.0, 0.0]])
    >>> relative_attention(None, None, x, p, pads=1).flatten() * 3
    tensor([3., 7., 6.])
    >>> relative_attention(None, None, x, p).flatten()
    tensor([1.5000, 2.3333, 3.0000])
    """
    if (q is None) != (k is None):
        raise UserError("expected both q and k or neither, got one of them")
    if q is None or k is None:
        check(v, v, v)
    else:
        check(q, k, v)
    n, m = (v if q is None else q).shape[2], v.shape[2]
    heads = _heads(q, v, p)
    if offsets is None:
        if p.shape[1] % 2 == 0:
            raise UserError(f"expected offsets for an even number of {p.shape[1]} scores, got None")
        offsets = range(-(p.shape[1] // 2), p.shape[1] // 2 + 1)
    if len(offsets) != p.shape[1] or not _whole(offsets) or len(set(offsets)) != len(offsets):
        raise UserError(
            f"expected a whole number i - j, each of its own, for each of {p.shape[1]} scores, got offsets {offsets}"
        )
    both = tuple(pads) if isinstance(pads, Sequence) else (pads, pads)
    if len(both) != 2 or not _whole(both) or min(both) < 0:
        raise UserError(f"expected a number of pad tokens of at least 0, or (before, after), got {pads!r}")
    if lengths is not None:
        check_lengths(lengths, v)
        if n != m:
            raise UserError(f"expected as many queries as keys with lengths, got {n} and {m}")
    if 0 in (v.shape[0], n, m):
        return v.new_zeros(v.shape[0], heads, n, v.shape[3]) + v[..., :0].sum()
    if q is not None and k is not None and _pays_in_blocks(offsets):
        return _in_blocks(q, k, v, p, offsets, (both[0], both[1]), lengths, scale)
    window = Window(tuple((offset,) for offset in offsets), (both,), (1,))
    return attend(q, k, v, p, window, (n,), lengths=lengths, scale=scale)


def _whole(numbers: Sequence[object]) -> bool:
    return all(isinstance(number, int) for number in numbers)


def _pays_in_blocks(offsets: Sequence[int]) -> bool:
    """Whether matrix products over whole blocks, twice the window, take less time than one offset after another."""
    low, high = _span(offsets)
    return len(offsets) > _WIDE and high - low < 2 * len(offsets)


def _span(offsets: Sequence[int]) -> tuple[int, int]:
    """The least and the largest offset, 0 among them: a block of queries lies within its keys."""
    return min(0, *offsets), max(0, *offsets)


def _in_blocks(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    p: Tensor,
    offsets: Sequence[int],
    pads: tuple[int, int],
    lengths: Tensor | None,
    scale: float | None,
) -> Tensor:
    """`relative_attention` for wide windows: blocks of queries as a batch, each with the keys that any of it sees."""
    batch, _, n, _ = q.shape
    m, (low, high) = k.shape[2], _span(offsets)
    dtype, device = v.dtype, v.device
    q, k, v, p = wide(q), wide(k), wide(v), wide(p)
    rows = rows_within(lengths, q, k)
    if rows is not None:
        q, k, v = (x.masked_fill(~rows, 0.0) for x in (q, k, v))
    size = min(n, max(_SMALLEST_BLOCK, high - low + 1))
    blocks = -(-n // size)
    width = size + high - low  # keys of a block: it begins at the first query's position minus high

    def cut(x: Tensor) -> Tensor:
        """``(batch * blocks, kv_heads, width, features)``; zeros stand for the tokens beyond the ends."""
        x = functional.pad(x, (0, 0, high, blocks * size - low - m))
        return x.unfold(2, width, size).permute(0, 2, 1, 4, 3).flatten(0, 1).contiguous()

    queries = functional.pad(q, (0, 0, 0, blocks * size - n)).unflatten(2, (blocks, size))
    queries = queries.transpose(1, 2).flatten(0, 1)
    # Row r of a block meets in column c the offset r + high - c.
    scores = p.new_full((p.shape[0], high - low + 1), -torch.inf)
    scores = scores.index_copy(1, torch.tensor(offsets, device=device) - low, p)
    at = torch.arange(size, device=device)[:, None] + (high - low) - torch.arange(width, device=device)
    bias = scores[:, at.clamp(0, high - low)].masked_fill((at < 0) | (at > high - low), -torch.inf)
    key = torch.arange(blocks, device=device)[:, None] * size + torch.arange(width, device=device) - high
    end = m if lengths is None else lengths[:, None, None]
    within = ((key >= -pads[0]) & (key < end + pads[1])).expand(batch, -1, -1).flatten(0, 1)
    mask = bias.masked_fill(~within[:, None, None], -torch.inf)
    out = softmax_attention(queries, cut(k), cut(v), mask=mask, scale=scale)
    out = out.unflatten(0, (batch, blocks)).transpose(1, 2).flatten(2, 3)[:, :, :n]
    return (out if rows is None else out.masked_fill(~rows, 0.0)).to(dtype)


def _heads(q: Tensor | None, v: Tensor, p: Tensor) -> int:
    """The number of query heads; UserError where p does not fit them."""
    if not isinstance(p, Tensor) or p.ndim != 2 or p.shape[1] == 0 or p.shape[0] == 0:
        got = tuple(p.shape) if isinstance(p, Tensor) else type(p).__name__
        raise UserError(f"expected p as a tensor (heads or 1, w) of scores for w offsets, got {got}")
    if p.dtype != v.dtype or p.device != v.device:
        raise UserError(
            f"expected p in {v.dtype} on {v.device}, as v is, got {p.dtype} on {p.device}; convert it"
        )
    if not torch.compiler.is_compiling() and not p.is_meta and not bool((p < torch.inf).all()):
        raise UserError("expected scores p that are finite or minus infinity, got NaN or plus infinity")
    heads = p.shape[0] if q is None else q.shape[1]
    if p.shape[0] not in (1, heads):
        raise UserError(f"expected p for {heads} heads or for 1, got {p.shape[0]}")
    if heads % v.shape[1]:
        if p.shape[0] != 1:
            raise UserError(
                f"expected a number of value heads that divides the {heads} of p, got {v.shape[1]}"
            )
        heads = v.shape[1]
    return heads


def attend(
    q: Tensor | None,
    k: Tensor | None,
    v: Tensor,
    p: Tensor,
    window: Window,
    counts: tuple[int, ...],
    *,
    lengths: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """`relative_attention` on a grid of any number of axes; it trusts its arguments.

    Args:
        q: ``(batch, heads, *counts, d)`` or None.
        k: ``(batch, kv_heads, *grid, d)`` or None.
        v: ``(batch, kv_heads, *grid, e)``.
        p: ``(heads or 1, w)``.
        window: w offsets, the pads and the stride.
        counts: number of queries along each axis.
        lengths: ``(batch,)``, on a grid of one axis only.
        scale: factor of q . k.

    Returns:
        ``(batch, heads, *counts, e)``, in v's dtype.
    """
    dtype, grid, axes = v.dtype, v.shape[2:-1], len(counts)
    kv_heads = v.shape[1]
    factor = 1.0 if q is None else scale_of(scale, q)
    v, p = wide(v), wide(p)
    rows = None
    if lengths is not None:
        ends = inside(lengths, grid[0])[:, None, :, None]
        rows = rows_within(lengths, v, v)
        v = v.masked_fill(~ends, 0.0)
        k = None if k is None else wide(k).masked_fill(~ends, 0.0)
        q = None if q is None else wide(q).masked_fill(~ends, 0.0)
    margins = [window.reach(axis, grid[axis], counts[axis]) for axis in range(axes)]

    def shifted(x: Tensor) -> list[Tensor]:
        """For each offset, the tokens that the queries see there: views, one copy of x apart."""
        x = functional.pad(x, [0, 0, *(side for margin in reversed(margins) for side in margin)])
        views = []
        for offset in window.offsets:
            view = x
            for axis in range(axes):
                start, step = margins[axis][0] - offset[axis], window.stride[axis]
                view = view[
                    (slice(None),) * (2 + axis) + (slice(start, start + (counts[axis] - 1) * step + 1, step),)
                ]
            # (batch, kv_heads, 1, *counts, size): the query heads of a group share it.
            views.append(view.unsqueeze(2))
        return views

    heads = max(p.shape[0], kv_heads) if q is None else q.shape[1]
    bias = p.expand(heads, -1).reshape(1, kv_heads, heads // kv_heads, *(1,) * axes, -1)
    seen = bias > -torch.inf
    inside_pads = _within(window, grid, counts, lengths, v.device)
    if inside_pads is not None:
        seen = seen & inside_pads
    scores = bias
    if q is not None and k is not None:
        grouped = (wide(q) * factor).unflatten(1, (kv_heads, heads // kv_heads))
        scores = scores + torch.stack([(grouped * key).sum(-1) for key in shifted(wide(k))], -1)
    weights = softmax_where(scores, seen)
    out = None
    for column, value in enumerate(shifted(v)):
        weight = weights[..., column : column + 1]
        out = weight * value if out is None else torch.addcmul(out, weight, value)
    assert out is not None  # a window has an offset
    out = out.flatten(1, 2)
    return (out if rows is None else out.masked_fill(~rows, 0.0)).to(dtype)


def _within(
    window: Window,
    grid: Sequence[int],
    counts: tuple[int, ...],
    lengths: Tensor | None,
    device: torch.device,
) -> Tensor | None:
    """Which offsets of which queries meet a token or a pad token: bool ``(batch or 1, 1, 1, *counts, w)``.

    None where all do.
    """
    within: Tensor | None = None
    for axis, (count, size) in enumerate(zip(counts, grid, strict=True)):
        before, after = window.pads[axis]
        reach = window.reach(axis, size, count)
        if lengths is None and reach[0] <= before and reach[1] <= after:
            continue
        along = torch.tensor([offset[axis] for offset in window.offsets], device=device)
        keys = (torch.arange(count, device=device) * window.stride[axis])[:, None] - along
        end = size if lengths is None else lengths[:, None, None]
        here = (keys >= -before) & (keys < end + after)
        here = here if here.ndim == 3 else here[None]
        shape = [
            here.shape[0],
            1,
            1,
            *(count if other == axis else 1 for other in range(len(counts))),
            keys.shape[1],
        ]
        here = here.reshape(shape)
        within = here if within is None else within & here
    return within
