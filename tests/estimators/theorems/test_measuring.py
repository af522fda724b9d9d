"""What the claims about estimators measure: on any subject, against plain arithmetic, and that breaks are noticed."""

from __future__ import annotations

import inspect
import itertools
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from layerlab.claims import Claim, Outcome, confidence
from layerlab.errors import UserError
from layerlab.estimators.pairs import Arm, DisArm
from layerlab.estimators.score import LeaveOneOut, Reinforce
from layerlab.estimators.theorems import (
    BASELINE,
    BEST_BASELINE,
    CLOSED_FORM,
    DISARM_VARIANCE,
    HINT_AS_PRINTED,
    LOO,
    LOO_NOT_ABOVE,
    LOO_VARIANCE,
    MEAN_BASELINE,
    SLOW_LEARNING,
    UNBIASED,
    VARIANCE,
    VARIANCE_LARGEST,
    VARIANCE_SAMPLED,
    several,
    subjects,
)
from layerlab.estimators.theorems.subjects import Bits, Toy


def measured(claim: Claim, subject: Any, **replaced: Any) -> Outcome:
    return Outcome(claim.relation, claim.measure(subject, np.random.default_rng(0), **replaced), seed=0)


@settings(max_examples=25, deadline=None)
@given(
    st.floats(0.001, 0.999),
    st.lists(st.floats(0.1, 3.0), min_size=1, max_size=4),
    st.floats(-2, 2),
)
def test_the_claims_hold_on_any_toy(mu: float, x: list[float], baseline: float) -> None:
    problem = subjects.toy(mu, tuple(x))
    assert problem.mu == pytest.approx(mu, rel=1e-12)
    for claim in (CLOSED_FORM, UNBIASED, VARIANCE, SLOW_LEARNING, BEST_BASELINE):
        assert measured(claim, problem).verdict == "holds", claim.id
    assert measured(BASELINE, (problem, baseline)).verdict == "holds"


def test_the_toy_in_exact_arithmetic() -> None:
    mu, x = Fraction(3, 4), Fraction(2)
    estimates = [(1 - mu, Fraction(0)), (mu, (1 - mu) * x)]
    mean = sum(p * g for p, g in estimates)
    variance = sum(p * (g - mean) ** 2 for p, g in estimates)
    outcome = measured(VARIANCE, subjects.toy(0.75))
    assert outcome.measured == pytest.approx(float(variance), rel=1e-13)
    assert outcome.bound == pytest.approx(float(mu * (1 - mu) ** 3 * x**2), rel=1e-15)
    ratio = measured(SLOW_LEARNING, subjects.toy(0.75))
    assert ratio.measured == pytest.approx(float(variance / mean**2), rel=1e-12)


def test_straight_through_depends_on_how_f_is_written() -> None:
    straight = {"estimator": subjects.straight_through}
    assert measured(UNBIASED, subjects.toy(0.25), **straight).verdict == "holds"
    assert measured(UNBIASED, subjects.toy(0.25, f=subjects.square), **straight).verdict == "violated"
    # 2 a gives 2 mu times the gradient: right at one half.
    assert measured(UNBIASED, subjects.toy(0.5, f=subjects.square), **straight).verdict == "holds"


@pytest.mark.parametrize(
    "problem",
    [
        Toy((40.0,), (1.0,)),
        Toy((-40.0,), (1.0,)),
        Toy((30.5,), (1.0,)),
        Toy((math.inf,), (1.0,)),
        Toy((math.nan,), (1.0,)),
        Toy((math.inf, -math.inf), (1.0, 1.0)),
    ],
)
def test_toys_at_the_edge_are_unmet(problem: Toy) -> None:
    assert measured(CLOSED_FORM, problem).verdict == "hypotheses unmet"


@pytest.mark.parametrize("logit", [-30.0, 30.0])
def test_toys_just_inside_the_edge_are_measured(logit: float) -> None:
    assert measured(CLOSED_FORM, Toy((logit,), (1.0,))).verdict == "holds"


def test_a_fair_coins_variance_is_not_sampled() -> None:
    assert measured(VARIANCE_SAMPLED, subjects.toy(0.5)).unmet == "μ is 1/2"


def test_the_interval_of_a_sampled_variance_is_that_of_the_fourth_moment() -> None:
    mu, x = 0.3, 3.0
    outcome = measured(VARIANCE_SAMPLED, subjects.toy(mu, (x,)), samples=20_000)
    mean = mu * (1 - mu) * x
    second, fourth = (mu * ((1 - mu) * x - mean) ** k + (1 - mu) * mean**k for k in (2, 4))
    assert outcome.verdict == "holds"
    assert outcome.bound == pytest.approx(second, rel=1e-12)
    assert outcome.slack == pytest.approx(
        confidence(math.sqrt(fourth - second**2), 20_000, 0.999999).value, rel=1e-9
    )


def test_the_hint_is_measured_as_it_says() -> None:
    assert measured(HINT_AS_PRINTED, 0.9).measured == pytest.approx(0.9, rel=1e-15)
    assert (
        measured(
            HINT_AS_PRINTED, 0.9, moment=HINT_AS_PRINTED.falsifiers["variance"].replaces["moment"]
        ).verdict
        == "holds"
    )
    for mu in (0.0, 1.0, 1.5, math.nan):
        assert "not strictly between" in str(measured(HINT_AS_PRINTED, mu).unmet)


def test_a_bit_that_is_certain_is_unmet() -> None:
    for certain in (0.0, 1.0):
        assert measured(LOO, Bits((0.5, certain), subjects.counted)).unmet == "a probability is 0 or 1"


@pytest.mark.parametrize("off", [1e-6, -1e-6])
def test_a_formula_that_is_off_either_way_is_seen(off: float) -> None:
    given = Bits((0.3, 0.6), subjects.rugged)
    assert measured(LOO_VARIANCE, given).verdict == "holds"
    right = inspect.signature(LOO_VARIANCE.measure).parameters["formula"].default
    # In one coordinate of the two.
    wrong = torch.tensor([0.0, off], dtype=torch.float64)
    assert measured(LOO_VARIANCE, given, formula=lambda problem: right(problem) + wrong).verdict == "violated"


def test_a_toy_needs_a_parameter_for_each_feature() -> None:
    with pytest.raises(UserError, match="as many parameters as features, at least one, got 1 and 2"):
        Toy((1.0,), (1.0, 2.0))


def pairs_by_hand(mu: float, f0: float, f1: float) -> tuple[float, float, float]:
    """Variances for one bit in closed form: ARM, DisARM (one pair) and leave-one-out (two samples)."""
    nu, least, step = 1 - mu, min(mu, 1 - mu), f1 - f0
    g = mu * nu * step
    second = 2 * (1 / 24 - (0.5 - least) ** 3 / 3)  # of u - 1/2 over the two ends of length `least`
    arm = step**2 * second - g**2
    disarm = 2 * least * (step * (1 - least) / 2) ** 2 - g**2
    loo = 2 * mu * nu * (step / 2) ** 2 - g**2
    return arm, disarm, loo


@pytest.mark.parametrize("mu", [0.05, 0.5, 0.8])
def test_variances_of_one_bit_by_hand(mu: float) -> None:
    problem = Bits((mu,), lambda x: 3 * x[:, 0] - 1)
    found = [float(several.moments(e, problem)[1][0]) for e in (Arm(), DisArm(), LeaveOneOut())]
    assert found == pytest.approx(pairs_by_hand(mu, -1.0, 2.0), abs=1e-14)


def test_the_quadrature_over_u_is_the_average_over_a_fine_grid() -> None:
    problem = Bits((0.3, 0.6), subjects.rugged)
    cells = 400
    centres = [(k + 0.5) / cells for k in range(cells)]
    u = torch.tensor(list(itertools.product(centres, centres)), dtype=torch.float64)
    terms = Arm().from_uniform(problem.f, problem.family, u).terms
    mean, variance = several.over_uniforms(Arm(), problem)
    assert torch.allclose(terms.mean(0), mean, atol=1e-5)
    assert torch.allclose(terms.var(0), variance, atol=1e-4)


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.floats(0.02, 0.98), min_size=1, max_size=3),
    st.sampled_from([subjects.parity, subjects.counted, subjects.lifted, subjects.rugged]),
)
def test_leave_one_out_on_any_bits(probabilities: list[float], f: subjects.Function) -> None:
    problem = Bits(tuple(probabilities), f)
    assert measured(LOO, problem).verdict == "holds"
    assert measured(LOO_VARIANCE, problem).verdict == "holds"
    assert measured(LOO_NOT_ABOVE, problem).verdict in ("holds", "hypotheses unmet")


def test_the_condition_for_leave_one_out_is_sharp() -> None:
    # On the course's toy with mu above 2/3 no number of samples helps.
    for samples in (2, 5, 11):
        problem = Bits((0.8,), subjects.counted, samples)
        assert measured(LOO_NOT_ABOVE, problem).verdict == "hypotheses unmet"
        excess = several.moments(LeaveOneOut(), problem)[1] - several.moments(Reinforce(), problem)[1]
        assert float(excess[0]) > 0
    # Where the two sides are equal, so are the variances.
    problem = Bits((0.3,), subjects.counted, 2)
    level = boundary(problem)
    lifted = Bits((0.3,), lambda x: x[:, 0] + level, 2)
    variances = [several.moments(e, lifted)[1][0] for e in (LeaveOneOut(), Reinforce())]
    assert float(variances[0]) == pytest.approx(float(variances[1]), rel=1e-12)


def boundary(problem: Bits) -> float:
    """What must be added to f so that leave-one-out is as good as nothing: a quadratic equation in E[f]."""
    mu = problem.probabilities[0]
    g, square, score = mu * (1 - mu), mu * (1 - mu), mu * (1 - mu)
    cross = mu * (1 - mu) ** 3 - (1 - mu) * mu**3
    price = (g**2 + square * score) / (problem.samples - 1)
    mean = (-2 * cross + math.sqrt(4 * cross**2 + 4 * score * price)) / (2 * score)
    return mean - mu


def test_too_many_tuples_are_left_alone() -> None:
    assert "tuples" in (measured(LOO, Bits((0.5,) * 5, subjects.parity, 3)).unmet or "")
    assert several._unmet(Bits((0.5,) * 4, subjects.parity, 3)) is None


def test_one_coordinate_of_larger_variance_is_enough_to_violate(monkeypatch: pytest.MonkeyPatch) -> None:
    excess = torch.tensor([-1.0, 0.25], dtype=torch.float64)
    monkeypatch.setattr(several, "moments", lambda estimator, problem: (None, excess * (estimator is first)))
    first, second = object(), object()
    found = DISARM_VARIANCE.measure(
        next(iter(DISARM_VARIANCE.subjects.values()))(),
        np.random.default_rng(0),
        estimator=first,
        rival=second,
    )
    assert found.measured == 0.25


@pytest.mark.parametrize("claim", [MEAN_BASELINE, VARIANCE_LARGEST], ids=lambda claim: claim.id)
@pytest.mark.parametrize("x", [0.0, math.inf, math.nan])
def test_a_toy_without_a_feature_leaves_the_hypothesis_unmet(claim: Claim, x: float) -> None:
    assert measured(claim, x).unmet == f"x_1 is {x:g}"
