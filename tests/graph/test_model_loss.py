"""A model's loss in one step against layer by layer: the same bits, and layer by layer wherever somebody looks on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from layerlab.errors import UserError
from layerlab.graph.field import receptive_field
from layerlab.graph.kernels import one_step
from layerlab.graph.layers import GraphLike, neighbourhoods
from layerlab.graph.loss import cross_entropy
from layerlab.graph.model_loss import ModelLoss
from layerlab.graph.models import GAT, GCN, MLP, SGC
from layerlab.graph.sparse import SparseMatrix
from layerlab.graph.structure import Graph
from layerlab.lab import kernels, private
from layerlab.lab.kernels import threads

MODELS: dict[str, Callable[[], nn.Module]] = {
    "gcn": lambda: GCN(9, 5, 3),
    "gcn of one layer": lambda: GCN(9, 5, 3, layers=1),
    "gcn of three layers": lambda: GCN(9, 17, 3, layers=3, dropout=0.0),
    "gat": lambda: GAT(9, 4, 3, heads=8),
    "gat, mean of heads": lambda: GAT(9, 3, 4, heads=3, out_heads=2, attention_dropout=0.2),
    "gat of three layers": lambda: GAT(9, 4, 3, heads=2, layers=3, dropout=0.0),
    "sgc": lambda: SGC(9, 3),
    "mlp": lambda: MLP(9, 6, 3),
}
LABELS = torch.tensor([0, 1, 2, 2, 0, 1, 1])


def problem(
    name: str, dense: bool, dtype: torch.dtype = torch.float32
) -> tuple[nn.Module, Any, GraphLike | None]:
    torch.manual_seed(1)
    model = MODELS[name]().to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    ends = torch.randint(40, (2, 90), generator=torch.Generator().manual_seed(2)).numpy()
    graph = Graph.from_edges(*ends[:, ends[0] != ends[1]], num_nodes=40)
    numbers = torch.randn(40, 9, dtype=dtype) * (torch.rand(40, 9) < 0.4)
    nodes = torch.tensor([3, 1, 8, 20, 33, 2, 39])
    if name in ("sgc", "mlp"):
        return model, numbers[nodes] if dense else SparseMatrix.from_dense(numbers[nodes]), None
    operator = neighbourhoods(graph, dtype) if "gat" in name else graph.normalized_adjacency(dtype=dtype)
    field = receptive_field(operator, nodes, len(model.convs))
    x = numbers[field.inputs]
    return model, x if dense else SparseMatrix.from_dense(x), field.operators


def results(loss: Callable[[], Tensor], model: nn.Module, seed: int = 5) -> list[Tensor]:
    torch.manual_seed(seed)
    model.zero_grad()
    value = loss()
    value.backward()
    drawn = torch.rand(1)  # the generator must have moved alike
    return [value.detach(), drawn, *(p.grad for p in model.parameters() if p.grad is not None)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_same_bits_as_layer_by_layer(name: str, dense: bool, dtype: torch.dtype) -> None:
    model, x, graph = problem(name, dense, dtype)
    whole = ModelLoss(model, x, graph)
    for training in (True, False):
        model.train(training)
        ours = results(lambda: whole(LABELS), model)
        assert type(whole(LABELS).grad_fn).__name__ == "_OneStepBackward"
        theirs = results(lambda: cross_entropy(model(x, graph), LABELS), model)
        assert len(ours) == len(theirs) > 3
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("name", ["gcn", "gat", "gat, mean of heads", "mlp"])
def test_gradients_are_those_of_the_plain_operators(name: str) -> None:
    model, x, graph = problem(name, dense=False, dtype=torch.float64)
    model.eval()
    whole = ModelLoss(model, x, graph)
    ours = results(lambda: 3.0 * whole(LABELS), model)
    with kernels.disabled():
        theirs = results(lambda: 3.0 * whole(LABELS), model)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["gcn", "gat"])
def test_dealt_to_threads_it_agrees(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x, graph = problem(name, dense=False)
    whole = ModelLoss(model, x, graph)
    expected = results(lambda: whole(LABELS), model)
    monkeypatch.setattr(threads, "SMALL", 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    found = results(lambda: whole(LABELS), model)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def refuse(*_: Any) -> Tensor:
    raise AssertionError("one step")


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.convs[0].register_forward_hook(lambda *_: None),
        lambda model: model.register_forward_pre_hook(lambda *_: None),
        lambda model: model.convs[1].register_full_backward_hook(lambda *_: None),
        lambda model: setattr(model.convs[0], "forward", model.convs[0].forward),
        lambda model: model.convs.__setitem__(1, GCN(9, 5, 3).convs[1]),
        lambda model: model.convs[0].eval(),
        lambda model: model.convs[0].weight.requires_grad_(False),
    ],
)
def test_whoever_looks_on_sees_layer_by_layer(
    change: Callable[[nn.Module], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x, graph = problem("gcn", dense=False)
    whole = ModelLoss(model, x, graph)
    change(model)
    expected = results(lambda: cross_entropy(model(x, graph), LABELS), model)
    monkeypatch.setattr(one_step, "loss_of", refuse)
    found = results(lambda: whole(LABELS), model)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_other_circumstances_go_layer_by_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x, graph = problem("gcn", dense=True)
    monkeypatch.setattr(one_step, "loss_of", refuse)
    whole = ModelLoss(model, x, graph)
    with torch.no_grad():
        whole(LABELS)
    with kernels.disabled():
        whole(LABELS)
    with monkeypatch.context() as patch:
        patch.setattr(private, "module_hooks", (None,))
        whole(LABELS)
    handle = nn.modules.module.register_module_forward_hook(lambda *_: None)
    try:
        whole(LABELS)
    finally:
        handle.remove()
    x.requires_grad_()
    ModelLoss(model, x, graph)(LABELS).backward()
    assert x.grad is not None

    class Other(GCN):
        pass

    ModelLoss(Other(9, 5, 3), x.detach(), graph)(LABELS)
    ModelLoss(GCN(9, 5, 3), x.detach(), Graph.from_edges([0], [1], num_nodes=len(x)))
    with pytest.raises(AssertionError, match="one step"):
        ModelLoss(model, x.detach(), graph)(LABELS)


def test_what_does_not_fit_is_refused_as_layer_by_layer() -> None:
    model, x, graph = problem("gcn", dense=False)
    whole = ModelLoss(model, x, graph)
    for labels, match in (
        (LABELS[:3], "expected logits"),
        (LABELS.int(), "int64"),
        (LABELS + 2, r"labels in 0 ... 2, got 3 at position 1"),
    ):
        with pytest.raises(UserError, match=match):
            whole(labels)
    model.convs[1].weight = nn.Parameter(torch.ones(3, 4))
    with pytest.raises((UserError, RuntimeError)):
        whole(LABELS)


def test_one_backward_pass_and_no_second_derivative() -> None:
    model, x, graph = problem("gcn", dense=False)
    loss = ModelLoss(model, x, graph)(LABELS)
    with pytest.raises(UserError, match="cross_entropy"):
        torch.autograd.grad(loss, list(model.parameters()), create_graph=True)
    loss = ModelLoss(model, x, graph)(LABELS)
    loss.backward(retain_graph=True)
    with pytest.raises(UserError, match="one backward pass"):
        loss.backward()


@pytest.mark.parametrize("name", MODELS)
def test_its_own_backward_leaves_the_same_bits(name: str) -> None:
    model, x, graph = problem(name, dense=False)
    whole = ModelLoss(model, x, graph)
    expected = results(lambda: whole(LABELS), model)
    torch.manual_seed(5)
    model.zero_grad()
    value = whole.backward(LABELS)
    drawn = torch.rand(1)
    assert value == expected[0].item()
    found = [drawn, *(p.grad for p in model.parameters() if p.grad is not None)]
    assert all(torch.equal(a, b) for a, b in zip(found, expected[1:], strict=True))
    assert all(p.grad is None or p.grad.stride() == p.stride() for p in model.parameters())


def test_its_own_backward_does_not_call_autograd(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x, graph = problem("gcn", dense=False)
    whole = ModelLoss(model, x, graph)
    monkeypatch.setattr(one_step, "loss_of", refuse)
    whole.backward(LABELS)
    # A second time gradients add up, which is left to autograd.
    with pytest.raises(AssertionError, match="one step"):
        whole.backward(LABELS)


@pytest.mark.parametrize(
    "watch",
    [
        lambda parameter, seen: parameter.register_hook(lambda gradient: seen.append(1)),
        lambda parameter, seen: parameter.register_post_accumulate_grad_hook(lambda _: seen.append(1)),
    ],
)
def test_its_own_backward_calls_hooks_of_parameters(watch: Callable[[Tensor, list[int]], object]) -> None:
    model, x, graph = problem("gcn", dense=False)
    seen: list[int] = []
    watch(model.convs[0].weight, seen)
    ModelLoss(model, x, graph).backward(LABELS)
    assert seen == [1]


def test_its_own_backward_adds_to_gradients_that_are_there() -> None:
    model, x, graph = problem("gcn of three layers", dense=True)
    model.eval()
    whole = ModelLoss(model, x, graph)
    model.zero_grad()
    whole.backward(LABELS)
    once = [p.grad.clone() for p in model.parameters()]
    whole.backward(LABELS)
    for parameter, gradient in zip(model.parameters(), once, strict=True):
        torch.testing.assert_close(parameter.grad, 2 * gradient, rtol=1e-6, atol=0)
    with torch.no_grad(), pytest.raises(RuntimeError, match="grad"):
        whole.backward(LABELS)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("gcn", lambda model: setattr(model, "dropout", 0.1)),
        ("mlp", lambda model: setattr(model, "dropout", 0.1)),
        ("gat", lambda model: setattr(model.convs[0], "dropout", 0.1)),
        ("gat", lambda model: setattr(model.convs[1], "negative_slope", 0.9)),
    ],
)
def test_settings_may_change_between_calls(name: str, change: Callable[[nn.Module], object]) -> None:
    model, x, graph = problem(name, dense=False)
    whole = ModelLoss(model, x, graph)
    before = results(lambda: whole(LABELS), model)
    change(model)
    found = results(lambda: whole(LABELS), model)
    expected = results(lambda: cross_entropy(model(x, graph), LABELS), model)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert not torch.equal(found[0], before[0])


def _replace_data(model: nn.Module) -> None:
    for parameter in model.parameters():
        parameter.data = parameter.data + 0.5


def _change_in_place(model: nn.Module) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)


def _plain_bias(model: nn.Module) -> None:
    """A bias that is no parameter, as functional training has it."""
    del model.convs[0].bias
    model.convs[0].bias = torch.ones(32, requires_grad=True)


@pytest.mark.parametrize(
    "change",
    [
        _replace_data,
        _change_in_place,
        _plain_bias,
        lambda model: setattr(model.convs[0], "weight", nn.Parameter(torch.ones(32, 9))),
        lambda model: setattr(model.convs[1], "bias", None),
        lambda model: model.load_state_dict(GAT(9, 4, 3, heads=8).state_dict()),
        lambda model: setattr(model.convs[0].weight, "data", torch.ones(9, 32).cumsum(0).t()),
        lambda model: model.convs[0].weight.requires_grad_(False),
    ],
)
def test_parameters_may_change_between_calls(change: Callable[[nn.Module], object]) -> None:
    model, x, graph = problem("gat", dense=False)
    whole = ModelLoss(model, x, graph)
    before = results(lambda: whole(LABELS), model)
    change(model)
    for _ in range(2):
        found = results(lambda: whole(LABELS), model)
        expected = results(lambda: cross_entropy(model(x, graph), LABELS), model)
        assert len(found) == len(expected)
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    model.zero_grad()
    torch.manual_seed(5)
    whole.backward(LABELS)
    own = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(torch.equal(a, b) for a, b in zip(own, found[2:], strict=True))
    assert len(found) != len(before) or not all(torch.equal(a, b) for a, b in zip(found, before, strict=True))


def test_nothing_of_a_step_is_kept_after_it() -> None:
    model, x, graph = problem("gat", dense=True)
    whole = ModelLoss(model, x, graph)
    whole.backward(LABELS)
    assert whole._made is not None
    for layer in whole._made[1]:
        assert not vars(layer).keys() & {"x", "z", "left"}
