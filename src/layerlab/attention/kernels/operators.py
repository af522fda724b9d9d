"""Linear attention as torch operators, ``torch.ops.layerlab.linear_attention`` and its backward.

They take float32 and float64 on the CPU; `layerlab.attention.linear` decides and has the pure-torch path of
`layerlab.attention.chunked` for the rest. The backward has no kernel for its own gradient: under ``create_graph=True``
it is built from that path.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerlab.attention import chunked
from layerlab.attention.features import EluPlusOne, FeatureMap, Identity, ReLU, negligible
from layerlab.errors import UserError
from layerlab.lab.kernels import threads
from layerlab.lab.kernels.pages import empty
from layerlab.lab.kernels.registration import operator

# The maps that kernels apply themselves, by the number that they know them by.
KINDS: dict[type[FeatureMap], int] = {Identity: 0, EluPlusOne: 1, ReLU: 2}
_MAPS = {number: kind for kind, number in KINDS.items()}

_CHUNK = 64  # as in `forward_cpu`, which imports numba
# Rows whose sums are one unit of work: fixed by the length alone, so that bits do not depend on threads.
_SLAB, _SLABS = 2048, 32


@cache
def _forward_cpu() -> ModuleType:
    from layerlab.attention.kernels import forward_cpu

    return forward_cpu


@cache
def _backward_cpu() -> ModuleType:
    from layerlab.attention.kernels import backward_cpu

    return backward_cpu


@cache
def _backward_causal_cpu() -> ModuleType:
    from layerlab.attention.kernels import backward_causal_cpu

    return backward_causal_cpu


class _Rows(NamedTuple):
    """The numbers of a tensor ``(batch, heads, rows, size)`` from its first to its last, and its strides."""

    numbers: NDArray[Any]
    strides: tuple[int, ...]


def _rows(x: Tensor) -> _Rows:
    x = x.detach()
    if x.shape[-1] > 1 and x.stride(-1) != 1:
        x = x.contiguous()
    span = 1 + sum((size - 1) * stride for size, stride in zip(x.shape, x.stride(), strict=True))
    return _Rows(x.as_strided((span if x.numel() else 0,), (1,)).numpy(), x.stride()[:3])


def _weights(weights: Tensor | None, like: Tensor) -> _Rows:
    """Strides of batch, head and row; a row stride of 0 says that there are none."""
    if weights is None:
        return _Rows(like.new_zeros(1).numpy(), (0, 0, 0))
    weights = weights.detach().contiguous()
    b, h, row = weights.stride()
    strides = (b if weights.shape[0] > 1 else 0, h if weights.shape[1] > 1 else 0, row)
    return _Rows(weights.numpy().reshape(-1), strides)


def _padded(x: NDArray[Any], kind: Any) -> NDArray[Any]:
    """The last two dimensions filled up with zeros to multiples of 16, flat."""
    height, width = (-(-size // 16) * 16 for size in x.shape[-2:])
    out = np.zeros((*x.shape[:-2], height, width), kind)
    out[..., : x.shape[-2], : x.shape[-1]] = x
    return out.reshape(-1)


def _vectors(x: NDArray[Any], kind: Any) -> NDArray[Any]:
    out = np.zeros((*x.shape[:-1], -(-x.shape[-1] // 16) * 16), kind)
    out[..., : x.shape[-1]] = x
    return out.reshape(-1)


def _slab(rows: int) -> int:
    """Rows of a unit that forms sums of its own."""
    return max(_SLAB, -(-rows // _SLABS))


def _time(rows: int, r: int, e: int, products: int) -> int:
    """Nanoseconds on one thread: 80 operations each, and as much again for rows as for 32 columns."""
    return rows * r * (e + 32) * products // 40


def _check(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    weights: Tensor | None,
    s: Tensor | None,
    z: Tensor | None,
    kind: int,
    causal: bool,
) -> None:
    fits = q.dtype in (torch.float32, torch.float64) and q.dtype == k.dtype == v.dtype
    fits = fits and q.ndim == k.ndim == v.ndim == 4 and q.shape[0] == k.shape[0] == v.shape[0]
    fits = (
        fits and k.shape[1:3] == v.shape[1:3] and q.shape[3] == k.shape[3] and min(q.shape[3], v.shape[3]) > 0
    )
    fits = (
        fits and k.shape[1] > 0 and q.shape[1] % k.shape[1] == 0 and (not causal or q.shape[2] == k.shape[2])
    )
    if fits and weights is not None:
        fits = weights.dtype == q.dtype and weights.ndim == 3 and weights.shape[2] == k.shape[2]
        fits = fits and weights.shape[0] in (1, k.shape[0]) and weights.shape[1] in (1, k.shape[1])
    if fits and (s is not None or z is not None):
        fits = causal and s is not None and z is not None and s.dtype == z.dtype == torch.float64
        fits = fits and s is not None and s.shape == (*k.shape[:2], k.shape[3], v.shape[3])
        fits = fits and z is not None and z.shape == (*k.shape[:2], k.shape[3])
    if not fits or kind not in _MAPS:
        given = [f"{tuple(t.shape)} {t.dtype}" for t in (q, k, v, weights, s, z) if t is not None]
        raise UserError(
            "expected q, k, v of one dtype (float32 or float64) and matching shapes, weights (batch or 1, kv_heads or"
            f" 1, m), and a float64 state only if causal, got {', '.join(given)}, feature map {kind}"
        )


def _state(x: Tensor | None, *sizes: int) -> NDArray[Any]:
    """A float64 copy that a kernel may change."""
    if x is None:
        return np.zeros(sizes)
    out: NDArray[Any] = np.array(x.detach().numpy(), np.float64, order="C")
    return out


def _linear_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    weights: Tensor | None,
    s: Tensor | None,
    z: Tensor | None,
    kind: int,
    causal: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    _check(q, k, v, weights, s, z, kind, causal)
    batch, heads, n, r = q.shape
    kv_heads, m, e = v.shape[1:]
    group, pairs = heads // kv_heads, batch * kv_heads
    out, denominators = empty(q, batch, heads, n, e), q.new_empty(batch, heads, n)
    least = denominators.numpy().dtype.type(negligible(q.dtype))
    results = (out.numpy().reshape(-1), denominators.numpy().reshape(-1))
    arguments: tuple[Any, ...]
    keys = (*_rows(k), *_rows(v), *_weights(weights, k), kv_heads)
    if causal:
        total, total_z = _state(s, batch, kv_heads, r, e), _state(z, batch, kv_heads, r)
        arguments = (
            kind,
            *_rows(q),
            *keys,
            group,
            (n, r, e),
            least,
            total.reshape(-1),
            total_z.reshape(-1),
            *results,
        )
        work = _time(batch * heads * n, r, e, 3)
        threads.run(_forward_cpu().causal, arguments, threads.even_parts(pairs, work))
        return out, denominators, torch.from_numpy(total), torch.from_numpy(total_z)
    slab = _slab(m)
    slabs = -(-m // slab)
    parts, parts_z = np.zeros((pairs, slabs, r, e)), np.zeros((pairs, slabs, r))
    arguments = (kind, *keys, (m, r, e), slab, parts.reshape(-1), parts_z.reshape(-1))
    cuts = threads.even_parts(pairs * slabs, _time(pairs * m, r, e, 1))
    threads.run(_forward_cpu().gather, arguments, cuts)
    total, total_z = parts.sum(1), parts_z.sum(1)
    number = least.dtype
    arguments = (kind, *_rows(q), _padded(total, number), _vectors(total_z, number))
    cuts = threads.even_parts(batch * heads * -(-n // _CHUNK), _time(batch * heads * n, r, e, 1))
    threads.run(_forward_cpu().read, (*arguments, heads, group, (n, r, e), least, *results), cuts)
    total, total_z = total.reshape(batch, kv_heads, r, e), total_z.reshape(batch, kv_heads, r)
    return out, denominators, torch.from_numpy(total), torch.from_numpy(total_z)


def _fake(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    weights: Tensor | None,
    s: Tensor | None,
    z: Tensor | None,
    kind: int,
    causal: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    sizes = (*k.shape[:2], q.shape[3])
    return (
        q.new_empty(*q.shape[:3], v.shape[3]),
        q.new_empty(q.shape[:3]),
        q.new_empty(*sizes, v.shape[3], dtype=torch.float64),
        q.new_empty(sizes, dtype=torch.float64),
    )


def _backward(
    grad: Tensor,
    ds: Tensor | None,
    dz: Tensor | None,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    weights: Tensor | None,
    out: Tensor,
    denominators: Tensor,
    s: Tensor | None,
    z: Tensor | None,
    kind: int,
    causal: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    batch, heads, n, r = q.shape
    kv_heads, m, e = v.shape[1:]
    group, pairs = heads // kv_heads, batch * kv_heads
    dq, dk, dv = empty(q, *q.shape), empty(k, *k.shape), empty(v, *v.shape)
    to_q, to_k, to_v = (x.numpy().reshape(-1) for x in (dq, dk, dv))
    least = to_q.dtype.type(negligible(q.dtype))
    number = least.dtype
    left = (out.contiguous().numpy().reshape(-1), denominators.contiguous().numpy().reshape(-1))
    keys = (*_rows(k), *_rows(v), *_weights(weights, k))
    arguments: tuple[Any, ...]
    sums, sums_z = _state(ds, batch, kv_heads, r, e), _state(dz, batch, kv_heads, r)
    if causal:
        before = _state(None if s is None else s.transpose(-1, -2), batch, kv_heads, e, r)
        before_z = _state(z, batch, kv_heads, r)
        both = (kind, *_rows(q), *keys, *_rows(grad), *left, kv_heads, group, (n, r, e), least)
        cuts = threads.even_parts(pairs, _time(batch * heads * n, r, e, 3))
        arguments = (*both, before.reshape(-1), before_z.reshape(-1), to_q)
        threads.run(_backward_causal_cpu().of_queries, arguments, cuts)
        arguments = (*both, sums.reshape(-1), sums_z.reshape(-1), to_k, to_v)
        threads.run(_backward_causal_cpu().of_keys, arguments, cuts)
        return dq, dk, dv, torch.from_numpy(sums), torch.from_numpy(sums_z)
    assert s is not None
    assert z is not None
    total, total_z = s.numpy().reshape(pairs, r, e), z.numpy().reshape(pairs, r)
    slab = _slab(n)
    slabs = -(-n // slab)
    parts, parts_z = np.zeros((batch * heads, slabs, r, e)), np.zeros((batch * heads, slabs, r))
    given = (_padded(total.transpose(0, 2, 1), number), _vectors(total_z, number))
    arguments = (kind, *_rows(q), *_rows(grad), *left, *given, heads, group, (n, r, e), slab, least, to_q)
    cuts = threads.even_parts(batch * heads * slabs, _time(batch * heads * n, r, e, 2))
    threads.run(_backward_cpu().of_queries, (*arguments, parts.reshape(-1), parts_z.reshape(-1)), cuts)
    sums += parts.reshape(batch, kv_heads, group * slabs, r, e).sum(2)
    sums_z += parts_z.reshape(batch, kv_heads, group * slabs, r).sum(2)
    turned = _padded(sums.swapaxes(-1, -2), number)
    arguments = (kind, *keys, _padded(sums, number), turned, _vectors(sums_z, number), kv_heads, (m, r, e))
    cuts = threads.even_parts(pairs * -(-m // _CHUNK), _time(pairs * m, r, e, 2))
    threads.run(_backward_cpu().of_keys, (*arguments, to_k, to_v), cuts)
    return dq, dk, dv, torch.from_numpy(sums), torch.from_numpy(sums_z)


def _backward_fake(
    grad: Tensor,
    ds: Tensor | None,
    dz: Tensor | None,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    weights: Tensor | None,
    out: Tensor,
    denominators: Tensor,
    s: Tensor | None,
    z: Tensor | None,
    kind: int,
    causal: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    sizes = (*k.shape[:2], q.shape[3])
    return (
        q.new_empty(q.shape),
        k.new_empty(k.shape),
        v.new_empty(v.shape),
        q.new_empty(*sizes, v.shape[3], dtype=torch.float64),
        q.new_empty(sizes, dtype=torch.float64),
    )


def apply(kind: int, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """The features of queries and of keys, in torch."""
    phi = _MAPS[kind]()
    return phi.queries(q), phi.keys(k)


def plain(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    weights: Tensor | None,
    s: Tensor | None,
    z: Tensor | None,
    kind: int,
    causal: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """What the operator computes, in differentiable torch; without the denominators."""
    phi = _MAPS[kind]()
    if weights is None:
        features = phi.keys(k)
    else:
        # Whatever stands where nobody looks, NaN too, must not be multiplied by 0.
        hidden = (weights == 0).unsqueeze(-1)
        v = v.masked_fill(hidden, 0.0)
        features = phi.keys(k.masked_fill(hidden, 0.0)) * weights.unsqueeze(-1)
    return chunked.attend(phi.queries(q), features, v, causal, s, z)


class _LinearAttention(torch.autograd.Function):
    call: Callable[..., tuple[Tensor, Tensor, Tensor, Tensor]]

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        weights: Tensor | None,
        s: Tensor | None,
        z: Tensor | None,
        kind: int,
        causal: bool,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        out, denominators, total, total_z = _LinearAttention.call(q, k, v, weights, s, z, kind, causal)
        ctx.mark_non_differentiable(denominators, *(() if causal else (total, total_z)))
        ctx.set_materialize_grads(False)
        sums = (s, z) if causal else (total, total_z)
        ctx.save_for_backward(q, k, v, weights, out, denominators, *sums)
        ctx.kind, ctx.causal = kind, causal
        return out, denominators, total, total_z

    @staticmethod
    def backward(
        ctx: Any, grad: Tensor | None, unused: Any, ds: Tensor | None, dz: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        q, k, v, weights, out, denominators, s, z = ctx.saved_tensors
        if grad is None and ds is None and dz is None:
            return (None,) * 8
        if grad is None:
            grad = torch.zeros_like(out)
        if not torch.is_grad_enabled():
            found = backward(grad, ds, dz, q, k, v, weights, out, denominators, s, z, ctx.kind, ctx.causal)
            state = found[3:] if ctx.causal and s is not None else (None, None)
            return *found[:3], None, *state, None, None
        before, before_z = (s, z) if ctx.causal else (None, None)
        results = plain(q, k, v, weights, before, before_z, ctx.kind, ctx.causal)
        pairs = [(y, g) for y, g in zip(results, (grad, ds, dz), strict=True) if g is not None]
        inputs = (q, k, v, None, before, before_z)
        leaves = {i: x for i, x in enumerate(inputs) if x is not None and x.requires_grad}
        found = torch.autograd.grad(
            [y for y, _ in pairs],
            list(leaves.values()),
            [g for _, g in pairs],
            create_graph=True,
            allow_unused=True,
        )
        gradients: list[Tensor | None] = [None] * 8
        for i, gradient in zip(leaves, found, strict=True):
            gradients[i] = gradient
        return tuple(gradients)


linear_attention = operator(
    "linear_attention(Tensor q, Tensor k, Tensor v, Tensor? weights, Tensor? s, Tensor? z, int kind, bool causal)"
    " -> (Tensor, Tensor, Tensor, Tensor)",
    _linear_attention,
    _fake,
    _LinearAttention,
)
backward = operator(
    "linear_attention_backward(Tensor grad, Tensor? ds, Tensor? dz, Tensor q, Tensor k, Tensor v, Tensor? weights,"
    " Tensor out, Tensor denominators, Tensor? s, Tensor? z, int kind, bool causal)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    _backward,
    _backward_fake,
)
