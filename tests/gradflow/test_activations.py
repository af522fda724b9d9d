"""Activations: found as modules, functions and in place, with the slopes that autograd has."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from layerlab.gradflow.activations import SATURATED, Activation, look
from layerlab.gradflow.evaluation import Call
from layerlab.gradflow.flow import record

ELEMENTWISE: dict[str, tuple[str, Callable[[Tensor], Tensor]]] = {
    "sigmoid": ("sigmoid", nn.Sigmoid()),
    "sigmoid_": ("sigmoid", torch.sigmoid_),
    "tanh": ("tanh", torch.tanh),
    "tanh_": ("tanh", torch.tanh_),
    "relu": ("relu", nn.ReLU()),
    "relu_": ("relu", nn.ReLU(inplace=True)),
    "functional relu": ("relu", functional.relu),
    "relu6": ("relu6", nn.ReLU6()),
    "hardtanh": ("hardtanh", nn.Hardtanh(-2.0, 1.0)),
    "hardtanh_": ("hardtanh", nn.Hardtanh(-2.0, 1.0, inplace=True)),
    "leaky_relu": ("leaky_relu", nn.LeakyReLU(0.2)),
    "steep leaky_relu_": ("leaky_relu", nn.LeakyReLU(-3.0)),
    "prelu": ("prelu", nn.PReLU(3, init=-0.5, dtype=torch.float64)),
    "steep prelu": ("prelu", nn.PReLU(1, init=-2.0, dtype=torch.float64)),
    "elu": ("elu", nn.ELU(0.5)),
    "steep elu_": ("elu", nn.ELU(2.0)),
    "selu": ("selu", nn.SELU()),
    "celu": ("celu", nn.CELU(2.0)),
    "gelu": ("gelu", nn.GELU()),
    "gelu tanh": ("gelu", nn.GELU("tanh")),
    "silu": ("silu", nn.SiLU()),
    "silu_": ("silu", nn.SiLU(inplace=True)),
    "mish": ("mish", nn.Mish()),
    "softplus": ("softplus", nn.Softplus(2.0, 6.0)),
    "hardswish": ("hardswish", nn.Hardswish()),
    "hardsigmoid": ("hardsigmoid", nn.Hardsigmoid()),
    "log_sigmoid": ("log_sigmoid", nn.LogSigmoid()),
    "threshold": ("threshold", nn.Threshold(1.0, 7.0)),
    "clamp": ("clamp", lambda x: x.clamp(-1.0, 2.0)),
    "clamp_min": ("clamp", lambda x: x.clamp_min(0.0)),
    "clamp_max_": ("clamp", lambda x: x.clamp_max_(1.0)),
    "clamp by tensors": ("clamp", lambda x: torch.clip(x, torch.zeros(3).double())),
}


# torch's own 1/6 in float64 is the one of float32.
PRECISION = {name: 1e-7 if name == "hardsigmoid" else 1e-12 for name in ELEMENTWISE}


def seen(model: Callable[[Tensor], Tensor], x: Tensor) -> list[Activation]:
    return [o.note for o in record(Call.of(model, x, None, None, 0), look).operations if o.note is not None]


def only(model: Callable[[Tensor], Tensor], x: Tensor) -> Activation:
    (found,) = seen(model, x)
    return found


def slopes(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    (grad,) = torch.autograd.grad(f(x * 1.0).sum(), x)
    return grad.detach()


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_slopes_are_those_of_autograd(name: str) -> None:
    kind, f = ELEMENTWISE[name]
    x = 3 * torch.randn(40, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    # The kinks themselves, and far away.
    ends = torch.tensor([-40.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 6.0, 40.0], dtype=torch.float64)
    x = torch.cat([x, ends[:, None].expand(-1, 3)])
    found, expected = only(f, x), slopes(f, x).abs()
    assert found.kind == kind
    assert found.units == 3
    assert found.slope_rms == pytest.approx(float(expected.square().mean().sqrt()), rel=PRECISION[name])
    assert found.off == float((expected == 0).double().mean())
    assert found.saturated == float((expected < SATURATED * found.slope_max).double().mean())
    assert found.input_rms == pytest.approx(float(x.square().mean().sqrt()), rel=1e-12)
    assert found.input_absmax == 40
    assert found.dead == 0


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_the_largest_slope_is_reached_and_never_passed(name: str) -> None:
    _, f = ELEMENTWISE[name]
    x = torch.linspace(-8, 8, 64001, dtype=torch.float64)[:, None].expand(-1, 3).contiguous()
    assert only(f, x).slope_max == pytest.approx(float(slopes(f, x).abs().max()), rel=1e-3)
    assert float(slopes(f, x).abs().max()) <= only(f, x).slope_max * (1 + PRECISION[name])


def test_an_activation_is_placed_in_its_module_and_call() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return torch.tanh(self.fc(x))

    block = Twice()
    found = seen(nn.Sequential(block, block, nn.ReLU()), torch.randn(4, 3))
    assert [(a.kind, a.module, a.call) for a in found] == [
        ("tanh", "0", 0),
        ("tanh", "0", 1),
        ("relu", "2", 0),
    ]


def test_in_place_the_input_is_read_before_it_is_overwritten() -> None:
    x = torch.tensor([[-4.0, 3.0]])
    assert only(nn.ReLU(inplace=True), x) == only(nn.ReLU(), x)
    assert only(nn.ReLU(inplace=True), x).input_absmax == 4


def test_units_are_channels_of_images_and_features_of_anything_else() -> None:
    image = torch.ones(2, 5, 3, 4)
    image[:, 1:3] = -1
    image[1, 2, 0, 0] = 1  # one position is enough to live
    found = only(nn.ReLU(), image)
    assert (found.units, found.dead) == (5, 1 / 5)
    tokens = torch.ones(2, 4, 8)
    tokens[..., :6] = -1
    tokens[0, 1, 5] = 1
    found = only(nn.ReLU(), tokens)
    assert (found.units, found.dead) == (8, 5 / 8)
    found = only(nn.ReLU(), -torch.ones(4))
    assert (found.units, found.dead, found.off) == (1, 1, 1)


@pytest.mark.parametrize("name", ["relu", "prelu", "clamp by tensors", "clamp by a tensor for each sample"])
def test_a_large_batch_is_measured_like_a_small_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(9, 3, dtype=torch.float64)
    x[:8, 0] = -1
    x[:, 1] = -1
    _, f = ELEMENTWISE.get(name, ("", lambda x: x.clamp(torch.arange(9.0).double()[:, None] - 6)))
    whole = only(f, x)
    monkeypatch.setattr("layerlab.gradflow.activations._AT_ONCE", 6)
    parts = only(f, x)
    assert list(parts.to_dict().values())[3:] == pytest.approx(list(whole.to_dict().values())[3:], rel=1e-12)


def test_a_softmax_is_measured_by_rows() -> None:
    x = torch.zeros(2, 3, 4, dtype=torch.float64)
    x[0, :, 1] = 30
    x[0, :, 3] = 31
    x[1, 2, 0] = 20
    found = only(nn.Softmax(1), x)  # rows run down the second dimension
    p = torch.softmax(x, 1).movedim(1, -1).reshape(-1, 3)
    jacobians = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    assert found.slope_rms == pytest.approx(float(jacobians.square().mean(0).sum().div(3).sqrt()), rel=1e-12)
    assert (found.kind, found.units, found.slope_max) == ("softmax", 3, 0.5)
    assert found.saturated == 1 / 8
    assert found.dead is None and found.off is None
    log = only(lambda x: functional.log_softmax(x, 1), x)
    jacobians = torch.eye(3) - p[:, None, :].expand(-1, 3, -1)
    assert log.slope_rms == pytest.approx(float(jacobians.square().mean(0).sum().div(3).sqrt()), rel=1e-12)
    assert (log.kind, log.saturated, log.slope_max) == ("log_softmax", 1 / 8, math.sqrt(3))


def test_half_precision_and_large_values() -> None:
    x = torch.tensor([[60000.0, -60000.0, 1.0]], dtype=torch.bfloat16)
    found = only(nn.ReLU(), x)
    assert found.slope_rms == pytest.approx(math.sqrt(2 / 3), rel=1e-6)
    assert found.input_rms == pytest.approx(math.sqrt(2 / 3) * 60000, rel=1e-2)
    huge = only(nn.ReLU(), torch.tensor([[1e30, -1e30]]))
    assert huge.input_rms == pytest.approx(1e30, rel=1e-6)


def test_what_is_not_finite_shows() -> None:
    found = only(lambda x: torch.tanh(x / 0), torch.zeros(1, 3))
    assert math.isnan(found.slope_rms) and math.isnan(found.input_rms)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x + torch.relu(torch.ones(3)),
        lambda x: x + torch.relu(torch.ones(3) * 2).sum(),
        lambda x: x.sin(),
        lambda x: torch.clamp(torch.ones(2, 3), min=x),
        lambda x: torch.relu(x[:0]).sum() + x,
    ],
    ids=["constant", "constant of two", "sine", "bounded by it", "empty"],
)
def test_what_is_no_activation_of_the_input_is_passed_over(f: Any) -> None:
    assert seen(f, torch.randn(2, 3)) == []


def test_to_dict_names_the_fields() -> None:
    found = only(nn.ReLU(), torch.randn(2, 3)).to_dict()
    assert list(found)[:4] == ["kind", "module", "call", "units"] and len(found) == 11
