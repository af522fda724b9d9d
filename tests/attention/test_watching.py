"""Attention in models, seen and exchanged: what is captured is what a hand computes."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from layerlab.attention.calls import AttentionCall
from layerlab.attention.watching import MODEL, attention_calls, replacing
from layerlab.errors import UserError


def dense(call: AttentionCall) -> Tensor:
    """Softmax attention written out, in float64."""
    q, k, v = (t.double() for t in (call.q, call.k, call.v))
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    scores = call.scale * q @ k.mT
    if call.causal:
        scores = scores.masked_fill(torch.ones_like(scores).tril() == 0, -math.inf)
    if call.mask is not None:
        scores = (
            scores.masked_fill(~call.mask, -math.inf) if call.mask.dtype == torch.bool else scores + call.mask
        )
    return (scores.softmax(-1) @ v).to(call.q.dtype)


class Fused(nn.Module):
    """Scaled dot-product attention of random projections."""

    def __init__(self, **given: Any) -> None:
        super().__init__()
        self.given = given
        self.qkv = nn.Linear(12, 36)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (9, 4)).transpose(1, 2).split([3, 3, 3], 1)
        y = functional.scaled_dot_product_attention(q, k, v, **self.given)
        return y.transpose(1, 2).flatten(2)


class Functional(nn.Module):
    """Any call of scaled_dot_product_attention."""

    def __init__(self, **given: Any) -> None:
        super().__init__()
        self.given = given

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return functional.scaled_dot_product_attention(q, k, v, **self.given)


def gpt(layers: int = 2) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(*(Fused(is_causal=True) for _ in range(layers)))


def check(model: nn.Module, inputs: Any, sites: list[str]) -> tuple[AttentionCall, ...]:
    """The sites are seen, each output is that of the dense twin, and putting the twin in changes nothing."""
    seen = attention_calls(model, inputs)
    assert [call.site for call in seen.calls] == sites
    assert seen.unseen == ()
    for call in seen.calls:
        torch.testing.assert_close(dense(call), call.output)
    args = inputs if isinstance(inputs, tuple) else (inputs,)
    with torch.no_grad():
        before = model(*args)
        with replacing(model, dict.fromkeys(sites, dense)):
            after = model(*args)
        torch.testing.assert_close(after, before)
        with replacing(model, dict.fromkeys(sites, lambda call: torch.zeros_like(call.output))):
            zero = model(*args)
    for other, own in zip(zero, before, strict=True):
        assert other is None or not torch.allclose(other, own)
        if not isinstance(before, Tensor):
            break
    return seen.calls


@pytest.mark.parametrize("weights", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
def test_multihead_attention(weights: bool, batch_first: bool) -> None:
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(8, 2, batch_first=batch_first).eval()
    x = torch.randn(3, 5, 8)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = attention

        def forward(self, x: Tensor) -> Any:
            return self.attention(x, x, x, need_weights=weights)

    (call,) = check(Model(), x, ["attention"])
    batch = x if batch_first else x.transpose(0, 1)
    q = functional.linear(batch, attention.in_proj_weight[:8], attention.in_proj_bias[:8])
    torch.testing.assert_close(call.q, q.unflatten(-1, (2, 4)).transpose(1, 2))
    assert (call.mask, call.causal, call.kind, call.scale) == (None, False, "MultiheadAttention", 0.5)
    assert call.place.startswith("test_watching.py:")


@pytest.mark.parametrize("average", [True, False])
def test_weights_that_are_asked_for_come_out(average: bool) -> None:
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(8, 2).eval()
    x = torch.randn(5, 8)
    mask = torch.ones(5, 5).triu(1).bool()
    expected = attention(x, x, x, attn_mask=mask, average_attn_weights=average)
    with replacing(attention, {}):
        found = attention(x, x, x, attn_mask=mask, average_attn_weights=average)
    torch.testing.assert_close(found, expected)


def test_with_weights_the_mask_counts_and_not_the_hint() -> None:
    torch.manual_seed(0)
    attention, x = nn.MultiheadAttention(8, 2).eval(), torch.randn(5, 3, 8)
    window = (torch.arange(5)[:, None] - torch.arange(5)).abs() > 1
    expected = attention(x, x, x, attn_mask=window, is_causal=True)
    with replacing(attention, {}):
        torch.testing.assert_close(attention(x, x, x, attn_mask=window, is_causal=True), expected)


@pytest.mark.parametrize("odd", [{"add_bias_kv": True}, {"add_zero_attn": True}, {"kdim": 3, "vdim": 5}])
def test_odd_multihead_attention(odd: dict[str, Any]) -> None:
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(8, 2, **odd).eval()
    q, k, v = (
        torch.randn(4, 2, 8),
        torch.randn(6, 2, odd.get("kdim", 8)),
        torch.randn(6, 2, odd.get("vdim", 8)),
    )
    check(attention, (q, k, v), ["(model)"])


@pytest.mark.parametrize("training", [True, False])
def test_encoder_and_decoder(training: bool) -> None:
    torch.manual_seed(0)
    transformer = nn.Transformer(8, 2, 2, 1, 16, dropout=0.0, batch_first=True).train(training)
    source, target = torch.randn(2, 7, 8), torch.randn(2, 5, 8)
    calls = check(
        transformer,
        (source, target),
        [
            "encoder.layers.0.self_attn",
            "encoder.layers.1.self_attn",
            "decoder.layers.0.self_attn",
            "decoder.layers.0.multihead_attn",
        ],
    )
    assert [(call.q.shape[2], call.length) for call in calls] == [(7, 7), (7, 7), (5, 5), (5, 7)]


def test_encoder_with_padding_needs_no_nested_tensors() -> None:
    torch.manual_seed(0)
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 1).eval()
    x, padding = torch.randn(2, 6, 8), torch.arange(6) >= torch.tensor([[6], [4]])
    (call,) = attention_calls(encoder, {"src": x, "src_key_padding_mask": padding}).calls
    assert call.mask is not None and not call.causal
    assert torch.equal(call.mask, ~padding[:, None, None, :])
    torch.testing.assert_close(dense(call), call.output)
    causal = nn.Transformer.generate_square_subsequent_mask(6)
    (call,) = attention_calls(
        encoder, {"src": x, "src_key_padding_mask": padding, "mask": causal == -math.inf}
    ).calls
    assert call.mask is not None and call.causal
    assert torch.equal(call.mask, ~padding[:, None, None, :])
    (call,) = attention_calls(encoder, {"src": x, "mask": causal}).calls
    assert call.mask is None and call.causal


def test_functional_calls_in_a_gpt() -> None:
    calls = check(gpt(), torch.randn(2, 6, 12), ["0", "1"])
    assert all(call.causal and call.mask is None for call in calls)


@pytest.mark.parametrize(
    "given",
    [
        {"scale": 0.3},
        {"attn_mask": torch.arange(6) < 4},
        {"attn_mask": torch.randn(6, 6)},
        {"attn_mask": torch.rand(2, 1, 6, 6) < 0.8},
        {"attn_mask": torch.randn(3, 6, 6)},
    ],
)
def test_masks_and_scales(given: dict[str, Any]) -> None:
    if given.get("attn_mask") is not None and given["attn_mask"].dtype == torch.bool:
        given["attn_mask"] = given["attn_mask"].expand(*given["attn_mask"].shape[:-2], 6, 6).clone()
        given["attn_mask"][..., 0] = True
    torch.manual_seed(0)
    (call,) = check(Fused(**given), torch.randn(2, 6, 12), [MODEL])
    assert call.scale == given.get("scale", 0.5)


@pytest.mark.parametrize(
    ("shapes", "found"),
    [
        (((6, 4), (5, 4), (5, 3)), (1, 1, 6)),
        (((2, 6, 4), (2, 5, 4), (2, 5, 3)), (2, 1, 6)),
        (((2, 3, 6, 4), (1, 1, 5, 4), (2, 3, 5, 3)), (2, 3, 6)),
        (((2, 2, 3, 6, 4), (2, 2, 3, 5, 4), (2, 1, 3, 5, 3)), (4, 3, 6)),
    ],
)
@pytest.mark.parametrize("masked", [False, True])
def test_shapes(shapes: tuple[tuple[int, ...], ...], found: tuple[int, ...], masked: bool) -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(shape) for shape in shapes)
    mask = torch.randn(*q.shape[:-1], k.shape[-2]) if masked else None
    (call,) = check(Functional(attn_mask=mask), (q, k, v), [MODEL])
    assert tuple(call.q.shape[:3]) == found


def test_grouped_heads() -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(2, 6, 5, 4), torch.randn(2, 3, 5, 4), torch.randn(2, 3, 5, 4)
    (call,) = check(Functional(enable_gqa=True, is_causal=True), (q, k, v), [MODEL])
    assert call.heads == 6 and call.k.shape[1] == 3 and call.causal


def test_heads_that_do_not_divide_are_told() -> None:
    q, k = torch.randn(2, 6, 5, 4), torch.randn(2, 4, 5, 4)
    with pytest.raises(UserError, match=r"called with inputs of shape .*, raised RuntimeError"):
        attention_calls(Functional(enable_gqa=True), (q, k, k))
    with pytest.raises(UserError, match="raised AssertionError: embed_dim 8 not divisible by num_heads 3"):
        attention_calls(Divided(), torch.randn(5, 2, 8))


class Divided(nn.Module):
    """Heads of no whole size."""

    def forward(self, x: Tensor) -> Any:
        weight = torch.ones(24, 8)
        return functional.multi_head_attention_forward(
            x, x, x, 8, 3, weight, None, None, None, False, 0.0, weight[:8], None
        )


def test_a_causal_rectangle_is_a_mask() -> None:
    torch.manual_seed(0)
    q, k = torch.randn(1, 1, 3, 4), torch.randn(1, 1, 5, 4)
    (call,) = check(Functional(is_causal=True), (q, k, k), [MODEL])
    assert not call.causal and call.mask is not None


def test_repeated_calls_are_counted_anew_in_every_pass() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = Fused()

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(self.layer(x))

    torch.manual_seed(0)
    model, x = Twice(), torch.randn(2, 4, 12)
    check(model, x, ["layer", "layer#1"])
    sites: list[str] = []

    def note(call: AttentionCall) -> Tensor:
        sites.append(call.site)
        return call.output

    with replacing(model, {"layer": note, "layer#1": note}):
        model(x), model(x)
    assert sites == ["layer", "layer#1"] * 2


def test_a_replacement_is_differentiated() -> None:
    torch.manual_seed(0)
    model, x = gpt(1), torch.randn(1, 4, 12, requires_grad=True)
    (expected,) = torch.autograd.grad(model(x).sum(), x)
    with replacing(model, {"0": dense}):
        (found,) = torch.autograd.grad(model(x).sum(), x)
    torch.testing.assert_close(found, expected)


def test_torchs_fused_encoder_layer_is_kept_from_hiding_attention() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    for parameter in layer.parameters():
        # Without gradients torch would take its fused layer, which asks no submodule.
        parameter.requires_grad_(False)
    enabled: list[bool] = []

    def note(call: AttentionCall) -> Tensor:
        enabled.append(torch.backends.mha.get_fastpath_enabled())
        return call.output

    with torch.no_grad(), replacing(layer, {"self_attn": note}):
        layer(torch.randn(2, 5, 8))
    assert enabled == [False] and torch.backends.mha.get_fastpath_enabled()


def test_a_replacement_may_itself_ask_for_attention() -> None:
    torch.manual_seed(0)
    attention, x = nn.MultiheadAttention(8, 2).eval(), torch.randn(4, 2, 8)

    def fused(call: AttentionCall) -> Tensor:
        return functional.scaled_dot_product_attention(call.q, call.k, call.v)

    with replacing(attention, {MODEL: fused}):
        torch.testing.assert_close(attention(x, x, x), attention(x, x, x))
        found = attention(x, x, x)
    torch.testing.assert_close(found, attention(x, x, x))


def test_another_shape_is_refused() -> None:
    model = gpt(1)
    with (
        replacing(model, {"0": lambda call: call.output[:, :1]}),
        pytest.raises(UserError, match=r"at 0 returned the shape \(2, 1, 4, 4\); expected .* \(2, 3, 4, 4\)"),
    ):
        model(torch.randn(2, 4, 12))


def test_compiled_parts_are_seen() -> None:
    model = gpt()
    model[1] = torch.compile(model[1])
    calls = attention_calls(model, torch.randn(1, 4, 12)).calls
    assert [call.kind for call in calls] == ["Fused", "Fused"]


class ByHand(nn.Module):
    """Attention as most old code has it."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = form
        self.drop = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        scores = x @ x.mT / 2
        if self.form == "matmul":
            return torch.matmul(self.drop(functional.softmax(scores, dim=-1)), x)
        if self.form == "einsum":
            return torch.einsum("bij,bjd->bid", nn.Softmax(2)(scores).to(x.dtype), x)
        if self.form == "bmm":
            return torch.bmm(scores.softmax(-1), x)
        return torch.softmax(scores, 1) @ x


@pytest.mark.parametrize("form", ["matmul", "einsum", "bmm"])
def test_attention_by_hand_is_told(form: str) -> None:
    seen = attention_calls(nn.Sequential(ByHand(form), Fused()), torch.randn(2, 5, 12))
    (unseen,) = seen.unseen
    assert (unseen.module, unseen.kind) == ("0", "ByHand")
    assert unseen.place.startswith("test_watching.py:")
    assert "by hand" in unseen.why
    assert len(seen.calls) == 1


def test_a_hugging_face_model_in_eager_mode_is_told_its_mend() -> None:
    model = ByHand("matmul")
    model.config = SimpleNamespace(_attn_implementation="eager")
    (unseen,) = attention_calls(model, torch.randn(2, 5, 12)).unseen
    assert 'attn_implementation="sdpa"' in unseen.why


def test_another_softmax_is_not_told() -> None:
    seen = attention_calls(
        nn.Sequential(ByHand("over queries"), nn.Linear(12, 3), nn.Softmax(-1)), torch.randn(2, 5, 12)
    )
    assert seen.unseen == seen.calls == ()


def test_scripted_attention_is_told() -> None:
    class Scripted(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return functional.scaled_dot_product_attention(x, x, x)

    model = nn.Sequential(torch.jit.script(Scripted()), torch.jit.script(nn.Linear(12, 12)))
    (unseen,) = attention_calls(model, torch.randn(2, 5, 12)).unseen
    assert (unseen.module, unseen.kind) == ("0", "Scripted") and "torch.jit" in unseen.why


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_tensors_are_told() -> None:
    class Nested(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            q = torch.nested.nested_tensor_from_jagged(x.view(-1, 3, 4), torch.tensor([0, 4, 10])).transpose(
                1, 2
            )
            return functional.scaled_dot_product_attention(q, q, q).values()

    (unseen,) = attention_calls(Nested(), torch.randn(2, 5, 12)).unseen
    assert "nested" in unseen.why


def test_flex_attention_is_told() -> None:
    from torch.nn.attention.flex_attention import flex_attention

    class Flex(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return flex_attention(x, x, x)

    (unseen,) = attention_calls(Flex(), torch.randn(1, 2, 16, 16)).unseen
    assert "flex_attention" in unseen.why


def test_the_model_is_left_as_it_was() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.BatchNorm1d(4), Fused(dropout_p=0.3)).train()
    x = torch.randn(2, 4, 12)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    random = torch.get_rng_state()
    first, second = attention_calls(model, x, 3), attention_calls(model, x, 3)
    torch.testing.assert_close(first.output, second.output, rtol=0, atol=0)
    assert first.calls[0].dropout == 0.3
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert torch.backends.mha.get_fastpath_enabled()


def test_what_is_kept_does_not_change_with_the_model() -> None:
    class InPlace(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = functional.scaled_dot_product_attention(x, x, x)
            x.zero_()
            return y.zero_()

    x = torch.randn(1, 2, 3, 4)
    (call,) = attention_calls(InPlace(), x).calls
    assert torch.equal(call.q, x) and bool((call.output != 0).all())


def test_queries_that_are_not_finite_are_refused() -> None:
    x = torch.randn(2, 4, 12)
    x[0, 0, 0] = math.nan
    with pytest.raises(
        UserError, match=r"NaN or Inf among the queries of the attention at 0 \(test_watching.py:\d+"
    ):
        attention_calls(gpt(), x)


def test_a_model_without_a_module_of_its_own_is_watched() -> None:
    code = "def model(x):\n    return attend(x, x, x)"
    names: dict[str, Any] = {"attend": functional.scaled_dot_product_attention}
    exec(compile(code, "made.py", "exec"), names)
    del names["__builtins__"]

    class Made(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return names["model"](x)

    (call,) = attention_calls(Made(), torch.randn(1, 1, 3, 4)).calls
    assert call.place == "made.py:2"


def test_a_model_that_raises_is_told() -> None:
    with pytest.raises(UserError, match=r"called with inputs of shape \(2, 4, 7\), raised RuntimeError"):
        attention_calls(gpt(), torch.randn(2, 4, 7))
    assert torch.backends.mha.get_fastpath_enabled()
