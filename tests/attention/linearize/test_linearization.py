"""Choosing, proving and refusing swaps."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from layerlab.attention.linearize import linearization, text
from layerlab.attention.linearize.candidates import Clock, Speed
from layerlab.attention.linearize.choice import Step, choose
from layerlab.attention.linearize.linearization import Linearization
from layerlab.attention.linearize.measuring import Part, parts
from layerlab.attention.prediction import PredictedSwap, Prediction
from layerlab.errors import UserError

Made = Callable[..., Linearization]


def prediction(tangents: dict[tuple[str, str], list[float]]) -> Prediction:
    swaps = {
        key: PredictedSwap(*key, math.hypot(*values), 1.0, torch.tensor(values, dtype=torch.float64))
        for key, values in tangents.items()
    }
    return Prediction(1.0, swaps, "forward", None)


def test_swaps_are_added_where_their_sum_is_smallest() -> None:
    found = prediction(
        {("a", "x"): [3.0, 0.0], ("a", "y"): [0.0, 4.0], ("b", "x"): [-2.9, 0.5], ("c", "x"): [0.0, 9.0]}
    )
    steps = choose(found, {"a": ["x", "y"], "b": ["x"], "c": ["x"]}, 3.5)
    assert [step.swap for step in steps] == [("b", "x"), ("a", "x")]
    assert (
        steps[1].predicted
        == pytest.approx(math.hypot(0.1, 0.5))
        == pytest.approx(found.error(s.swap for s in steps))
    )
    assert choose(found, {"a": ["x"], "c": ["x"]}, 2.9) == ()
    assert len(choose(found, {"a": ["x"], "b": ["x"], "c": ["x"]}, 10.0)) == 3


@pytest.mark.usefixtures("faster")
def test_it_exchanges_what_the_output_bears_and_measures_it(made: Made) -> None:
    found = made(max_error=0.05)
    first, second = found.sites
    assert (first.chosen, second.chosen, found.refused) == (True, False, None)
    assert second.why_not == "with it the error of the output is too large"
    assert found.whole is not None and found.model is not None
    assert found.whole.measured <= 0.05 and found.whole.held_out is not None and found.whole.held_out <= 0.05
    assert first.measured == pytest.approx(found.whole.measured, rel=1e-3), (
        "the written code and the operator agree"
    )
    assert first.predicted[first.mechanism or ""] == pytest.approx(found.whole.measured, rel=0.2)
    assert second.measured is not None and second.measured > 0.05
    assert set(first.predicted) == {"linear", "linear-relu", "linear-random", "hedgehog"}
    assert first.mechanism == min(first.predicted, key=first.predicted.__getitem__)
    assert first.fit is not None and first.fit.after < first.fit.before
    # It hardly matters: that is seen, and said.
    assert first.zeroed is not None and first.zeroed < 0.05 < (second.zeroed or 0)
    remarks = text.remarks(found.to_dict())
    assert any(r.startswith("0 hardly matters on these inputs: with an output of 0") for r in remarks)
    assert not any(r.startswith("1 hardly") for r in remarks)
    assert "1 of 2 attentions exchanged" in text.verdict(found.to_dict())


@pytest.mark.usefixtures("faster")
def test_more_is_exchanged_where_more_is_allowed_and_the_model_is_left_alone(made: Made) -> None:
    found = made(max_error=0.9, mechanisms=("linear", "linear-relu"))
    assert [site.chosen for site in found.sites] == [True, True]
    assert found.whole is not None
    assert found.whole.zeroed > found.whole.measured > 0.05
    assert found.model is not None and len(found.model.state_dict()) == len(found.subject.model.state_dict())
    assert not hasattr(found.subject.model[0], "linear_attention")  # type: ignore[index]
    assert found.sites[0].fit is None


@pytest.mark.usefixtures("faster")
def test_an_error_that_cannot_be_kept_is_refused_with_the_figure(made: Made) -> None:
    found = made(max_error=1e-6)
    assert found.whole is None and found.model is None and not any(site.chosen for site in found.sites)
    assert (
        found.refused is not None
        and "no swap is predicted to change the output by at most 1e-06" in found.refused
    )
    best = found.sites[0].measured
    assert best is not None and f"measured {best:.3g}" in found.refused
    assert text.verdict(found.to_dict()).startswith("refused, nothing is written")


@pytest.mark.usefixtures("faster")
def test_swaps_that_measure_worse_than_predicted_are_taken_back(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = (Step(("0", "linear"), 0.01), Step(("1", "linear"), 0.02))
    monkeypatch.setattr(linearization, "choose", lambda *given: both)
    found = made(max_error=0.05)
    assert [site.chosen for site in found.sites] == [True, False]
    assert "of 2 swaps that were predicted to be possible, 1 measured so" in found.notes
    assert found.whole is not None and found.whole.predicted == 0.01
    monkeypatch.setattr(linearization, "choose", lambda *given: both[1:])
    found = made(max_error=0.05)
    assert found.refused is not None and found.whole is None
    assert (
        "predicted to be within 0.05, and measured" in found.refused and "with a single swap" in found.refused
    )


@pytest.mark.usefixtures("faster")
def test_inputs_held_out_judge_the_fit_and_the_error(monkeypatch: pytest.MonkeyPatch, made: Made) -> None:
    class Worse(Part):
        def error(self, model: nn.Module, mechanisms: Any) -> float:
            return 0.5

    def with_worse(*given: Any) -> tuple[Part, Part | None, str | None]:
        part, held, why = parts(*given)
        assert held is not None
        return part, Worse(held.inputs, held.watched, held.output, held.seed), why

    fit, validations = linearization.fit_hedgehog, []

    def watched(call: Any, validation: Any, **given: Any) -> Any:
        validations.append((call, validation))
        return fit(call, validation, **given)

    monkeypatch.setattr(linearization, "parts", with_worse)
    monkeypatch.setattr(linearization, "fit_hedgehog", watched)
    found = made(max_error=0.05, mechanisms=("hedgehog",))
    assert found.refused is not None and "measured 0.5 with a single swap" in found.refused
    assert len(validations) == 2
    for call, validation in validations:
        assert call.site == validation.site and not torch.equal(call.q, validation.q)


def test_only_what_pays_is_a_candidate(monkeypatch: pytest.MonkeyPatch, made: Made) -> None:
    crossovers = {"linear": 20, "linear-relu": 21}
    monkeypatch.setattr(Clock, "speed", lambda self, name, call: Speed(name, 1.0, crossovers[name], 64))
    found = made(max_error=0.05, mechanisms=("linear", "linear-relu"))
    assert all(set(site.predicted) == {"linear"} for site in found.sites)


def test_where_it_is_not_faster_it_is_refused(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    speeds = {"linear": Speed("linear", 0.5, 300, 1024), "linear-relu": Speed("linear-relu", 0.4, None, 1024)}
    monkeypatch.setattr(Clock, "speed", lambda self, name, call: speeds[name])
    found = made(mechanisms=("linear", "linear-relu"))
    assert found.refused is not None and found.model is None
    assert "not faster at its 20 tokens on this machine, but from about 300 on" in found.refused
    found = made(mechanisms=("linear-relu",))
    assert found.refused is not None and "nor up to 1,024" in found.refused


def test_a_busy_machine_is_told(monkeypatch: pytest.MonkeyPatch, made: Made) -> None:
    monkeypatch.setattr(Clock, "speed", lambda self, name, call: Speed(name, 0.5, None, 64))
    for load, told in ((3.0, True), (0.1, False), (None, False)):
        monkeypatch.setattr(linearization, "load_a_core", lambda load=load: load)
        notes = made(mechanisms=("linear",)).notes
        assert any("this machine was busy (load 3.0 a core)" in note for note in notes) == told


def test_the_real_clock_says_so_of_a_short_sequence(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("layerlab.attention.linearize.candidates._SECONDS", 0.2)
    found = made(mechanisms=("linear",), shapes=("2,4,12",))
    assert found.refused is not None and "not faster at its 4 tokens" in found.refused


@pytest.mark.usefixtures("faster")
def test_attention_that_cannot_be_exchanged_is_named_with_the_reason(made: Made) -> None:
    found = made("obstacles", mechanisms=("linear",), max_error=0.9)
    reasons = {site.call.site: site.why_not for site in found.sites}
    assert "more than once in a pass" in (reasons["twice"] or "") and reasons["twice"] == reasons["twice#1"]
    assert "a module inside its module" in (reasons["outer"] or "")
    assert "adds a key of its own" in (reasons["biased"] or "")
    assert "differs between queries" in (reasons["band"] or "")
    for name in ("outer.inner", "good"):
        assert reasons[name] in (None, "with it the error of the output is too large")
    assert any(site.predicted for site in found.sites)


def test_bad_settings_and_models_are_told(made: Made) -> None:
    with pytest.raises(UserError, match="computes no attention that can be seen"):
        made("without")
    with pytest.raises(UserError, match=r"expected a mechanism of linear, .*, got 'nystrom'"):
        made(mechanisms=("nystrom",))
    for wrong in (0.0, 1.0, math.nan):
        with pytest.raises(UserError, match="largest error between 0 and 1"):
            made(max_error=wrong)
    with pytest.raises(UserError, match="the output 'logits' is not among"):
        made(output="logits")


class Wrong(nn.Module):
    """Not finite where its attention is exchanged."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(12, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x)[0] * math.nan if not self.training else x


def test_an_output_that_is_not_finite_is_an_infinite_error() -> None:
    x = torch.ones(4, 5, 12)
    model = Wrong()
    part, _, _ = parts(nn.Sequential(model), x, None, 0)
    model.eval()
    assert part.error_of(nn.Sequential(model)) == math.inf


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        (torch.ones(1, 5, 12), "not a batch of two or more"),
        ((torch.ones(4, 5, 12), torch.tensor(3)), "not a batch of two or more"),
        (torch.ones(6, 4, 12).transpose(0, 1), None),
    ],
)
def test_what_is_held_out(inputs: Any, reason: str | None) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(12, 2, batch_first=True)

        def forward(self, x: Tensor, _: Any = None) -> Tensor:
            result: Tensor = self.attention(x, x, x)[0]
            return result

    first, second, why = parts(Model().eval(), inputs, None, 0)
    assert (why is None) == (reason is None) and (reason or "") in (why or "")
    if second is not None:
        assert first.clean.shape[0] == second.clean.shape[0] == 2


def test_a_sequence_is_not_taken_for_a_batch() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(12, 2)

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.attention(x, x, x)[0]
            return result

    whole, held, why = parts(Model().eval(), torch.ones(6, 4, 12), None, 0)
    assert held is None and why is not None and "first dimension of the inputs is not the batch" in why
    assert whole.clean.shape == (6, 4, 12)


@pytest.mark.usefixtures("faster")
def test_inputs_from_a_file_and_the_same_again(made: Made, tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(4, 10, 12))
    np.savez(tmp_path / "x.npz", x=x)
    asked: dict[str, Any] = {"file": str(tmp_path / "x.npz"), "dtype": "float64", "max_error": 0.05}
    records = [made(**asked).to_dict() for _ in range(2)]
    for record in records:
        assert record["dtype"] == "float64" and record["inputs"][0]["shape"] == [4, 10, 12]
        for site in record["sites"]:
            site["fit"]["seconds"] = 0.0
        record["whole"]["seconds_before"] = record["whole"]["seconds_after"] = 0.0
    assert records[0] == records[1]
    assert "given.py:model" in records[0]["subject"]


def test_an_output_named_by_what_is_no_digit_is_a_name() -> None:
    assert linearization.Settings(output="1.logits").path() == (1, "logits")
    assert linearization.Settings(output="²").path() == ("²",)


def test_a_batch_that_is_too_large_to_time_is_told(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Clock, "speed", lambda self, name, call: Speed(name, None, None, 0))
    refused = made().refused
    assert refused is not None and "is too large to time linear attention here" in refused
