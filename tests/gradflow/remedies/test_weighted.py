"""Which weights act where: found by memory, in modules, functions, tied, shared and recurrent."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from layerlab.gradflow.evaluation import Call
from layerlab.gradflow.remedies.weighted import Anatomy, anatomy, matrices


def look(model: nn.Module, x: Tensor) -> Anatomy:
    return anatomy(Call.of(model, x, None, None, 0))


class Own(nn.Module):
    """Weights used in every way but through a module."""

    def __init__(self) -> None:
        super().__init__()
        self.right = nn.Parameter(torch.randn(3, 4))
        self.left = nn.Parameter(torch.randn(5, 5))
        self.bias = nn.Parameter(torch.randn(4))
        self.place = nn.Parameter(torch.randn(5, 4))
        self.qk = nn.Parameter(torch.randn(8, 4))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.sigmoid(x @ self.right + self.bias)
        x = torch.tanh(self.left @ x) + self.place
        return F.linear(x, self.qk[:4]) * F.linear(x, self.qk[4:])


def test_own_parameters_are_found() -> None:
    found = look(Own(), torch.randn(5, 3)).weighted
    assert [(w.weights, w.biases, w.swapped, w.follows, w.comes_from) for w in found] == [
        (("right",), ("bias",), True, "sigmoid", None),
        (("left",), (), False, "tanh", "sigmoid"),
        (("qk",), (), False, None, None),
        (("qk",), (), False, None, None),
    ]
    assert [w.weights for w in matrices(found)] == [("right",), ("left",), ("qk",)]
    assert not any(w.leaves for w in found)


def test_parameters_in_one_storage_are_told_apart() -> None:
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    flat = torch.randn(2, 3, 3)
    for i in range(2):
        model[i].weight = nn.Parameter(flat[i])
    assert [w.weights for w in look(model, torch.ones(2, 3)).weighted] == [("0.weight",), ("1.weight",)]


def test_convolutions_norms_and_what_follows() -> None:
    model = nn.Sequential(
        nn.Conv2d(4, 8, 3, groups=2),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.ConvTranspose2d(8, 4, 2),
        nn.Dropout(),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Conv2d(4, 4, 1),
    ).eval()
    found = look(model, torch.randn(2, 4, 8, 8)).weighted
    assert [(w.module, w.role, w.groups, w.swapped, w.follows, w.comes_from) for w in found] == [
        ("0", "linear", 2, False, "relu", None),
        ("1", "norm", 1, False, "relu", None),
        ("4", "linear", 1, True, "tanh", None),  # a max pool changes the mean
        ("8", "linear", 1, False, None, "tanh"),
    ]
    assert found[1].weights == ("1.weight",)
    assert found[1].biases == ("1.bias",)
    assert all(w.leaves for w in found)


def test_recurrent_modules_count_once() -> None:
    model = nn.Sequential(nn.LSTM(3, 4, num_layers=2))
    (w,) = look(nn.Sequential(nn.Linear(3, 3), nn.Identity()), torch.ones(2, 3)).weighted
    assert w.role == "linear"

    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = model[0]

        def forward(self, x: Tensor) -> Tensor:
            return self.rnn(x)[0][-1]

    (w,) = look(Last(), torch.randn(5, 2, 3)).weighted
    assert w.role == "recurrent"
    assert w.weights == ("rnn.weight_ih_l0", "rnn.weight_hh_l0", "rnn.weight_ih_l1", "rnn.weight_hh_l1")
    assert len(w.biases) == 4


def test_computed_weights_have_no_name() -> None:
    found = look(nn.Sequential(weight_norm(nn.Linear(3, 3)), nn.ReLU()), torch.ones(2, 3)).weighted
    assert [(w.module, w.computed, w.weights) for w in found] == [("0", True, ())]
    assert matrices(found) == []


def test_feeders_stop_at_weights_and_pass_norms() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4), nn.LayerNorm(4), nn.Dropout(), nn.ReLU()).eval()
    found = look(model, torch.randn(2, 3))
    relu = [o for o, _ in found.activations(found.flow.operations)]
    assert [w.module for w in found.feeding(relu)] == ["1", "2"]
    assert [found.first(w) for w in found.weighted] == [True, False, False]


def test_gates_are_no_activations() -> None:
    class Gated(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.sigmoid(x) * torch.tanh(x) + torch.relu(3 * x)

    found = look(Gated(), torch.randn(4, 3))
    assert [a.kind for _, a in found.activations(found.flow.operations)] == ["relu"]


def test_places() -> None:
    class Net(nn.Module):
        def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
            super().__init__()
            self.body, self.function = nn.Sequential(nn.Linear(3, 3), nn.ReLU()), function

        def forward(self, x: Tensor) -> Tensor:
            return self.function(self.body(x))

    found = look(Net(torch.tanh), torch.randn(4, 3))
    names = [step.name for step in found.way]
    plain = [[o.name for o in found.operations_at(name, None)] for name in names]
    assert plain == [["aten::addmm"], ["aten::relu"], ["aten::tanh"]]
    assert [o.name for o in found.operations_at("gone", "body")] == ["aten::addmm", "aten::relu"]
    assert [o.name for o in found.operations_at(names[1], "elsewhere")] == ["aten::relu"]
    assert found.operations_at("gone", None) == ()
