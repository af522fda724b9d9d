"""The claims about constant baselines: their variance, the best one, and where the mean is worse than none."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from scipy.optimize import brentq

from layerlab.claims import Claim, Falsifier, Measurement, rounding
from layerlab.estimators.theorems import subjects
from layerlab.estimators.theorems.reinforce import FINITE, MUS, SETUP
from layerlab.estimators.theorems.subjects import Toy

_OPERATIONS = 64

Baseline = Callable[[float], float]
"""Of mu."""


def _variance(problem: Toy, baseline: float) -> float:
    return float(subjects.enumerated(problem, subjects.with_baseline(baseline))[1][0])


def _stated(mu: float, baseline: float, x: float) -> float:
    return mu * (1 - mu) * (1 - mu - baseline) ** 2 * x**2


def _about_the_mean(mu: float, baseline: float, x: float) -> float:
    """Broken: as if the best baseline were the mean of f."""
    return mu * (1 - mu) * (mu - baseline) ** 2 * x**2


def _with_baseline(mu: float, baseline: float) -> tuple[Toy, float]:
    return subjects.toy(mu), baseline


def _measure_baseline(
    subject: tuple[Toy, float],
    generator: np.random.Generator,
    *,
    stated: Callable[[float, float, float], float] = _stated,
) -> Measurement:
    problem, baseline = subject
    if reason := problem.unmet():
        return Measurement.unmet_because(reason)
    x = problem.x[0]
    slack = rounding("float64", _OPERATIONS, x**2 * (1 + abs(baseline)) ** 2)
    return Measurement(_variance(problem, baseline), stated(problem.mu, baseline, x), slack)


BASELINE = Claim(
    id="estimators.baseline",
    title="The variance with a constant baseline",
    source="beyond homework 4, question 2.2",
    statement=(
        f"{SETUP}: with a constant baseline b, Var[(f(a) − b) ∂ log p(a)/∂θ_1] = μ (1 − μ) (1 − μ − b)² x_1²; "
        "measured: by enumeration, the score by autograd"
    ),
    hypotheses=(FINITE,),
    relation="==",
    measure=_measure_baseline,
    subjects={
        f"mu-{mu:g}-b-{b:g}": partial(_with_baseline, mu, b)
        for mu in (0.01, 0.25, 0.75)
        for b in (-1.0, 0.0, 0.3, 0.75)
    },
    falsifiers={
        "mean": Falsifier(
            "μ − b in the place of 1 − μ − b",
            lambda: (subjects.toy(0.25), 0.3),
            replaces={"stated": _about_the_mean},
        ),
        "mean-at-0.75": Falsifier(
            "the same, where that is too much",
            lambda: (subjects.toy(0.75), 0.3),
            replaces={"stated": _about_the_mean},
        ),
    },
)


def _measure_best(
    problem: Toy, generator: np.random.Generator, *, best: Baseline = lambda mu: 1 - mu
) -> Measurement:
    if reason := problem.unmet():
        return Measurement.unmet_because(reason)
    x = problem.x[0]
    # Rounding enters the difference of the two estimates, which is squared.
    return Measurement(_variance(problem, best(problem.mu)), 0.0, rounding("float64", _OPERATIONS, x**2))


BEST_BASELINE = Claim(
    id="estimators.best-baseline",
    title="The best constant baseline takes all variance away",
    source="beyond homework 4, question 2.2; Weaver and Tao 2001",
    statement=(
        f"{SETUP}: b* = E[f |s|²] / E[|s|²] = 1 − μ, and Var = 0 there: both outcomes give the same estimate"
    ),
    hypotheses=(FINITE,),
    relation="==",
    extreme="least",
    measure=_measure_best,
    subjects={f"mu-{mu:g}": partial(subjects.toy, mu) for mu in MUS},
    falsifiers={
        "mean": Falsifier(
            "b* mis-set: the mean μ", lambda: subjects.toy(0.25), replaces={"best": lambda mu: mu}
        ),
        "a-little-off": Falsifier(
            "b* mis-set: 1 − μ + 0.001",
            lambda: subjects.toy(0.25),
            replaces={"best": lambda mu: 1 - mu + 1e-3},
        ),
    },
)


def _measure_crossing(
    x: float, generator: np.random.Generator, *, baseline: Baseline = lambda mu: mu
) -> Measurement:
    if reason := subjects.no_feature(x):
        return Measurement.unmet_because(reason)

    def excess(mu: float) -> float:
        """Deviations, not variances: they cross with a slope, so that the root is as precise as they are."""
        problem = subjects.toy(mu, (x,))
        return _variance(problem, baseline(mu)) ** 0.5 - _variance(problem, 0.0) ** 0.5

    # Both deviations have the factor sqrt(mu (1 - mu)) |x|, 0.47 |x| at the root, and the slopes differ by 2.
    root = brentq(excess, 0.55, 0.95, xtol=1e-14, rtol=8.9e-16)
    return Measurement(float(root), 2 / 3, rounding("float64", _OPERATIONS, 1.0))


MEAN_BASELINE = Claim(
    id="estimators.mean-baseline",
    title="The mean reward as a baseline is worse than none for μ > 2/3",
    source="beyond homework 4, question 2.2",
    statement=(
        f"{SETUP}: Var with b = E[f] = μ exceeds Var without a baseline exactly where |1 − 2μ| > 1 − μ, that is for μ "
        "> 2/3; measured: the root of the difference of the deviations, by enumeration"
    ),
    hypotheses=("x_1 ≠ 0",),
    relation="==",
    measure=_measure_crossing,
    subjects={"x-1": lambda: 1.0, "x-minus-3": lambda: -3.0},
    falsifiers={
        "half-the-mean": Falsifier(
            "half the mean for a baseline, which crosses at 4/5",
            lambda: 1.0,
            replaces={"baseline": lambda mu: mu / 2},
        ),
        "a-fifth-more": Falsifier(
            "6/5 of the mean for a baseline, which crosses at 5/8",
            lambda: 1.0,
            replaces={"baseline": lambda mu: 1.2 * mu},
        ),
    },
)
