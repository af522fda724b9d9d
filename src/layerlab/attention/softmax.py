"""Exact softmax attention: torch's fused kernels, with one meaning of masks, lengths and empty rows on all of them."""

from __future__ import annotations

from typing import Literal, overload

import torch
from torch import Tensor
from torch.nn import functional

from layerlab.attention.arguments import (
    check,
    check_causal,
    check_dropout,
    check_lengths,
    check_mask,
    inside,
    rows_within,
    scale_of,
    spread,
    wide,
)


@overload
def softmax_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    mask: Tensor | None = ...,
    causal: bool = ...,
    lengths: Tensor | None = ...,
    scale: float | None = ...,
    dropout: float = ...,
    weights: Literal[False] = ...,
) -> Tensor: ...


@overload
def softmax_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    mask: Tensor | None = ...,
    causal: bool = ...,
    lengths: Tensor | None = ...,
    scale: float | None = ...,
    dropout: float = ...,
    weights: Literal[True],
) -> tuple[Tensor, Tensor]: ...


def softmax_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    mask: Tensor | None = None,
    causal: bool = False,
    lengths: Tensor | None = None,
    scale: float | None = None,
    dropout: float = 0.0,
    weights: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Softmax attention, ``out_i = sum_j P_ij v_j`` with ``P_ij = softmax_j(scale q_i . k_j + mask_ij)``.

    O(n m d) operations. Without ``weights`` and ``dropout``, memory is linear in n and m on a CPU: torch's fused kernel
    never stores P. A row that sees no key gives 0 and passes no gradient on. float16 and bfloat16 are computed in
    float32 (on CUDA: summed in float32 by the fused kernel). Numbers that are not finite spread as in torch: they
    make the rows that see them NaN; keys at or beyond a length, and keys that a mask ``(batch, 1, 1, m)`` hides,
    spoil nothing.

    Reference: Vaswani et al., Attention Is All You Need, NeurIPS 2017; Dao et al., FlashAttention, NeurIPS 2022.

    Args:
        q: ``(batch, heads, n, d)``, any floating dtype.
        k: ``(batch, kv_heads, m, d)``; kv_heads divides heads, and query head h uses key head
            ``h // (heads / kv_heads)``.
        v: ``(batch, kv_heads, m, e)``.
        mask: bool (True takes part) or floating (added to the scores), broadcastable to ``(batch, heads, n, m)``.
        causal: query i sees keys j <= i; needs n = m.
        lengths: ``(batch,)`` int64. Keys at or beyond are not seen; where n = m, rows at or beyond are 0.
        scale: factor of the scores, 1 / sqrt(d) if None.
        dropout: probability with which each weight is dropped, from torch's generator; 0 outside of training.
        weights: whether to return P too, as it was before dropout.

    Returns:
        ``(batch, heads, n, e)``; with ``weights``, that and P ``(batch, heads, n, m)``, both in q's dtype.

    Raises:
        UserError: sizes, dtypes or devices that do not fit.

    >>> x = torch.arange(3.0).view(1, 1, 3, 1)
    >>> softmax_attention(x, x, x, causal=True).flatten()
    tensor([0.0000, 0.7311, 1.8509])
    """
    check(q, k, v)
    check_mask(mask, q, k)
    check_dropout(dropout)
    if lengths is not None:
        check_lengths(lengths, k)
    if causal:
        check_causal(q, k)
    scale = scale_of(scale, q)
    if 0 in (q.shape[0], q.shape[2], k.shape[2]):
        # Sums over nothing: 0, and every argument still has a gradient.
        nothing = q[..., :0].sum() + k[..., :0].sum() + v[..., :0].sum()
        out = q.new_zeros(*q.shape[:3], v.shape[3]) + nothing
        return (out, q.new_zeros(*q.shape[:3], k.shape[2]) + nothing) if weights else out
    mask = None if mask is None else mask[(None,) * (4 - mask.ndim)]
    before = None if lengths is None else inside(lengths, k.shape[2])
    dtype = q.dtype
    if not q.is_cuda:
        q, k, v = wide(q), wide(k), wide(v)
    rows = rows_within(lengths, q, k)
    # A weight of 0 does not silence a NaN, forward or backward: what nobody sees becomes 0 first.
    if rows is not None:
        q = q.masked_fill(~rows, 0.0)
    k, v = _without_hidden(k, v, mask, before)
    # torch's own causality needs no n x m mask, and no lengths either: a row before the length sees none beyond it.
    by_kernel = causal and mask is None and not weights
    visible = None if by_kernel else _combined(mask, causal, before, q, k)
    keep = None
    if visible is not None:
        # Rows that see nothing are NaN in some of torch's kernels and 0 in others. Here they see everything, and
        # are set to 0 afterwards.
        chosen = visible.dtype == torch.bool
        keep = (visible if chosen else visible > -torch.inf).any(-1, keepdim=True)
        visible = visible | ~keep if chosen else visible.masked_fill(~keep, 0.0).to(q.dtype)
    if rows is not None:
        keep = rows if keep is None else keep & rows
    if weights:
        out, p = _by_definition(q, k, v, visible, scale, dropout)
        if keep is not None:
            out, p = out.masked_fill(~keep, 0.0), p.masked_fill(~keep, 0.0)
        return out.to(dtype), p.to(dtype)
    out = _fused(q, k, v, visible, by_kernel, scale, dropout)
    return (out if keep is None else out.masked_fill(~keep, 0.0)).to(dtype)


def _without_hidden(
    k: Tensor, v: Tensor, mask: Tensor | None, before: Tensor | None
) -> tuple[Tensor, Tensor]:
    """k and v with zeros at the keys that no query of any head sees."""
    seen = None if before is None else before[:, None, :, None]
    if mask is not None and mask.dtype == torch.bool and mask.shape[1:3] == (1, 1):
        by_mask = mask.transpose(-1, -2)
        seen = by_mask if seen is None else seen & by_mask
    if seen is None:
        return k, v
    return k.masked_fill(~seen, 0.0), v.masked_fill(~seen, 0.0)


def _combined(
    mask: Tensor | None, causal: bool, before: Tensor | None, q: Tensor, k: Tensor
) -> Tensor | None:
    """The mask, causality and the lengths of the keys as one mask of four dimensions; None where all is seen."""
    seen = None if before is None else before[:, None, None, :]
    if causal:
        below = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril()[None, None]
        seen = below if seen is None else seen & below
    if mask is None or seen is None:
        return seen if mask is None else mask
    return mask & seen if mask.dtype == torch.bool else mask.masked_fill(~seen, -torch.inf)


def _fused(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    visible: Tensor | None,
    causal: bool,
    scale: float,
    dropout: float,
) -> Tensor:
    # torch fuses only heads whose keys and values have the same size; zeros change no score and no sum.
    size = v.shape[3]
    short = v.shape[3] - q.shape[3]
    if short > 0:
        q, k = functional.pad(q, (0, short)), functional.pad(k, (0, short))
    elif short < 0:
        v = functional.pad(v, (0, -short))
    # Nor heads whose numbers do not lie side by side, such as the columns of a QR factorisation.
    q, k, v = (x if x.stride(-1) == 1 else x.contiguous() for x in (q, k, v))
    out = functional.scaled_dot_product_attention(
        q, k, v, visible, dropout, causal, scale=scale, enable_gqa=q.shape[1] != k.shape[1]
    )
    return out[..., :size]


def _by_definition(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    visible: Tensor | None,
    scale: float,
    dropout: float,
) -> tuple[Tensor, Tensor]:
    scores = (q * scale) @ spread(k, q.shape[1]).transpose(-1, -2)
    if visible is not None:
        hidden = visible.dtype == torch.bool
        scores = scores.masked_fill(~visible, -torch.inf) if hidden else scores + visible
    p = scores.softmax(-1)
    return functional.dropout(p, dropout) @ spread(v, q.shape[1]), p
