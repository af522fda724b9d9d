"""The way through a model in steps: their names, and that their Jacobians multiply to the model's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from layerlab.errors import UserError
from layerlab.gradflow.evaluation import Call
from layerlab.gradflow.flow import record
from layerlab.gradflow.jacobians import between
from layerlab.gradflow.linear_maps import dense
from layerlab.gradflow.path import Step, steps
from layerlab.gradflow.trace import Trace

from .models import SUBJECTS, Block, subject


def way(model: Any, x: Any, layers: tuple[str, ...] = ()) -> tuple[Step, ...]:
    return steps(record(Call.of(model, x, None, None, 0)), model, layers)


@pytest.mark.parametrize("name", SUBJECTS)
def test_the_jacobians_of_the_steps_multiply_to_that_of_the_model(name: str) -> None:
    model, x = subject(name)
    call = Call.of(model, x, 0 if name in ("gcn", "gat") else None, None, 0)
    found = steps(record(call), model)
    trace = Trace(call, [p for step in found for p in (step.start, step.stop)])
    product: Tensor | None = None
    for step in found:
        matrix = dense(between(trace, step.start, step.stop, batch_dim=None))[0]
        product = matrix if product is None else matrix @ product
    whole = dense(between(Trace(call, ["input", "output"]), "input", "output", batch_dim=None))[0]
    assert product is not None
    torch.testing.assert_close(product, whole, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "least"),
    [("mlp", 5), ("vgg", 9), ("resnet", 7), ("unet", 5), ("vit", 11), ("transformer", 8), ("decoder", 5)],
)
def test_the_way_has_as_many_steps_as_the_model_has_bottlenecks(name: str, least: int) -> None:
    model, x = subject(name)
    assert len(way(model, x)) == least


def test_steps_are_named_by_their_modules() -> None:
    model, x = subject("resnet")
    found = way(model, x)
    assert [s.name for s in found[:3]] == ["0", "1.{conv1, …, bn2}", "1.relu#1"]
    assert found[1].kind == "Conv2d + BatchNorm2d + ReLU + Conv2d + BatchNorm2d + skip"
    assert [s.module for s in found[:3]] == ["0", "1.conv1", "1.relu"]
    assert found[1].modules == ("1.conv1", "1.bn1", "1.relu", "1.conv2", "1.bn2")


def test_a_function_is_named_after_the_module_before_it() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(torch.sigmoid(self.a(x)))

    found = way(Net(), torch.randn(2, 3))
    assert [(s.name, s.kind, s.module) for s in found] == [
        ("a", "Linear", "a"),
        ("sigmoid after a", "sigmoid", "a"),
        ("b", "Linear", "b"),
    ]


def test_a_recurrent_layer_is_named_though_it_makes_more_than_is_used() -> None:
    model, x = subject("lstm")
    assert [(s.name, s.kind) for s in way(model, x)] == [("inner", "LSTM")]


def test_a_step_ends_at_an_output_rather_than_at_the_input_it_becomes() -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop, self.fc = nn.Identity(), nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.drop(x))

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.outer = Outer()

        def forward(self, x: Tensor) -> Tensor:
            return self.outer(torch.sigmoid(x)).tanh()

    # The sigmoid's value enters "outer" and leaves "outer.drop"; what follows is to begin behind both.
    found = way(Net(), torch.randn(2, 3))
    assert [str(s.stop) for s in found] == ["outer.drop", "outer.fc", "output"]


def test_chosen_layers_end_the_steps() -> None:
    model, x = subject("resnet")
    found = way(model, x, ("1", "2"))
    assert [str(s.stop) for s in found] == ["0", "1.relu#1", "2.relu#1", "output"]
    assert found[1].name == "1"
    assert found[1].kind == "Block + skip"
    assert [str(s.stop) for s in way(model, x, ("?.conv1",))] == ["0", "1.relu#1", "output"]


def test_a_layer_that_is_not_there_is_refused_with_those_that_are() -> None:
    model, x = subject("mlp")
    with pytest.raises(
        UserError, match=r"no module that is called fits 'encoder\.\*'; there are 0, 1, 2, 3, 4"
    ):
        way(model, x, ("encoder.*",))


def test_shared_layers_are_told_apart() -> None:
    shared = nn.Linear(3, 3)
    assert [s.name for s in way(nn.Sequential(shared, nn.Tanh(), shared), torch.randn(2, 3))] == [
        "0",
        "1",
        "0#1",
    ]


def test_no_way() -> None:
    assert way(lambda x: x, torch.randn(2, 3)) == ()
    assert way(lambda x: torch.ones(3), torch.randn(2, 3)) == ()


def test_a_block_is_one_step_when_nothing_inside_carries_everything() -> None:
    block = Block(2).double().eval()
    found = way(block, torch.randn(2, 2, 4, 4, dtype=torch.float64))
    assert [s.name for s in found] == ["conv1, …, bn2", "relu#1"]
