"""Linear attention in plain torch, on any device and with every derivative: the kernels' slow twin.

Features have been applied already. Sums over keys are made of chunks, which are added in float64: float32 would lose
about sqrt(chunks) units in the last place, and a state that runs on for a million tokens all of them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from layerlab.attention.features import negligible

# Keys of a chunk: causal weights within a chunk are formed, chunk x chunk numbers a head.
CAUSAL_CHUNK, CHUNK = 128, 1024
# Chunks whose states are held at a time.
_TOGETHER = 32


def exporting() -> bool:
    """Whether torch.export reads along, which is to find plain torch and no length as a constant."""
    # torch.compile is reported to take is_exporting() for true in some versions (2.13 does not).
    return torch.compiler.is_exporting() and not torch.compiler.is_dynamo_compiling()


def sum_dtype(x: Tensor) -> torch.dtype:
    """The dtype of sums that go on and on: float64, where the device has it."""
    return torch.float32 if x.device.type == "mps" else torch.float64


def ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """``numerator / denominator[..., None]``, and 0 with gradient 0 where the denominator is negligible."""
    small = (denominator.abs() < negligible(denominator.dtype)).unsqueeze(-1)
    return (numerator / denominator.unsqueeze(-1).masked_fill(small, 1.0)).masked_fill(small, 0.0)


def _chunks(x: Tensor, size: int) -> Tensor:
    """``(..., n, r)`` as ``(..., chunks, size, r)``, with zeros behind the end."""
    missing = -x.shape[-2] % size
    if missing:
        x = torch.cat([x, x.new_zeros(*x.shape[:-2], missing, x.shape[-1])], -2)
    return x.unflatten(-2, (-1, size))


def sums(k: Tensor, v: Tensor, s: Tensor | None, z: Tensor | None) -> tuple[Tensor, Tensor]:
    """``s + sum_j k_j v_j^T`` and ``z + sum_j k_j``, in numbers of `sum_dtype`."""
    kind = sum_dtype(k)
    kc, vc = _chunks(k, CHUNK), _chunks(v, CHUNK)
    total = (kc.transpose(-1, -2) @ vc).sum(-3, dtype=kind)
    each = kc.sum(-2).sum(-2, dtype=kind)
    return (total if s is None else s + total), (each if z is None else z + each)


def read(q: Tensor, s: Tensor, z: Tensor) -> Tensor:
    """``q_i^T s / q_i . z``; q ``(batch, kv_heads, group, n, r)``, s ``(batch, kv_heads, r, e)``."""
    numerator = q @ s.to(q.dtype).unsqueeze(2)
    denominator = (q @ z.to(q.dtype)[:, :, None, :, None]).squeeze(-1)
    return ratio(numerator, denominator)


def _causal_piece(q: Tensor, k: Tensor, v: Tensor, s: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A few whole chunks: q ``(batch, kv_heads, group, chunks, c, r)``, k and v without the group."""
    kind = s.dtype
    grown = (k.transpose(-1, -2) @ v).to(kind).cumsum(2) + s.unsqueeze(2)
    grown_z = k.sum(-2).to(kind).cumsum(2) + z.unsqueeze(2)
    before = torch.cat([s.unsqueeze(2), grown[:, :, :-1]], 2).to(q.dtype).unsqueeze(2)
    before_z = torch.cat([z.unsqueeze(2), grown_z[:, :, :-1]], 2).to(q.dtype).unsqueeze(2)
    weights = (q @ k.unsqueeze(2).transpose(-1, -2)).tril()
    numerator = q @ before + weights @ v.unsqueeze(2)
    denominator = (q @ before_z.unsqueeze(-1)).squeeze(-1) + weights.sum(-1)
    return ratio(numerator, denominator), grown[:, :, -1], grown_z[:, :, -1]


def attend(
    q: Tensor, k: Tensor, v: Tensor, causal: bool, s: Tensor | None = None, z: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """The output, and the sums over all keys.

    Args:
        q: features ``(batch, heads, n, r)``.
        k: features ``(batch, kv_heads, m, r)``; keys that take no part are 0.
        v: ``(batch, kv_heads, m, e)``.
        causal: query i sees keys j <= i.
        s: ``(batch, kv_heads, r, e)``: the sum of ``k_j v_j^T`` over what came before.
        z: ``(batch, kv_heads, r)``: the sum of ``k_j``.

    Returns:
        ``(batch, heads, n, e)``, and s and z with k and v added, in numbers of `sum_dtype`.
    """
    if exporting():
        from layerlab.attention import exported

        return exported.attend(q, k, v, causal, s, z)
    batch, heads, n, r = q.shape
    kv_heads, e = v.shape[1], v.shape[3]
    grouped = q.unflatten(1, (kv_heads, heads // kv_heads))
    if not causal:
        s, z = sums(k, v, s, z)
        return read(grouped, s, z).flatten(1, 2), s, z
    if s is None or z is None:
        s = k.new_zeros(batch, kv_heads, r, e, dtype=sum_dtype(k))
        z = k.new_zeros(batch, kv_heads, r, dtype=sum_dtype(k))
    outs = []
    piece = CAUSAL_CHUNK * _TOGETHER
    for start in range(0, n, piece):
        stop = min(n, start + piece)
        size = min(CAUSAL_CHUNK, stop - start)
        qc, kc, vc = (_chunks(x[..., start:stop, :], size) for x in (grouped, k, v))
        out, s, z = _causal_piece(qc, kc, vc, s, z)
        outs.append(out.flatten(3, 4)[..., : stop - start, :])
    # Without a row there is still a graph to go back on.
    out = torch.cat(outs, -2) if outs else grouped @ s.to(q.dtype).unsqueeze(2)
    return out.flatten(1, 2), s, z
