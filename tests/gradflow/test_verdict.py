"""The verdict on the zoo, and its rules one by one on layers made up for them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from layerlab.errors import UserError
from layerlab.gradflow.activations import Activation
from layerlab.gradflow.bounds import linear, operator_norms
from layerlab.gradflow.gradients import gradient_verdict
from layerlab.gradflow.layer_profile import GradientLayer, Part
from layerlab.gradflow.verdict import Verdict, judge

from .zoo import EXAM_FAULTS, EXAM_HEALTHY, PRACTICE_FAULTS, PRACTICE_HEALTHY
from .zoo_case import Case


def named(case: Case) -> tuple[str, str | None, bool]:
    """Kind, cause, and whether an acceptable place is named."""
    try:
        found = gradient_verdict(case.build(), case.inputs())
    except UserError as error:
        text = str(error)
        assert "NaN or Inf" in text
        return "not finite", "not finite", any(place in text for place in case.where)
    return found.kind, found.cause, not case.where or found.module in case.where


# Thresholds were chosen on the practice half. The exam was run once, when they stood: 19 of 20 faults named with cause
# and place, no alarm on 20 healthy models. The one missed makes gradients grow 317 times, in two layers.
MISSED = {"generator_mean_one": ("healthy", None, False)}


@pytest.mark.parametrize("case", EXAM_FAULTS, ids=lambda case: case.name)
def test_the_exam_comes_out_as_it_did(case: Case) -> None:
    assert named(case) == MISSED.get(case.name, (case.verdict, case.fault, True))


@pytest.mark.parametrize("case", PRACTICE_FAULTS, ids=lambda case: case.name)
def test_a_planted_fault_is_found_and_its_cause_named(case: Case) -> None:
    assert named(case) == (case.verdict, case.fault, True)


@pytest.mark.parametrize("case", [*PRACTICE_HEALTHY, *EXAM_HEALTHY], ids=lambda case: case.name)
def test_no_alarm_on_a_healthy_model(case: Case) -> None:
    found = gradient_verdict(case.build(), case.inputs())
    assert (found.kind, found.cause, found.layer) == ("healthy", None, None)


@pytest.mark.parametrize("case", [*PRACTICE_FAULTS, *EXAM_FAULTS], ids=lambda case: case.name)
def test_no_alarm_without_the_fault(case: Case) -> None:
    assert case.twin is not None
    found = gradient_verdict(case.twin(), (case.twin_inputs or case.inputs)())
    assert (found.kind, found.cause, found.layer) == ("healthy", None, None)


def test_a_softmax_over_many_is_meant_to_shrink_gradients() -> None:
    class Lookup(nn.Module):
        def __init__(self, scale: float) -> None:
            super().__init__()
            self.keys, self.scale = nn.Parameter(torch.randn(200, 16)), scale

        def forward(self, x: Tensor) -> Tensor:
            return torch.softmax(self.scale * x @ self.keys.T, 1) @ self.keys

    with torch.random.fork_rng():
        torch.manual_seed(0)
        x = torch.randn(8, 16)
        assert gradient_verdict(Lookup(0.25), x).kind == "healthy"
        hard = gradient_verdict(Lookup(100.0), x)
    assert (hard.kind, hard.cause) == ("vanishing", "saturation")


@pytest.mark.parametrize(
    ("certain", "kind", "cause"), [(8, "healthy", None), (12, "vanishing", "saturation")]
)
def test_a_softmax_most_of_whose_rows_look_at_one_is_not_meant_to(
    certain: int, kind: str, cause: str | None
) -> None:
    logits = torch.randn(20, 200, generator=torch.Generator().manual_seed(0))
    logits[:certain, 7] = 50.0
    found = gradient_verdict(nn.Softmax(-1), logits)
    assert (found.kind, found.cause) == (kind, cause)


def activation(kind: str = "relu", **given: Any) -> Activation:
    fields = {"slope_rms": 0.7, "slope_max": 1.0, "saturated": 0.0, "dead": 0.0, "off": 0.0}
    return Activation(
        kind=kind, module="inner", call=0, units=8, input_rms=1.0, input_absmax=3.0, **{**fields, **given}
    )


def layers(*factors: float, **given: Any) -> tuple[list[GradientLayer], np.ndarray[Any, Any]]:
    """A chain whose layers multiply the gradient by these factors on its way back."""
    left = np.cumprod(np.array(factors)[::-1])[::-1]
    with np.errstate(divide="ignore"):
        logs = np.log(left)
    found = [
        GradientLayer(
            name=f"layer{i}",
            kind="Linear",
            module=f"layer{i}",
            start="",
            stop="",
            shape=(2, 8),
            gradient=np.full(2, log),
            weights={},
            activations=given.get("activations", {}).get(i, ()),
            parts=given.get("parts", {}).get(i, ()),
            designed=given.get("designed", {}).get(i, 0.0),
            attached=i not in given.get("cut", ()),
        )
        for i, log in enumerate(logs)
    ]
    return found, np.zeros(2)


def verdict(*factors: float, norms: dict[int, tuple[float, ...]] | None = None, **given: Any) -> Verdict:
    found, output = layers(*factors, **given)
    return judge(found, output, (), lambda i: (norms or {}).get(i, (1.0,) * len(found[i].parts)))


def test_a_gradient_that_keeps_its_size_is_healthy() -> None:
    found = verdict(1.0, 0.8, 1.2)
    assert found.kind == "healthy"
    assert found.log_factor == pytest.approx(math.log(0.96))


@pytest.mark.parametrize(
    ("factors", "kind"),
    [
        ((0.051, 1.0), "healthy"),
        ((0.049, 1.0), "vanishing"),
        ((0.3,) * 5, "healthy"),
        ((0.3,) * 6, "vanishing"),
        ((99.0, 1.0), "healthy"),
        ((101.0, 1.0), "exploding"),
        ((3.9,) * 5, "healthy"),
        ((4.0,) * 5, "exploding"),
    ],
)
def test_thresholds(factors: tuple[float, ...], kind: str) -> None:
    assert verdict(*factors).kind == kind


def test_the_layer_that_loses_most_alone_is_to_blame() -> None:
    found = verdict(
        1.0, 1e-5, 0.9, parts={1: (Part("layer1.conv", "convolution", "any input"),)}, norms={1: (1e-5,)}
    )
    assert (found.kind, found.layer, found.module, found.cause) == (
        "vanishing",
        "layer1",
        "layer1.conv",
        "small norm",
    )
    assert "in layer1 (Linear) 0.001 % of the gradient is left" in found.sentence
    assert "(largest singular value 1e-05)" in found.sentence


def test_of_a_layer_that_loses_most_the_part_that_lets_least_through_is_named() -> None:
    parts = (Part("a", "mm", "any input"), Part("b", "mm", "any input"), Part("c", "roll", "unknown"))
    found = verdict(1.0, 1e-5, 0.9, parts={1: parts}, norms={1: (0.9, 1e-4, 0.0)})
    assert found.module == "b"
    assert "(largest singular value 0.0001)" in found.sentence


def test_where_all_take_part_the_layer_at_which_the_threshold_is_passed_is_named() -> None:
    # On the way back 0.001 is passed in the sixth layer from the end.
    found = verdict(*(0.29,) * 9)
    assert (found.layer, found.cause) == ("layer3", "small norm")
    found = verdict(*(0.4,) * 12)
    assert (found.layer, found.cause) == ("layer4", "missing residual")


def test_the_slope_is_to_blame_where_the_activations_lose_most() -> None:
    sigmoid = (activation("sigmoid", slope_max=0.25, slope_rms=0.2),)
    found = verdict(*(0.6, 0.2) * 6, activations=dict.fromkeys(range(1, 12, 2), sigmoid))
    assert found.cause == "slope"


def test_averages_shrink_gradients_by_design() -> None:
    assert verdict(1.0, 1e-4, 1.0).kind == "vanishing"
    assert verdict(1.0, 1e-4, 1.0, designed={1: math.log(1e-4)}).kind == "healthy"


def test_what_a_concatenation_drops_is_no_fault() -> None:
    together = (Part("", "cat", "any input"), Part("", "add", "any input"))
    assert verdict(1.0, 0.01, 1.0, parts={1: together}).kind == "healthy"
    hidden = (*together, Part("rnn", "mkldnn_rnn_layer", "unknown"))
    assert verdict(1.0, 0.01, 1.0, parts={1: hidden}).kind == "vanishing"
    weighted = (*together, Part("fc", "addmm", "any input"))
    assert verdict(1.0, 0.01, 1.0, parts={1: weighted}).kind == "vanishing"


def test_shares_read_as_a_user_would_say_them() -> None:
    assert "10^−8.0 of the gradient is left" in verdict(1.0, 1e-8).sentence
    assert verdict(1.0, 0.5).sentence == "from 50 % to 50 % of the output's gradient everywhere"
    assert "to 20 times of" in verdict(20.0, 1.0).sentence


def test_units_beyond_the_linear_range_are_named() -> None:
    flat = (activation("tanh", saturated=0.9),)
    assert verdict(1.0, 1e-4, 1.0, activations={1: flat}).cause == "saturation"
    few = (activation("tanh", saturated=0.4),)
    assert verdict(1.0, 1e-4, 1.0, activations={1: few}).cause == "small norm"


def test_a_rectifier_is_not_saturated_by_being_off() -> None:
    half = (activation("relu", saturated=0.6, off=0.6),)
    assert verdict(1.0, 1e-4, 1.0, activations={1: half}).cause == "small norm"
    dead = (activation("relu", saturated=0.6, off=0.6, dead=0.6),)
    assert verdict(1.0, 1e-4, 1.0, activations={1: dead}).cause == "dead units"


def test_the_first_of_dead_layers_is_to_blame() -> None:
    off = (activation(off=1.0, dead=1.0, saturated=1.0),)
    found = verdict(1.0, 0.0, 1.0, 0.0, 1.0, activations={1: off, 3: off})
    assert (found.layer, found.cause) == ("layer1", "dead units")
    assert "nothing of the gradient is left" in found.sentence


def test_a_cut_is_named_where_it_begins() -> None:
    found = verdict(0.0, 0.0, 0.0, 1.0, cut=(1, 2))
    assert (found.layer, found.cause, found.log_factor) == ("layer1", "detached", -math.inf)
    assert "no gradient passes layer1 (Linear) to layer2 (Linear)" in found.sentence


def test_growth_is_blamed_on_the_layer_that_adds_most() -> None:
    found = verdict(
        5.0,
        20.0,
        15.0,
        5.0,
        parts={1: (Part("a", "mm", "any input"), Part("b", "mm", "any input"))},
        norms={1: (3.0, 9.0)},
    )
    assert (found.kind, found.layer, found.module, found.cause) == ("exploding", "layer1", "b", "large norm")
    assert "7,500 times" in found.sentence
    assert "layer1 (Linear) most" in found.sentence


def test_a_normalisation_makes_up_for_the_layer_before_it() -> None:
    norm = (Part("norm", "native_layer_norm", "these inputs"),)
    assert verdict(1.0, 1e-4, 1e4, 1.0, parts={2: norm}).kind == "healthy"
    assert verdict(1e4, 1.0, 1.0, parts={0: norm}).kind == "healthy"
    # One with fixed statistics is a layer like others, and one that shrinks gradients makes up for nothing.
    fixed = (Part("norm", "native_batch_norm", "any input"),)
    assert verdict(1.0, 1.0, 1e4, 1.0, parts={2: fixed}).kind == "exploding"
    assert verdict(1.0, 1.0, 1e-4, 1.0, parts={2: norm}).kind == "vanishing"
    assert verdict(1.0, 1e-8, 1e4, 1.0, parts={2: norm}).layer == "layer1"


def test_a_stopped_branch_is_found_though_the_signal_goes_around_it() -> None:
    stopped = (activation("tanh", saturated=0.95),)
    found = verdict(1.0, 1.0, activations={0: stopped})
    assert (found.kind, found.cause, found.module) == ("vanishing", "saturation", "inner")
    nearly = (activation("tanh", saturated=0.85),)
    assert verdict(1.0, 1.0, activations={0: nearly}).kind == "healthy"


def test_one_sample_of_many_that_vanishes_is_no_alarm() -> None:
    found, output = layers(1.0, 1.0)
    found[0].gradient[0] = -math.inf
    assert judge(found, output, (), {}.__getitem__).kind == "healthy"


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


def test_a_loss_may_take_the_place_of_random_directions() -> None:
    model = nn.Sequential(Residual(), Residual(), nn.Linear(6, 2))
    x = torch.randn(4, 6)
    found = gradient_verdict(model, x, loss=lambda y: (y**2).mean())
    assert found.kind == "healthy"
    assert found != gradient_verdict(model, x)


def test_the_verdict_is_the_same_twice() -> None:
    model, x = Residual(), torch.randn(4, 6)
    assert gradient_verdict(model, x, seed=3) == gradient_verdict(model, x, seed=3)


def test_norms_are_computed_of_a_layer_to_blame_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    real = operator_norms.matrix_norm

    def norm(matrix: Tensor) -> float:
        asked.append(tuple(matrix.shape))
        return real(matrix)

    monkeypatch.setattr(linear, "matrix_norm", norm)
    model, x = nn.Sequential(*(nn.Linear(6, 6) for _ in range(3)), nn.Linear(6, 5)), torch.randn(4, 6)
    for layer in model:
        nn.init.orthogonal_(layer.weight)
    assert gradient_verdict(model, x).kind == "healthy"
    assert asked == []
    with torch.no_grad():
        model[3].weight.mul_(1e-4)
    found = gradient_verdict(model, x)
    assert (found.module, found.cause) == ("3", "small norm")
    assert "(largest singular value 0.0001)" in found.sentence
    assert [sorted(shape) for shape in asked] == [[5, 6]]
