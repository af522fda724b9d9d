"""The mechanism of claims: the verdict rule, what is refused as unable to fail, the register, the seeds."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from layerlab.claims import (
    Claim,
    DefectiveClaimError,
    Falsifier,
    Measurement,
    Outcome,
    Register,
    Slack,
    check,
    confidence,
    exact,
    rounding,
)
from layerlab.errors import UserError

SLACK = Slack(0.125, "for the test", scale=1.0)


def outcome(relation: Any, measured: float, bound: float, slack: Slack = SLACK) -> Outcome:
    return Outcome(relation, Measurement(measured, bound, slack), seed=0)


def measure(
    subject: float, generator: np.random.Generator, *, double: Callable[[float], float] = lambda x: 2 * x
) -> Measurement:
    """2x <= 2 for x <= 1, plus a draw that has nothing to do with it."""
    if subject < 0:
        return Measurement.unmet_because("x is negative")
    return Measurement(double(subject), 2.0, exact(f"drew {generator.random()}"))


def claim(**changes: Any) -> Claim:
    fields: dict[str, Any] = {
        "id": "test.twice",
        "title": "Twice",
        "source": "nowhere",
        "statement": "2x ≤ 2",
        "hypotheses": ("x ≥ 0",),
        "relation": "<=",
        "measure": measure,
        "subjects": {"half": lambda: 0.5, "one": lambda: 1.0},
        "falsifiers": {
            "triple": Falsifier("3x for 2x", lambda: 1.0, replaces={"double": lambda x: 3 * x}),
            "negative": Falsifier("x < 0", lambda: -1.0, expected="hypotheses unmet"),
        },
    }
    return Claim(**{**fields, **changes})


# -------------------------------------------------------------------------------------------------- verdicts


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


# ------------------------------------------------------------------------------ checks that cannot fail


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


# ----------------------------------------------------------------------------------------------------- slack


@pytest.mark.parametrize(
    "dtype",
    [torch.float64, torch.float32, torch.float16, torch.bfloat16, np.float32, np.dtype("float64"), "float16"],
)
def test_rounding_uses_the_epsilon_of_the_dtype(dtype: Any) -> None:
    epsilon = torch.finfo(dtype).eps if isinstance(dtype, torch.dtype) else float(np.finfo(dtype).eps)
    made = rounding(dtype, size=7, scale=3.0, condition=2.0)
    assert made.value == epsilon * 7 * 3.0 * 2.0
    assert made.scale == 3.0
    assert "7 operations" in made.reason
    assert "amplified by 2" in made.reason


def test_rounding_covers_a_sum_in_bad_order_and_not_much_more() -> None:
    terms = np.concatenate([[2.0**24], np.ones(1000)]).astype(np.float32)
    one_by_one = np.float32(0)
    for term in terms:
        one_by_one += term
    error, slack = (
        abs(float(one_by_one) - float(2**24 + 1000)),
        rounding("float32", 1001, float(2**24 + 1000)),
    )
    assert 0 < error <= slack.value < 3 * error


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("int64", 1, 1.0), "not for int64"),
        (("float64", 0, 1.0), "at least 1"),
        (("float16", 1024, 1.0), "widen"),
    ],
)
def test_rounding_refuses_what_says_nothing(arguments: tuple[Any, ...], match: str) -> None:
    with pytest.raises(DefectiveClaimError, match=match):
        rounding(*arguments)
    with pytest.raises(DefectiveClaimError, match="at least 1"):
        rounding("float64", 1, 1.0, condition=0.5)


def test_confidence_covers_at_its_level() -> None:
    # 1000 means of 100 fair coins: about 50 of them leave a 95 per cent interval (sd 7).
    means = np.random.default_rng(0).integers(0, 2, (1000, 100)).mean(1)
    made = confidence(0.5, n=100, level=0.95)
    assert 25 <= int((abs(means - 0.5) > made.value).sum()) <= 75
    assert made.scale == 0.5
    assert made.reason == "0.95 confidence with n = 100 fixed in advance"


@pytest.mark.parametrize(("n", "level"), [(29, 0.95), (100, 0.5), (100, 1.0), (100, 95.0)])
def test_confidence_refuses_small_samples_and_odd_levels(n: int, level: float) -> None:
    with pytest.raises(DefectiveClaimError):
        confidence(1.0, n=n, level=level)


# ------------------------------------------------------------------------------ claims and register


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"id": "twice"}, "domain.name"),
        ({"id": "Test.twice"}, "domain.name"),
        ({"id": "test.twice_as"}, "domain.name"),
        ({"id": "test.twice-"}, "domain.name"),
        ({"title": " "}, "title is empty"),
        ({"source": ""}, "source is empty"),
        ({"statement": ""}, "statement is empty"),
        ({"hypotheses": "x ≥ 0"}, "tuple of strings"),
        ({"relation": "<"}, "relation is one of"),
        ({"expected": "true"}, "expected is one of"),
        ({"extreme": "lowest", "relation": "=="}, "extreme is one of least, greatest or None, got 'lowest'"),
        ({"extreme": "least"}, "extreme goes with ==, not with <="),
        ({"subjects": {}}, "no subject"),
        ({"falsifiers": {}}, "no falsifier"),
        ({"falsifiers": {"half": Falsifier("x", lambda: -1.0)}}, "share the names"),
        ({"falsifiers": {"a": Falsifier("x", lambda: 1.0, expected="holds")}}, "must expect violated"),
        ({"expected": "refuted"}, "must expect holds, not"),
        ({"falsifiers": {"a": Falsifier("x", lambda: 1.0, replaces={"treble": 3})}}, "replaces 'treble'"),
        ({"falsifiers": {"a": Falsifier("x", lambda: 1.0, replaces={"subject": 3})}}, "replaces 'subject'"),
        ({"full": {"subject": 3}}, "full replaces 'subject'"),
    ],
)
def test_a_malformed_claim_is_refused(changes: dict[str, Any], match: str) -> None:
    with pytest.raises(DefectiveClaimError, match=match):
        claim(**changes)


@pytest.mark.parametrize("relation", ["<=", ">=", "=="])
def test_a_claim_has_one_of_three_relations(relation: Any) -> None:
    assert claim(relation=relation).relation == relation


def test_a_claim_cannot_be_changed_later() -> None:
    made = claim()
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.expected = "refuted"  # type: ignore[misc]
    for mapping in (made.subjects, made.falsifiers, made.falsifiers["triple"].replaces):
        assert isinstance(mapping, Mapping)
        with pytest.raises(TypeError):
            mapping["more"] = 1  # type: ignore[index]


def test_the_register_refuses_a_second_claim_of_one_id() -> None:
    register = Register([claim()])
    with pytest.raises(DefectiveClaimError, match=r"two claims are called 'test\.twice'"):
        register.register(claim(title="another"))
    assert len(register) == 1
    assert register["test.twice"].title == "Twice"


def test_select_matches_patterns_once_and_in_order() -> None:
    register = Register([claim(id=name) for name in ("b.one", "a.two", "a.one")])
    ids = lambda *patterns: [found.id for found in register.select(patterns)]  # noqa: E731
    assert ids() == ["b.one", "a.two", "a.one"]
    assert ids("a.*") == ["a.two", "a.one"]
    assert ids("*.one", "a.one", "b.?ne") == ["b.one", "a.one"]


@pytest.mark.parametrize(
    ("pattern", "match"),
    [
        ("test.twise", r"no claim is called 'test\.twise'; did you mean test\.twice\?"),
        ("zzz.*", "claims list"),
    ],
)
def test_an_unknown_claim_names_close_ones(pattern: str, match: str) -> None:
    register = Register([claim()])
    with pytest.raises(UserError, match=match):
        register.select([pattern])
    assert pattern not in register


def test_no_more_than_three_close_ones_are_named() -> None:
    register = Register([claim(id=f"test.twice-{number}") for number in range(6)])
    with pytest.raises(UserError) as caught:
        register.select(["test.twice"])
    assert str(caught.value).count("test.twice-") == 3


# ---------------------------------------------------------------------------------------------------- checks


def test_a_full_check_repeats_more_and_breaks_the_same() -> None:
    asked: list[tuple[int, float]] = []

    def counted(
        subject: float, generator: np.random.Generator, *, draws: int = 2, factor: float = 2.0
    ) -> Measurement:
        asked.append((draws, factor))
        return Measurement(factor * subject, 2.0, exact("no chance in it"))

    made = claim(
        measure=counted,
        full={"draws": 20},
        falsifiers={"triple": Falsifier("3x for 2x", lambda: 1.0, replaces={"factor": 3.0})},
    )
    assert check(made).to_dict()["full"] is False
    assert check(made, full=True).to_dict()["full"] is True
    assert asked == [(2, 2.0), (2, 2.0), (2, 3.0), (20, 2.0), (20, 2.0), (20, 3.0)]


def test_check_measures_every_subject_and_every_falsifier() -> None:
    assert check(claim()).seed == 0
    result = check(claim(), seed=5)
    assert result.as_expected
    assert [(entry.name, entry.role, entry.outcome.verdict) for entry in result.checked] == [
        ("half", "subject", "holds"),
        ("one", "subject", "holds"),
        ("triple", "falsifier", "violated"),
        ("negative", "falsifier", "hypotheses unmet"),
    ]
    assert {entry.outcome.seed for entry in result.checked} == {5}
    assert [entry["as_expected"] for entry in result.to_dict()["outcomes"]] == [True] * 4


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"subjects": {"two": lambda: 2.0}}, ["two"]),
        ({"subjects": {"negative-one": lambda: -1.0}}, ["negative-one"]),
        ({"falsifiers": {"harmless": Falsifier("nothing is broken", lambda: 1.0)}}, ["harmless"]),
        # A falsifier that is broken in another way than it says proves nothing about the rule it names.
        ({"falsifiers": {"a": Falsifier("x", lambda: -1.0)}}, ["a"]),
        ({"falsifiers": {"a": Falsifier("x", lambda: 2.0, expected="hypotheses unmet")}}, ["a"]),
        ({"falsifiers": {"nan": Falsifier("x", lambda: math.nan)}}, ["nan"]),
    ],
)
def test_one_unexpected_verdict_spoils_the_check(changes: dict[str, Any], wrong: list[str]) -> None:
    result = check(claim(**changes))
    assert not result.as_expected
    assert [entry.name for entry in result.checked if not entry.as_expected] == wrong


def test_a_refuted_claim_needs_its_counterexamples_violated_and_its_companion_holding() -> None:
    companion = {"corrected": Falsifier("x ≤ 1 added", lambda: 1.0, expected="holds")}
    erratum = claim(expected="refuted", subjects={"two": lambda: 2.0}, falsifiers=companion)
    assert check(erratum).as_expected
    for broken in ({"subjects": {"one": lambda: 1.0}}, {"subjects": {"nan": lambda: math.nan}}):
        assert not check(dataclasses.replace(erratum, **broken)).as_expected
    always = {"corrected": Falsifier("no correction", lambda: 3.0, expected="holds")}
    assert not check(dataclasses.replace(erratum, falsifiers=always)).as_expected


def scaled(factor: float) -> Falsifier:
    return Falsifier(f"{factor}x", lambda: 1.0, replaces={"double": lambda x: factor * x})


@pytest.mark.parametrize(
    ("relation", "extreme", "factors", "untried"),
    [
        ("<=", None, (3.0,), ()),
        (">=", None, (1.0,), ()),
        ("==", None, (3.0,), ("below",)),
        ("==", None, (1.0,), ("above",)),
        ("==", None, (1.0, 3.0), ()),
        ("==", "least", (3.0,), ()),
        ("==", "greatest", (1.0,), ()),
    ],
)
def test_a_claim_is_to_be_violated_on_every_side(
    relation: Any, extreme: Any, factors: tuple[float, ...], untried: tuple[str, ...]
) -> None:
    falsifiers = {f"times-{factor:g}": scaled(factor) for factor in factors}
    fields = {"relation": relation, "extreme": extreme, "subjects": {"one": lambda: 1.0}}
    result = check(claim(**fields, falsifiers=falsifiers))
    assert result.as_expected and result.untried_sides == untried
    # A falsifier that does not come out, or finds its hypotheses unmet, tries no side.
    unfit = {"unfit": Falsifier("x < 0", lambda: -1.0, expected="hypotheses unmet"), "same": scaled(2.0)}
    assert check(claim(**fields, falsifiers=unfit)).untried_sides == result.claim.sides


def test_of_a_refuted_claim_no_side_is_to_be_tried() -> None:
    holding = {"same": dataclasses.replace(scaled(2.0), expected="holds")}
    made = claim(relation="==", expected="refuted", subjects={"two": lambda: 2.0}, falsifiers=holding)
    assert check(made).as_expected and check(made).untried_sides == ()


@pytest.mark.parametrize(("extreme", "beyond", "within"), [("least", 1.0, 3.0), ("greatest", 3.0, 1.0)])
def test_nothing_lies_beyond_an_extreme(extreme: Any, beyond: float, within: float) -> None:
    fields = {"relation": "==", "extreme": extreme, "subjects": {"one": lambda: 1.0}}
    assert check(claim(**fields, falsifiers={"within": scaled(within)})).as_expected
    with pytest.raises(DefectiveClaimError, match=f"calls its bound the {extreme} value, 2, but 'beyond' is"):
        check(claim(**fields, falsifiers={"beyond": scaled(beyond)}))


def test_given_subjects_replace_the_default_ones_and_keep_the_falsifiers() -> None:
    result = check(claim(), subjects={"mine": lambda: 0.25, "unfit": lambda: -3.0})
    assert [entry.name for entry in result.checked] == ["mine", "unfit", "triple", "negative"]
    assert [entry.role for entry in result.checked[:2]] == ["given", "given"]
    assert result.as_expected  # unmet hypotheses are an answer there
    assert not check(claim(), subjects={"mine": lambda: 7.0}).as_expected
    assert not check(claim(), subjects={"mine": lambda: math.nan}).as_expected


def test_of_a_refuted_claim_every_given_subject_is_an_answer() -> None:
    companion = {"corrected": Falsifier("x ≤ 1 added", lambda: 1.0, expected="holds")}
    erratum = claim(expected="refuted", subjects={"two": lambda: 2.0}, falsifiers=companion)
    assert check(erratum, subjects={"mine": lambda: 1.0, "other": lambda: 3.0}).as_expected
    assert not check(erratum, subjects={"mine": lambda: math.nan}).as_expected


def test_each_subject_has_a_generator_of_its_own() -> None:
    def drawn(made: Claim, seed: int = 0) -> dict[str, str]:
        return {entry.name: entry.outcome.slack_reason for entry in check(made, seed).checked}

    small = drawn(claim())
    large = drawn(claim(subjects={"zero": lambda: 0.0, "half": lambda: 0.5, "one": lambda: 1.0}))
    assert {name: large[name] for name in small} == small
    assert len({*large.values()}) == len(large)
    assert drawn(claim(), seed=1)["half"] != small["half"]
    assert drawn(claim(id="test.other"))["half"] != small["half"]
    assert drawn(claim()) == small
    # What was drawn before is drawn again, here and in a later version: records name no more than the seed.
    assert small["half"] == "exact: drew 0.14998244624934232"


def test_subjects_are_built_only_when_measured() -> None:
    built = []
    made = claim(subjects={"lazy": lambda: built.append(1) or 0.5})
    assert built == []
    check(made)
    assert built == [1]


def test_a_user_error_of_a_given_subject_rises_and_so_does_a_bug() -> None:
    def complain() -> float:
        raise UserError("expected a number")

    with pytest.raises(UserError, match="expected a number"):
        check(claim(), subjects={"mine": complain})
    with pytest.raises(ZeroDivisionError):
        check(claim(), subjects={"mine": lambda: 1 / 0})
    with pytest.raises(UserError, match="not negative, got -1"):
        check(claim(), seed=-1)


def test_importing_claims_is_light() -> None:
    code = "import sys, layerlab.claims; print({'torch', 'numpy', 'layerlab.graph'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
