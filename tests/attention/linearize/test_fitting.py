"""Fitting maps to a layer's own weights: it lowers the divergence, on other inputs too, and is the same again."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from layerlab.attention.calls import AttentionCall
from layerlab.attention.features import Hedgehog
from layerlab.attention.linearize.fitting import _Sample, fit_hedgehog
from layerlab.attention.reference import linear_weights, softmax_weights


def call_of(seed: int, mask: Tensor | None = None, causal: bool = False, kv_heads: int = 2) -> AttentionCall:
    """Queries and keys of six kinds that look for their own kind, of which low rank is known."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
    kind = torch.randint(6, (3, 1, 50), generator=generator)
    noise = 0.1 * torch.randn(3, 2, 50, 8, generator=generator)
    q = 1.5 * directions[kind].expand(-1, 2, -1, -1) + noise
    k = q[:, :kv_heads]
    return AttentionCall("s", "s", "S", 0, "", q, k, k, mask, causal, 8**-0.5, 0.0, lambda: k)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kv_heads", [2, 1])
def test_it_comes_near_the_weights_on_other_inputs(causal: bool, kv_heads: int) -> None:
    call, other = (call_of(seed, causal=causal, kv_heads=kv_heads) for seed in (1, 2))
    linear, fit = fit_hedgehog(call, other, steps=150)
    assert fit.after < 0.1 * fit.before
    third = call_of(3, causal=causal, kv_heads=kv_heads)
    p = softmax_weights(third.q, third.k, causal=causal)
    begun = Hedgehog(2, 8, kv_heads)

    def distance(weights: Tensor) -> float:
        return float((weights - p).norm() / p.norm())

    with torch.no_grad():
        before = distance(linear_weights(third.q, third.k, begun, causal=causal))
        after = distance(linear.weights(third.q, third.k, causal=causal))
    assert after < 0.5 * before
    assert not any(parameter.requires_grad for parameter in linear.parameters())


def test_its_measure_is_the_divergence_of_the_dense_weights() -> None:
    mask = torch.ones(3, 1, 1, 50, dtype=torch.bool)
    mask[1, ..., 30:] = False
    call = call_of(1, mask, causal=True)
    sample = _Sample.drawn(call, torch.Generator().manual_seed(0), 10_000)
    phi = Hedgehog(2, 8)
    p = softmax_weights(call.q, call.k, mask=mask, causal=True).double()
    with torch.no_grad():
        linear = linear_weights(call.q, call.k, phi, mask=mask, causal=True).double()
    expected = torch.special.xlogy(p, p / linear.clamp_min(1e-30)).sum() / p.sum()
    got = float(sample.cross_entropy(phi).detach()) - sample.entropy()
    assert got == pytest.approx(float(expected), rel=1e-4)


def test_a_float_mask_and_a_scale_count() -> None:
    added = torch.linspace(-2, 2, 50).view(1, 1, 1, 50)
    plain = call_of(1)
    masked = dataclasses.replace(plain, mask=added, scale=0.1)
    sample = _Sample.drawn(masked, torch.Generator().manual_seed(0), 10_000)
    phi = Hedgehog(2, 8)
    p = softmax_weights(plain.q, plain.k, mask=added, scale=0.1).double()
    with torch.no_grad():
        linear = linear_weights(plain.q * 0.1 * 8**0.5, plain.k, phi, mask=added).double()
    expected = -(p * linear.log()).sum() / p.sum()
    assert float(sample.cross_entropy(phi).detach()) == pytest.approx(float(expected), rel=1e-4)


def test_it_stops_when_nothing_is_gained_and_is_seeded() -> None:
    call = call_of(1)
    # Of inputs that have nothing in common with these, nothing is learnt for long.
    q, k = torch.randn(2, 3, 2, 50, 8, generator=torch.Generator().manual_seed(9))
    other = dataclasses.replace(call, q=q, k=k)
    first, fit = fit_hedgehog(call, other, steps=2000)
    assert fit.stopped and fit.steps < 1000 and fit.steps % 25 == 0
    assert fit.after <= fit.before
    again, same = fit_hedgehog(call, other, steps=2000)
    assert same == dataclasses.replace(fit, seconds=same.seconds)
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    state = torch.get_rng_state()
    fit_hedgehog(call, steps=3, seed=5)
    assert torch.equal(state, torch.get_rng_state())
