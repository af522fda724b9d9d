"""The code that is written for users: equal to the operators of this package, and put into models of every sort."""

from __future__ import annotations

import ast
import copy
import inspect
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from layerlab.attention.linearize import plain
from layerlab.attention.linearize.candidates import MAPS
from layerlab.attention.linearize.plain import LinearAttention, install
from layerlab.attention.mechanisms import Linear, mechanism
from layerlab.attention.watching import attention_calls, replacing

HEADS, SIZE = 4, 6


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def pair(
    name: str, kv_heads: int = HEADS, dtype: torch.dtype = torch.float64
) -> tuple[Linear, LinearAttention]:
    """The mechanism of the package and the plain one with the same, random, parameters."""
    ours = mechanism(name, heads=HEADS, head_size=SIZE, kv_heads=kv_heads, seed=3)
    assert isinstance(ours, Linear)
    generator = torch.Generator().manual_seed(8)
    for parameter in ours.parameters():
        parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    theirs = LinearAttention(MAPS[name], HEADS, kv_heads, SIZE, 2 * SIZE)
    theirs.load_state_dict(ours.feature_map.state_dict())
    return ours.to(dtype), theirs.to(dtype)


def drawn(n: int, m: int, kv_heads: int = HEADS, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(n + m)
    return tuple(
        torch.randn(2, heads, size, width, generator=generator, dtype=torch.float64).to(dtype)
        for heads, size, width in ((HEADS, n, SIZE), (kv_heads, m, SIZE), (kv_heads, m, 5))
    )


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kv_heads", [HEADS, 2])
@pytest.mark.parametrize("name", MAPS)
def test_it_equals_the_operator(name: str, kv_heads: int, causal: bool) -> None:
    ours, theirs = pair(name, kv_heads)
    for n in (1, 63, 128, 300):
        q, k, v = drawn(n, n if causal else n + 7, kv_heads)
        for scale in (SIZE**-0.5, 0.9):
            expected = ours(q, k, v, causal=causal, scale=scale)
            assert torch.allclose(theirs(q, k, v, None, causal, scale), expected, rtol=1e-9, atol=1e-11), (
                n,
                scale,
            )


@pytest.mark.parametrize("name", MAPS)
def test_it_equals_the_operator_where_keys_are_hidden(name: str) -> None:
    ours, theirs = pair(name)
    q, k, v = drawn(40, 40)
    mask = torch.ones(2, 1, 1, 40, dtype=torch.bool)
    mask[0, ..., 25:] = False
    mask[1] = False
    expected = ours(q, k, v, mask=mask, causal=True, scale=0.5)
    got = theirs(q, k, v, mask[:, :, 0].double(), True, 0.5)
    assert torch.allclose(got, expected, rtol=1e-9, atol=1e-11)
    assert not got[1].any(), "a row that sees no key is 0"


@pytest.mark.parametrize("name", MAPS)
def test_half_precision_is_computed_in_float32(name: str) -> None:
    ours, theirs = pair(name, dtype=torch.bfloat16)
    q, k, v = drawn(50, 50, dtype=torch.bfloat16)
    got = theirs(q, k, v, None, False, SIZE**-0.5)
    assert got.dtype == torch.bfloat16
    assert torch.allclose(got.float(), ours(q, k, v).float(), atol=0.02)


class Sums(nn.Module):
    """nn.MultiheadAttention and what is made of it, and scaled_dot_product_attention in three dimensions."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(24, HEADS, 32, 0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.cross = nn.MultiheadAttention(24, HEADS, kdim=10, vdim=12, bias=False)
        self.single = Single()

    def forward(self, x: Tensor, k: Tensor, v: Tensor, padding: Tensor | None = None) -> Tensor:
        hidden = self.encoder(x, src_key_padding_mask=padding)
        seen = self.cross(hidden.transpose(0, 1), k, v)[0].transpose(0, 1)
        result: Tensor = self.single(hidden + seen)
        return result


class Single(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return functional.scaled_dot_product_attention(x, x, x, is_causal=True, scale=0.3)


SWAPPED = ("encoder.layers.0.self_attn", "encoder.layers.1.self_attn", "cross", "single")


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("name", ["linear", "hedgehog"])
def test_installed_it_does_what_replacing_does(name: str, padded: bool) -> None:
    model = Sums().eval()
    generator = torch.Generator().manual_seed(1)
    x, k, v = (torch.randn(s, generator=generator) for s in ((3, 9, 24), (5, 3, 10), (5, 3, 12)))
    padding = torch.zeros(3, 9, dtype=torch.bool)
    padding[1, 6:] = True
    inputs = (x, k, v, padding if padded else None)
    calls = {call.site: call for call in attention_calls(model, inputs).calls}
    assert set(calls) == set(SWAPPED)
    ours = {
        site: mechanism(name, heads=call.heads, head_size=call.q.shape[-1]) for site, call in calls.items()
    }
    swaps = {
        site: {
            "phi": MAPS[name],
            "heads": call.heads,
            "kv_heads": call.heads,
            "head_size": call.q.shape[-1],
            "features": 0,
        }
        for site, call in calls.items()
    }
    with replacing(
        model,
        {
            site: lambda c, m=m: m(c.q, c.k, c.v, mask=c.mask, causal=c.causal, scale=c.scale)
            for site, m in ours.items()
        },
    ):
        expected = model(*inputs)
    # Without torch's fused encoder, which warns; the twin must do without it by itself.
    clean = attention_calls(model, inputs).output
    twin = install(copy.deepcopy(model), swaps)
    if padded:
        # Where a sequence ends, what stands beyond means nothing.
        expected, clean = (y[:, :6] for y in (expected, clean))
        got = twin(*inputs)[:, :6]
    else:
        got = twin(*inputs)
    assert torch.allclose(got, expected, atol=2e-6)
    assert float((got - clean).norm() / clean.norm()) > 0.01
    assert torch.equal(attention_calls(model, inputs).output[:, :6], clean[:, :6]), (
        "the original is as it was"
    )
    again = copy.deepcopy(twin)
    again.get_submodule("cross").linear_attention.phi = "relu"  # type: ignore[union-attr]
    assert torch.equal(twin(*inputs)[:, :6], got[:, :6]), "a copy of the copy is a model of its own"
    assert not torch.equal(again(*inputs)[:, :6], got[:, :6])


def test_weights_and_gradients_go_where_they_should() -> None:
    swaps = {
        "cross": {"phi": "hedgehog", "heads": HEADS, "kv_heads": HEADS, "head_size": SIZE, "features": 0}
    }
    model = install(Sums(), swaps)
    assert "cross.linear_attention.query_weight" in model.state_dict()
    with torch.enable_grad():
        model(torch.randn(2, 4, 24), torch.randn(5, 2, 10), torch.randn(5, 2, 12)).sum().backward()
    for name in (
        "cross.linear_attention.query_weight",
        "cross.q_proj_weight",
        "encoder.layers.0.linear1.weight",
    ):
        gradient = model.get_parameter(name).grad
        assert gradient is not None and bool(gradient.any()), name


def test_masks_that_it_cannot_take_are_refused() -> None:
    attention = nn.MultiheadAttention(24, HEADS, batch_first=True)
    swaps = {"": {"phi": "elu", "heads": HEADS, "kv_heads": HEADS, "head_size": SIZE, "features": 0}}
    x = torch.randn(2, 5, 24)
    model = install(attention, swaps)
    causal = nn.Transformer.generate_square_subsequent_mask(5)
    hinted = model(x, x, x, attn_mask=causal, is_causal=True, need_weights=False)[0]
    assert torch.allclose(model(x, x, x, attn_mask=causal)[0], hinted)
    assert torch.allclose(model(x, x, x, attn_mask=causal.isinf())[0], hinted)
    assert torch.allclose(model(x[:1], x[:1], x[:1], attn_mask=causal)[0], hinted[:1])
    assert torch.allclose(model(x[0], x[0], x[0], attn_mask=causal)[0], hinted[0]), "without a batch"
    assert not torch.allclose(model(x, x, x)[0], hinted)
    band = torch.eye(5, dtype=torch.bool)
    with pytest.raises(ValueError, match="differs between queries"):
        model(x, x, x, attn_mask=band)


def test_it_needs_torch_and_safetensors_only() -> None:
    tree = ast.parse(inspect.getsource(plain))
    modules = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert modules == {"__future__", "functools", "math", "pathlib", "typing", "torch", "safetensors"}
