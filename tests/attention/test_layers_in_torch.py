"""The layer in the place of torch's inside torch's transformers: training, evaluation, with and without gradients."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from layerlab.attention.layers import MultiheadAttention

EMBED, HEADS, BATCH, N, M = 8, 2, 3, 6, 5

# torch itself says so whenever its encoder packs padded sequences.
PROTOTYPE = pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage")


def swapped(model: nn.Module, mechanism: str) -> nn.Module:
    """A copy of the model with our layers in the place of torch's."""
    model = copy.deepcopy(model)
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.MultiheadAttention):
                setattr(parent, name, MultiheadAttention.from_torch(child, mechanism, length=N))
    return model


def trained(model: nn.Module) -> nn.Module:
    """Parameters as training leaves them: no bias is 0."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    return model.double()


def encoder_layer(**options: Any) -> nn.TransformerEncoderLayer:
    torch.manual_seed(0)
    given: dict[str, Any] = {"dim_feedforward": 16, "dropout": 0.0, "batch_first": True, **options}
    return trained(nn.TransformerEncoderLayer(EMBED, HEADS, **given))  # type: ignore[return-value]


def sequence(seed: int = 0, n: int = N) -> Tensor:
    return torch.randn(BATCH, n, EMBED, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def padding() -> Tensor:
    return torch.arange(N) >= torch.tensor([6, 4, 2])[:, None]


def hidden(n: int = N) -> Tensor:
    return ~torch.ones(n, n).tril().bool()


def close(left: Tensor, right: Tensor) -> bool:
    return left.shape == right.shape and bool((left - right).abs().max() < 1e-12)


MODES = [(True, True), (False, True), (False, False)]


@pytest.mark.parametrize(
    "options", [{}, {"norm_first": True}, {"batch_first": False}, {"bias": False}], ids=str
)
@pytest.mark.parametrize(("training", "gradients"), MODES)
def test_an_encoder_layer_with_softmax_is_torchs(
    training: bool, gradients: bool, options: dict[str, Any]
) -> None:
    theirs = encoder_layer(**options).train(training)
    layer = swapped(theirs, "softmax")
    x = sequence()
    x = x if options.get("batch_first", True) else x.transpose(0, 1)
    with torch.set_grad_enabled(gradients):
        for given in (
            {},
            {"src_key_padding_mask": padding()},
            {"src_mask": hidden()},
            {"src_mask": hidden(), "is_causal": True},
            {"src_mask": hidden(), "src_key_padding_mask": padding(), "is_causal": True},
        ):
            assert close(layer(x, **given), theirs(x, **given))
    if gradients:
        grads = []
        for module in (theirs, layer):
            module.zero_grad()
            (module(x, src_mask=hidden()) * sequence(5).view(x.shape)).sum().backward()
            grads.append({name: parameter.grad for name, parameter in module.named_parameters()})
        assert grads[0].keys() == grads[1].keys()
        assert all(close(grads[1][name], grads[0][name]) for name in grads[0])


@pytest.mark.parametrize(
    "mechanism", ["linear", "linear-random", "hedgehog", "nystrom", "low-rank", "linformer"]
)
def test_torchs_fast_path_does_not_pass_the_mechanism_by(mechanism: str) -> None:
    theirs = encoder_layer().eval()
    layer = swapped(theirs, mechanism)
    if mechanism in ("nystrom", "low-rank", "linformer"):
        # At full rank these three are softmax attention.
        layer.self_attn = MultiheadAttention.from_torch(theirs.self_attn, small(mechanism))
    x = sequence()
    for given in ({}, {"src_key_padding_mask": padding()}):
        slow = layer(x, **given)
        with torch.no_grad():
            fast = layer(x, **given)
            softmax = theirs(x, **given)
        assert slow.requires_grad
        assert close(fast, slow)
        assert (fast - softmax).abs().max() > 1e-3
    with torch.inference_mode():
        assert close(layer(x), layer.train()(x))


def small(mechanism: str) -> Any:
    from layerlab.attention.mechanisms import Linformer, LowRank, Nystrom

    return {"nystrom": Nystrom(2), "low-rank": LowRank(1), "linformer": Linformer(N, 2).double()}[mechanism]


def test_an_encoder_layer_with_linear_is_its_parts() -> None:
    layer: Any = swapped(encoder_layer(), "linear").eval()
    x = sequence()
    attention = layer.self_attn
    size = EMBED // HEADS
    q, k, v = (
        y.view(BATCH, N, HEADS, size).transpose(1, 2)
        for y in (x @ attention.in_proj_weight.T + attention.in_proj_bias).split(EMBED, -1)
    )
    weights = torch.where(q > 0, q + 1, q.exp()) @ torch.where(k > 0, k + 1, k.exp()).transpose(-1, -2)
    heads = weights / weights.sum(-1, keepdim=True) @ v
    x = layer.norm1(x + attention.out_proj(heads.transpose(1, 2).reshape(BATCH, N, EMBED)))
    expected = layer.norm2(x + layer.linear2(layer.linear1(x).relu()))
    with torch.no_grad():
        assert close(layer(sequence()), expected)


@PROTOTYPE
@pytest.mark.parametrize("mechanism", ["softmax", "linear"])
@pytest.mark.parametrize(("training", "gradients"), MODES)
def test_an_encoder_that_packs_padded_sequences(mechanism: str, training: bool, gradients: bool) -> None:
    """torch hands a nested tensor to layers that were exchanged after the encoder was built."""
    theirs = nn.TransformerEncoder(encoder_layer(), 2).train(training)
    assert theirs.use_nested_tensor
    model = swapped(theirs, mechanism)
    built = nn.TransformerEncoder(swapped(encoder_layer(), mechanism), 2, enable_nested_tensor=False)
    built.load_state_dict(model.state_dict())
    built.train(training)
    x, inside = sequence(), ~padding()
    with torch.set_grad_enabled(gradients):
        out = model(x, src_key_padding_mask=padding())
        assert close(out[inside], built(x, src_key_padding_mask=padding())[inside])
        if mechanism == "softmax":
            assert close(out[inside], theirs(x, src_key_padding_mask=padding())[inside])
        assert close(model(x), built(x))
        causal = nn.Transformer.generate_square_subsequent_mask(N, dtype=torch.float64)
        assert close(model(x, mask=causal), built(x, mask=causal, is_causal=True))
        assert not close(model(x, mask=causal), model(x))


def test_an_encoder_is_told_that_it_will_not_pack() -> None:
    with pytest.warns(UserWarning, match="enable_nested_tensor is True, but"):
        encoder = nn.TransformerEncoder(swapped(encoder_layer(), "linear"), 2)
    assert not encoder.use_nested_tensor


@pytest.mark.parametrize(("training", "gradients"), MODES)
def test_a_decoder_with_softmax_is_torchs(training: bool, gradients: bool) -> None:
    torch.manual_seed(0)
    layer = nn.TransformerDecoderLayer(EMBED, HEADS, 16, dropout=0.0, batch_first=True)
    theirs = trained(nn.TransformerDecoder(layer, 2)).train(training)
    model, linear = swapped(theirs, "softmax"), swapped(theirs, "linear")
    target, memory = sequence(n=M), sequence(1)
    given = {
        "tgt_mask": torch.zeros(M, M).double().masked_fill(hidden(M), -math.inf),
        "memory_key_padding_mask": padding(),
    }
    with torch.set_grad_enabled(gradients):
        expected = theirs(target, memory, **given)
        assert close(model(target, memory, **given), expected)
        assert (linear(target, memory, **given) - expected).abs().max() > 1e-3
        # Causal through both layers: the first outputs do not know the last tokens.
        changed = torch.cat([target[:, :3], sequence(7, 2)], 1)
        assert close(linear(changed, memory, **given)[:, :3], linear(target, memory, **given)[:, :3])


def test_the_whole_transformer_learns() -> None:
    torch.manual_seed(0)
    theirs = nn.Transformer(EMBED, HEADS, 1, 1, 16, dropout=0.1, batch_first=True)
    model: Any = swapped(theirs, "hedgehog")
    source, target = torch.randn(4, N, EMBED), torch.randn(4, M, EMBED)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        out = model(source, target, tgt_mask=hidden(M), tgt_is_causal=True)
        loss = (out - target).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]
    assert all(p.grad is not None and bool(p.grad.abs().max() > 0) for p in model.parameters())
