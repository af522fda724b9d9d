"""Bounds of parts of models: never beaten by a dense Jacobian, and made of what they say."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from layerlab.gradflow.bounds.combination import bound, module_bound
from layerlab.gradflow.bounds.gains import gain
from layerlab.gradflow.evaluation import Call
from layerlab.gradflow.flow import Flow, record
from layerlab.gradflow.jacobians import between
from layerlab.gradflow.points import INPUT, OUTPUT
from layerlab.gradflow.singular_values import singular_values
from layerlab.gradflow.trace import Trace

from ..models import SUBJECTS, subject


def flow_of(model: object, x: Tensor) -> Flow:
    assert callable(model)
    return record(Call.of(model, x, None, None, 0), gain)


@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("name", SUBJECTS)
def test_bounds_hold_between_bottlenecks_of_every_architecture(name: str, train: bool) -> None:
    model, x = subject(name)
    model.train(train)
    call = Call.of(model, x, 0 if name in ("gcn", "gat") else None, None, 0)
    flow = record(call, gain)
    assert [o.name for o in flow.operations if o.note.scope == "unknown"] == []
    points = {place.value: place.point for place in reversed(flow.places) if place.complete}
    points |= {flow.source: INPUT, flow.sink: OUTPUT}
    cuts = [value for value in flow.bottlenecks() if value in points]
    assert len(cuts) >= 4 or name in ("rnn", "lstm", "gru")
    trace = Trace(call, [points[value] for value in cuts])
    for start, stop in itertools.pairwise(cuts):
        jacobian = between(trace, points[start], points[stop], batch_dim=None)
        largest = float(singular_values(jacobian).max())
        found = bound(flow.between(start, stop), start)
        assert largest <= found.value * (1 + 1e-9), (points[start], points[stop], found)


def test_a_residual_connection_is_one_plus_s() -> None:
    flow = flow_of(lambda x: x + 0.1 * torch.tanh(3 * x), torch.ones(3))
    found = bound(flow.operations, flow.source)
    assert found.value == pytest.approx(1.3)
    assert (found.scope, found.reason) == ("any input", "residual: 1 + s, s = 0.3")


def test_a_skip_in_place_is_a_residual_too() -> None:
    def model(x: Tensor) -> Tensor:
        y = 0.5 * x
        y += x
        return y

    flow = flow_of(model, torch.ones(3))
    assert bound(flow.operations, flow.source).reason == "residual: 1 + s, s = 0.5"


def test_a_concatenated_skip_is_the_root_of_squares() -> None:
    flow = flow_of(lambda x: torch.cat([torch.tanh(0.75 * x), x]), torch.ones(3))
    found = bound(flow.operations, flow.source)
    assert found.value == pytest.approx(1.25)
    assert found.reason == "skip by concatenation: √(1 + s²), s = 0.75"


def test_a_chain_is_the_product_and_names_what_counts() -> None:
    flow = flow_of(lambda x: torch.relu(torch.sigmoid(8 * x)), torch.ones(3))
    found = bound(flow.operations, flow.source)
    assert found.value == pytest.approx(2.0)
    assert found.reason == "multiplication by constants (8); sigmoid: slope at most 1/4 (0.25)"


def test_what_has_no_rule_is_named() -> None:
    flow = flow_of(lambda x: 2 * torch.linalg.inv(x), torch.eye(3))
    found = bound(flow.operations, flow.source)
    assert (found.value, found.scope) == (math.inf, "unknown")
    assert found.reason == "no rule for aten::linalg_inv_ex"


def test_one_local_step_makes_the_whole_local() -> None:
    flow = flow_of(lambda x: torch.relu(x * x), torch.ones(3))
    assert bound(flow.operations, flow.source).scope == "these inputs"


def test_a_mask_made_from_the_input_makes_the_choice_local() -> None:
    flow = flow_of(lambda x: torch.where(x > 0, 2 * x, x), torch.ones(3))
    found = bound(flow.operations, flow.source)
    assert found.scope == "these inputs"
    assert found.value == pytest.approx(5**0.5)


def test_values_that_do_not_depend_on_the_start_are_constants() -> None:
    flow = flow_of(lambda x: torch.exp(x) + torch.sin(3 * x), torch.ones(3))
    exp, scaled, sin, add = flow.operations
    assert bound([sin, add], scaled.writes).value == 1.0
    nothing = bound([sin], exp.writes, stop=sin.writes)
    assert (nothing.value, nothing.reason) == (0.0, "does not depend on it")


def test_nothing_between_is_the_identity() -> None:
    found = bound([], 3)
    assert (found.value, found.scope, found.reason) == (1.0, "any input", "identity")


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(3, 3), nn.Sequential(nn.Linear(3, 3), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        return self.left(x) + self.right(x)


def test_a_call_of_a_module_is_bounded_alone() -> None:
    torch.manual_seed(0)
    model = Branches()
    flow = flow_of(nn.Sequential(model, nn.Sigmoid()), torch.randn(2, 3))
    found = {call.module: module_bound(flow, call) for call in flow.calls}
    norms = {
        name: torch.linalg.matrix_norm(layer.weight.detach().double(), 2).item()
        for name, layer in (("left", model.left), ("right", model.right[0]))
    }
    values = {name: bound.value for name, bound in found.items() if bound is not None}
    assert values == pytest.approx(
        {
            "0.left": norms["left"],
            "0.right.0": norms["right"],
            "0.right.1": 1.0,
            "0.right": norms["right"],
            "0": norms["left"] + norms["right"],
            "1": 0.25,
        }
    )


def test_a_module_beside_the_way_has_no_bound() -> None:
    class Side(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.on, self.off = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            self.off(x)
            return self.on(x)

    flow = flow_of(Side(), torch.randn(2, 3))
    assert [module_bound(flow, call) is None for call in flow.calls] == [True, False]
