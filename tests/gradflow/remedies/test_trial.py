"""Remedies on planted faults: measured before and after on copies, the user's model left as it was."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from layerlab.errors import UserError
from layerlab.gradflow.evaluation import Call
from layerlab.gradflow.gradients import gradient_verdict
from layerlab.gradflow.profiling import Profile, profile
from layerlab.gradflow.remedies.plans import changes
from layerlab.gradflow.remedies.trial import Remedy, try_remedies
from layerlab.gradflow.remedies.weighted import anatomy
from layerlab.gradflow.verdict import Kind

from ..zoo_practice_faults import PRACTICE_FAULTS

RNG = torch.Generator().manual_seed(5)
X = torch.randn(16, 24, generator=RNG)


@pytest.fixture(autouse=True)
def _seeded() -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def verdict_only(model: nn.Module, x: Any, **options: Any) -> Profile:
    """A profile of which remedies read the verdict alone, without the cost of singular values."""
    verdict = gradient_verdict(model, x, **options)
    return Profile(
        model="",
        layers=(),
        samples=1,
        separate=True,
        output_gradient=np.zeros(1),
        cotangent="random",
        through_time=None,
        verdict=verdict,
        notes=(),
        seconds=0.0,
    )


def remedies(model: nn.Module, x: Any, **options: Any) -> tuple[Remedy, ...]:
    return try_remedies(model, x, verdict_only(model, x), **options)


def mlp(depth: int, activation: Callable[[], nn.Module], width: int = 24) -> nn.Sequential:
    layers = [m for _ in range(depth) for m in (nn.Linear(width, width), activation())]
    model = nn.Sequential(*layers, nn.Linear(width, 4))
    for m in model:
        if isinstance(m, nn.Linear):
            nn.init.orthogonal_(m.weight, math.sqrt(2) if activation is nn.ReLU else 1)
    return model


def dead() -> nn.Sequential:
    model = mlp(4, nn.ReLU)
    nn.init.constant_(model[4].bias, -50.0)
    return model


def named(found: tuple[Remedy, ...], name: str) -> Remedy:
    return next(remedy for remedy in found if remedy.name == name)


# --- What helps -------------------------------------------------------------------------------------------------

# Of the practice half of the zoo: which remedy is to be the best. Left out are slow ones, of which there are smaller
# ones below, and those without a remedy.
BEST = {
    "tanh_bias_ten": "bias 0",
    "sigmoid_on_raw_dollars": "inputs standardised",
    "vgg_conv_tiny": "variance-preserving initialisation",
    "gpt_final_gain": "gain and shift reset",
    "batch_norm_variance_lost": "statistics renewed",
    "autoencoder_uniform_0_1": "variance-preserving initialisation",
    "relu_bias_minus_ten": "bias 0",
    "vgg_shift_minus_twenty": "gain and shift reset",
    "constraint_with_wrong_sign": "variance-preserving initialisation",
}


@pytest.mark.parametrize("name", BEST)
def test_practice_faults_have_a_remedy(name: str) -> None:
    (case,) = (case for case in PRACTICE_FAULTS if case.name == name)
    found = remedies(case.build(), case.inputs())
    assert found[0].name == BEST[name]
    assert found[0].healthy
    assert found[0].helped


def test_slope() -> None:
    found = remedies(mlp(7, nn.Sigmoid), X)
    assert [r.name for r in found[:5]] == [
        "ReLU, all layers",
        "GELU, all layers",
        "SELU, all layers",
        "variance-preserving initialisation, all layers",
        "orthogonal initialisation, all layers",
    ]
    assert all(r.healthy for r in found[:5])
    assert named(found, "normalisation, all layers").helped


def test_large_weights_everywhere() -> None:
    model = mlp(7, nn.ReLU)
    for m in model:
        if isinstance(m, nn.Linear):
            nn.init.normal_(m.weight)
    found = remedies(model, X)
    assert found[0].name == "variance-preserving initialisation, all layers"
    assert found[0].healthy
    assert not any(r.healthy for r in found if len(r.applies_to) == 1)


def test_functions_are_exchanged_like_modules() -> None:
    """Twins, one with sigmoids as modules: the gradients are the same before and after."""

    class Functional(nn.Module):
        def __init__(self, layers: nn.ModuleList) -> None:
            super().__init__()
            self.layers = layers

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.layers[:-1]:
                x = layer(x).sigmoid()
            return self.layers[-1](x)

    modules = mlp(6, nn.Sigmoid)
    functions = Functional(nn.ModuleList(modules[::2]))
    a, b = named(remedies(modules, X), "ReLU, all layers"), named(remedies(functions, X), "ReLU")
    assert b.healthy
    assert b.log_factor_before == pytest.approx(a.log_factor_before)
    assert b.log_factor_after == pytest.approx(a.log_factor_after)


def test_missing_residual() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(24, 24), nn.Linear(24, 24)

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.second(F.relu(self.first(x))))

    model = nn.Sequential(*(Block() for _ in range(5)), nn.Linear(24, 4))
    for m in model.modules():
        if isinstance(m, nn.Linear):
            nn.init.orthogonal_(m.weight, 0.6)
    found = remedies(model, X)
    assert found[0].name == "residual connections, all layers"
    assert found[0].healthy
    assert found[0].applies_to[:2] == ("0.second", "1.first")
    assert "x = x + model[0].second(x)" in found[0].what
    assert "x = x + 0.333 * " in named(found, "residual connections of 1/√L, all layers").what


@pytest.mark.parametrize(("scale", "kind"), [(0.005, "vanishing"), (2.0, "exploding")])
def test_recurrent(scale: float, kind: str) -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.head = nn.RNN(3, 12, batch_first=True), nn.Linear(12, 2)
            nn.init.orthogonal_(self.rnn.weight_hh_l0, scale)
            nn.init.normal_(self.rnn.weight_ih_l0, std=0.3)
            nn.init.zeros_(self.rnn.bias_hh_l0)
            nn.init.zeros_(self.rnn.bias_ih_l0)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.rnn(x)[0][:, -1])

    model, x = Last(), 1e-5 * torch.randn(4, 14, 3)
    assert gradient_verdict(model, x).kind == kind
    (best,) = remedies(model, x)
    assert best.name == "orthogonal recurrent weights"
    assert best.verdict_after is not None
    assert best.healthy
    # 13 steps of norm `scale`, of norm 1 with the remedy.
    assert best.log_factor_before == pytest.approx(13 * math.log(scale), rel=0.03)
    assert best.log_factor_after == pytest.approx(0.0, abs=0.05)
    assert "through time before" in best.sentence


def test_softmax() -> None:
    model = nn.Sequential(nn.Linear(24, 6), nn.Softmax(-1), nn.Linear(6, 4))
    nn.init.normal_(model[0].weight, std=1e3)
    found = remedies(model, X)
    scaled = named(found, "softmax scaled")
    assert scaled.applies_to == ("1",)
    assert scaled.helped


# --- What is said -----------------------------------------------------------------------------------------------


def test_before_and_after_are_those_of_the_verdict() -> None:
    model = mlp(4, nn.Tanh)
    nn.init.constant_(model[2].bias, 9.0)
    measured = profile(model, X, budget=8)
    found = try_remedies(model, X, measured)
    best = found[0]
    assert best.name == "bias 0"
    assert best.applies_to == ("2.bias",)
    assert "nn.init.zeros_(model[2].bias)" in best.what
    mended = copy.deepcopy(model)
    nn.init.zeros_(mended[2].bias)
    after = profile(mended, X, budget=8).verdict
    assert best.log_factor_before == measured.verdict.log_factor
    assert best.log_factor_after == pytest.approx(after.log_factor)
    assert best.verdict_after == after
    assert best.sentence.endswith("after: healthy")
    lines = json.loads(json.dumps(best.to_dict(), allow_nan=False))
    assert lines["verdict_after"]["kind"] == "healthy"
    assert lines["helped"] is True


def test_what_does_not_help_is_said_and_comes_last() -> None:
    model = mlp(4, nn.ReLU)
    with torch.no_grad():
        model[4].weight.copy_(-model[4].weight.abs())  # its bias is not to blame
    found = remedies(model, X)
    bias = named(found, "bias 0")
    assert found[-1] == bias
    assert not bias.helped
    assert bias.log_factor_after == -math.inf
    assert bias.sentence.endswith("still vanishing, does not help")
    assert json.loads(json.dumps(bias.to_dict(), allow_nan=False))["log_factor_after"] is None
    ranks = [(not r.healthy, not r.helped) for r in found]
    assert ranks == sorted(ranks)


def test_what_counts_as_help(monkeypatch: pytest.MonkeyPatch) -> None:
    """A factor of 2, of the same fault; ranked by that, then by what is left."""
    model = dead()
    given = replace(verdict_only(model, X).verdict, log_factor=-13.0)
    outcomes: list[tuple[Kind, float]] = [
        ("vanishing", -12.5),
        ("exploding", 1.0),
        ("vanishing", -8.0),
        ("vanishing", -5.0),
        ("healthy", -4.0),
        ("healthy", -1.0),
    ]
    script = [replace(given, kind=kind, log_factor=factor) for kind, factor in outcomes]
    monkeypatch.setattr(
        "layerlab.gradflow.remedies.trial.gradient_verdict", lambda *args, **options: script.pop(0)
    )
    found = try_remedies(model, X, replace(verdict_only(model, X), verdict=given))
    assert not script
    assert [(r.log_factor_after, r.helped) for r in found] == [
        (-4.0, True),  # of healthy ones the first tried
        (-1.0, True),
        (-5.0, True),
        (-8.0, True),
        (1.0, False),
        (-12.5, False),
    ]


def test_layers_alike_are_changed_when_one_is_not_enough() -> None:
    model = dead()
    nn.init.constant_(model[0].bias, 0.0)
    with torch.no_grad():
        model[6].bias.fill_(-50.0)  # a second fault, behind the first
    found = remedies(model, X)
    assert not any(r.healthy for r in found if len(r.applies_to) == 1)
    assert found[0].name == "bias 0"
    assert found[0].applies_to == ("4.bias", "6.bias")
    assert found[0].healthy


def test_nothing_for_healthy_and_detached() -> None:
    class Cut(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.detach() + 0 * x.sum().detach()

    assert remedies(mlp(3, nn.ReLU), X) == ()
    model = nn.Sequential(nn.Linear(24, 24), Cut(), nn.Linear(24, 4))
    assert gradient_verdict(model, X).cause == "detached"
    assert remedies(model, X) == ()


def test_options_reach_the_measurement() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = dead()

        def forward(self, a: Tensor, b: Tensor) -> dict[str, Tensor]:
            return {"y": self.net(a + b), "z": a}

    options: dict[str, Any] = {"wrt": "a", "output": "y", "loss": lambda y: (y**2).sum(), "layers": ["net.*"]}
    inputs = {"a": X, "b": 0 * X}
    model = Two()
    found = try_remedies(model, inputs, verdict_only(model, inputs, **options), **options)
    assert found[0].healthy
    assert found[0].applies_to == ("net.4.bias",)


def test_progress_and_seeds() -> None:
    model, told = dead(), []
    first = remedies(model, X, progress=lambda share, text: told.append((share, text)))
    assert told[0] == (0.0, "bias 0")
    assert told[-1] == (1.0, "done")
    assert all(a[0] <= b[0] for a, b in pairwise(told))
    assert remedies(model, X) == first
    weights = "orthogonal initialisation"
    other = named(remedies(model, X, seed=1), weights)
    assert other.log_factor_after != named(first, weights).log_factor_after


# --- The user's model -------------------------------------------------------------------------------------------


def state(model: nn.Module) -> list[Any]:
    found: list[Any] = [torch.get_rng_state().clone()]
    for name, module in model.named_modules():
        tables = [module._forward_hooks, module._forward_pre_hooks, module._backward_hooks]
        found += [name, sorted(vars(module)), [len(table) for table in tables], module.training]
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        found += [name, value.detach().clone(), value._version, getattr(value, "grad", None)]
    return found


def same(a: Any, b: Any) -> bool:
    return torch.equal(a, b) if isinstance(a, Tensor) else a == b


@pytest.mark.parametrize("training", [True, False])
def test_model_is_left_as_it_was(training: bool) -> None:
    model = nn.Sequential(
        nn.Linear(24, 24), nn.BatchNorm1d(24), nn.Sigmoid(), nn.Dropout(0.1), nn.Linear(24, 24), nn.Tanh()
    ).train(training)
    nn.init.constant_(model[4].bias, 30.0)
    x = X.clone()
    measured = verdict_only(model, x)
    before = state(model)
    assert len(try_remedies(model, x, measured)) > 5
    assert all(same(a, b) for a, b in zip(before, state(model), strict=True))
    assert torch.equal(x, X)


def test_tied_weights_stay_tied() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(24, 24), nn.Linear(24, 24)
            self.second.weight = self.first.weight
            nn.init.normal_(self.first.weight, std=1e-5)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(torch.relu(self.first(x)))

    best = remedies(Tied(), X)[0]
    assert best.healthy
    assert best.applies_to == ("first.weight",)


def test_computed_weights_are_left_out_with_the_reason() -> None:
    model = mlp(4, nn.ReLU)
    weight_norm(model[4])
    with torch.no_grad():
        model[4].parametrizations.weight.original0.fill_(1e-5)
    found = remedies(model, X)
    untried = named(found, "variance-preserving initialisation")
    assert not untried.helped
    assert untried.verdict_after is None
    assert untried.log_factor_after is None
    assert "the weight of 4 is not a parameter but computed" in untried.sentence
    assert untried.to_dict()["verdict_after"] is None
    (others,) = [
        change
        for change in changes(anatomy(Call.of(model, X, None, None, 0)), model, gradient_verdict(model, X))
        if change.name == "orthogonal initialisation, all layers"
    ]
    assert others.applies_to == ("0.weight", "2.weight", "6.weight", "8.weight")
    assert others.what.endswith("and left as it is")


def test_a_model_that_cannot_be_copied() -> None:
    model = dead()
    model.register_buffer("cache", (model[0].weight * 2).sum(0))
    with pytest.raises(
        UserError, match=r"cannot be copied to try remedies on; copy\.deepcopy\(model\) raised"
    ):
        remedies(model, X)
    broken = verdict_only(dead(), X)
    with pytest.raises(UserError, match=r"expected a torch\.nn\.Module, got a function"):
        try_remedies(lambda x: x, X, broken)
