"""The zoo is what it says: faults bite where they are said to be, healthy models train. Plain autograd only."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from .zoo import CAUSES, EXAM_FAULTS, EXAM_HEALTHY, PRACTICE_FAULTS, PRACTICE_HEALTHY, VERDICTS, Case
from .zoo_case import call, train

FAULTS, HEALTHY = PRACTICE_FAULTS + EXAM_FAULTS, PRACTICE_HEALTHY + EXAM_HEALTHY
EVERY = FAULTS + HEALTHY
STEPS = 24

each = pytest.mark.parametrize("case", EVERY, ids=lambda case: case.name)
each_fault = pytest.mark.parametrize("case", FAULTS, ids=lambda case: case.name)
each_healthy = pytest.mark.parametrize("case", HEALTHY, ids=lambda case: case.name)


def with_cause(*causes: str) -> pytest.MarkDecorator:
    cases = [case for case in FAULTS if case.fault in causes]
    assert len(cases) >= 2
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


@pytest.fixture(autouse=True)
def _seeded() -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def without_fault(case: Case) -> Case:
    assert case.twin is not None
    assert case.twin_inputs is not None
    return replace(case, build=case.twin, inputs=case.twin_inputs)


# --- What is measured -----------------------------------------------------------------------------------------


def gradients(case: Case) -> tuple[list[float | None], Tensor | None]:
    """Norms of the gradients of ⟨g, output⟩, g a random unit vector, at each parameter; the gradient at the input."""
    model, inputs = case.build(), case.inputs()
    if inputs.is_floating_point():
        inputs.requires_grad_()
    output = model(inputs)
    direction = torch.randn(output.shape, generator=torch.Generator().manual_seed(1))
    wanted = [*model.parameters(), *([inputs] if inputs.requires_grad else [])]
    found = torch.autograd.grad((output * direction / direction.norm()).sum(), wanted, allow_unused=True)
    count = len(wanted) - int(inputs.requires_grad)
    norms = [None if g is None else float(g.double().norm()) for g in found[:count]]
    return norms, found[-1] if inputs.requires_grad else None


def at_the_start(case: Case) -> float:
    """The gradient's norm at the first parameter; for recurrent faults at the first step, against the last."""
    norms, at_input = gradients(case)
    if case.fault == "recurrent norm":
        assert at_input is not None
        return float(at_input[:, 0].double().norm() / at_input[:, -1].double().norm())
    return norms[0] or 0.0


def bites(case: Case) -> bool:
    twin = at_the_start(without_fault(case))
    assert 1e-2 < twin < 1e2
    with torch.no_grad():
        finite = bool(torch.isfinite(call(case.build(), case.inputs())).all())
    if case.verdict == "not finite":
        return not finite
    ratio = at_the_start(case) / twin
    return finite and (ratio <= 1e-2 if case.verdict == "vanishing" else ratio >= 1e2)


def outputs(case: Case, wanted: Callable[[str, nn.Module], bool]) -> list[tuple[str, Tensor]]:
    """The outputs of the wanted modules, in the order in which they come."""
    model, found = case.build(), []

    def keep(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            found.append((name, (output[0] if isinstance(output, tuple) else output).detach().clone()))

        return hook

    for name, module in model.named_modules():
        if name and wanted(name, module):
            module.register_forward_hook(keep(name))
    with torch.no_grad():
        call(model, case.inputs())
    return found


def gradients_by_call(case: Case) -> list[float]:
    """The gradient's norm at the output of each call of a linear layer or convolution, first to last."""
    model, kept = case.build(), []

    def keep(_: nn.Module, __: Any, output: Tensor) -> None:
        output.retain_grad()
        kept.append(output)

    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d)):
            module.register_forward_hook(keep)
    output = call(model, case.inputs())
    direction = torch.randn(output.shape, generator=torch.Generator().manual_seed(1))
    (output * direction).sum().backward()
    return [float(t.grad.double().norm()) for t in kept]


def gain(module: nn.Module) -> float:
    """The spectral norm of a weight, the greatest factor of a normalisation."""
    weight = module.weight.detach().double()
    if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)) and not module.training:
        weight = weight / (module.running_var + module.eps).sqrt()
    return float(weight.abs().max() if weight.ndim == 1 else torch.linalg.matrix_norm(weight.flatten(1), 2))


def saturated(case: Case) -> float:
    """The share of units beyond the linear range: |tanh| > 0.99 or its like; a softmax with one weight > 0.99."""
    kinds = (nn.Tanh, nn.Sigmoid, nn.Softmax)
    types = dict(case.build().named_modules())
    seen = outputs(case, lambda name, _: name in case.where)
    shares = []
    for name, y in seen:
        kind = type(types[name])
        if kind is nn.Softmax:
            y = y.amax(-1)
        if kind is nn.Sigmoid:
            y = 2 * y - 1
        if kind in kinds:
            shares.append(float((y.abs() > 0.99).double().mean()))
    if not shares:  # tanh is applied in `forward`
        shares = [float((torch.tanh(y).abs() > 0.99).double().mean()) for _, y in seen]
    return min(shares)


# --- The halves -----------------------------------------------------------------------------------------------


def test_two_halves_of_the_same_kinds() -> None:
    for half in (PRACTICE_FAULTS, PRACTICE_HEALTHY, EXAM_FAULTS, EXAM_HEALTHY):
        assert len(half) == 20
    assert len({case.name for case in EVERY}) == len(EVERY)
    practice, exam = (Counter((c.fault, c.verdict) for c in half) for half in (PRACTICE_FAULTS, EXAM_FAULTS))
    assert practice == exam
    assert {fault for fault, _ in exam} == set(CAUSES)
    assert {case.verdict for case in EVERY} == set(VERDICTS)


@each
def test_cases_are_complete(case: Case) -> None:
    names = {name for name, _ in case.build().named_modules()}
    assert set(case.where) <= names - {""}
    assert (case.fault is None) == (case.verdict == "healthy") == (case.twin is None)
    assert (case.fault == "not finite") == (case.verdict == "not finite")
    assert bool(case.where) == (case.fault not in (None, "slope", "missing residual"))


@each
def test_cases_are_the_same_each_time(case: Case) -> None:
    before = torch.get_rng_state()
    a, x = case.build(), case.inputs()
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(1)  # what the generator is at must not matter
    b, y = case.build(), case.inputs()
    assert torch.equal(x, y)
    assert 8 <= len(x) <= 32
    assert a.training == b.training
    assert all(p.dtype == torch.float32 and p.requires_grad and p.grad is None for p in a.parameters())
    for key, value in a.state_dict().items():
        assert torch.equal(torch.nan_to_num(value), torch.nan_to_num(b.state_dict()[key])), key
    results = []
    for model, inputs in ((a, x), (b, y)):
        torch.manual_seed(0)
        results.append(call(model, inputs).detach())
    assert torch.equal(*map(torch.nan_to_num, results))


# --- Faults ---------------------------------------------------------------------------------------------------


@each_fault
def test_fault_bites(case: Case) -> None:
    assert bites(case)


@each_fault
def test_twin_is_free_of_it(case: Case) -> None:
    """The falsifier of the test above; and the gradient of the twin reaches the start undiminished."""
    twin = without_fault(case)
    assert not bites(replace(twin, twin=case.twin, twin_inputs=case.twin_inputs))
    norms, _ = gradients(twin)
    assert all(norm is not None for norm in norms)
    assert 1e-2 < norms[0] / max(norms[-2:]) < 1e2


@with_cause(
    "saturation", "small norm", "large norm", "dead units", "recurrent norm", "not finite", "detached"
)
def test_nothing_else_is_wrong(case: Case) -> None:
    """Parameters and buffers differ from the twin's at the places named, or nowhere."""
    state, twin = case.build().state_dict(), without_fault(case).build().state_dict()
    assert state.keys() == twin.keys()
    different = [name for name in state if not torch.equal(state[name], twin[name])]
    assert {name.rsplit(".", 1)[0] for name in different} <= set(case.where)


@with_cause("saturation")
def test_units_are_saturated(case: Case) -> None:
    assert saturated(case) > 0.9
    assert saturated(without_fault(case)) < 0.5


@with_cause("small norm")
def test_norm_is_small(case: Case) -> None:
    models = [dict(c.build().named_modules()) for c in (case, without_fault(case))]
    broken, twin = (min(gain(m[w]) for w in case.where if hasattr(m[w], "weight")) for m in models)
    assert broken < 1e-2 * twin


@with_cause("large norm")
def test_norm_is_large(case: Case) -> None:
    broken, twin = (dict(c.build().named_modules()) for c in (case, without_fault(case)))
    for name in case.where:
        if hasattr(broken[name], "weight"):
            assert gain(broken[name]) > 3 * gain(twin[name]), name


@with_cause("dead units")
def test_units_are_dead(case: Case) -> None:
    """Off on the whole batch; without the fault some fire in each channel of most."""
    found = dict(outputs(case, lambda name, _: name in case.where))  # the last call of each
    assert len(found) == len(case.where)
    assert all(float(y.amax()) <= 0 for y in found.values())
    for y in dict(outputs(without_fault(case), lambda name, _: name in case.where)).values():
        assert float((y.transpose(0, 1).flatten(1).amax(1) > 0).double().mean()) > 0.5


@with_cause("slope", "missing residual")
def test_every_layer_takes_its_share(case: Case) -> None:
    """The gradient falls steadily, by at most a third of the whole (in logarithms) at once; no norm is out of line."""
    logs = [math.log(norm) for norm in gradients_by_call(case)]
    drops = [later - earlier for earlier, later in pairwise(logs)]
    assert max(drops) < (logs[-1] - logs[0]) / 3
    layers = [m for m in case.build().modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    gains = [gain(layer) for layer in layers]
    assert max(gains) < 4 * min(gains)


@with_cause("missing residual")
def test_the_skip_is_all_that_is_missing(case: Case) -> None:
    state, twin = case.build().state_dict(), without_fault(case).build().state_dict()
    assert all(torch.equal(state[name], twin[name]) for name in state)


@with_cause("recurrent norm")
def test_recurrent_norm_is_far_from_one(case: Case) -> None:
    def norm(c: Case) -> float:
        module = dict(c.build().named_modules())[c.where[0]]
        weight = module.weight_hh if isinstance(module, nn.RNNCell) else module.weight_hh_l0
        return float(torch.linalg.matrix_norm(weight.detach(), 2))

    assert norm(case) < 0.5 if case.verdict == "vanishing" else norm(case) > 2
    assert norm(without_fault(case)) == pytest.approx(1, abs=1e-5)


@with_cause("not finite")
def test_first_value_that_is_not_finite(case: Case) -> None:
    def first(c: Case) -> str | None:
        found = outputs(c, lambda *_: True)
        return next((name for name, y in found if not torch.isfinite(y).all()), None)

    assert first(case) in case.where
    assert first(without_fault(case)) is None


@with_cause("detached")
def test_graph_is_cut(case: Case) -> None:
    """No gradient at all before the place named, a gradient at the end."""
    norms, at_input = gradients(case)
    assert norms[0] is None
    assert at_input is None
    assert norms[-1] > 0

    def connected(c: Case) -> bool:
        model, seen = c.build(), []
        place = model.get_submodule(c.where[0])
        place.register_forward_hook(lambda _, __, output: seen.append(output.requires_grad))
        call(model, c.inputs())
        return all(seen)

    assert not connected(case)
    assert connected(without_fault(case))


# --- Healthy models -------------------------------------------------------------------------------------------


def learns(case: Case) -> bool:
    losses = train(case.build(), case.inputs(), case.loss, STEPS, case.rate)
    return sum(losses[-3:]) / 3 < 0.8 * losses[0]


@each_healthy
def test_healthy_models_learn(case: Case) -> None:
    assert learns(case)


@with_cause("dead units")
def test_models_with_a_fault_may_not(case: Case) -> None:
    """The falsifier of the test above."""
    assert not learns(case)


@each_healthy
def test_healthy_gradients_arrive(case: Case) -> None:
    norms, at_input = gradients(case)
    assert all(norm is not None and math.isfinite(norm) for norm in norms)
    assert 1e-2 < norms[0] / max(norms[-2:]) < 1e2
    if at_input is not None:
        assert bool(at_input.flatten(1).norm(dim=1).gt(0).all())
