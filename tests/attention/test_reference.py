"""The dense twins against torch's softmax attention and against sums written out one by one."""

from __future__ import annotations

import math

import pytest
import torch
from linear_twin import draw
from torch.nn.functional import scaled_dot_product_attention

from layerlab.attention import reference
from layerlab.attention.features import EluPlusOne, Identity


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_softmax_weights_are_torchs(causal: bool, scale: float | None) -> None:
    q, k, v, _ = draw(7, kv_heads=2)
    out = reference.apply(reference.softmax_weights(q, k, causal=causal, scale=scale), v)
    expected = scaled_dot_product_attention(q, k, v, is_causal=causal, scale=scale, enable_gqa=True)
    torch.testing.assert_close(out, expected)


def test_masks_of_softmax_weights_are_torchs() -> None:
    q, k, v, _ = draw(7)
    drawn = torch.randn(2, 4, 7, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    drawn[..., 0] = 1.0
    for mask in (drawn > 0, drawn, drawn.masked_fill(drawn < 0, -math.inf)):
        out = reference.apply(reference.softmax_weights(q, k, mask=mask), v)
        torch.testing.assert_close(out, scaled_dot_product_attention(q, k, v, attn_mask=mask))


def test_linear_weights_are_the_sums_written_out() -> None:
    q, k, _, _ = draw(5, batch=1, kv_heads=2)
    phi = EluPlusOne()
    found = reference.linear_weights(q, k, phi, causal=True, lengths=torch.tensor([4]))
    for h in range(4):
        for i in range(5):
            similar = [float(phi(q[0, h, i]) @ phi(k[0, h // 2, j])) if j <= i < 4 else 0.0 for j in range(5)]
            expected = torch.tensor(similar, dtype=torch.float64) / (sum(similar) or 1.0)
            torch.testing.assert_close(found[0, h, i], expected)


def test_rows_that_see_nothing_are_zero_with_gradient_zero() -> None:
    q, k, v, _ = draw(4)
    mask = torch.tensor([True, False, True, True])[:, None].expand(4, 4)
    for weights_of in (
        lambda q: reference.softmax_weights(q, k, mask=mask),
        lambda q: reference.linear_weights(q, k, EluPlusOne(), mask=mask),
    ):
        leaf = q.clone().requires_grad_()
        weights = weights_of(leaf)
        reference.apply(weights, v).sum().backward()
        assert (weights[:, :, 1] == 0).all()
        assert leaf.grad is not None
        assert leaf.grad.isfinite().all()
        assert (leaf.grad[:, :, 1] == 0).all()
        torch.testing.assert_close(weights.sum(-1)[:, :, 0], torch.ones(2, 4, dtype=torch.float64))


def test_a_float_mask_adds_to_scores_in_either_kernel() -> None:
    """exp(score + mask) = exp(score) exp(mask): with phi(q) . phi(k) = exp(score), both give the same weights."""
    _, k, _, _ = draw(6, d=1)
    mask = torch.randn(1, 1, 1, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    ones = torch.ones(2, 4, 6, 1, dtype=torch.float64)
    linear = reference.linear_weights(ones, k.exp(), Identity(), mask=mask)
    torch.testing.assert_close(linear, reference.softmax_weights(ones, k, mask=mask, scale=1.0))
