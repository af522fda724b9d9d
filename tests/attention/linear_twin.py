"""Linear attention in float64 by its definition, with gradients, and how much rounding each number may carry.

Every term of a sum passes through a few roundings. With non-negative weights nothing cancels in them; what cancels is
what they multiply. So each number is measured against the same sum of absolute values.
"""

from __future__ import annotations

import torch
from torch import Tensor

from layerlab.attention import reference
from layerlab.attention.features import FeatureMap


def draw(
    n: int,
    m: int | None = None,
    *,
    batch: int = 2,
    heads: int = 4,
    kv_heads: int | None = None,
    d: int = 6,
    e: int = 5,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> list[Tensor]:
    """q, k, v and a gradient to the output."""
    generator = torch.Generator().manual_seed(seed)
    kv_heads, m = kv_heads or heads, n if m is None else m
    shapes = (batch, heads, n, d), (batch, kv_heads, m, d), (batch, kv_heads, m, e), (batch, heads, n, e)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]


def dense(q: Tensor, k: Tensor, v: Tensor, phi: FeatureMap, **how: object) -> Tensor:
    return reference.apply(reference.linear_weights(q, k, phi, **how), v)  # type: ignore[arg-type]


def with_gradients(function: object, q: Tensor, k: Tensor, v: Tensor, grad: Tensor) -> tuple[Tensor, ...]:
    """The output and the gradients of q, k and v."""
    leaves = [x.detach().clone().requires_grad_() for x in (q, k, v)]
    out = function(*leaves)  # type: ignore[operator]
    return out.detach(), *torch.autograd.grad(out, leaves, grad)


def magnitudes(
    q: Tensor, k: Tensor, v: Tensor, grad: Tensor, phi: FeatureMap, **how: object
) -> tuple[Tensor, ...]:
    """For each number of `with_gradients`, the sum of the absolute values of its terms, in float64."""
    q, k, v, grad = (x.double() for x in (q, k, v, grad))
    weights = reference.linear_weights(q, k, phi, **how)  # type: ignore[arg-type]
    group = q.shape[1] // k.shape[1]
    values = v.abs().repeat_interleave(group, 1)
    out = weights @ values
    # The gradient of each weight's logarithm: |G_i| (|v_j| + |out_i|).
    each = weights * (grad.abs() @ values.mT + (grad.abs() * out).sum(-1, keepdim=True))
    # d log weight / d phi(q_i) = phi(k_j) / (phi(q_i) . phi(k_j)).
    with torch.enable_grad():
        leaf_q, leaf_k = q.detach().requires_grad_(), k.detach().requires_grad_()
        fq, fk = phi.queries(leaf_q), phi.keys(leaf_k)
        (slope_q,), (slope_k,) = (torch.autograd.grad(f.sum(), x) for f, x in ((fq, leaf_q), (fk, leaf_k)))
    fq, fk = fq.detach(), fk.detach().repeat_interleave(group, 1)
    ratio = each / (fq @ fk.mT).masked_fill(each == 0, 1.0)

    def summed(x: Tensor) -> Tensor:
        return x.unflatten(1, (k.shape[1], group)).sum(2)

    return (
        out,
        (ratio @ fk) * slope_q,
        summed(ratio.mT @ fq) * slope_k,
        summed(weights.mT @ grad.abs()),
    )
