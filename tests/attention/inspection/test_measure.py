"""A model's attention looked at from end to end; times are given, so that the advice is known."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from layerlab.attention.crossover import Crossover, Setting
from layerlab.attention.inspection import measure
from layerlab.attention.inspection.measure import Settings, inspect
from layerlab.attention.inspection.text import verdict
from layerlab.attention.mechanisms import mechanism
from layerlab.attention.prediction import predict
from layerlab.errors import UserError
from layerlab.lab.models.subject import Subject


class Layer(nn.Module):
    """Attention beside a way around it."""

    def __init__(self, share: float, causal: bool = False) -> None:
        super().__init__()
        self.qkv, self.share, self.causal = nn.Linear(12, 36), share, causal

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (6, 6)).transpose(1, 2).split(2, 1)
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return x + self.share * y.transpose(1, 2).flatten(2)


class ByHand(nn.Module):
    """Attention that cannot be seen."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(x @ x.mT, -1) @ x


class TwoOutputs(nn.Module):
    """A change of 1 is little in the first."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = Layer(1.0)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = self.layer(x)
        return {"far": 1e3 + y, "near": y}


def of(model: nn.Module, inputs: Any = None, *, guessed: bool = False) -> Subject:
    torch.manual_seed(0)
    inputs = torch.randn(2, 20, 12) if inputs is None else inputs
    return Subject("net.py:net", model, inputs, "eval", torch.float32, guessed, ("given",))


def two_layers(causal: bool = False) -> Subject:
    """The second hardly matters."""
    torch.manual_seed(0)
    return of(nn.Sequential(Layer(1.0, causal), Layer(1e-4, causal)).eval())


@pytest.fixture(autouse=True)
def speeds(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Speed by mechanism, at every length; 2 where not said."""
    given: dict[str, float] = {}

    def timed(
        name: str, setting: Setting, *, backward: bool, own: tuple[int, ...], seconds: float
    ) -> Crossover:
        speed = given.get(name, 2.0)
        first = 8 if speed > 1 else None
        return Crossover(name, setting, backward, 1, (8, 64), (speed,) * 2, (1.0,) * 2, first)

    monkeypatch.setattr(measure, "crossover", timed)
    return given


def test_the_layer_that_hardly_matters_is_replaced() -> None:
    told: list[tuple[float, str]] = []
    found = inspect(two_layers(), Settings(), lambda share, words: told.append((share, words)))
    record = found.to_dict()
    assert record["ranking"] == ["1", "0"]
    assert [site["advice"]["standing"] for site in record["sites"]] == ["too far off", "replace"]
    name = record["sites"][1]["advice"]["mechanism"]
    (swap,) = [c for c in record["sites"][1]["candidates"] if c["mechanism"] == name]
    assert record["together"] == swap["error"] < 0.02 and swap["speed"] == 2.0
    assert record["notes"] == ["given"] and record["unseen"] == []
    shares = [share for share, _ in told]
    assert shares == sorted(shares) and shares[0] >= 0 and shares[-1] <= 1
    assert {words.split()[0] for _, words in told} == {"heads", "timing", "0:", "1:"}


def test_as_many_are_chosen_as_stay_within_the_error_together() -> None:
    torch.manual_seed(0)
    made = of(nn.Sequential(*(Layer(1e-2) for _ in range(4))).eval())
    settings = Settings(mechanisms=("linear",), max_error=1.0)
    errors = [site["candidates"][0]["error"] for site in inspect(made, settings).to_dict()["sites"]]
    limit = 1.5 * max(errors)
    record = inspect(made, Settings(mechanisms=("linear",), max_error=limit)).to_dict()
    assert [site["advice"]["standing"] for site in record["sites"]] == ["replace"] * 4
    assert 1 < len(record["chosen"]) < 4 and record["chosen"] == record["ranking"][: len(record["chosen"])]
    assert max(errors) < record["together"] <= limit < record["all_together"]
    assert "each alone" in verdict(record)


def test_errors_are_those_that_are_predicted() -> None:
    made = two_layers()
    record = inspect(made, Settings(mechanisms=("linear",))).to_dict()
    expected = predict(made.model, made.inputs, {"0": {"linear": mechanism("linear")}})
    assert record["sites"][0]["candidates"][0]["error"] == pytest.approx(expected.error([("0", "linear")]))


def test_below_the_crossover_softmax_is_kept(speeds: dict[str, float]) -> None:
    speeds.update(dict.fromkeys(measure.MECHANISMS, 0.5))
    record = inspect(two_layers(), Settings()).to_dict()
    assert record["together"] is None
    advice = record["sites"][1]["advice"]
    assert advice["standing"] == "too short" and "at 20 tokens" in advice["sentence"]


def test_causal_attention_excludes_some() -> None:
    record = inspect(two_layers(causal=True), Settings()).to_dict()
    reasons = {c["mechanism"]: c["reason"] for c in record["sites"][0]["candidates"]}
    assert reasons["linear"] is None and "causal" in reasons["nystrom"]
    assert any("exact rank n" in note for note in record["notes"])
    assert record["sites"][0]["causal"] and record["sites"][0]["mask"] == "none"


def test_a_rank_as_long_as_the_sequence_is_no_swap() -> None:
    record = inspect(two_layers(), Settings(mechanisms=("linformer", "nystrom"))).to_dict()
    reasons = [c["reason"] for c in record["sites"][0]["candidates"]]
    assert reasons == [
        "linformer attention of rank 20 saves nothing at 20 tokens; give longer inputs",
        "nystrom attention of rank 64 saves nothing at 20 tokens; give longer inputs",
    ]


def test_the_model_is_left_as_it_was() -> None:
    made = two_layers()
    before = {name: tensor.clone() for name, tensor in made.model.state_dict().items()}
    state = torch.get_rng_state()
    inspect(made, Settings(mechanisms=("linear", "linear-random")))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in made.model.state_dict().items())
    assert not any(p.grad is not None for p in made.model.parameters())


def test_what_is_not_seen_is_told_beside_what_is() -> None:
    record = inspect(of(nn.Sequential(ByHand(), Layer(1.0))), Settings(mechanisms=("linear",))).to_dict()
    assert [site["site"] for site in record["sites"]] == ["1"]
    (unseen,) = record["unseen"]
    assert unseen["module"] == "0" and "by hand" in unseen["why"]


def test_several_outputs_and_the_one_that_is_chosen() -> None:
    made = of(TwoOutputs())
    errors = {}
    for name in ("far", "near"):
        record = inspect(made, Settings(output=name, mechanisms=("linear",))).to_dict()
        errors[name] = record["sites"][0]["candidates"][0]["error"]
    assert errors["far"] < 0.01 * errors["near"]
    with pytest.raises(
        UserError, match="the output 'none' is not among those of real numbers; there are far, near"
    ):
        inspect(made, Settings(output="none"))


def nan_weights() -> nn.Module:
    layer = Layer(1.0)
    with torch.no_grad():
        layer.qkv.weight[0, 0] = math.nan
    return layer


@pytest.mark.parametrize(
    ("model", "inputs", "words"),
    [
        (
            nn.Linear(12, 12),
            None,
            "Linear computes no attention on these inputs: expected torch.nn.Multihead",
        ),
        (ByHand(), None, r"cannot be watched: the model \(ByHand\) at test_measure.py:\d+: a softmax"),
        (Layer(1.0), torch.randn(2, 1, 12), "sees one key only, whose weight is always 1; give longer"),
        (nan_weights(), None, r"the parameter qkv\.weight has entries that are NaN or Inf"),
        (Layer(1.0), torch.full((2, 5, 12), math.nan), "NaN or Inf among the queries"),
        (nn.LazyLinear(3), None, "the parameter weight has no shape yet"),
        (Layer(1.0), torch.randn(2, 5, 7), "raised RuntimeError"),
    ],
)
def test_bad_input(model: nn.Module, inputs: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        inspect(of(model, inputs), Settings())


def test_a_guess_that_fails_is_told_as_a_guess() -> None:
    with pytest.raises(UserError, match="these inputs were a guess: give others with --input-shape"):
        inspect(of(Layer(1.0), torch.randn(2, 5, 7), guessed=True), Settings())


def test_an_unknown_mechanism_is_refused_before_anything_runs() -> None:
    with pytest.raises(UserError, match="expected a Mechanism or one of softmax, linear"):
        inspect(of(nn.Linear(12, 12)), Settings(mechanisms=("sharp",)))


def test_cross_attention_and_dropout_are_remarked() -> None:
    model = nn.TransformerDecoderLayer(12, 2, 16, dropout=0.1, batch_first=True).train()
    made = of(model, (torch.randn(2, 6, 12), torch.randn(2, 9, 12)))
    record = inspect(made, Settings(mechanisms=("linear",))).to_dict()
    assert [(site["queries"], site["keys"]) for site in record["sites"]] == [(6, 6), (6, 9)]
    assert "dropout of the weights is left out of all measures" in record["notes"]
    assert any("as many queries as keys" in note for note in record["notes"])
    assert record["sites"][1]["heads"][0]["distance"] is None


def test_what_is_too_far_off_is_told_where_maps_are_fitted() -> None:
    record = inspect(two_layers(), Settings(mechanisms=("linear",), max_error=1e-6)).to_dict()
    assert {site["advice"]["standing"] for site in record["sites"]} == {"too far off"}
    assert "layerlab model linearize" in verdict(record)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"max_error": float("nan")}, "expected a largest error of at least 0, got nan"),
        ({"budget": float("nan")}, "expected a budget above 0 s, got nan"),
        ({"budget": 0.0}, "expected a budget above 0 s, got 0"),
        ({"examples": 0}, "expected at least 1 example to measure heads on, got 0"),
    ],
)
def test_settings_out_of_range_are_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        Settings(**given)
