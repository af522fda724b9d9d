"""The layer beside torch's: the same parameters, numbers and gradients."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from layer_pairs import BATCH, EMBED, HEADS, M, N, close, inputs, masks_of, ours, random, torchs
from torch import nn

from layerlab.attention.layers import MultiheadAttention

SHAPES: list[dict[str, Any]] = [
    {},
    {"batch_first": False},
    {"bias": False},
    {"kdim": 5, "vdim": 6},
    {"add_bias_kv": True},
    {"add_zero_attn": True, "batch_first": False},
    {"add_bias_kv": True, "add_zero_attn": True, "kdim": 4},
]


@pytest.mark.parametrize("options", SHAPES, ids=str)
def test_parameters_start_as_torchs_do(options: dict[str, Any]) -> None:
    torch.manual_seed(7)
    expected = nn.MultiheadAttention(EMBED, HEADS, **options).state_dict()
    torch.manual_seed(7)
    found = MultiheadAttention(EMBED, HEADS, **options).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("kind", ["none", "padding", "float padding", "pairs", "each", "both", "both float"])
@pytest.mark.parametrize("options", SHAPES, ids=str)
def test_softmax_equals_torch(options: dict[str, Any], kind: str) -> None:
    theirs = torchs(**options)
    layer = MultiheadAttention.from_torch(theirs)
    sizes = {name: size for name, size in options.items() if name in ("batch_first", "kdim", "vdim")}
    for need_weights, average in ((False, True), (True, True), (True, False)):
        results = []
        for module in (theirs, layer):
            given = [x.requires_grad_() for x in inputs(**sizes)]
            module.zero_grad()
            out, weights = module(
                *given, need_weights=need_weights, average_attn_weights=average, **masks_of(kind)
            )
            total = (out * random(*out.shape, seed=9)).sum()
            if weights is not None:
                total = total + (weights * random(*weights.shape, seed=8)).sum()
            total.backward()
            grads = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
            results.append((out, weights, [x.grad for x in given], grads))
        (out, weights, wrt, grads), (out2, weights2, wrt2, grads2) = results
        assert close(out2, out)
        assert (weights is None) == (weights2 is None) == (not need_weights)
        assert weights is None or close(weights2, weights)
        assert all(close(left, right) for left, right in zip(wrt2, wrt, strict=True))
        assert grads2.keys() == grads.keys()
        assert all(close(grads2[name], grads[name], 1e-11) for name in grads)


@pytest.mark.parametrize(("training", "need_weights"), list(product([True, False], repeat=2)))
def test_self_attention_equals_torch_causal_and_not(training: bool, need_weights: bool) -> None:
    theirs = torchs(bias=True).train(training)
    layer = MultiheadAttention.from_torch(theirs)
    assert layer.training is training
    x = random(BATCH, N, EMBED)
    hidden = ~torch.ones(N, N).tril().bool()
    for mask, causal in ((None, False), (hidden, False), (hidden, True)):
        with torch.no_grad():
            out, weights = theirs(x, x, x, need_weights=need_weights, attn_mask=mask, is_causal=causal)
            out2, weights2 = layer(x, x, x, need_weights=need_weights, attn_mask=mask, is_causal=causal)
        assert close(out2, out)
        assert weights2 is None if weights is None else close(weights2, weights)
    assert torch.equal(layer(x, x, x, is_causal=True)[0], layer(x, x, x, attn_mask=hidden, is_causal=True)[0])


@pytest.mark.parametrize("mechanism", ["softmax", "linear"])
def test_a_mask_that_is_said_to_be_causal_is_not_read(mechanism: str) -> None:
    layer, x = ours(mechanism), random(BATCH, N, EMBED)
    expected = layer(x, x, x, is_causal=True)[0]
    assert torch.equal(layer(x, x, x, attn_mask=random(N, N), is_causal=True)[0], expected)


def test_the_default_of_need_weights_is_torchs_with_softmax_and_off_without() -> None:
    x = random(BATCH, N, EMBED)
    assert ours()(x, x, x)[1] is not None
    assert ours("linear")(x, x, x)[1] is None
    weights = ours("linear")(x, x, x, need_weights=True, average_attn_weights=False)[1]
    assert weights.shape == (BATCH, HEADS, N, N)
    assert close(weights.sum(-1), torch.ones(BATCH, HEADS, N, dtype=torch.float64))


@pytest.mark.parametrize("mechanism", ["softmax", "linear"])
def test_without_a_batch(mechanism: str) -> None:
    layer = ours(mechanism, batch_first=False)
    query, key, value = (x[:, 0] for x in inputs(batch_first=False))
    padding = masks_of("padding")["key_padding_mask"]
    out, weights = layer(query, key, value, key_padding_mask=padding[0], need_weights=True)
    whole, whole_weights = layer(
        query[:, None], key[:, None], value[:, None], key_padding_mask=padding[:1], need_weights=True
    )
    assert torch.equal(out, whole[:, 0])
    assert torch.equal(weights, whole_weights[0])
    assert out.shape == (N, EMBED)
    assert weights.shape == (N, M)
