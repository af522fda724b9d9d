"""Dense twins: attention by its definition, with the n x m weights. For tests, measures and small n; any dtype.

Shapes: q ``(batch, heads, n, d)``, k ``(batch, kv_heads, m, d)``, v ``(batch, kv_heads, m, e)``; head h of the
queries attends with head ``h // (heads / kv_heads)`` of the keys.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

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


def low_rank_weights(weights: Tensor, rank: int) -> Tensor:
    """The best approximation of P of a rank, from its whole SVD: ``sum over i < rank of s_i u_i v_i^T``.

    >>> low_rank_weights(torch.diag(torch.tensor([3.0, 2.0])), 1).abs()
    tensor([[3., 0.],
            [0., 0.]])
    """
    u, s, vt = torch.linalg.svd(weights, full_matrices=False)
    return u[..., :rank] @ torch.diag_embed(s[..., :rank]) @ vt[..., :rank, :]


def nystrom_weights(q: Tensor, k: Tensor, landmarks: int, ridge: float, scale: float | None = None) -> Tensor:
    """``softmax(q K^T) (A^T A + ridge^2)^-1 A^T softmax(Q k^T)`` with segment means Q, K and ``A = softmax(Q K^T)``.

    Args:
        q: ``(batch, heads, n, d)``.
        k: ``(batch, kv_heads, m, d)``.
        landmarks: number of segments, at most n and m.
        ridge: 0 for the pseudo-inverse of A.
        scale: 1 / sqrt(d) if None.

    Returns:
        ``(batch, heads, n, m)``.

    >>> nystrom_weights(torch.ones(1, 1, 4, 2), torch.ones(1, 1, 2, 2), 2, 0.0)[0, 0, 0]
    tensor([0.5000, 0.5000])
    """
    means = [
        torch.stack([part.mean(-2) for part in x.tensor_split(min(landmarks, x.shape[-2]), -2)], -2)
        for x in (q, k)
    ]
    a = softmax_weights(*means, scale=scale)
    # The least squares of A x = y and ridge x = 0 together.
    shift = (ridge * torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)).expand(*a.shape[:-2], -1, -1)
    inverse = torch.linalg.pinv(torch.cat([a, shift], -2))[..., : a.shape[-2]]
    return softmax_weights(q, means[1], scale=scale) @ inverse @ softmax_weights(means[0], k, scale=scale)


def relative_weights(
    q: Tensor | None,
    k: Tensor | None,
    p: Tensor,
    size: int,
    offsets: Sequence[int],
    *,
    pads: tuple[int, int] = (0, 0),
    scale: float | None = None,
) -> Tensor:
    """``softmax_j(scale q_i . k_j + p[i - j])`` over tokens and pad tokens, pair by pair; 0 where i sees none.

    Args:
        q: ``(batch, heads, size, d)``, or None for scores from the position alone.
        k: ``(batch, kv_heads, size, d)``, or None.
        p: ``(heads, w)``.
        size: number of tokens.
        offsets: i - j of each column of p.
        pads: number of tokens before the first and after the last, with key 0.
        scale: 1 / sqrt(d) if None.

    Returns:
        ``(batch, heads, size, pads[0] + size + pads[1])``; batch is 1 without q.

    >>> relative_weights(None, None, torch.zeros(1, 2), 2, [0, 1], pads=(1, 0))
    tensor([[[[0.5000, 0.5000, 0.0000],
              [0.0000, 0.5000, 0.5000]]]])
    """
    before, after = pads
    content = None
    if q is not None and k is not None:
        content = scores(q, k) * (1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    batch = 1 if content is None else len(content)
    x = p.new_full((batch, len(p), size, before + size + after), -math.inf)
    for i in range(size):
        for column, offset in enumerate(offsets):
            j = i - offset
            if -before <= j < size + after:
                here = content[:, :, i, j] if content is not None and 0 <= j < size else 0.0
                x[:, :, i, before + j] = p[:, column] + here
    seen = x > -math.inf
    some = seen.any(-1, keepdim=True)
    return x.masked_fill(~some, 0.0).softmax(-1).masked_fill(~seen, 0.0)


def apply_padded(weights: Tensor, v: Tensor, pads: tuple[int, int]) -> Tensor:
    """`apply` with zero values before the first and after the last token.

    >>> apply_padded(torch.full((1, 1, 1, 2), 0.5), torch.ones(1, 1, 1, 1), (1, 0)).flatten()
    tensor([0.5000])
    """
    return apply(weights, torch.nn.functional.pad(v, (0, 0, *pads)))
