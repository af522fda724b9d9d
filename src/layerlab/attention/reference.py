"""Dense twins: attention by its definition, with the n x m weights. For tests, measures and small n; any dtype.

Shapes: q ``(batch, heads, n, d)``, k ``(batch, kv_heads, m, d)``, v ``(batch, kv_heads, m, e)``; head h of the
queries attends with head ``h // (heads / kv_heads)`` of the keys.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from layerlab.attention.features import FeatureMap, negligible


def allowed(
    q: Tensor, k: Tensor, mask: Tensor | None = None, causal: bool = False, lengths: Tensor | None = None
) -> Tensor:
    """Which query sees which key: bool, broadcastable to ``(batch, heads, n, m)``.

    Args:
        mask: if bool, True takes part; a float mask hides where it is minus infinity.
        causal: query i sees keys j <= i.
        lengths: ``(batch,)``: keys at or beyond are not seen; with n = m, rows at or beyond see nothing.

    >>> allowed(torch.ones(1, 1, 2, 1), torch.ones(1, 1, 2, 1), causal=True)
    tensor([[[[ True, False],
              [ True,  True]]]])
    """
    n, m = q.shape[-2], k.shape[-2]
    seen = torch.ones(n, m, dtype=torch.bool, device=q.device)[None, None]
    if causal:
        seen = seen.tril()
    if mask is not None:
        seen = seen & (mask if mask.dtype is torch.bool else mask > -math.inf)
    if lengths is not None:
        inside = torch.arange(m, device=q.device) < lengths[:, None]
        seen = seen & inside[:, None, None, :]
        if n == m:
            seen = seen & inside[:, None, :, None]
    return seen


def scores(q: Tensor, k: Tensor) -> Tensor:
    """``q_i . k_j``, ``(batch, heads, n, m)``.

    >>> scores(torch.ones(1, 2, 3, 4), torch.ones(1, 1, 5, 4)).shape
    torch.Size([1, 2, 3, 5])
    """
    return q @ k.repeat_interleave(q.shape[1] // k.shape[1], 1).transpose(-1, -2)


def softmax_weights(
    q: Tensor,
    k: Tensor,
    *,
    mask: Tensor | None = None,
    causal: bool = False,
    lengths: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """``softmax_j(scale q_i . k_j + mask_ij)`` over the keys that i sees; 0 where it sees none.

    Args:
        q: ``(batch, heads, n, d)``.
        k: ``(batch, kv_heads, m, d)``.
        mask: bool (True takes part) or float (added), broadcastable to ``(batch, heads, n, m)``.
        causal: query i sees keys j <= i.
        lengths: ``(batch,)``: keys, and with n = m queries, at or beyond take no part.
        scale: 1 / sqrt(d) if None.

    Returns:
        ``(batch, heads, n, m)``.

    >>> softmax_weights(torch.ones(1, 1, 2, 4), torch.ones(1, 1, 2, 4), causal=True)
    tensor([[[[1.0000, 0.0000],
              [0.5000, 0.5000]]]])
    """
    x = scores(q, k) * (1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    if mask is not None and mask.dtype is not torch.bool:
        x = x + mask
    seen = allowed(q, k, mask, causal, lengths)
    # Rows that see nothing are 0 and have gradient 0: softmax of minus infinities would be NaN.
    some = seen.any(-1, keepdim=True)
    x = x.masked_fill(~seen & some, -math.inf).masked_fill(~some, 0.0)
    return x.softmax(-1).masked_fill(~seen, 0.0)


def linear_weights(
    q: Tensor,
    k: Tensor,
    feature_map: FeatureMap,
    *,
    mask: Tensor | None = None,
    causal: bool = False,
    lengths: Tensor | None = None,
) -> Tensor:
    """``phi(q_i) . phi(k_j) / sum over the keys l that i sees of phi(q_i) . phi(k_l)``; 0 where the sum is negligible.

    Args:
        q: ``(batch, heads, n, d)``.
        k: ``(batch, kv_heads, m, d)``.
        feature_map: phi.
        mask: bool (True takes part), or float: it multiplies by its exponential, as it does in a softmax.
        causal: query i sees keys j <= i.
        lengths: ``(batch,)``: keys, and with n = m queries, at or beyond take no part.

    Returns:
        ``(batch, heads, n, m)``.

    >>> from layerlab.attention.features import EluPlusOne
    >>> linear_weights(torch.ones(1, 1, 2, 4), torch.zeros(1, 1, 2, 4), EluPlusOne(), causal=True)
    tensor([[[[1.0000, 0.0000],
              [0.5000, 0.5000]]]])
    """
    x = scores(feature_map.queries(q), feature_map.keys(k))
    if mask is not None and mask.dtype is not torch.bool:
        x = x * mask.exp()
    x = x.masked_fill(~allowed(q, k, mask, causal, lengths), 0.0)
    total = x.sum(-1, keepdim=True)
    small = total.abs() < negligible(x.dtype)
    return (x / total.masked_fill(small, 1.0)).masked_fill(small, 0.0)


def apply(weights: Tensor, v: Tensor) -> Tensor:
    """``out_i = sum_j weights_ij v_j``, ``(batch, heads, n, e)``.

    >>> apply(torch.full((1, 2, 1, 2), 0.5), torch.tensor([[[[1.0], [3.0]]]])).flatten()
    tensor([2., 2.])
    """
    return weights @ v.repeat_interleave(weights.shape[1] // v.shape[1], 1)
