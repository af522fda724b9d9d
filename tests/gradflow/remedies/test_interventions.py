"""Each intervention changes what it says, by the formula it names, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from layerlab.gradflow.evaluation import Call
from layerlab.gradflow.points import Point
from layerlab.gradflow.remedies import interventions
from layerlab.gradflow.remedies.weighted import Weighted, anatomy


@pytest.fixture(autouse=True)
def _seeded() -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def weighted(model: nn.Module, x: Tensor) -> tuple[Weighted, ...]:
    return anatomy(Call.of(model, x, None, None, 0)).weighted


def changed(model: nn.Module, change: Callable[[], Any]) -> set[str]:
    """Names in the state that differ afterwards."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    change()
    return {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}


def values(matrix: Tensor) -> Tensor:
    return torch.linalg.svdvals(matrix.detach().double())


# --- Weights ----------------------------------------------------------------------------------------------------


def test_orthogonal_has_one_singular_value_the_gain() -> None:
    model = nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 9), nn.Tanh(), nn.Linear(9, 4))
    first, second, third = weighted(model, torch.randn(3, 6))
    assert changed(model, lambda: interventions.orthogonal(model, [first, second], 0)) == {
        "0.weight",
        "0.bias",
        "2.weight",
        "2.bias",
    }
    assert torch.allclose(values(model[0].weight), torch.full((6,), math.sqrt(2.0)).double(), atol=1e-6)
    assert torch.allclose(values(model[2].weight), torch.ones(9).double(), atol=1e-6)
    assert not model[0].bias.any()
    interventions.orthogonal(model, [third], 0)
    assert torch.allclose(values(model[4].weight), torch.ones(4).double(), atol=1e-6)


def test_orthogonal_by_groups_and_gates() -> None:
    depthwise = nn.Conv2d(6, 6, 3, groups=6, bias=False)
    interventions.orthogonal(depthwise, weighted(depthwise, torch.randn(1, 6, 5, 5)), 0)
    assert torch.allclose(depthwise.weight.flatten(1).norm(dim=1), torch.ones(6), atol=1e-6)
    model = nn.Sequential(nn.LSTM(3, 5))
    (w,) = (
        Weighted("0", 0, "recurrent", ("0.weight_hh_l0",), (), False, False, 1, None, None, (), 0, False),
    )
    assert changed(model, lambda: interventions.orthogonal(model, [w], 0)) == {"0.weight_hh_l0"}
    for gate in model[0].weight_hh_l0.chunk(4):
        assert torch.allclose(values(gate), torch.ones(5).double(), atol=1e-6)


@pytest.mark.parametrize(
    ("layer", "x", "inputs"),
    [
        (nn.Linear(400, 300), torch.randn(2, 400), 400),
        (nn.Conv2d(40, 50, 3), torch.randn(1, 40, 6, 6), 360),
        (nn.ConvTranspose2d(60, 40, 3), torch.randn(1, 60, 6, 6), 540),
        (nn.Conv2d(60, 60, 5, groups=4), torch.randn(1, 60, 6, 6), 375),
    ],
)
def test_variance_is_gain_squared_over_inputs(layer: nn.Module, x: Tensor, inputs: int) -> None:
    model = nn.Sequential(layer, nn.ReLU())
    interventions.preserve_variance(model, weighted(model, x), 0)
    assert float(layer.weight.detach().var()) * inputs == pytest.approx(2.0, rel=0.03)
    assert not layer.bias.any()


def test_recurrent_weights_keep_variance_and_norm() -> None:
    model = nn.Sequential(nn.GRU(300, 40))
    names = ("0.weight_ih_l0", "0.weight_hh_l0")
    w = Weighted("0", 0, "recurrent", names, (), False, False, 1, None, None, (), 0, False)
    assert changed(model, lambda: interventions.preserve_variance(model, [w], 0)) == set(names)
    assert float(model[0].weight_ih_l0.detach().var()) * 300 == pytest.approx(1.0, rel=0.03)
    for gate in model[0].weight_hh_l0.chunk(3):
        assert torch.allclose(values(gate), torch.ones(40).double(), atol=1e-5)


def test_a_net_of_sigmoids_becomes_one_of_tanh() -> None:
    """σ(z) = 1/2 + tanh(z/2)/2: the weights are those of an orthogonal tanh net, 2, 4, …, 4, 2 times as large."""
    model = nn.Sequential(
        nn.Linear(5, 7), nn.Sigmoid(), nn.Linear(7, 7), nn.Sigmoid(), nn.Linear(7, 3)
    ).double()
    x = torch.randn(4, 5).double()
    interventions.orthogonal(model, weighted(model, x), 0)
    a, b, c = (model[i].weight.detach() for i in (0, 2, 4))
    expected = torch.tanh(torch.tanh(x @ a.T / 2) @ b.T / 4) @ c.T / 2
    assert torch.allclose(model(x), expected, atol=1e-12)
    assert [float(values(w).max()) for w in (a, b, c)] == pytest.approx([2.0, 4.0, 2.0])
    interventions.preserve_variance(model, weighted(model, x), 0)
    a, b, c = (model[i].weight.detach() for i in (0, 2, 4))
    assert torch.allclose(model(x), torch.tanh(torch.tanh(x @ a.T / 2) @ b.T / 4) @ c.T / 2, atol=1e-12)


def test_unit_variance() -> None:
    model = nn.Sequential(nn.Linear(6, 50), nn.ReLU(), nn.Linear(50, 50), nn.ReLU(), nn.Linear(50, 8))
    x = 30 * torch.randn(40, 6)
    found = weighted(model, x)
    touched = changed(model, lambda: interventions.unit_variance(Call.of(model, x, None, None, 0), found, 0))
    assert touched == set(model.state_dict())
    y = x
    for layer in model:
        y = layer(y)
        if isinstance(layer, nn.Linear):
            assert float(y.detach().std()) == pytest.approx(1.0, abs=1e-4)
            assert float(values(layer.weight).max() / values(layer.weight).min()) == pytest.approx(
                1.0, abs=1e-4
            )
    assert not any(len(m._forward_hooks) for m in model.modules())


def test_unit_variance_at_the_first_call_of_a_shared_layer() -> None:
    layer = nn.Linear(20, 20)
    model, x = nn.Sequential(layer, nn.ReLU(), layer), torch.randn(30, 20)
    interventions.unit_variance(Call.of(model, x, None, None, 0), weighted(model, x)[:1], 0)
    assert float(layer(x).detach().std()) == pytest.approx(1.0, abs=1e-4)


def test_same_seed_same_weights() -> None:
    for change in (interventions.orthogonal, interventions.preserve_variance):
        drawn = []
        for seed in (3, 3, 4):
            model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
            before = torch.get_rng_state()
            change(model, weighted(model, torch.ones(2, 4)), seed)
            assert torch.equal(before, torch.get_rng_state())
            drawn.append(model[0].weight.detach())
        assert torch.equal(drawn[0], drawn[1])
        assert not torch.equal(drawn[0], drawn[2])


def test_biases_norms_forget_gates() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.ReLU())
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    linear, norm = weighted(model, torch.ones(2, 3))
    assert changed(model, lambda: interventions.zero_biases(model, [linear])) == {"0.bias"}
    assert not model[0].bias.any()
    assert changed(model, lambda: interventions.reset_norms(model, [norm])) == {"1.weight", "1.bias"}
    assert bool((model[1].weight == 1).all())
    assert not model[1].bias.any()
    rnn = nn.LSTM(2, 3)
    biases = ("bias_ih_l0", "bias_hh_l0")
    w = Weighted("", 0, "recurrent", (), biases, False, False, 1, None, None, (), 0, False)
    old = rnn.bias_ih_l0.detach().clone()
    assert changed(rnn, lambda: interventions.forget_bias(rnn, [w])) == set(biases)
    both = rnn.bias_ih_l0 + rnn.bias_hh_l0
    assert torch.equal(both[3:6], torch.ones(3))
    assert torch.equal(rnn.bias_ih_l0[:3], old[:3])
    assert torch.equal(rnn.bias_ih_l0[6:], old[6:])


def test_statistics_are_those_of_the_batch() -> None:
    model = nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2)
    )
    x = 4 + torch.randn(6, 2, 5, 5)
    expected = model(x)
    for name in ("1", "4"):
        model.get_submodule(name).running_var.zero_()
    model.eval()
    call = Call.of(model, x, None, None, 0)
    touched = changed(model, lambda: interventions.renew_statistics(call, ["1", "4"]))
    assert touched == {f"{i}.running_{what}" for i in (1, 4) for what in ("mean", "var")}
    assert torch.allclose(model(x), expected, atol=1e-5)
    assert not any(len(m._forward_hooks) for m in model.modules())


# --- Between weights --------------------------------------------------------------------------------------------


def test_normalise() -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(27, 4), nn.Linear(4, 4))
    x = torch.randn(5, 2, 5, 5)
    images = model[0](x)
    expected = model[3](F.layer_norm(model[2](F.group_norm(images, 1).flatten(1)), (4,)))
    assert not changed(model, lambda: interventions.normalise(model, ["0", "2"]))
    assert torch.allclose(model(x), expected, atol=1e-6)
    assert torch.allclose(model[0](x).flatten(1).mean(1), torch.zeros(5), atol=1e-6)


@pytest.mark.parametrize("shape", [(50, 4), (9, 6, 4), (20, 4, 5, 5)])
def test_standardised(shape: tuple[int, ...]) -> None:
    x = 1e4 + 300 * torch.randn(shape)
    kept = 1 if len(shape) >= 4 else len(shape) - 1
    for inputs, path in ((x, (0,)), ((x, 7), (0,)), ({"x": x}, ("x",))):
        before = x.clone()
        given = interventions.standardised(inputs, [path])
        new = given if isinstance(given, Tensor) else given[path[0]]
        assert torch.equal(x, before)
        flat = new.transpose(0, kept).flatten(1)
        assert torch.allclose(flat.mean(1), torch.zeros(len(flat)), atol=1e-3)
        assert torch.allclose(flat.std(1, unbiased=False), torch.ones(len(flat)), atol=1e-3)
    constant = interventions.standardised(torch.ones(3, 2), [(0,)])
    assert torch.equal(constant, torch.zeros(3, 2))


def test_skips() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4), nn.ReLU(inplace=True), nn.Linear(4, 4), nn.Tanh())
    x = torch.randn(2, 3)
    a, b, c = model[0], model[1], model[3]
    h = a(x)
    h = h + 0.5 * torch.relu(b(h))
    expected = h + 0.5 * torch.tanh(c(h))
    spans = [(Point("0"), Point("2")), (Point("3", "input"), Point("4"))]
    interventions.add_skips(model, spans, 0.5)
    for _ in range(2):  # what is counted and kept begins anew
        assert torch.allclose(model(x), expected, atol=1e-6)


def test_skips_keep_what_is_overwritten() -> None:
    model, x = nn.Sequential(nn.Linear(3, 3), nn.ReLU(inplace=True)), torch.randn(6, 3)
    h = model[0](x)
    expected = h + torch.relu(h)
    interventions.add_skips(model, [(Point("0"), Point("1"))], 1.0)
    assert torch.allclose(model(x), expected)


def test_skips_around_calls_of_a_shared_layer() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(torch.tanh(self.layer(x)))

    model, x = Twice(), torch.randn(2, 3)
    h = torch.tanh(model.layer(x))
    expected = h + model.layer(h)
    interventions.add_skips(model, [(Point("layer", "input", 1), Point("layer", "output", 1))], 1.0)
    assert torch.allclose(model(x), expected)


class Everywhere(nn.Module):
    """A sigmoid as module, function, method, in place, as a ReLU with ``inplace`` and inside a part."""

    def __init__(self) -> None:
        super().__init__()
        self.module = nn.Sigmoid()
        self.part = nn.Sequential(nn.Identity(), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        parts = [torch.sigmoid(x), x.sigmoid(), F.sigmoid(x), torch.special.expit(x), self.module(x)]
        parts += [(2 * x).sigmoid_(), torch.sigmoid_(3 * x), torch.tanh(x), self.part(x)]
        return torch.stack(parts)


def test_exchange() -> None:
    model, x = Everywhere(), torch.randn(4, 3)
    plain = model(x)
    interventions.exchange(model, {"sigmoid"}, ["", "module"], F.gelu)
    g = F.gelu(x)
    expected = [g, g, g, g, g, F.gelu(2 * x), F.gelu(3 * x), plain[7], plain[8]]
    for _ in range(2):
        assert torch.equal(model(x), torch.stack(expected))
    assert torch.equal(torch.sigmoid(x), plain[0])  # nothing is left outside of the model


def test_exchange_in_place_can_be_differentiated() -> None:
    rectifiers = [nn.ReLU(inplace=True), nn.ReLU6(), nn.ReLU6(inplace=True), nn.Threshold(0, 0)]
    model, x = nn.Sequential(nn.Linear(3, 3), *rectifiers, nn.Linear(3, 1)), torch.randn(5, 3)
    expected = model[5](F.gelu(F.gelu(F.gelu(F.gelu(model[0](x))))))
    interventions.exchange(model, {"relu", "relu6", "threshold"}, ["1", "2", "3", "4"], F.gelu)
    y = model(x)
    assert torch.allclose(y, expected)
    y.sum().backward()
    assert float(model[0].weight.grad.abs().sum()) > 0


def test_divide_softmax() -> None:
    class Functional(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([x.softmax(-1), F.softmax(x, dim=-1), torch.softmax(input=x, dim=-1)])

    x = torch.randn(4, 3)
    for model in (nn.Sequential(nn.Softmax(-1)), nn.Sequential(Functional())):
        interventions.divide_softmax(model, {"softmax"}, ["0"], 7.0)
        expected = (x / 7).softmax(-1)
        assert torch.allclose(model(x), expected.expand_as(model(x)))


def test_gain() -> None:
    plain = Weighted("", 0, "linear", (), (), False, False, 1, None, None, (), 0, True)
    gains = {
        kind: interventions.gain(replace(plain, follows=kind))
        for kind in (None, "tanh", "selu", "gelu", "sigmoid")
    }
    assert gains == {None: 1, "tanh": 1, "selu": 1, "gelu": math.sqrt(2), "sigmoid": 2}
    assert interventions.gain(replace(plain, follows="relu", comes_from="sigmoid")) == 2 * math.sqrt(2)
