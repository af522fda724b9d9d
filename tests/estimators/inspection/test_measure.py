"""What an inspection finds on functions whose truth is known."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from layerlab.errors import UserError
from layerlab.estimators.bias import BiasTest, bias_test
from layerlab.estimators.enumeration import Moments, outcomes
from layerlab.estimators.inspection import page
from layerlab.estimators.inspection.measure import Settings, inspect
from layerlab.estimators.space import Space
from layerlab.estimators.variance import leave_one_out, one_bit
from layerlab.lab.report.page import marks

BIT, BITS = Space.parse(1), Space.parse(6)


def look(f: Callable[[Tensor], Any], space: Space, at: float | None = None, **asked: Any) -> dict[str, Any]:
    parameters = space.default() if at is None else space.at_probability(at)
    found = inspect(f, space, parameters, Settings(**{"repetitions": 100, "curve": False, **asked}))
    json.dumps(found)  # Every field is JSON.
    return found


def entries(found: dict[str, Any]) -> dict[str, Any]:
    return {entry["name"]: entry for entry in found["estimators"]}


def toy(x: Tensor) -> Tensor:
    return x[:, 0]


def onemax(x: Tensor) -> Tensor:
    return x.sum(-1)


def parity(x: Tensor) -> Tensor:
    return x.sum(-1) % 2


@pytest.mark.parametrize("mu", [0.3, 0.8])
def test_the_documents_toy(mu: float) -> None:
    found = look(toy, BIT, mu)
    rows = entries(found)
    closed = one_bit(0.0, 1.0, mu, 64)
    for name, key in (
        ("reinforce", "reinforce"),
        ("mean, known", "mean"),
        ("leave-one-out", "leave-one-out"),
    ):
        assert rows[name]["how"] == "closed form"
        assert rows[name]["variance"] == pytest.approx(closed[key], abs=1e-10)
    assert rows["optimal, known"]["variance"] == 0 and found["f"]["best_baseline"] == pytest.approx(1 - mu)
    assert found["gradient"] == {"length": pytest.approx(mu * (1 - mu)), "exact": True, "zero": False}
    assert found["mu"] == pytest.approx(mu) and found["enumerated"]
    remarks = found["recommendation"]["remarks"]
    assert len([one for one in remarks if "worse than none" in one]) == (mu > 2 / 3)
    assert any(f"best constant baseline here is {1 - mu:.4g}" in one for one in remarks)
    assert found["recommendation"]["name"] == "optimal"


def test_f_is_called_once_for_each_outcome_and_by_the_probe() -> None:
    seen: list[Tensor] = []

    def f(x: Tensor) -> list[float]:
        seen.append(x.clone())
        return onemax(x).tolist()  # No derivative: nothing but values can be had.

    found = look(f, BITS, sampled=3)
    assert found["enumerated"] and torch.equal(seen[-1], outcomes(BITS))
    assert sum(map(len, seen[:-1])) < 1600 and found["evaluations"] == sum(map(len, seen))


def curved(x: Tensor) -> Tensor:
    """Continuous between the outcomes, and not linear in any bit."""
    return (x.sum(-1) - 2) ** 2 + 3 * x[:, 0] * x[:, 1]


@pytest.mark.parametrize("limit", [2**20, 0])
def test_unbiased_ones_pass_and_biased_ones_fail(limit: int) -> None:
    found = look(curved, BITS, 0.3, repetitions=1600, outcomes=limit)
    assert {"rebar", "straight-through", "gumbel-softmax", "leave-one-out, normalised"} <= set(entries(found))
    for entry in found["estimators"]:
        assert entry["bias"]["passed"] is not entry["biased"], entry["name"]
        assert entry["biased"] or entry["bias"]["exact"] in (0.0, None)
    straight = entries(found)["straight-through"]
    assert (straight["bias"]["exact"] is None) == (limit == 0)
    if limit:
        assert straight["bias"]["exact"] == pytest.approx(straight["bias"]["measured"], rel=0.1)
        assert straight["mean_squared_error"] == straight["variance"] + straight["bias"]["exact"] ** 2


def test_a_biased_one_without_bias_on_this_function() -> None:
    found = look(onemax, BITS, 0.3)
    assert entries(found)["straight-through"]["bias"]["exact"] == 0
    assert any(
        "biased in general, but not on this function" in one for one in found["recommendation"]["remarks"]
    )


def test_a_jump_between_the_outcomes_is_caught() -> None:
    found = look(parity, BITS, 0.3, repetitions=400)
    assert not entries(found)["rebar"]["bias"]["passed"] and not entries(found)["rebar"]["biased"]
    assert any("rebar failed the test of bias" in note for note in found["notes"])
    assert found["recommendation"]["name"] != "rebar"


def test_a_parity_of_fair_bits_has_no_gradient() -> None:
    found = look(parity, BITS)
    assert found["gradient"]["zero"] and any("the gradient is 0" in note for note in found["notes"])
    rows = entries(found)
    # The complement of an even number of bits has the same parity.
    assert rows["disarm"]["variance"] == 0 and rows["reinforce"]["variance"] > 0
    assert entries(look(parity, Space.parse(5)))["disarm"]["variance"] > 0


def test_a_noisy_function_is_measured_and_its_noise_told() -> None:
    generator = torch.Generator().manual_seed(0)

    def f(x: Tensor) -> Tensor:
        return onemax(x) + 2 * torch.randn(len(x), generator=generator)

    found = look(f, BITS, repetitions=400)
    assert not found["enumerated"] and found["enumerable"] and not found["f"]["deterministic"]
    assert {entry["how"] for entry in found["estimators"]} == {"measured"} and not found["gradient"]["exact"]
    assert found["f"]["noise_of_f"] == pytest.approx(4 / 5.5, rel=0.25)  # Var f = 6/4 + 4.
    assert 0.5 < found["f"]["noise_of_variance"] <= 1
    (note,) = (note for note in found["notes"] if "not deterministic" in note)
    assert "Nothing is called exact" in note
    truth = onemax(outcomes(BITS))
    # Of leave-one-out the noise is about 4 E|s|^2 / K.
    expected = leave_one_out(Moments.of(BITS, truth, BITS.default()), 64).trace + 4 * 6 / 4 / 64
    row = entries(found)["leave-one-out"]
    assert row["low"] * 0.9 < expected < row["high"] * 1.1
    assert row["bias"]["passed"] and row["ratio_low"] < row["ratio"] < row["ratio_high"] < 1


def test_a_function_that_looks_at_the_whole_batch_is_not_tabulated() -> None:
    found = look(lambda x: onemax(x) - x.mean(), BITS)
    assert found["f"]["deterministic"] and not found["f"]["alone"] and not found["enumerated"]
    assert any("other samples stand beside it" in note for note in found["notes"])


def test_more_bits_than_are_enumerated_are_measured() -> None:
    found = look(onemax, Space.parse(40), samples=16, curve=True)
    rows = entries(found)
    assert not found["enumerable"] and found["curves"]["how"] == "measured"
    # Of REINFORCE on onemax with n fair bits: (E[f^2] n/4 - n/16) / K.
    n = 40
    truth = ((n / 4 + n**2 / 4) * n / 4 - n / 16) / 16
    assert rows["reinforce"]["variance"] == pytest.approx(truth, rel=0.1)
    (curve,) = (c for c in found["curves"]["estimators"] if c["name"] == "reinforce")
    at = found["curves"]["mu"].index(0.5)
    assert curve["variance"][at] == pytest.approx(truth, rel=0.2)
    assert curve["low"][at] < curve["variance"][at] < curve["high"][at]
    assert found["curves"]["gradient"][at] == pytest.approx(math.sqrt(n) / 4, rel=0.2)


def test_measured_and_exact_agree_on_the_same_function() -> None:
    exact, measured = (
        entries(look(onemax, BITS, 0.3, outcomes=limit, repetitions=400)) for limit in (2**20, 0)
    )
    assert set(exact) == set(measured)
    for name, entry in exact.items():
        if entry["how"] == "exact":
            half = measured[name]["high"] - measured[name]["variance"]
            assert abs(measured[name]["variance"] - entry["variance"]) <= 2.5 * half, name
            assert measured[name]["ratio"] == pytest.approx(entry["ratio"], rel=0.25, abs=0.02), name


def test_measured_and_exact_curves_agree() -> None:
    exact, measured = (
        look(curved, BITS, outcomes=limit, repetitions=1600, curve=True, estimators=("leave-one-out",))[
            "curves"
        ]
        for limit in (2**20, 0)
    )
    assert (exact["how"], measured["how"]) == ("exact", "measured")
    for name in ("reinforce", "leave-one-out", "disarm"):
        known, found = (
            next(
                dict(zip(c["mu"], one["variance"], strict=True))
                for one in c["estimators"]
                if one["name"] == name
            )
            for c in (exact, measured)
        )
        for mu in (0.1, 0.2, 0.5, 0.8, 0.9):
            assert found[mu] == pytest.approx(known[mu], rel=0.3), (name, mu)


def test_the_error_of_a_measured_gradient_is_taken_into_account(monkeypatch: pytest.MonkeyPatch) -> None:
    errors: list[Tensor | None] = []

    def watched(estimates: Tensor, reference: Tensor, error: Tensor | None = None) -> BiasTest:
        errors.append(error)
        return bias_test(estimates, reference, error)

    monkeypatch.setattr("layerlab.estimators.inspection.point.bias_test", watched)
    look(onemax, BITS)
    assert errors and all(error is None for error in errors)
    errors.clear()
    look(onemax, BITS, outcomes=0)
    assert errors and all(error is not None and bool((error > 0).all()) for error in errors)


def test_real_numbers() -> None:
    space = Space.parse(gaussian=3)
    found = look(lambda x: -(x - 1).square().sum(-1), space, repetitions=200)
    rows = entries(found)
    assert found["curves"] is None and found["where"] == "standard normal"
    # d/dm of -E|x - 1|^2 is 2 (1 - m), d/dlog std is -2 std^2.
    assert found["gradient"]["length"] == pytest.approx(math.sqrt(3 * 4 + 3 * 4), rel=0.05)
    assert rows["evolution"]["everywhere"] is False and rows["evolution"]["usable"] is False
    # Held against the gradient by the means alone.
    assert rows["evolution"]["bias"]["passed"]
    assert rows["evolution"]["signal"] == pytest.approx(math.sqrt(3 * 4), rel=0.05)
    assert rows["reinforce"]["bias"]["passed"] and not rows["evolution, ranks"]["bias"]["passed"]


def test_categories() -> None:
    space = Space.parse(categories="3x4")
    found = look(lambda x: (x == 2).sum(-1).numpy(), space)
    rows = entries(found)
    assert found["enumerated"] and "arm" not in rows and found["where"] == "all values equally likely"
    assert found["gradient"]["length"] == pytest.approx(math.sqrt(3 * ((3 / 16) ** 2 + 3 / 16**2)))
    assert rows["leave-one-out"]["how"] == "exact"


def test_random_parameters_give_medians_with_their_range() -> None:
    found = look(onemax, BITS, sampled=3)
    assert found["sampled"] == 3 and len(found["parameters"]) == 3 and found["mu"] is None
    row = entries(found)["leave-one-out"]
    assert row["ratio_low"] < row["ratio"] < row["ratio_high"]
    assert found["recommendation"]["reason"].startswith("over 3 random parameters, by the median: ")


def test_the_same_seed_gives_the_same_record() -> None:
    first, again = (look(onemax, BITS, 0.3, seed=5, curve=False) for _ in range(2))
    for found in (first, again):
        for clock in ("seconds", "f_seconds"):
            del found[clock]
        for entry in found["estimators"]:
            del entry["overhead_seconds"]
    assert first == again and first["curves"] is None


def test_estimators_are_chosen_and_a_baseline_given() -> None:
    found = look(toy, BIT, 0.8, estimators=("constant", "leave-one-out"), baseline=0.2)
    assert list(entries(found)) == ["reinforce", "constant", "leave-one-out", "leave-one-out, normalised"]
    assert found["recommendation"]["name"] == "constant"
    assert "no variance at all" in found["recommendation"]["reason"]


def test_one_evaluation_leaves_out_what_needs_two() -> None:
    found = look(onemax, BITS, samples=1)
    why = {entry["name"]: entry["why"] for entry in found["not_applicable"]}
    assert why["leave-one-out"] == why["disarm"] == "it needs at least 2 evaluations an estimate"
    assert found["recommendation"]["name"] == "reinforce"


def test_a_constant_function() -> None:
    found = look(lambda x: torch.full((len(x),), 3.0), BITS)
    assert any("nothing to learn" in note for note in found["notes"])
    assert found["recommendation"]["name"] == "leave-one-out"


@pytest.mark.parametrize(
    ("f", "words"),
    [
        (lambda x: x[:, 0] / 0, "f returned (nan|inf) for sample"),
        (lambda x: x, r"f returned the shape \(2, 6\); expected \(2,\)"),
        (lambda x: {}[0], "f raised KeyError"),
        (lambda x: None, "f returned None"),
        (lambda x: x[:, :1], r"add .squeeze\(-1\)"),
    ],
)
def test_functions_that_fail(f: Callable[[Tensor], Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        look(f, BITS)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"samples": 0}, "samples of at least 1"),
        ({"repetitions": 3}, "repetitions of at least 8"),
        ({"outcomes": 2**21}, "at most 1,048,576 outcomes"),
        ({"sampled": 0}, "at least 1 choice"),
        ({"baseline": math.inf}, "finite baseline"),
        ({"estimators": ("reinforced",)}, "there is no estimator 'reinforced'"),
    ],
)
def test_settings_that_fail(asked: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        look(onemax, BITS, **asked)


def test_what_would_not_fit_into_memory_is_refused_and_what_would_take_long_is_cut(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(UserError, match=r"300,000 bits at 64 evaluations|300000 bits at 64 evaluations"):
        look(onemax, Space.parse(300_000))
    monkeypatch.setattr("layerlab.estimators.inspection.point._PATIENCE", 64 * 30 * 25)
    found = look(onemax, Space.parse(30))
    assert {entry["bias"]["repetitions"] for entry in found["estimators"]} == {25}


def test_a_long_wait_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("layerlab.estimators.inspection.measure._LONG", 1e-9)
    told: list[str] = []
    shares: list[float] = []
    inspect(
        onemax,
        BITS,
        BITS.default(),
        Settings(repetitions=20),
        lambda share, words: shares.append(share),
        told.append,
    )
    assert len(told) == 1 and "evaluations of f at" in told[0] and "--outcomes 0" in told[0]
    assert shares == sorted(shares) and shares[-1] == pytest.approx(1)


def test_what_a_users_function_says_sets_no_marks_on_the_page() -> None:
    why = "f raised ValueError: a*b and *c* of [here](#top)"
    (found,) = page._refused({"not_applicable": [{"name": "rebar", "title": "REBAR", "why": why}]})
    assert marks(found.items[0]) == (
        "<strong>rebar</strong> f raised ValueError: a∗b and ∗c∗ of ［here］(#top)."
    )
