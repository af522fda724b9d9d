"""The layer: other mechanisms by their definition, decoding, and what is refused."""

from __future__ import annotations

import copy
import math
from itertools import product
from typing import Any

import pytest
import torch
from layer_pairs import BATCH, EMBED, HEADS, M, N, close, inputs, ours, random
from torch import Tensor, nn

from layerlab.attention import reference
from layerlab.attention.features import EluPlusOne
from layerlab.attention.heads import attend, merge_heads, split_heads
from layerlab.attention.layers import MultiheadAttention
from layerlab.attention.mechanisms import Linear, Linformer, Softmax
from layerlab.errors import UserError


def by_definition(layer: MultiheadAttention, x: Tensor, causal: bool, mask: Tensor | None = None) -> Tensor:
    """Linear attention with elu + 1, from the parameters, with dense weights and a loop over heads."""
    q, k, v = (x @ layer.in_proj_weight.T + layer.in_proj_bias).split(EMBED, -1)
    size = EMBED // HEADS
    parts = []
    for head in range(HEADS):
        columns = slice(head * size, (head + 1) * size)
        fq, fk = (torch.where(y > 0, y + 1, y.exp()) for y in (q[..., columns], k[..., columns]))
        weights = fq @ fk.transpose(-1, -2)
        weights = weights.tril() if causal else weights
        weights = weights if mask is None else weights * mask
        parts.append(weights / weights.sum(-1, keepdim=True) @ v[..., columns])
    return torch.cat(parts, -1) @ layer.out_proj.weight.T + layer.out_proj.bias


@pytest.mark.parametrize("causal", [False, True])
def test_linear_by_definition(causal: bool) -> None:
    layer, x = ours("linear"), random(BATCH, 9, EMBED)
    assert close(layer(x, x, x, is_causal=causal)[0], by_definition(layer, x, causal))
    padding = torch.zeros(BATCH, 9, dtype=torch.bool)
    padding[1, 6:] = True
    out = layer(x, x, x, key_padding_mask=padding, is_causal=causal)[0]
    assert close(out, by_definition(layer, x, causal, ~padding[:, None]))


def test_masks_that_say_what_linear_can_do_are_understood() -> None:
    layer, x = ours("linear"), random(BATCH, N, EMBED)
    hidden = ~torch.ones(N, N).tril().bool()
    causal = layer(x, x, x, is_causal=True)[0]
    for mask in (
        hidden,
        torch.zeros(N, N).masked_fill(hidden, -math.inf),
        hidden.expand(BATCH * HEADS, N, N),
    ):
        assert torch.equal(layer(x, x, x, attn_mask=mask)[0], causal)
    assert not close(causal, layer(x, x, x)[0], 1e-3)
    padding = torch.zeros(BATCH, N, dtype=torch.bool)
    padding[0, 3:] = True
    as_float = torch.zeros(BATCH, N, dtype=torch.float64).masked_fill(padding, -math.inf)
    expected = layer(x, x, x, key_padding_mask=padding, is_causal=True)[0]
    assert torch.equal(layer(x, x, x, key_padding_mask=as_float, attn_mask=hidden)[0], expected)
    # A number added to the scores of a key multiplies its weight by the exponential, in a softmax and here.
    weighted = layer(x, x, x, key_padding_mask=torch.full((BATCH, N), 0.3).double())[0]
    assert close(weighted, layer(x, x, x)[0])


def test_what_linear_cannot_do_is_said() -> None:
    layer, x = ours("linear"), random(BATCH, N, EMBED)
    with pytest.raises(UserError, match="cannot take a mask that differs between queries"):
        layer(x, x, x, attn_mask=torch.ones(N, N).tril().bool())
    with pytest.raises(UserError, match="cannot take a mask that differs between queries"):
        layer(x, x, x, attn_mask=random(N, N))
    with pytest.raises(UserError, match="expected as many queries as keys with is_causal=True"):
        layer(*inputs(), is_causal=True)
    with pytest.raises(UserError, match="cannot take a mask that differs"):
        ours("linear", add_zero_attn=True)(x, x, x, is_causal=True)


@pytest.mark.parametrize("mechanism", ["softmax", "linear"])
def test_a_query_that_sees_nothing_gives_the_bias_of_the_output(mechanism: str) -> None:
    layer, (query, key, value) = ours(mechanism), inputs()
    nn.init.ones_(layer.out_proj.bias)
    padding = torch.tensor([[True] * M, [False] * M])
    query.requires_grad_()
    out = layer(query, key, value, key_padding_mask=padding)[0]
    assert torch.equal(out[0], torch.ones(N, EMBED, dtype=torch.float64))
    assert close(out[1], layer(query, key, value)[0][1])
    out.sum().backward()
    assert query.grad is not None
    assert torch.equal(query.grad[0], torch.zeros(N, EMBED, dtype=torch.float64))
    assert query.grad[1].abs().max() > 0


@pytest.mark.parametrize("mechanism", ["softmax", "linear"])
def test_grouped_heads_are_heads_that_share(mechanism: str) -> None:
    grouped = MultiheadAttention(12, 6, mechanism, num_kv_heads=2, dtype=torch.float64, add_bias_kv=True)
    with torch.no_grad():
        for parameter in grouped.parameters():
            parameter.copy_(random(*parameter.shape, seed=4))
    full = MultiheadAttention(12, 6, mechanism, dtype=torch.float64, add_bias_kv=True)

    def repeated(x: Tensor) -> Tensor:
        return x.unflatten(0, (2, 2)).repeat_interleave(3, 0).flatten(0, 1)

    state = {}
    for name, tensor in grouped.state_dict().items():
        if name.startswith("in_proj"):
            q, k, v = tensor.split((12, 4, 4))
            tensor = torch.cat([q, repeated(k), repeated(v)])
        elif name.startswith("bias_"):
            tensor = repeated(tensor.flatten()).view(1, 1, 12)
        state[name] = tensor
    full.load_state_dict(state)
    given = inputs()
    assert close(grouped(*given)[0], full(*given)[0])


@pytest.mark.parametrize("mechanism", ["softmax", "linear", "hedgehog", "nystrom"])
def test_gradients(mechanism: str) -> None:
    torch.manual_seed(0)
    layer = MultiheadAttention(4, 2, mechanism, dtype=torch.float64)
    names = [name for name, _ in layer.named_parameters()]
    causal = mechanism != "nystrom"

    def function(x: Tensor, *parameters: Tensor) -> Tensor:
        arguments = (x, x, x)
        given = dict(zip(names, parameters, strict=True))
        out: Tensor = torch.func.functional_call(layer, given, arguments, {"is_causal": causal})[0]
        return out

    parameters = [parameter.detach().requires_grad_() for parameter in layer.parameters()]
    assert torch.autograd.gradcheck(function, (random(1, 3, 4).requires_grad_(), *parameters))


@pytest.mark.parametrize("mechanism", ["softmax", "linear", "nystrom", "low-rank", "linformer"])
def test_dropout_is_right_on_average_and_off_in_evaluation(mechanism: str) -> None:
    torch.manual_seed(0)
    layer = MultiheadAttention(4, 2, mechanism, dropout=0.4, length=3)
    x = torch.randn(1, 3, 4)
    with torch.no_grad():
        expected = layer.eval()(x, x, x)[0]
        assert torch.equal(layer(x, x, x)[0], expected)
        many = x.expand(20_000, -1, -1)
        samples = layer.train()(many, many, many)[0]
    error = (samples.mean(0) - expected[0]).abs()
    deviation = samples.std(0) / math.sqrt(len(samples))
    assert deviation.max() > 1e-4
    assert bool((error < 5 * deviation + 1e-6).all())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("mechanism", ["softmax", "linear"])
def test_half_precision(mechanism: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    layer = MultiheadAttention(16, 4, mechanism, dtype=dtype)
    x = torch.randn(2, 33, 16).to(dtype)
    out = layer(x, x, x, is_causal=True)[0]
    assert out.dtype is dtype
    exact = copy.deepcopy(layer).double()
    difference = (out.double() - exact(x.double(), x.double(), x.double(), is_causal=True)[0]).abs().max()
    assert difference < 8 * torch.finfo(dtype).eps


@pytest.mark.parametrize("mechanism", ["softmax", "linear"])
def test_autocast(mechanism: str) -> None:
    torch.manual_seed(0)
    layer = MultiheadAttention(16, 4, mechanism, add_bias_kv=True)
    x = torch.randn(2, 9, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = layer(x, x, x)[0]
    assert out.dtype is torch.bfloat16
    assert (out.float() - layer(x, x, x)[0]).abs().max() < 8 * torch.finfo(torch.bfloat16).eps


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize("mechanism", ["linear", "linear-relu", "linear-random", "hedgehog"])
def test_decoded_token_by_token_equals_the_causal_pass(
    mechanism: str, gradients: bool, batch_first: bool
) -> None:
    torch.manual_seed(0)
    layer = MultiheadAttention(8, 4, mechanism, num_kv_heads=2, batch_first=batch_first, dtype=torch.float64)
    x = random(2, 12, 8)
    x = x if batch_first else x.transpose(0, 1)
    with torch.set_grad_enabled(gradients):
        whole = layer(x, x, x, is_causal=True)[0]
        for cuts in ([1] * 12, [5, 1, 1, 4, 1], [12]):
            state, parts = None, []
            for piece in x.split(cuts, 1 if batch_first else 0):
                out, state = layer.decode(piece, state)
                parts.append(out)
            found = torch.cat(parts, 1 if batch_first else 0)
            assert close(found, whole)
            assert found.requires_grad is gradients
    if gradients:
        (ours_,), (theirs,) = (
            torch.autograd.grad(y.square().sum(), [layer.in_proj_weight]) for y in (found, whole)
        )
        assert close(ours_, theirs, 1e-11)


def test_what_cannot_be_decoded_is_said() -> None:
    x = random(1, 1, EMBED)
    with pytest.raises(UserError, match="softmax attention has no state of constant size"):
        ours().decode(x)
    with pytest.raises(UserError, match="without add_bias_kv and add_zero_attn"):
        ours("linear", add_zero_attn=True).decode(x)
    with pytest.raises(UserError, match="expected 3 dimensions to decode"):
        ours("linear").decode(x[0])


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage")
@pytest.mark.parametrize("mechanism", ["softmax", "linear", Linformer(10, 4)], ids=str)
def test_nested_tensors_are_sequences_of_different_lengths(mechanism: Any) -> None:
    layer = MultiheadAttention(EMBED, HEADS, mechanism)
    pieces = [random(n, EMBED, seed=n).float() for n in (5, 1, 9)]
    for layout, causal in product((torch.strided, torch.jagged), (False, True)):
        if causal and isinstance(mechanism, Linformer):
            continue
        nested = torch.nested.nested_tensor(pieces, layout=layout)
        out = layer(nested, nested, nested, need_weights=False, is_causal=causal)[0]
        assert out.is_nested
        assert out.layout is layout
        for piece, found in zip(pieces, out.unbind(), strict=True):
            alone = layer(piece, piece, piece, is_causal=causal)[0]
            assert close(found, alone, 1e-6)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage")
def test_nested_tensors_are_refused_where_they_mean_nothing() -> None:
    nested = torch.nested.nested_tensor([torch.zeros(2, EMBED), torch.zeros(3, EMBED)])
    other = torch.nested.nested_tensor([torch.zeros(2, EMBED), torch.zeros(3, EMBED)])
    layer = MultiheadAttention(EMBED, HEADS)
    with pytest.raises(UserError, match=r"expected layer\(x, x, x\)"):
        layer(nested, other, other)
    with pytest.raises(UserError, match="expected no mask with a nested tensor"):
        layer(nested, nested, nested, key_padding_mask=torch.zeros(2, 3).bool())
    with pytest.raises(UserError, match=r"expected layer\(x, x, x\)"):
        MultiheadAttention(EMBED, HEADS, batch_first=False)(nested, nested, nested)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((12, 5), {}, "expected an embed_dim that num_heads divides, got 12 and 5 heads"),
        ((12, 6), {"num_kv_heads": 4}, "expected a num_kv_heads that divides num_heads, got 4 and 6"),
        ((0, 1), {}, "expected sizes and heads of at least 1, got embed_dim=0"),
        ((12, 6), {"num_kv_heads": 0}, "num_kv_heads=0"),
        ((12, 6), {"dropout": 1.0}, "expected a dropout probability in [0, 1), got 1.0"),
        ((12, 6, 0.1), {}, "expected a Mechanism or one of softmax, linear, "),
        ((12, 6, "linformer"), {}, "give length="),
    ],
)
def test_wrong_layers_are_refused(arguments: tuple[Any, ...], options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        MultiheadAttention(*arguments, **options)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("query", "key", "value", "message"),
    [
        (
            (2, 5, 11),
            (2, 7, 12),
            (2, 7, 12),
            "expected query of 3 dimensions (2 without a batch), the last of 12",
        ),
        ((2, 5, 12), (7, 12), (7, 12), "expected key of 3 dimensions"),
        (
            (2, 5, 12),
            (2, 7, 12),
            (2, 6, 12),
            "expected as many values as keys, got (2, 6, 12) and (2, 7, 12)",
        ),
        ((3, 5, 12), (2, 7, 12), (2, 7, 12), "expected query and key of one batch size (dimension 0"),
        ((12,), (12,), (12,), "expected query of 3 dimensions"),
    ],
)
def test_wrong_shapes_are_refused(
    query: tuple[int, ...], key: tuple[int, ...], value: tuple[int, ...], message: str
) -> None:
    with pytest.raises(UserError) as caught:
        ours()(*(torch.zeros(shape, dtype=torch.float64) for shape in (query, key, value)))
    assert message in str(caught.value)


def test_wrong_dtypes_and_devices_are_refused() -> None:
    layer = MultiheadAttention(4, 2)
    for x in (torch.zeros(1, 3, 4, dtype=torch.float64), torch.zeros(1, 3, 4, dtype=torch.int64)):
        with pytest.raises(UserError, match=f"expected query in the layer's torch.float32, got {x.dtype}"):
            layer(x, x, x)
    x = torch.zeros(1, 3, 4, device="meta")
    with pytest.raises(UserError, match="expected query on cpu, where the layer is, got meta"):
        layer(x, x, x)


@pytest.mark.parametrize("mechanism", ["softmax", "linear"])
def test_sequences_of_length_0(mechanism: str) -> None:
    layer = MultiheadAttention(4, 2, mechanism)
    nn.init.ones_(layer.out_proj.bias)
    some, none = torch.randn(2, 3, 4), torch.zeros(2, 0, 4)
    assert torch.equal(layer(some, none, none)[0], torch.ones(2, 3, 4))
    assert layer(none, some, some)[0].shape == (2, 0, 4)
    assert layer(none, none, none, is_causal=True)[0].shape == (2, 0, 4)
    assert layer(some[:0], some[:0], some[:0])[0].shape == (0, 3, 4)


def test_it_says_what_it_is() -> None:
    text = str(
        MultiheadAttention(
            12, 6, Linear("relu"), num_kv_heads=2, kdim=3, dropout=0.1, add_zero_attn=True, batch_first=False
        )
    )
    assert "12, 6, num_kv_heads=2, kdim=3, dropout=0.1, add_zero_attn=True, batch_first=False" in text
    assert "Linear('relu')" in text


def test_attend_is_the_layer_without_its_projections() -> None:
    q, k, v = random(2, 3, 4, 5), random(2, 1, 6, 5, seed=1), random(2, 1, 6, 5, seed=2)
    keys = torch.rand(2, 1, 1, 6, generator=torch.Generator().manual_seed(0)) > 0.3
    out, weights = attend(q, k, v, Linear(), keys=keys, need_weights=True)
    assert weights is not None
    expected = reference.linear_weights(q, k, EluPlusOne(), mask=keys)
    assert torch.equal(weights, expected)
    assert close(out, expected @ v)
    lengths = torch.tensor([2, 6])
    out, _ = attend(q, k, v, Softmax(), lengths=lengths)
    assert close(out, reference.softmax_weights(q, k, lengths=lengths) @ v)
    assert torch.equal(merge_heads(split_heads(random(2, 5, 12), 3)), random(2, 5, 12))
