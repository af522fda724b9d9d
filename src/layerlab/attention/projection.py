"""Attention over projected keys and values: exact without the softmax, and Linformer's with it."""

from __future__ import annotations

import torch
from torch import Tensor

from layerlab.attention.arguments import check, check_finite, check_keys, rows_within, spread, thin_svd, wide
from layerlab.attention.softmax import softmax_attention
from layerlab.errors import UserError


def projections(q: Tensor, k: Tensor, *, rank: int | None = None) -> tuple[Tensor, Tensor]:
    """C and D with ``P v = q (C k)^T (D v)`` for ``P = q k^T``: both are V_k^T, the right singular vectors of P.

    If P = U S V_k^T then P V_k V_k^T = P, so that q (V_k^T k)^T (V_k^T v) = P V_k V_k^T v = P v. P is not formed: with
    q = Q1 R1 and k = Q2 R2 thin QR factorisations, the small R1 R2^T = U' S V'^T has the singular values of P, and
    V_k = Q2 V'. O((n + m) d^2 + d^3) operations. There is neither softmax nor scale, and with the softmax put back the
    equality is lost. C and D are constants: no gradient flows through them.

    Reference: the course's homework, question 1.3.3.

    Args:
        q: ``(batch, heads, n, d)``.
        k: ``(batch, kv_heads, m, d)``; kv_heads divides heads.
        rank: number of rows of C. None takes the numerical rank, the largest of all heads and sequences: the singular
            values above max(n, m) eps sigma_1. A smaller rank gives the best approximation of P of that rank.

    Returns:
        C and D, the same ``(batch, heads, rank, m)`` tensor; in q's dtype, but float32 for float16 and bfloat16.

    Raises:
        UserError: sizes, dtypes or devices that do not fit; NaN or infinity in q or k.

    >>> q, k = torch.tensor([[[[1.0], [2.0]]]]), torch.tensor([[[[3.0], [4.0]]]])
    >>> c, _ = projections(q, k)
    >>> c.abs().flatten()
    tensor([0.6000, 0.8000])
    """
    check(q, k, k)
    n, m = q.shape[2], k.shape[2]
    largest = min(n, m, q.shape[3])
    if rank is not None and not 0 <= rank <= largest:
        raise UserError(f"expected a rank from 0 to min(n, m, d) = {largest}, got {rank}")
    with torch.no_grad():
        r_q = torch.linalg.qr(wide(q), mode="r").R
        basis, r_k = torch.linalg.qr(spread(wide(k), q.shape[1]))
        _, s, vt = thin_svd(r_q @ r_k.transpose(-1, -2))
        if rank is None:
            cutoff = max(n, m) * torch.finfo(s.dtype).eps * s[..., :1]
            rank = int((s > cutoff).sum(-1).max()) if s.numel() else 0
        c = vt[..., :rank, :] @ basis.transpose(-1, -2)
    return c, c


def projected_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    c: Tensor,
    d: Tensor,
    *,
    softmax: bool = False,
    mask: Tensor | None = None,
    lengths: Tensor | None = None,
    scale: float | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Attention over r projected keys and values: ``q (c k)^T (d v)``, or with a softmax over the r scores.

    O((n + m) r (d + e)) operations and linear memory. Without softmax it equals q k^T v for the `projections` of q and
    k. With softmax, ``softmax(scale q (c k)^T) (d v)``, it is Linformer's attention, with c and d learned. There is no
    causal form: each projected key mixes all tokens.

    Reference: the course's homework, question 1.3.3; Wang et al., Linformer: Self-Attention with Linear Complexity,
    arXiv 2006.04768, 2020.

    Args:
        q: ``(batch, heads, n, d)``.
        k: ``(batch, kv_heads, m, d)``; kv_heads divides heads.
        v: ``(batch, kv_heads, m, e)``.
        c: projection of the keys, ``(r, m)``, ``(heads, r, m)`` or ``(batch, heads, r, m)``; heads may be kv_heads.
        d: projection of the values, likewise, with the same r.
        softmax: whether the scores pass through a softmax.
        mask: bool over keys, ``(batch, 1 or heads, 1, m)``: False takes a key out before it is projected.
        lengths: ``(batch,)``: keys at or beyond are taken out; where n = m, rows at or beyond are 0.
        scale: factor of the scores. None is 1 / sqrt(d) with softmax, and 1 without.
        dropout: probability with which each of the r weights is dropped; only with softmax.

    Returns:
        ``(batch, heads, n, e)``, in q's dtype.

    Raises:
        UserError: sizes, dtypes or devices that do not fit.

    >>> generator = torch.Generator().manual_seed(0)
    >>> q, k, v = (torch.randn(1, 1, 9, 2, generator=generator, dtype=torch.float64) for _ in range(3))
    >>> out = projected_attention(q, k, v, *projections(q, k))
    >>> bool((out - q @ k.mT @ v).abs().max() < 1e-12)
    True
    """
    check(q, k, v)
    seen = check_keys(mask, lengths, q, k, "projected attention")
    heads, kv_heads = q.shape[1], k.shape[1]
    for name, x in (("c", c), ("d", d)):
        # `projections` returns float32 for half precision.
        if not isinstance(x, Tensor) or wide(x).dtype != wide(q).dtype or x.device != q.device:
            got = f"{x.dtype} on {x.device}" if isinstance(x, Tensor) else type(x).__name__
            raise UserError(f"expected {name} as a tensor in {q.dtype} on {q.device}, as q is, got {got}")
        leading = tuple(x.shape[:-2])
        fits = x.ndim >= 2 and x.shape[-1] == k.shape[2] and len(leading) <= 2
        fits = fits and leading[-1:] in ((), (1,), (kv_heads,), (heads,))
        if not fits or leading[:-1] not in ((), (1,), (q.shape[0],)):
            raise UserError(
                f"expected {name} of shape (r, {k.shape[2]}), ({heads}, r, {k.shape[2]}) or ({q.shape[0]}, {heads}, "
                f"r, {k.shape[2]}), got {tuple(x.shape)}"
            )
    if c.shape[-2] != d.shape[-2]:
        raise UserError(f"expected as many rows in c as in d, got {c.shape[-2]} and {d.shape[-2]}")
    if dropout and not softmax:
        raise UserError("dropout drops weights of the softmax, and there is none; leave it 0")
    rows = rows_within(lengths, q, k)
    dtype = q.dtype
    q, k, v = wide(q), wide(k), wide(v)
    if seen is not None:
        if seen.shape[1] > 1:
            k, v = spread(k, heads), spread(v, heads)
        hidden = ~seen.transpose(-1, -2)
        k, v = k.masked_fill(hidden, 0.0), v.masked_fill(hidden, 0.0)
    keys, values = _project(wide(c), k, heads), _project(wide(d), v, heads)
    if softmax:
        if keys.shape[1] != values.shape[1]:
            keys, values = spread(keys, heads), spread(values, heads)
        out = softmax_attention(q, keys, values, scale=scale, dropout=dropout)
    else:
        factor = 1.0 if scale is None else check_finite("scale", scale)
        keys, values = spread(keys, heads).transpose(-1, -2), spread(values, heads)
        n, size = q.shape[2:]
        r, e = values.shape[2:]
        # From the left 2 n r (d + e) operations, from the right 2 (n + r) d e: the latter are fewer only for r near d.
        from_left = n * r * (size + e) <= (n + r) * size * e
        q = q * factor
        out = (q @ keys) @ values if from_left else q @ (keys @ values)
    return (out if rows is None else out.masked_fill(~rows, 0.0)).to(dtype)


def _project(projection: Tensor, x: Tensor, heads: int) -> Tensor:
    """``projection @ x``, with x spread over the query heads where the projection has one for each."""
    own = projection.shape[-3] if projection.ndim > 2 else 1
    return projection @ (x if own in (1, x.shape[1]) else spread(x, heads))
