"""Nystrom attention: P from landmarks, in linear time and memory."""

from __future__ import annotations

import torch
from torch import Tensor

from layerlab.attention import chunked
from layerlab.attention.arguments import (
    check,
    check_finite,
    check_keys,
    check_whole,
    refuse_causal,
    rows_within,
    scale_of,
    softmax_where,
    spread,
    wide,
)
from layerlab.attention.softmax import softmax_attention
from layerlab.errors import UserError


def nystrom_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    landmarks: int,
    *,
    ridge: float = 3e-4,
    pinv_iterations: int | None = None,
    mask: Tensor | None = None,
    causal: bool = False,
    lengths: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """Nystrom attention: ``softmax(q K^T) A^+ softmax(Q k^T) v``, ``A = softmax(Q K^T)``, with landmarks Q, K.

    The landmarks are the means of as many segments of the queries and of the keys; segments differ in length by one
    at most, so n need not be a multiple. O((n + m) landmarks (d + e)) operations, memory linear in n and m. Where there
    is a landmark for each query and each key, it is exact attention, and computed as that.

    A is often near singular, and its pseudo-inverse then magnifies what the landmarks miss, and rounding, without
    bound: errors of 30 times the output have been seen. So A^+ is ``(A^T A + ridge^2)^-1 A^T``, in float64; the rows
    of A sum to 1, which makes ``ridge`` a number without a unit. As it goes to 0, that tends to the pseudo-inverse.

    Reference: Xiong et al., Nystromformer: A Nystrom-Based Algorithm for Approximating Self-Attention, AAAI 2021.

    Args:
        q: ``(batch, heads, n, d)``.
        k: ``(batch, kv_heads, m, d)``.
        v: ``(batch, kv_heads, m, e)``.
        landmarks: segments of the queries and of the keys; never more than there are tokens that take part.
        ridge: regularises the pseudo-inverse of the small matrix A; 0 takes the pseudo-inverse itself.
        pinv_iterations: in place of that, as many steps of the paper's iteration (it uses 6), which needs matrix
            products only; None for none.
        mask: bool over keys, ``(batch, 1 or heads, 1, m)``: True takes part.
        causal: refused: a landmark averages a segment, and would tell its first tokens of its last.
        lengths: ``(batch,)``: keys, and with n = m queries, at or beyond take no part.
        scale: factor of the scores, 1 / sqrt(d) if None.

    Returns:
        ``(batch, heads, n, e)``, in q's dtype.

    Raises:
        UserError: sizes that do not fit; causal attention; masks that differ from query to query.

    >>> x = torch.linspace(-3.0, 3.0, 100).view(1, 1, 50, 2)
    >>> exact = softmax_attention(x, x, x)
    >>> error = (nystrom_attention(x, x, x, landmarks=5) - exact).norm() / exact.norm()
    >>> bool(1e-4 < error < 0.1)
    True
    """
    check(q, k, v)
    refuse_causal("Nystrom attention", causal)
    seen = check_keys(mask, lengths, q, k, "Nystrom attention")
    scale = scale_of(scale, q)
    check_whole("landmarks", landmarks, 1)
    if pinv_iterations is not None:
        check_whole("pinv_iterations", pinv_iterations, 1)
    if check_finite("ridge", ridge) < 0:
        raise UserError(f"expected ridge >= 0, got {ridge}")
    if 0 in (q.shape[0], q.shape[2], k.shape[2]) or landmarks >= max(q.shape[2], k.shape[2]):
        return softmax_attention(q, k, v, mask=mask, lengths=lengths, scale=scale)
    dtype = q.dtype
    q, k, v = wide(q), spread(wide(k), q.shape[1]), spread(wide(v), q.shape[1])
    rows = rows_within(lengths, q, k)
    if rows is not None:
        q = q.masked_fill(~rows, 0.0)
    if seen is not None:
        hidden = ~seen.transpose(-1, -2)
        k, v = k.masked_fill(hidden, 0.0), v.masked_fill(hidden, 0.0)
    # A query segment without tokens has the mean 0, which is a landmark like any other.
    queries, _ = _segment_means(q, None if rows is None else rows.transpose(-1, -2), landmarks)
    keys, filled_keys = _segment_means(k, seen, landmarks)
    precise = chunked.sum_dtype(q)
    small = (queries.to(precise) * scale) @ keys.to(precise).transpose(-1, -2)
    small = small.softmax(-1) if filled_keys is None else softmax_where(small, filled_keys)
    gathered = softmax_attention(queries, k, v, mask=seen, scale=scale).to(precise)
    if pinv_iterations is not None:
        summaries = _iterated_pinv(small, pinv_iterations) @ gathered
    elif ridge == 0:
        summaries = torch.linalg.pinv(small) @ gathered
    else:
        summaries = _ridge_solve(small, gathered, ridge)
    out = softmax_attention(q, keys, summaries.to(q.dtype), mask=filled_keys, scale=scale)
    return (out if rows is None else out.masked_fill(~rows, 0.0)).to(dtype)


def _segment_means(x: Tensor, seen: Tensor | None, landmarks: int) -> tuple[Tensor, Tensor | None]:
    """Means over consecutive segments of the tokens that take part, and which segments have any.

    Args:
        x: ``(batch, heads, n, d)``.
        seen: bool ``(batch or 1, heads or 1, 1, n)``, or None for all.
        landmarks: number of segments, cut to n.

    Returns:
        ``(batch, heads, landmarks, d)``, and bool ``(..., 1, landmarks)``, or None where all have some.
    """
    n = x.shape[2]
    landmarks = min(landmarks, n)
    if seen is None:
        # The first n % landmarks segments are one token longer.
        size, long_ones = divmod(n, landmarks)
        cut = long_ones * (size + 1)
        start = x[..., :cut, :].unflatten(2, (long_ones, size + 1)).mean(-2) if long_ones else x[..., :0, :]
        return torch.cat(
            [start, x[..., cut:, :].unflatten(2, (landmarks - long_ones, size)).mean(-2)], 2
        ), None
    # The same of those that take part.
    count = seen.sum(-1, keepdim=True)
    used = count.clamp(max=landmarks)
    at, parts = seen.cumsum(-1) - 1, used.clamp(min=1)
    shorter, longer = count.clamp(min=1) // parts, count % parts
    first = longer * (shorter + 1)
    segment = torch.where(at < first, at // (shorter + 1), longer + (at - first) // shorter)
    numbers = torch.arange(landmarks, device=x.device)[:, None]
    member = ((segment == numbers) & seen).to(x.dtype)
    means = member @ x / member.sum(-1, keepdim=True).clamp(min=1.0)
    return means, (numbers < used).transpose(-1, -2)


def _ridge_solve(a: Tensor, right: Tensor, ridge: float) -> Tensor:
    """``(a^T a + ridge^2)^-1 a^T right``, which is ``a^T (a a^T + ridge^2)^-1 right``: the smaller of the two."""
    transposed = a.transpose(-1, -2)
    rows, columns = a.shape[-2:]
    shift = ridge**2 * torch.eye(min(rows, columns), dtype=a.dtype, device=a.device)
    if rows < columns:
        return transposed @ torch.linalg.solve(a @ transposed + shift, right)
    return torch.linalg.solve(transposed @ a + shift, transposed @ right)


def _iterated_pinv(a: Tensor, steps: int) -> Tensor:
    """The pseudo-inverse by matrix products: Razavi, Kerrache, Gilanifar and Parikh's third-order iteration."""
    identity = torch.eye(a.shape[-2], dtype=a.dtype, device=a.device)
    norms = a.abs().sum(-1).amax(-1) * a.abs().sum(-2).amax(-1)
    tiny = torch.finfo(a.dtype).tiny
    z = a.transpose(-1, -2) / norms.clamp(min=tiny)[..., None, None]
    for _ in range(steps):
        az = a @ z
        z = 0.25 * z @ (13 * identity - az @ (15 * identity - az @ (7 * identity - az)))
    return z
