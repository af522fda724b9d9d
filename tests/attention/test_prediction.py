"""First-order prediction of swaps: against finite differences, and exactly where the model is linear after them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from layerlab.attention import prediction
from layerlab.attention.calls import AttentionCall
from layerlab.attention.mechanisms import Mechanism, mechanism
from layerlab.attention.prediction import chosen_output, explicit, predict, replaced_output
from layerlab.attention.softmax import softmax_attention
from layerlab.attention.watching import attention_calls, replacing
from layerlab.errors import UserError


def encoder(layers: int = 2, *, pre_norm: bool = False) -> nn.TransformerEncoder:
    torch.manual_seed(3)
    layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0, "gelu", batch_first=True, norm_first=pre_norm)
    return nn.TransformerEncoder(layer, layers, enable_nested_tensor=False).double().eval()


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def inputs(n: int = 7) -> Tensor:
    return torch.randn(3, n, 8, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


def linear(name: str = "linear") -> Mechanism:
    return mechanism(name, heads=2, head_size=4).double()


SITES = ("layers.0.self_attn", "layers.1.self_attn")


def by_difference(model: nn.Module, x: Any, swaps: dict[str, Mechanism], step: float = 1e-4) -> Tensor:
    """The change of the output by central differences along delta at all sites at once."""
    calls = {call.site: call for call in attention_calls(model, x).calls}
    deltas = {site: replaced_output(m, calls[site]) - calls[site].output for site, m in swaps.items()}

    def moved(h: float) -> Tensor:
        functions = {site: lambda call, site=site: explicit(call) + h * deltas[site] for site in deltas}
        with replacing(model, functions):
            output: Tensor = model(x)
        return output

    return (moved(step) - moved(-step)) / (2 * step)


@pytest.mark.parametrize("pre_norm", [False, True])
@pytest.mark.parametrize("name", ["linear", "linear-relu", "nystrom"])
def test_tangents_are_central_differences(name: str, pre_norm: bool) -> None:
    model, x = encoder(pre_norm=pre_norm), inputs()
    chosen = mechanism("nystrom") if name == "nystrom" else linear(name)
    if name == "nystrom":
        chosen.landmarks = 3  # type: ignore[assignment]
    found = predict(model, x, {site: {name: chosen} for site in SITES})
    assert found.way == "forward" and found.why is None
    for site in SITES:
        expected = by_difference(model, x, {site: chosen})
        got = found.swaps[site, name]
        assert torch.allclose(got.tangent, expected.flatten(), rtol=1e-5, atol=1e-7 * float(expected.norm()))
        assert got.error == pytest.approx(float(expected.norm() / model(x).norm()), rel=1e-5)


def test_the_tangents_of_several_sites_add_up() -> None:
    model, x = encoder(), inputs()
    swaps = {SITES[0]: linear(), SITES[1]: linear("linear-relu")}
    found = predict(model, x, {site: {"m": m} for site, m in swaps.items()})
    total = sum(found.swaps[site, "m"].tangent for site in SITES)
    together = found.error([(site, "m") for site in SITES])
    assert together == pytest.approx(float(total.norm()) / found.norm, rel=1e-12)
    # The second site's queries are fixed in the difference too, once its output is exchanged by a constant.
    alone = sum(by_difference(model, x, {site: m}) for site, m in swaps.items())
    assert together == pytest.approx(float(alone.norm()) / found.norm, rel=1e-5)
    assert found.error([]) == 0.0


class Branch(nn.Module):
    """After its attention it is linear."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True).double()
        self.last = nn.Linear(8, 3).double()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        seen, weights = self.attention(x, x, x)
        return {"weights": weights, "logits": self.last(x + 0.5 * seen)}


def test_where_the_rest_is_linear_the_prediction_is_the_measured_change() -> None:
    model, x = Branch().eval(), inputs()
    found = predict(model, x, {"attention": {"linear": linear(), "random": linear("linear-random")}})
    clean = model(x)["logits"]
    for name in ("linear", "random"):
        chosen = linear() if name == "linear" else linear("linear-random")
        with replacing(model, {"attention": lambda call, m=chosen: replaced_output(m, call)}):
            measured = float((model(x)["logits"] - clean).norm() / clean.norm())
        assert measured > 1e-3
        assert found.error([("attention", name)]) == pytest.approx(measured, rel=1e-9)


class _OneWay(torch.autograd.Function):
    """tanh without a forward derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x.tanh()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return gradient * (1 - y * y)


class Last(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.encoder, self.function = encoder(), function

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.function(self.encoder(x))
        return result


@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-5), (torch.float32, 1e-2)])
def test_without_forward_derivatives_a_difference_gives_the_same(dtype: torch.dtype, close: float) -> None:
    x = inputs().to(dtype)
    chosen = mechanism("linear", heads=2, head_size=4)
    candidates = {f"encoder.{site}": {"linear": chosen} for site in SITES}
    forward = predict(Last(torch.tanh).to(dtype), x, candidates)
    difference = predict(Last(_OneWay.apply).to(dtype), x, candidates)
    assert (forward.way, difference.way) == ("forward", "difference")
    assert difference.why is not None and "jvp" in difference.why
    for swap in forward.swaps:
        a, b = forward.swaps[swap].tangent, difference.swaps[swap].tangent
        assert float((a - b).norm()) < close * float(a.norm())


def test_a_failure_of_the_model_itself_is_no_reason_for_another_way() -> None:
    passes = 0

    def fails_later(x: Tensor) -> Tensor:
        nonlocal passes
        passes += 1
        if passes > 1:
            raise KeyError("lost")
        return x

    with pytest.raises(UserError, match="KeyError"):
        predict(Last(fails_later), inputs(), {f"encoder.{SITES[0]}": {"linear": linear()}})
    assert passes == 2


def call_of(*, causal: bool, mask: Tensor | None, n: int = 9, m: int = 9) -> AttentionCall:
    generator = torch.Generator().manual_seed(5)
    q, k, v = (
        torch.randn(2, h, size, 4, generator=generator, dtype=torch.float64)
        for h, size in ((4, n), (2, m), (2, m))
    )
    return AttentionCall("s", "s", "S", 0, "", q, k, v, mask, causal, 0.7, 0.0, lambda: v)


@pytest.mark.parametrize("block", [1, 100, 1 << 24])
@pytest.mark.parametrize("kind", ["none", "causal", "keys", "rows", "float", "causal-keys", "causal-float"])
def test_the_explicit_form_is_softmax_attention(
    kind: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prediction, "_BLOCK", block)
    generator = torch.Generator().manual_seed(6)
    keys = torch.ones(2, 1, 1, 9, dtype=torch.bool)
    keys[1, ..., 6:] = False
    rows = (torch.rand(1, 4, 9, 9, generator=generator) < 0.7) | torch.eye(9, dtype=torch.bool)
    added = torch.randn(2, 1, 9, 9, generator=generator, dtype=torch.float64)
    mask = {"keys": keys, "rows": rows, "float": added, "causal-keys": keys, "causal-float": added}.get(kind)
    call = call_of(causal=kind.startswith("causal"), mask=mask)
    expected = softmax_attention(call.q, call.k, call.v, mask=call.mask, causal=call.causal, scale=call.scale)
    assert torch.allclose(explicit(call), expected, rtol=1e-12, atol=1e-14)


def test_long_tangents_are_sketched_with_their_inner_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction, "_SKETCH", 4096)
    generator = torch.Generator().manual_seed(7)
    a, b = torch.randn(2, 50_000, generator=generator, dtype=torch.float64)
    b = b + a
    short_a, short_b = prediction._sketch(a), prediction._sketch(b)
    assert short_a.shape == (4096,)
    bound = 4 * math.sqrt(2 / 4096) * float(a.norm() * b.norm())
    assert abs(float(short_a @ short_b - a @ b)) < bound < float(a @ b)
    assert abs(float(short_b @ short_b - b @ b)) < 4 * math.sqrt(2 / 4096) * float(b @ b)
    assert torch.equal(prediction._sketch(a[:4096]), a[:4096])


def test_the_model_is_left_as_it_was() -> None:
    model, x = encoder(), inputs()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    generator = torch.get_rng_state()
    predict(model, x, {SITES[0]: {"linear": linear()}})
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(generator, torch.get_rng_state())
    assert not any(module._forward_hooks for module in model.modules())


def test_bad_requests_are_told() -> None:
    model, x = encoder(), inputs()
    with pytest.raises(UserError, match=r"no attention at 'layers.7'; it does at layers.0.self_attn"):
        predict(model, x, {"layers.7": {"linear": linear()}})
    found = predict(model, x, {SITES[0]: {"linear": linear(), "relu": linear("linear-relu")}})
    with pytest.raises(UserError, match=r"nystrom at layers\.0\.self_attn is not among"):
        found.error([(SITES[0], "nystrom")])
    with pytest.raises(UserError, match="one mechanism for a site"):
        found.error([(SITES[0], "linear"), (SITES[0], "relu")])

    class Zero(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder()

        def forward(self, x: Tensor) -> Tensor:
            return 0 * self.encoder(x)

    with pytest.raises(UserError, match=r"norm 0\.0: there is no relative error"):
        predict(Zero(), x, {f"encoder.{SITES[0]}": {"linear": linear()}})


def test_the_output_that_counts() -> None:
    one, two = torch.ones(1), torch.ones(2)
    assert chosen_output(one, None) == ()
    assert chosen_output((torch.ones(1, dtype=torch.int64), two), None) == (1,)
    assert chosen_output({"a": one, "logits": two}, ("a",)) == ("a",)
    with pytest.raises(UserError, match="the output 'b' is not among"):
        chosen_output({"a": one}, ("b",))
    with pytest.raises(UserError, match="without a tensor of real numbers"):
        chosen_output([torch.ones(1, dtype=torch.int64)], None)
