"""Low-rank attention: from a given SVD, and from a randomised one. Neither forms P."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from layerlab.attention.arguments import (
    check,
    check_keys,
    check_whole,
    refuse_causal,
    rows_within,
    scale_of,
    softmax_where,
    spread,
    thin_svd,
    wide,
)
from layerlab.attention.softmax import softmax_attention
from layerlab.errors import UserError

# Numbers in a block of rows of P: 16 MB of float32.
_BLOCK_NUMBERS = 1 << 22


class Factors(NamedTuple):
    """``P ~ u diag(s) vt``: u ``(batch, heads, n, k)``, s ``(batch, heads, k)``, vt ``(batch, heads, k, m)``."""

    u: Tensor
    s: Tensor
    vt: Tensor


def svd_attention(u: Tensor, s: Tensor, vt: Tensor, v: Tensor) -> Tensor:
    """Attention whose weights ``P = u diag(s) vt`` are given factored: ``u (s * (vt v))``.

    O((n + m) k e) operations in place of the O(n m e) of P v; exact if P has rank k. The solution printed for the
    course writes the transpose of u in the last product; the product is with u itself.

    Reference: the course's homework, question 1.3.2.

    Args:
        u: ``(..., n, k)``.
        s: ``(..., k)``.
        vt: ``(..., k, m)``.
        v: ``(..., m, e)``; its heads may divide those of the factors.

    Returns:
        ``(..., n, e)``, in v's dtype.

    Raises:
        UserError: sizes, dtypes or devices that do not fit.

    >>> p = torch.tensor([[0.5, 0.5], [0.5, 0.5]])
    >>> u, s, vt = torch.linalg.svd(p)
    >>> svd_attention(u[:, :1], s[:1], vt[:1], torch.tensor([[1.0], [3.0]])).flatten()
    tensor([2.0000, 2.0000])
    """
    for name, x in (("u", u), ("s", s), ("vt", vt), ("v", v)):
        if not isinstance(x, Tensor) or not x.is_floating_point() or x.device != u.device:
            got = f"{x.dtype} on {x.device}" if isinstance(x, Tensor) else type(x).__name__
            raise UserError(f"expected {name} as a tensor of floating-point numbers on one device, got {got}")
    fits = wide(u).dtype == wide(s).dtype == wide(vt).dtype == wide(v).dtype
    if not fits:
        raise UserError(
            f"expected factors and values of one dtype, got {u.dtype}, {s.dtype}, {vt.dtype} and {v.dtype}; convert "
            "them with .to()"
        )
    fits = min(u.ndim, vt.ndim, v.ndim) >= 2 and s.ndim >= 1
    fits = fits and u.shape[-1] == s.shape[-1] == vt.shape[-2] and vt.shape[-1] == v.shape[-2]
    if not fits:
        raise UserError(
            "expected u (..., n, k), s (..., k), vt (..., k, m) and v (..., m, e), got shapes "
            f"{tuple(u.shape)}, {tuple(s.shape)}, {tuple(vt.shape)} and {tuple(v.shape)}"
        )
    if vt.ndim == v.ndim == 4 and v.shape[1] and vt.shape[1] % v.shape[1] == 0:
        v = spread(v, vt.shape[1])
    try:
        torch.broadcast_shapes(u.shape[:-2], s.shape[:-1], vt.shape[:-2], v.shape[:-2])
    except RuntimeError as error:
        raise UserError(
            f"expected leading sizes that broadcast, got u {tuple(u.shape)}, s {tuple(s.shape)}, vt "
            f"{tuple(vt.shape)}, v {tuple(v.shape)}"
        ) from error
    return (wide(u) @ (wide(s)[..., None] * (wide(vt) @ wide(v)))).to(v.dtype)


def randomized_svd(
    q: Tensor,
    k: Tensor,
    rank: int,
    *,
    oversampling: int = 8,
    power_iterations: int = 2,
    mask: Tensor | None = None,
    causal: bool = False,
    lengths: Tensor | None = None,
    scale: float | None = None,
    seed: int | None = 0,
    block: int | None = None,
) -> Factors:
    """The leading singular triples of ``P = softmax(scale q k^T)``, from products with P and its transpose only.

    A random matrix Omega of ``rank + oversampling`` columns is multiplied: Y = (P P^T)^power_iterations P Omega, with
    an orthonormalisation after each pair of products; W = orth(Y); then the SVD of the small W^T P, cut to ``rank``.
    The error is near the best possible, ``sigma_{rank+1}``, the nearer the more power iterations. P X is torch's fused
    softmax with X in the place of the values; P^T X is summed over blocks of rows. P is never stored: the memory is
    O((n + m)(d + rank)) and one block.

    It is a measurement, with O(n m (d + rank)) operations: it costs several times one exact attention and pays where
    its factors are used again. No gradient flows through it.

    Reference: Halko, Martinsson and Tropp, Finding structure with randomness, SIAM Review 2011, algorithms 4.4, 5.1.

    Args:
        q: ``(batch, heads, n, d)``.
        k: ``(batch, kv_heads, m, d)``.
        rank: number of triples; more than min(n, m) are cut to that.
        oversampling: further columns of Omega.
        power_iterations: products with P P^T.
        mask: bool over keys, ``(batch, 1 or heads, 1, m)``: True takes part.
        causal: refused: an approximation of low rank has weights above the diagonal.
        lengths: ``(batch,)``: keys, and with n = m queries, at or beyond take no part.
        scale: factor of the scores, 1 / sqrt(d) if None.
        seed: of Omega; None draws from torch's generator.
        block: rows of P at a time; None chooses them so that a block holds about 4 million numbers.

    Returns:
        u ``(batch, heads, n, rank)``, s ``(batch, heads, rank)``, vt ``(batch, heads, rank, m)``; in q's dtype, but
        float32 for float16 and bfloat16.

    Raises:
        UserError: sizes that do not fit; causal attention; masks that differ from query to query; NaN or infinity.

    >>> generator = torch.Generator().manual_seed(0)
    >>> q, k = (torch.randn(1, 1, 6, 2, generator=generator, dtype=torch.float64) for _ in range(2))
    >>> _, s, _ = randomized_svd(q, k, rank=6)
    >>> p = softmax_attention(q, k, k, weights=True)[1]
    >>> bool((s - torch.linalg.svdvals(p)).abs().max() < 1e-12)
    True
    """
    check(q, k, k)
    refuse_causal("randomised low-rank attention", causal)
    seen = check_keys(mask, lengths, q, k, "randomised low-rank attention")
    scale = scale_of(scale, q)
    for name, value, least in (
        ("rank", rank, 1),
        ("oversampling", oversampling, 0),
        ("power_iterations", power_iterations, 0),
        ("block", 1 if block is None else block, 1),
    ):
        check_whole(name, value, least)
    batch, heads, n, _ = q.shape
    m = k.shape[2]
    rank, width = min(rank, n, m), min(rank + oversampling, n, m)
    block = block or max(1, _BLOCK_NUMBERS // max(1, batch * heads * m))
    rows = rows_within(lengths, q, k)
    if seen is not None:
        some = seen.any(-1, keepdim=True)
        rows = some if rows is None else rows & some
    with torch.no_grad():
        q, k = wide(q.detach()), spread(wide(k.detach()), heads)
        if 0 in (batch, rank):
            return Factors(
                q.new_zeros(batch, heads, n, rank),
                q.new_zeros(batch, heads, rank),
                q.new_zeros(batch, heads, rank, m),
            )

        # A weight of 0 does not silence a NaN where nobody looks.
        q = q if rows is None else q.masked_fill(~rows, 0.0)
        k = k if seen is None else k.masked_fill(~seen.transpose(-1, -2), 0.0)

        def forward(x: Tensor) -> Tensor:
            return softmax_attention(q, k, x, mask=mask, lengths=lengths, scale=scale)

        def backward(y: Tensor) -> Tensor:
            y = y if rows is None else y * rows
            total = y.new_zeros(*y.shape[:2], m, y.shape[-1])
            for start in range(0, n, block):
                part = slice(start, start + block)
                p = (q[..., part, :] * scale) @ k.transpose(-1, -2)
                p = p.softmax(-1) if seen is None else softmax_where(p, seen)
                total += p.transpose(-1, -2) @ y[..., part, :]
            return total

        generator = None if seed is None else torch.Generator(q.device).manual_seed(seed)
        omega = torch.randn(batch, heads, m, width, generator=generator, dtype=q.dtype, device=q.device)
        w = _orthonormal(forward(omega))
        for _ in range(power_iterations):
            w = _orthonormal(forward(backward(w)))
        # (W^T P)^T = P^T W: the left singular vectors of this tall matrix are the right ones of P.
        right, s, left = thin_svd(backward(w))
        u, vt = w @ left.transpose(-1, -2)[..., :rank], right[..., :rank].transpose(-1, -2)
        # Where a singular value is 0 its vectors are arbitrary, and may point to what takes no part.
        u = u if rows is None else u * rows
        vt = vt if seen is None else vt * seen
        return Factors(u, s[..., :rank], vt)


def randomized_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rank: int,
    *,
    oversampling: int = 8,
    power_iterations: int = 2,
    mask: Tensor | None = None,
    causal: bool = False,
    lengths: Tensor | None = None,
    scale: float | None = None,
    seed: int | None = 0,
) -> Tensor:
    """Attention with ``P_k v`` in place of P v, P_k the rank-k approximation of `randomized_svd`.

    P is never formed. Where k = min(n, m), the output is that of exact attention. Gradients flow to q, k and v with the
    range of P_k held fixed: P_k = W W^T P with W constant.

    Args:
        q: ``(batch, heads, n, d)``.
        k: ``(batch, kv_heads, m, d)``.
        v: ``(batch, kv_heads, m, e)``.
        rank: k; more than min(n, m) is cut to that.
        oversampling: as in `randomized_svd`.
        power_iterations: as in `randomized_svd`.
        mask: bool over keys, ``(batch, 1 or heads, 1, m)``: True takes part.
        causal: refused: P_k of a causal P has weights above the diagonal.
        lengths: ``(batch,)``: keys, and with n = m queries, at or beyond take no part.
        scale: factor of the scores, 1 / sqrt(d) if None.
        seed: of the random matrix; None draws from torch's generator.

    Returns:
        ``(batch, heads, n, e)``, in q's dtype.

    Raises:
        UserError: sizes that do not fit; causal attention; masks that differ from query to query.

    >>> x = torch.arange(6.0, dtype=torch.float64).view(1, 1, 3, 2)
    >>> exact = softmax_attention(x, x, x)
    >>> bool((randomized_attention(x, x, x, rank=3) - exact).abs().max() < 1e-12)
    True
    """
    check(q, k, v)
    factors = randomized_svd(
        q,
        k,
        rank,
        oversampling=oversampling,
        power_iterations=power_iterations,
        mask=mask,
        causal=causal,
        lengths=lengths,
        scale=scale,
        seed=seed,
    )
    if torch.is_grad_enabled() and (q.requires_grad or k.requires_grad):
        exact = softmax_attention(wide(q), wide(k), wide(v), mask=mask, lengths=lengths, scale=scale)
        return (factors.u @ (factors.u.transpose(-1, -2) @ exact)).to(q.dtype)
    seen = check_keys(mask, lengths, q, k, "randomised low-rank attention")
    values = spread(wide(v), q.shape[1])
    if seen is not None:
        values = values.masked_fill(~seen.transpose(-1, -2), 0.0)
    return svd_attention(*factors, values).to(q.dtype)


def _orthonormal(x: Tensor) -> Tensor:
    return torch.linalg.qr(x).Q
