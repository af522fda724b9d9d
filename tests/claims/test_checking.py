"""Checking a claim: every subject, every falsifier, both sides, the seeds."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from toy_claims import claim

from layerlab.claims import (
    Claim,
    DefectiveClaimError,
    Falsifier,
    Measurement,
    check,
    exact,
)
from layerlab.claims.checking import CheckResult
from layerlab.errors import UserError


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
    assert CheckResult(made, 0, ()).full is False
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
