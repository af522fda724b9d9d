"""Multi-head attention as functions: inputs to heads, what a mechanism makes of them, and back."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from layerlab.attention import masks
from layerlab.attention.mechanisms import Mechanism
from layerlab.errors import UserError


def split_heads(x: Tensor, heads: int) -> Tensor:
    """``(batch, n, heads * size)`` as ``(batch, heads, n, size)``, a view.

    >>> split_heads(torch.zeros(2, 5, 12), 3).shape
    torch.Size([2, 3, 5, 4])
    """
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """``(batch, heads, n, size)`` as ``(batch, n, heads * size)``.

    >>> merge_heads(torch.zeros(2, 3, 5, 4)).shape
    torch.Size([2, 5, 12])
    """
    return x.transpose(1, 2).flatten(2)


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mechanism: Mechanism,
    *,
    keys: Tensor | None = None,
    pairs: Tensor | None = None,
    causal: bool = False,
    lengths: Tensor | None = None,
    dropout: float = 0.0,
    extra_keys: int = 0,
    need_weights: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """What a mechanism makes of projected heads: the output and, if asked for, the weights.

    Args:
        q: ``(batch, heads, n, size)``.
        k: ``(batch, kv_heads, m + extra_keys, size)``.
        v: ``(batch, kv_heads, m + extra_keys, size)``.
        mechanism: softmax, linear...
        keys: mask over keys, ``(batch, 1, 1, m)``: bool (True takes part) or float (added to the scores).
        pairs: mask over pairs, ``(batch or 1, heads or 1, n, m)``.
        causal: query i sees keys j <= i. ``pairs``, if given, is taken to say the same, and is not read.
        lengths: ``(batch,)``: positions at or beyond take no part.
        dropout: probability.
        extra_keys: how many of the last keys every query sees, whatever the masks say.
        need_weights: whether the weights are wanted: n x m numbers a head.

    Raises:
        UserError: the mechanism cannot do this.

    >>> from layerlab.attention.mechanisms import Linear
    >>> out, weights = attend(*torch.zeros(3, 1, 2, 4, 8), Linear(), causal=True, need_weights=True)
    >>> out.shape, weights[0, 0, 1]
    (torch.Size([1, 2, 4, 8]), tensor([0.5000, 0.5000, 0.0000, 0.0000]))
    """
    n, m = q.shape[2], k.shape[2]
    if causal and n == m - extra_keys:
        pairs = None
    elif causal and pairs is None:
        raise UserError(
            f"expected as many queries as keys with is_causal=True, got {n} and {m - extra_keys}; give an attn_mask"
        )
    else:
        causal = False
    if extra_keys:
        if causal:
            pairs, causal = masks.lower_triangle(n, m - extra_keys, q.device)[None, None], False
        keys, pairs = (
            mask
            if mask is None
            else functional.pad(mask, (0, extra_keys), value=float(mask.dtype is torch.bool))
            for mask in (keys, pairs)
        )
    mask = masks.both(keys, pairs)
    if not mechanism.any_mask and not torch.compiler.is_compiling():
        mask, causal = masks.plain(mask, causal, n, m)
    if reason := mechanism.supports(causal=causal, mask=mask, n=n, m=m):
        raise UserError(reason)
    given: dict[str, Any] = {"mask": mask, "causal": causal, "lengths": lengths}
    if need_weights:
        return mechanism.with_weights(q, k, v, dropout=dropout, **given)
    return mechanism(q, k, v, dropout=dropout, **given), None


def project(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    weight: Tensor | tuple[Tensor | None, ...],
    bias: Tensor | None,
    rows: tuple[int, int, int],
    itself: bool,
) -> tuple[Tensor, ...]:
    """``query W_q^T + b_q`` and the same of key and value.

    Args:
        query: ``(..., n, embed_dim)``.
        key: ``(..., m, kdim)``.
        value: ``(..., m, vdim)``.
        weight: the three weights, or one that has them below each other.
        bias: the three biases behind each other, or None.
        rows: of the three weights.
        itself: whether the three inputs are one; then one product does for three.

    >>> x = torch.ones(1, 2, 4)
    >>> [part.shape[-1] for part in project(x, x, x, torch.ones(8, 4), None, (4, 2, 2), True)]
    [4, 2, 2]
    """
    if isinstance(weight, Tensor):
        if itself:
            return functional.linear(query, weight, bias).split(rows, -1)
        weight = weight.split(rows)
    biases = (None,) * 3 if bias is None else bias.split(rows)
    return tuple(functional.linear(*parts) for parts in zip((query, key, value), weight, biases, strict=True))
