"""The verdict rule, and what is refused as unable to fail."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_claims import SLACK, outcome

from layerlab.claims import (
    DefectiveClaimError,
    Measurement,
    Outcome,
    Slack,
    confidence,
    exact,
    rounding,
)


@pytest.mark.parametrize(
    ("relation", "measured", "verdict"),
    [
        ("<=", -5.0, "holds"),
        ("<=", 2.125, "holds"),
        ("<=", 2.126, "violated"),
        (">=", 5.0, "holds"),
        (">=", 1.875, "holds"),
        (">=", 1.874, "violated"),
        ("==", 2.125, "holds"),
        ("==", 1.875, "holds"),
        ("==", 2.126, "violated"),
        ("==", 1.874, "violated"),
    ],
)
def test_verdict_follows_from_relation_bound_and_slack(relation: str, measured: float, verdict: str) -> None:
    assert outcome(relation, measured, 2.0).verdict == verdict


@pytest.mark.parametrize("relation", ["<=", ">=", "=="])
@pytest.mark.parametrize("measured", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_never_holds(relation: str, measured: float) -> None:
    result = outcome(relation, measured, 2.0)
    assert result.verdict == "violated"
    assert result.tightness is None
    assert result.to_dict()["measured"] is None
    assert result.to_dict()["note"] == f"measured is {measured}"


@settings(derandomize=True, deadline=None)
@given(
    st.sampled_from(["<=", ">=", "=="]),
    st.floats(-1e6, 1e6),
    st.floats(1e-3, 1e6) | st.floats(-1e6, -1e-3),
    st.floats(0, 0.9),
)
def test_slack_below_the_bound_lets_zero_pass_only_where_the_bound_does(
    relation: str, measured: float, bound: float, share: float
) -> None:
    slack = Slack(share * abs(bound), "share")
    assert (outcome(relation, 0.0, bound, slack).verdict == "holds") == (
        {"<=": bound > 0, ">=": bound < 0, "==": False}[relation]
    )
    verdict = outcome(relation, measured, bound, slack).verdict
    beyond = {"<=": measured - bound, ">=": bound - measured, "==": abs(measured - bound)}[relation]
    # Within rounding of the edge either verdict is right; the exact edge is tested above.
    if abs(beyond - slack.value) > 1e-9 * (abs(measured) + abs(bound)):
        assert verdict == ("holds" if beyond < slack.value else "violated")


def test_unmet_hypotheses_come_before_numbers() -> None:
    result = Outcome("<=", Measurement.unmet_because("x is negative"), seed=3)
    assert result.verdict == "hypotheses unmet"
    assert result.unmet == "x is negative"
    assert result.tightness is None
    assert result.to_dict() == {
        "measured": None,
        "bound": None,
        "slack": 0.0,
        "slack_reason": "exact: nothing was measured",
        "tightness": None,
        "seed": 3,
        "verdict": "hypotheses unmet",
        "unmet": "x is negative",
        "note": None,
    }


def test_a_verdict_cannot_be_handed_in() -> None:
    for name in ("verdict", "tightness"):
        with pytest.raises(TypeError):
            Outcome("<=", Measurement(3.0, 2.0, SLACK), seed=0, **{name: "holds"})  # type: ignore[arg-type]
        with pytest.raises(AttributeError):
            setattr(outcome("<=", 3.0, 2.0), name, "holds")


def test_tightness_is_the_ratio_and_none_where_the_bound_is_zero() -> None:
    assert outcome("<=", 1.5, 2.0).tightness == 0.75
    assert outcome("==", 0.0, 0.0).tightness is None


def test_zero_dimensional_tensors_become_numbers() -> None:
    made = Measurement(torch.tensor(1.5), np.float32(2.0), SLACK)  # type: ignore[arg-type]
    assert type(made.measured) is float
    assert type(made.bound) is float


@pytest.mark.parametrize("value", [-1e-9, math.nan, math.inf])
def test_a_slack_is_finite_and_not_negative(value: float) -> None:
    with pytest.raises(DefectiveClaimError, match="finite and not negative"):
        Slack(value, "reason")
    with pytest.raises(DefectiveClaimError, match="scale"):
        Slack(1.0, "reason", scale=value)


def test_a_slack_has_a_reason() -> None:
    with pytest.raises(DefectiveClaimError, match="needs a reason"):
        Slack(0.0, " ")


@pytest.mark.parametrize(
    ("relation", "bound", "slack"),
    [
        *(("==", 2.0, 2.0), ("==", -2.0, 2.5), (">=", 2.0, 2.0), ("<=", -2.0, 2.0)),
        *(("==", 0.5, 0.5), (">=", 0.5, 0.5), ("<=", -0.5, 0.5)),
    ],
)
def test_a_slack_that_lets_zero_pass_is_refused(relation: str, bound: float, slack: float) -> None:
    with pytest.raises(DefectiveClaimError, match="lets 0 pass"):
        # Even with a large scale, which excuses nothing here.
        outcome(relation, bound, bound, Slack(slack, "too wide", scale=100.0))
    assert outcome(relation, bound, bound, Slack(0.99 * abs(bound), "just below")).verdict == "holds"


@pytest.mark.parametrize(
    ("relation", "bound"),
    [("==", 0.0), ("<=", 0.0), (">=", 0.0), ("<=", 2.0), (">=", -2.0), ("<=", 0.5), (">=", -0.5)],
)
def test_a_slack_is_below_the_numbers_compared(relation: str, bound: float) -> None:
    with pytest.raises(DefectiveClaimError, match="not below the numbers compared"):
        outcome(relation, 0.0, bound, Slack(3.0, "too wide", scale=3.0))
    with pytest.raises(DefectiveClaimError, match="not below the numbers compared"):
        outcome(relation, 0.0, bound, Slack(abs(bound) or 0.5, "no scale"))
    assert outcome(relation, bound, bound, Slack(2.9, "just below", scale=3.0)).verdict == "holds"
    if bound:
        assert (
            outcome(relation, bound, bound, Slack(0.9 * abs(bound), "below the bound", scale=0.1)).verdict
            == "holds"
        )
    assert outcome(relation, bound, bound, exact("integers")).verdict == "holds"


@pytest.mark.parametrize("bound", [math.nan, math.inf])
def test_a_bound_is_finite(bound: float) -> None:
    with pytest.raises(DefectiveClaimError, match="bound is finite"):
        Measurement(1.0, bound, SLACK)


def test_the_least_that_is_allowed_is_allowed() -> None:
    assert Slack(0.0, "nothing is compared", scale=0.0).scale == 0.0
    assert (
        rounding("float64", size=1, scale=1.0).reason
        == "rounding of float64: 1 operations on numbers of size 1"
    )
    assert confidence(1.0, n=30, level=0.95).value < 0.36


def test_an_unmet_hypothesis_is_named() -> None:
    with pytest.raises(DefectiveClaimError, match="named"):
        Measurement.unmet_because("")
