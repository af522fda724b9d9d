"""The whole profile: every layer within its bound, on models of every kind, none of them changed."""

from __future__ import annotations

import copy
import gc
import json
import warnings
import weakref
from collections.abc import Iterator
from types import FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from layerlab.errors import UserError
from layerlab.gradflow.profiling import Profile, profile

from .models import SUBJECTS, subject


@pytest.mark.parametrize("name", SUBJECTS)
def test_no_singular_value_exceeds_its_bound(name: str) -> None:
    model, x = subject(name)
    found = profile(model, x, wrt=0 if name in ("gcn", "gat") else None)
    for layer in found.layers:
        assert float(layer.jacobian.largest.max()) <= layer.bound.value * (1 + 1e-9), layer.name
        assert layer.slack >= 1 - 1e-9
        assert float(layer.product.largest.max()) <= layer.bound_product + 1e-9
    assert found.verdict.kind == "healthy"
    text = json.dumps(found.to_dict(), allow_nan=False)
    assert len(json.loads(text)["layers"]) == len(found.layers)


@pytest.mark.parametrize("name", SUBJECTS)
def test_the_model_is_left_as_it_was(name: str) -> None:
    model, x = subject(name)
    model.train()
    before = copy.deepcopy(model.state_dict())
    random_state = torch.get_rng_state()
    profile(model, x, wrt=0 if name in ("gcn", "gat") else None)
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in before.items())
    assert torch.equal(random_state, torch.get_rng_state())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(module.training and not module._forward_hooks for module in model.modules())


def chain(*kinds: nn.Module) -> nn.Module:
    return nn.Sequential(*kinds)


def test_the_bound_of_a_chain_is_attained_where_theory_says() -> None:
    """Orthogonal weights and sigmoids at 0: the bound (1/4)^n is what is measured."""

    class Centred(nn.Sigmoid):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) - 0.5

    parts: list[nn.Module] = []
    for _ in range(4):
        linear = nn.Linear(5, 5, bias=False).double()
        nn.init.orthogonal_(linear.weight)
        parts += [linear, Centred()]
    model = chain(*parts)
    found = profile(model, torch.zeros(2, 5, dtype=torch.float64))
    np.testing.assert_allclose(found.layers[-1].product.largest, 4 * np.log(0.25), rtol=1e-9)
    assert found.layers[-1].bound_product == pytest.approx(4 * np.log(0.25), rel=1e-9)


def test_the_bound_of_a_circular_convolution_is_exact() -> None:
    model = chain(
        nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), nn.ReLU(), nn.Conv2d(3, 2, 3, padding=1)
    ).double()
    first, _, last = profile(
        model, torch.randn(2, 2, 6, 6, dtype=torch.float64), tolerance=1e-9, budget=400
    ).layers
    assert first.bound.reason == "circular convolution: spectral norm, exact"
    assert first.slack == pytest.approx(1.0, abs=1e-9)
    # Padded by zeros it is a part of a circular one.
    assert 1.0 < last.slack < 1.2


@pytest.fixture
def new_memory_holds_nan() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)  # torch then fills what it makes without writing it
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("new_memory_holds_nan")
def test_memory_that_is_not_yet_written_is_no_fault() -> None:
    assert torch.isnan(torch.empty(1)).all()
    model = chain(nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular"), nn.ReLU()).double()
    first, *_ = profile(model, torch.randn(1, 1, 3, 3, dtype=torch.float64)).layers
    assert first.bound.reason == "circular convolution: spectral norm, exact"


def test_a_hundred_sigmoid_layers_do_not_underflow() -> None:
    model = chain(*(m for _ in range(100) for m in (nn.Linear(6, 6), nn.Sigmoid())))
    found = profile(model, torch.randn(2, 6))
    assert np.isfinite(found.layers[-1].product.largest).all()
    assert found.layers[-1].product.largest.max() < np.log(1e-45)
    assert found.verdict.cause == "slope"


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(3, 4), nn.Linear(2, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor, context: Tensor) -> dict[str, Tensor]:
        hidden = torch.tanh(self.a(x) + self.b(context))
        return {"logits": self.head(hidden), "hidden": hidden}


def test_several_inputs_and_outputs_are_chosen() -> None:
    given = {"x": torch.randn(4, 3), "context": torch.randn(4, 2)}
    found = profile(TwoInputs(), given, wrt="context", output="logits")
    assert [layer.name for layer in found.layers] == ["b", "add, tanh after b", "head"]
    both = profile(TwoInputs(), given, wrt=["x", "context"], output="logits")
    assert both.layers[0].jacobian.largest.shape == (4,)
    with pytest.raises(UserError, match="choose with wrt"):
        profile(TwoInputs(), given, output="logits")
    with pytest.raises(UserError, match="choose with output"):
        profile(TwoInputs(), given, wrt="x")


def test_frozen_parts_have_no_gradients_but_pass_them() -> None:
    model = chain(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2))
    model[0].requires_grad_(False)
    found = profile(model, torch.randn(3, 4))
    assert found.layers[0].weights == {}
    assert set(found.layers[2].weights) == {"2.weight", "2.bias"}
    assert np.isfinite(found.layers[0].gradient).all()


def test_train_mode_with_dropout_and_batch_norm() -> None:
    model = chain(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(True), nn.Dropout(0.3), nn.Linear(8, 2)).train()
    found = profile(model, torch.randn(16, 6))
    assert not found.separate
    assert found.samples == 1
    assert any("samples mix" in note for note in found.notes)
    assert [layer.name for layer in found.layers] == ["0", "1", "2", "3", "4"]
    assert found.layers[3].bound.value == pytest.approx(1 / 0.7)
    assert profile(model.eval(), torch.randn(16, 6)).separate


def test_layers_can_be_chosen() -> None:
    model, x = subject("vit")
    found = profile(model, x, layers=["encoder.layers.*", "patches"])
    assert [layer.name for layer in found.layers if layer.name.startswith("encoder.layers.0")]
    assert len(profile(model, x, layers=["encoder"]).layers) < len(found.layers)


def test_large_layers_are_searched_and_say_so() -> None:
    model = chain(nn.Linear(200, 300), nn.Tanh(), nn.Linear(300, 200))
    found = profile(model, torch.randn(2, 200))
    exact = torch.linalg.matrix_norm(model[0].weight.detach(), 2)
    assert found.layers[0].jacobian.method == "lanczos"
    assert found.layers[0].jacobian.largest[0] == pytest.approx(float(exact), rel=1e-2)
    assert any("upper bound" in note for note in found.notes)
    rough = profile(model, torch.randn(2, 200), budget=8)
    assert any("has not converged" in note for note in rough.notes)


def test_progress_rises_to_one() -> None:
    seen: list[float] = []
    profile(subject("vgg")[0], subject("vgg")[1], progress=lambda share, text: seen.append(share))
    assert seen == sorted(seen)
    assert seen[0] == 0.0
    assert seen[-1] == pytest.approx(1.0)


def test_the_loss_decides_the_gradient() -> None:
    model, x = chain(nn.Linear(3, 3), nn.Tanh()), torch.randn(4, 3)
    found = profile(model, x, loss=lambda y: 100 * y.sum())
    assert found.cotangent == "loss"
    np.testing.assert_allclose(found.output_gradient, np.log(100 * 3**0.5), rtol=1e-6)


def _raises(model: Any, x: Any, match: str, **options: Any) -> None:
    with pytest.raises(UserError, match=match):
        profile(model, x, **options)


class Overflowing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.exp(1e4 * x.abs() + 1e4)


def test_bad_input_is_refused_with_what_to_do() -> None:
    x = torch.randn(3, 4)
    _raises(chain(nn.Linear(4, 4), Overflowing()), x, "NaN or Inf first appears in exp in 1")
    _raises(lambda y: torch.ones(2), x, "does not depend on the input")
    _raises(nn.Identity(), x, "the output is the input")
    _raises(nn.Linear(4, 2), x, "budget >= 8", budget=2)
    _raises(nn.Linear(4, 2), x, "tolerance", tolerance=0.0)
    _raises(nn.Linear(5, 2), x, r"called with inputs of shape \(3, 4\), raised RuntimeError")
    _raises(nn.Linear(4, 2), x, "no module that is called fits", layers=["nope"])
    _raises(chain(nn.Linear(4, 4), nn.ReLU()), torch.full((2, 4), float("nan")), "NaN or Inf")
    undefined = lambda y: torch.tanh(torch.log(y * 0)) + y  # noqa: E731
    _raises(undefined, x, r"the derivative of .* is not finite at these inputs")
    broken = nn.Linear(4, 2)
    broken.weight.data[0, 0] = float("inf")
    _raises(broken, x, "the parameter weight has entries that are NaN or Inf")


def test_a_recurrent_module_alone_is_judged_through_time() -> None:
    model = nn.LSTM(6, 8, 2, bidirectional=True, batch_first=True)
    found = profile(model, torch.randn(2, 9, 6), output=0)
    assert [(layer.name, layer.kind) for layer in found.layers] == [("LSTM", "LSTM")]
    assert found.through_time is not None
    assert len(found.through_time.layers) == 4
    assert found.verdict.kind == "healthy"
    assert found.to_dict()["through_time"]["layers"][0]["steps"] == 9


def test_one_sample_does_not_mix_with_others() -> None:
    found = profile(nn.Linear(3, 3), torch.randn(1, 3))
    assert found.separate
    assert found.notes == ()
    assert not profile(nn.Linear(3, 2), torch.randn(3)).separate


def test_compiled_models_are_refused() -> None:
    compiled = torch.compile(nn.Sequential(nn.Linear(3, 3), nn.Tanh()), backend="eager")
    _raises(compiled, torch.randn(2, 3), "the model is compiled")
    _raises(nn.Sequential(nn.Linear(3, 3), compiled), torch.randn(2, 3), "1 is compiled")


def test_scripted_models_are_refused() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        scripted = torch.jit.script(nn.Sequential(nn.Linear(3, 3), nn.Tanh()))
    _raises(scripted, torch.randn(2, 3), "the model is scripted or traced")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_says_what_it_is_worth(dtype: torch.dtype) -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).to(dtype)
    found = profile(model, torch.randn(5, 6, dtype=dtype))
    exact = torch.linalg.matrix_norm(model[0].weight.double(), 2).item()
    assert found.layers[0].jacobian.largest.max() == pytest.approx(exact, rel=0.02)
    assert dtype != torch.bfloat16 or any("precision" in note for note in found.notes)


def test_a_loss_that_is_no_number_is_refused() -> None:
    _raises(nn.Linear(4, 2), torch.randn(3, 4), "the loss", loss=lambda y: y)
    _raises(nn.Linear(4, 2), torch.randn(3, 4), "the loss", loss=lambda y: 3.0)
    _raises(nn.Linear(4, 2), torch.randn(3, 4), "the loss raised ZeroDivisionError", loss=lambda y: 1 / 0)
    _raises(nn.Linear(4, 2), torch.randn(3, 4), "the loss", loss=lambda y: (y * float("nan")).sum())


def test_the_profile_is_the_same_twice() -> None:
    model, x = subject("decoder")

    def record(found: Profile) -> dict[str, Any]:
        return {k: v for k, v in found.to_dict().items() if k != "seconds"}

    assert record(profile(model, x, seed=1)) == record(profile(model, x, seed=1))


def reachable(root: object) -> list[object]:
    """Everything that an object keeps alive, apart from classes and modules of Python."""
    seen: dict[int, object] = {}
    waiting = [root]
    while waiting:
        one = waiting.pop()
        if id(one) not in seen and not isinstance(one, (type, ModuleType)):
            seen[id(one)] = one
            waiting += gc.get_referents(one)
    return list(seen.values())


def test_a_profile_keeps_no_tensor_and_nothing_to_call_alive() -> None:
    model, x = nn.Sequential(nn.Linear(6, 7), nn.Tanh(), nn.Linear(7, 7), nn.Softmax(-1)), torch.randn(3, 6)
    outputs: list[weakref.ref[Tensor]] = []
    model[0].register_forward_hook(lambda module, args, output: outputs.append(weakref.ref(output)))
    found = profile(model, x)
    gc.collect()
    assert {output() for output in outputs} == {None}
    kept = reachable(found)
    assert any(value is found.layers[1].gradient for value in kept)
    assert [value for value in kept if isinstance(value, (Tensor, FunctionType, MethodType))] == []
