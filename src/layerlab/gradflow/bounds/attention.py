"""How much scaled dot-product attention amplifies, at given inputs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from layerlab.gradflow.bounds.arguments import Arguments, Factor, Law, Rule, numbers, repeats
from layerlab.gradflow.bounds.operator_norms import gram_norms, largest_norm

_EXACT = 2e8  # operations for the covariances of all heads
_FROBENIUS = 2e10  # and for their Frobenius norms alone


@dataclass(frozen=True, eq=False)
class AttentionGain:
    """Bounds for one head.

    Attributes:
        query: of ∂o/∂q.
        key: of ∂o/∂k.
        value: of ∂o/∂v.
        score: of ∂o/∂s, s the scores before the softmax.
    """

    query: float
    key: float
    value: float
    score: float


def attention_gain(
    query: Tensor, key: Tensor, value: Tensor, scale: float, mask: Tensor | None = None, *, heads: int = 1
) -> AttentionGain:
    """Norms of the derivatives of attention O = P V, P = softmax(c QKᵀ + M), from above, at these Q, K, V.

    With o_i = Σ_j p_ij v_j the derivative of row i is

        do_i = Σ_j p_ij dv_j + Σ_j p_ij (v_j − o_i) ds_ij,    ds_ij = c (k_j·dq_i + q_i·dk_j) + dm_ij.

    - V: ‖P‖₂.
    - Q: the rows are apart, and row i is c Cov_i dq_i with Cov_i = Σ_j p_ij (v_j − o_i) k_jᵀ: c max_i ‖Cov_i‖₂.
    - K: ‖do_i‖ ≤ a_i ‖ds_i‖ with a_i = ‖(p_ij (v_j − o_i))_j‖₂, and ds = c Q dKᵀ; so Σ_i a_i² ‖ds_i‖² ≤
      c² ‖diag(a) Q‖₂² ‖dK‖²: c ‖diag(a) Q‖₂.
    - M: max_i a_i.

    None of these is bounded over all inputs: self-attention is not globally Lipschitz (H. Kim, G. Papamakarios and
    A. Mnih, The Lipschitz constant of self-attention, ICML 2021). Where spectral norms are too dear, Frobenius norms
    take their place; and where those are too dear, ‖Cov_i‖_F² is at most the product of the traces of the covariances
    of v and of k under p_i.

    Args:
        query: (t, d).
        key: (s, d).
        value: (s, e).
        scale: c.
        mask: M, (t, s), added; or whether to look, boolean.
        heads: how many there are, that share the time.
    """
    query, key, value = (t.detach().double() for t in (query, key, value))
    scores = scale * query @ key.mT
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
    # A row that may look at nothing is 0.
    weights = torch.softmax(scores, -1).nan_to_num(0.0)
    # Covariances do not see a shift, but rounding does.
    key, value = key - key.mean(0), value - value.mean(0)
    out = weights @ value
    wide = 2.0 * heads * weights.numel() * value.shape[1] * max(key.shape[1], value.shape[1])
    if wide <= _EXACT:
        pulls = weights[:, :, None] * (value - out[:, None])
        covariance, lever = gram_norms(pulls.mT @ key), gram_norms(pulls)
    else:
        length, squares = value.square().sum(1), weights.square()
        pulled = (
            squares @ length - 2 * (out * (squares @ value)).sum(1) + out.square().sum(1) * squares.sum(1)
        )
        lever = _root(pulled, squares @ length)
        if 6.0 * heads * weights.numel() * len(key) <= _FROBENIUS:
            covariance = _frobenius(weights, key @ key.mT, value @ value.mT)
        else:
            most = weights @ length, weights @ key.square().sum(1)
            means = out, weights @ key
            spreads = [
                _root(total - mean.square().sum(1), total) for total, mean in zip(most, means, strict=True)
            ]
            covariance = spreads[0] * spreads[1]
    return AttentionGain(
        query=abs(scale) * float(covariance.max()),
        key=abs(scale) * largest_norm(lever[:, None] * query),
        value=largest_norm(weights),
        score=float(lever.max()),
    )


def _frobenius(weights: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """‖Cov_i‖_F for each row p of the weights, from the Gram matrices K and V of keys and values.

    ‖Cov‖_F² = Σ_jl p_j p_l ⟨v_j − o, v_l − o⟩ ⟨k_j, k_l⟩ = pᵀ(V∘K)p − 2 pᵀ(Vp ∘ Kp) + pᵀVp pᵀKp.
    """
    by_keys, by_values = weights @ keys, weights @ values
    both = ((weights @ (keys * values)) * weights).sum(1)
    ends = (by_keys * weights).sum(1) * (by_values * weights).sum(1)
    return _root(both - 2 * (by_keys * by_values * weights).sum(1) + ends, both.abs() + ends.abs())


def _root(difference: Tensor, terms: Tensor) -> Tensor:
    """√ of a difference of such terms, with what rounding may have taken from it."""
    return (difference.clamp_min(0.0) + 1e-13 * terms).sqrt()


def _attention(a: Arguments) -> Law | None:
    if float(a.get("dropout_p", 0.0)) > 0:
        return None
    query, key, value = (a[name] for name in ("query", "key", "value"))
    batch, heads, rows = query.shape[:3]
    columns = key.shape[2]
    scale = float(a.get("scale", 1 / math.sqrt(query.shape[-1])))
    name = "attn_mask" if a.get("attn_mask") is not None else "attn_bias"
    mask = a.get(name)
    shared = heads // key.shape[1]
    full = None if mask is None else mask.expand(batch, heads, rows, columns)
    causal = torch.ones(rows, columns, dtype=torch.bool).tril() if a.get("is_causal", False) else None
    found = [
        attention_gain(
            query[b, h],
            key[b, h // shared],
            value[b, h // shared],
            scale,
            causal if full is None else full[b, h] if full.dtype == torch.bool else numbers(full[b, h]),
            heads=batch * heads,
        )
        for b in range(batch)
        for h in range(heads)
    ]
    # Heads that share keys and values add up in their derivatives.
    groups = [found[i : i + shared] for i in range(0, len(found), shared)]
    factors: dict[str, Factor] = {
        "query": max(gain.query for gain in found),
        "key": max(math.hypot(*(gain.key for gain in group)) for group in groups),
        "value": max(math.hypot(*(gain.value for gain in group)) for group in groups),
    }
    if mask is not None and a.depends(name):
        factors[name] = max(gain.score for gain in found) * repeats(mask.shape, (batch, heads, rows, columns))
    return Law(factors, "attention: local only, not globally Lipschitz", "these inputs")


RULES: dict[str, Rule] = {
    f"aten::_scaled_dot_product_{name}": _attention
    for name in (
        "flash_attention_for_cpu",
        "flash_attention",
        "efficient_attention",
        "cudnn_attention",
        "fused_attention_overrideable",
    )
}
