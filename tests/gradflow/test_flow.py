"""The dataflow of a pass: operations on the way, bottlenecks, and where they lie in the model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from layerlab.gradflow.evaluation import Call
from layerlab.gradflow.flow import Flow, Seen, record
from layerlab.gradflow.points import Point

from .models import SUBJECTS, subject


def flow_of(model: Any, x: Any, wrt: Any = None) -> Flow:
    return record(Call.of(model, x, wrt, None, 0))


def cut_points(flow: Flow) -> list[str]:
    """The first whole point of each bottleneck, or a dash."""
    named = {}
    for place in flow.places:
        if place.complete:
            named.setdefault(place.value, str(place.point))
    return [named.get(value, "-") for value in flow.bottlenecks()]


def names(flow: Flow) -> list[str]:
    return [o.name.removeprefix("aten::") for o in flow.operations]


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(3, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.fc2(nn.functional.relu(self.fc1(x)))


def test_a_chain_has_every_value_as_a_bottleneck() -> None:
    flow = flow_of(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), torch.randn(5, 3))
    assert cut_points(flow) == ["0:input", "0", "1", "2"]
    assert names(flow) == ["addmm", "tanh", "addmm"]
    assert [o.module for o in flow.operations] == ["0", "1", "2"]


def test_a_skip_leaves_no_bottleneck_inside_its_branch() -> None:
    flow = flow_of(nn.Sequential(Functional(), Functional()), torch.randn(5, 3))
    assert cut_points(flow) == ["0:input", "0", "1"]
    start, middle, _ = flow.bottlenecks()
    inside = flow.between(start, middle)
    assert [o.name for o in inside] == ["aten::addmm", "aten::relu", "aten::addmm", "aten::add"]
    assert inside[-1].reads == (start, inside[-2].writes)
    # The activation is called as a function: it is seen all the same, in the module around it.
    assert (inside[1].module, inside[2].module) == ("0", "0.fc2")


@pytest.mark.parametrize("inplace", [False, True])
def test_writing_in_place_makes_a_new_value(inplace: bool) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=inplace), nn.Linear(4, 2))
    flow = flow_of(model, torch.randn(5, 3))
    assert len(flow.bottlenecks()) == 4
    assert cut_points(flow) == ["0:input", "0", "1", "2"]


def test_a_value_saved_before_it_is_overwritten_is_a_skip() -> None:
    def model(x: Tensor) -> Tensor:
        y = x * 2
        kept = y.clone()
        y += 1
        return y * kept

    assert len(flow_of(model, torch.randn(5, 3)).bottlenecks()) == 3


def test_writing_a_part_keeps_the_rest() -> None:
    def model(x: Tensor) -> Tensor:
        room = torch.zeros(5, 6)
        room[:, :3] = x
        room[:, 3:] = torch.sin(x)
        return room.sum(1)

    flow = flow_of(model, torch.randn(5, 3))
    assert len(flow.bottlenecks()) == 3
    assert names(flow) == ["copy_", "sin", "copy_", "sum"]


def test_what_does_not_reach_the_output_is_left_out() -> None:
    def model(x: Tensor) -> Tensor:
        torch.exp(x)
        return torch.sin(x) + torch.cos(torch.ones(3))

    assert names(flow_of(model, torch.randn(5, 3))) == ["sin", "add"]


def test_a_shape_alone_is_no_value() -> None:
    def noisy(x: Tensor) -> Tensor:
        return x * torch.empty_like(x).fill_(2.0) + torch.rand_like(x) + x.new_ones(3)

    assert names(flow_of(noisy, torch.randn(5, 3))) == ["mul", "add", "add"]
    dropped = flow_of(
        nn.Sequential(nn.Linear(3, 3), nn.Dropout(), nn.Linear(3, 2)).train(), torch.randn(5, 3)
    )
    assert cut_points(dropped) == ["0:input", "0", "1", "2"]


def test_no_way_from_input_to_output() -> None:
    flow = flow_of(lambda x: torch.ones(2) + 1, torch.randn(5, 3))
    assert not flow.connected
    assert flow.bottlenecks() == ()
    assert flow_of(lambda x: x, torch.randn(5, 3)).connected


def test_a_shared_layer_passes_once_for_each_call() -> None:
    shared = nn.Linear(3, 3)
    flow = flow_of(nn.Sequential(shared, nn.ReLU(), shared), torch.randn(5, 3))
    assert cut_points(flow) == ["0:input", "0", "1", "0#1"]
    assert [o.call for o in flow.operations] == [0, 0, 1]


def test_tokens_begin_at_the_embedding() -> None:
    model, x = subject("decoder")
    flow = flow_of(model, x)
    points = cut_points(flow)
    assert {"blocks.0", "blocks.1", "norm"} <= set(points)
    assert "aten::embedding" not in [o.name for o in flow.operations]


def test_sparse_tensors_are_values_too() -> None:
    adjacency = torch.eye(5).to_sparse()
    weight = nn.Parameter(torch.randn(3, 3))

    def model(x: Tensor) -> Tensor:
        return torch.sparse.mm(adjacency, torch.relu(x)) @ weight

    assert names(flow_of(model, torch.randn(5, 3)))[0] == "relu"
    assert len(flow_of(model, torch.randn(5, 3)).bottlenecks()) == 4


def test_encoder_layers_are_seen_from_within_though_their_weights_are_frozen() -> None:
    model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval().requires_grad_(False)
    before = torch.backends.mha.get_fastpath_enabled()
    flow = flow_of(model, torch.randn(2, 5, 8))
    assert any("scaled_dot_product" in name for name in names(flow))
    assert torch.backends.mha.get_fastpath_enabled() == before


def test_part_of_a_tensor_is_not_the_whole() -> None:
    class Halves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            a, b = x.mul(1.0).chunk(2, 1)
            return self.first(a) + self.second(b)

    flow = flow_of(Halves(), torch.randn(5, 4))
    assert [p.complete for p in flow.places if p.point.side == "input"] == [False, False]


def test_the_first_value_that_is_not_finite_is_placed() -> None:
    class Bad(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.log(-x.abs()) + 1

    flow = flow_of(nn.Sequential(nn.Linear(3, 3), Bad(), nn.ReLU()), torch.randn(5, 3))
    assert flow.not_finite == "log in 1"

    def overflow(x: Tensor) -> Tensor:
        return torch.exp(1e4 * x.abs() + 1e4) * 2

    assert flow_of(overflow, torch.randn(5, 3)).not_finite == "exp in the model"


def test_infinity_in_a_mask_is_no_fault() -> None:
    def masked(x: Tensor) -> Tensor:
        return x.masked_fill(torch.tensor([True, False, False]), -torch.inf).softmax(1)

    assert flow_of(masked, torch.randn(5, 3)).not_finite is None
    assert flow_of(nn.Linear(3, 3), torch.randn(5, 3)).not_finite is None


def test_the_look_sees_arguments_before_and_the_result_after() -> None:
    seen: list[Seen] = []

    def look(op: Seen) -> Any:
        seen.append(op)
        before = op.tensors[0].min().item()
        return lambda result: (before, result.min().item())

    flow = record(Call.of(nn.ReLU(inplace=True), torch.tensor([-3.0, 1.0]), None, None, 0), look)
    assert [o.note for o in flow.operations] == [(-3.0, 0.0)]
    assert [(s.name, s.depends) for s in seen] == [("aten::relu_", (True,))]


@pytest.mark.parametrize("name", SUBJECTS)
def test_cutting_every_bottleneck_cuts_every_gradient(name: str) -> None:
    """Detached at a bottleneck's point, nothing of the input's gradient is left; elsewhere something is."""
    model, x = subject(name)
    flow = flow_of(model, x, 0 if name in ("gcn", "gat") else None)
    bottlenecks = set(flow.bottlenecks())
    tested = 0
    for place in flow.places:
        if not place.complete:
            continue
        module = dict(model.named_modules())[place.point.module]
        if place.value in (flow.source, flow.sink):
            continue
        alive = _gradient_with_a_cut(model, x, module, place.point)
        assert alive == (place.value not in bottlenecks), str(place.point)
        tested += 1
    assert tested or name in ("rnn", "lstm", "gru")


def _gradient_with_a_cut(model: nn.Module, x: Any, module: nn.Module, point: Point) -> bool:
    calls = []

    def cut(module: nn.Module, args: Any, output: Any) -> Any:
        calls.append(1)
        if len(calls) - 1 != point.call:
            return output
        return output[0].detach() if isinstance(output, tuple) else output.detach()

    def cut_before(module: nn.Module, args: Any) -> Any:
        calls.append(1)
        return (args[0].detach(), *args[1:]) if len(calls) - 1 == point.call else args

    def begin(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        start.append(output.detach().requires_grad_())
        return start[0]

    start: list[Tensor] = []
    if point.side == "output":
        handles = [module.register_forward_hook(cut)]
    else:
        handles = [module.register_forward_pre_hook(cut_before)]
    given = x[0] if isinstance(x, tuple) else x
    if given.is_floating_point():
        start.append(given.detach().clone().requires_grad_())
    else:
        handles.append(model.tokens.register_forward_hook(begin))
    try:
        y = model(start[0], *x[1:]) if isinstance(x, tuple) else model(start[0] if start else x)
    finally:
        for handle in handles:
            handle.remove()
    y = y["logits"] if isinstance(y, dict) else y
    if not y.requires_grad:
        return False
    (grad,) = torch.autograd.grad(y.sum() + (y**2).sum(), start, allow_unused=True)
    return grad is not None and bool((grad != 0).any())
