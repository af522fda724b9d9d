"""Linear attention for `torch.export`: plain torch in which no length becomes a constant.

An exported program holds no operator of ours, so that it runs where layerlab is not installed; and no loop over chunks,
so that one program serves every length. All states between chunks are held at once: r e / 128 numbers a token and head.
"""

from __future__ import annotations

import torch
from torch import Tensor

from layerlab.attention import chunked

_CHUNK = 128


def _in_chunks(x: Tensor) -> Tensor:
    """``(..., n, r)`` as ``(..., chunks, 128, r)``, with zeros behind the end."""
    n = x.shape[-2]
    # Two more than the whole chunks: their number is never 1, which torch.export would take for a case of its own. And
    # read by index: of a reshaped length it would ask which lengths it divides.
    places = (
        torch.arange(_CHUNK, device=x.device)
        + _CHUNK * torch.arange(n // _CHUNK + 2, device=x.device)[:, None]
    )
    return x[..., places.clamp(max=n - 1), :] * (places < n).to(x.dtype).unsqueeze(-1)


def attend(
    q: Tensor, k: Tensor, v: Tensor, causal: bool, s: Tensor | None = None, z: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """What `layerlab.attention.chunked.attend` computes, for at least one token.

    >>> q, k, v = torch.rand(3, 1, 2, 300, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> expected, found = chunked.attend(q, k, v, True), attend(q, k, v, True)
    >>> all(torch.allclose(left, right) for left, right in zip(expected, found))
    True
    """
    kind = chunked.sum_dtype(k)
    keys, values = _in_chunks(k), _in_chunks(v)
    sums, sums_z = keys.transpose(-1, -2) @ values, keys.sum(-2)
    if s is None or z is None:
        s, z = torch.zeros_like(sums[:, :, 0], dtype=kind), torch.zeros_like(sums_z[:, :, 0], dtype=kind)
    total, total_z = s + sums.sum(-3, dtype=kind), z + sums_z.sum(-2, dtype=kind)
    grouped = q.unflatten(1, (v.shape[1], q.shape[1] // v.shape[1]))
    if not causal:
        return chunked.read(grouped, total, total_z).flatten(1, 2), total, total_z
    # What came before a chunk: the sums up to its end without its own.
    before = s.unsqueeze(-3) + sums.cumsum(-3, dtype=kind) - sums
    before_z = z.unsqueeze(-2) + sums_z.cumsum(-2, dtype=kind) - sums_z
    queries = _in_chunks(grouped)
    weights = (queries @ keys.unsqueeze(2).transpose(-1, -2)).tril()
    numerator = queries @ before.to(q.dtype).unsqueeze(2) + weights @ values.unsqueeze(2)
    denominator = (queries @ before_z.to(q.dtype).unsqueeze(2).unsqueeze(-1)).squeeze(-1) + weights.sum(-1)
    row = torch.arange(q.shape[-2], device=q.device)
    out = chunked.ratio(numerator, denominator)[..., row // _CHUNK, row % _CHUNK, :]
    # Not flattened: torch before 2.13 asks then whether 2 n < 4 n for every length.
    return torch.cat(out.unbind(1), 1), total, total_z
