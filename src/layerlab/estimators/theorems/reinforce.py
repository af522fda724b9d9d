"""The claims about REINFORCE on the toy of homework 4, section 2, and the erratum of its hint."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from layerlab.claims import Claim, Falsifier, Measurement, confidence, exact, rounding
from layerlab.estimators.derivative import StraightThrough
from layerlab.estimators.estimator import Estimator
from layerlab.estimators.score import Constant, LeaveOneOut, Reinforce
from layerlab.estimators.theorems import subjects
from layerlab.estimators.theorems.subjects import Array, OneSample, Toy

# On (D,) features: a dot product, a sigmoid, a logarithm and their derivatives.
_OPERATIONS = 64
FINITE = "theta and x are finite, and mu is at least 1e-13 away from 0 and 1"
SETUP = "a ~ Bernoulli(μ), μ = sigmoid(Σ θ_d x_d), f(a) = a"
MUS = (0.01, 0.25, 0.5, 0.75, 0.99)
SAMPLES, FULL_SAMPLES = 200_000, 4_000_000
LEVEL = 0.999999
_REINFORCE = Reinforce()


def _at(mus: tuple[float, ...]) -> dict[str, Callable[[], Toy]]:
    return {f"mu-{mu:.3g}": partial(subjects.toy, mu) for mu in mus}


def _largest_difference(measured: Array, bound: Array, scale: float) -> Measurement:
    """Of the vectors' entries, the difference that is largest; 0 is the bound."""
    slack = rounding("float64", _OPERATIONS, scale)
    return Measurement(float(np.abs(measured - bound).max()), 0.0, slack)


# ------------------------------------------------------------------------------------------------- closed-form


def _closed_form(problem: Toy, a: float) -> Array:
    return a * (1 - problem.mu) * np.array(problem.x)


def _with_logit(problem: Toy, a: float) -> Array:
    """Broken: the logit in the place of mu."""
    return a * (1 - problem.logit) * np.array(problem.x)


def _measure_closed_form(
    problem: Toy, generator: np.random.Generator, *, form: OneSample = _closed_form
) -> Measurement:
    if reason := problem.unmet():
        return Measurement.unmet_because(reason)
    found = np.stack([subjects.reinforce(problem, a) for a in (0.0, 1.0)])
    stated = np.stack([form(problem, a) for a in (0.0, 1.0)])
    return _largest_difference(found, stated, max(map(abs, problem.x)))


CLOSED_FORM = Claim(
    id="estimators.closed-form",
    title="The REINFORCE estimator of a Bernoulli output in closed form",
    source="Homework 4, question 2.1",
    statement=(
        f"{SETUP}: g_d = f(a) ∂ log p(a)/∂θ_d = f(a) (a − μ) x_d = a (1 − μ) x_d; measured: the largest difference "
        "from autograd over both outcomes and all d"
    ),
    hypotheses=(FINITE, "a is 0 or 1"),
    relation="==",
    extreme="least",
    measure=_measure_closed_form,
    subjects=_at(MUS),
    falsifiers={
        "logit": Falsifier(
            "μ replaced by its logit", lambda: subjects.toy(0.25), replaces={"form": _with_logit}
        ),
        "saturated": Falsifier(
            "μ = 1 to rounding", lambda: Toy((40.0,), (1.0,)), expected="hypotheses unmet"
        ),
    },
)


# --------------------------------------------------------------------------------- unbiased, unbiased-sampled


def _measure_unbiased(
    problem: Toy, generator: np.random.Generator, *, estimator: OneSample = subjects.reinforce
) -> Measurement:
    if reason := problem.unmet():
        return Measurement.unmet_because(reason)
    mean, _ = subjects.enumerated(problem, estimator)
    scale = max(map(abs, problem.x)) * max(abs(problem.value(0.0)), abs(problem.value(1.0)))
    return _largest_difference(mean, subjects.exact_gradient(problem), scale)


UNBIASED = Claim(
    id="estimators.unbiased",
    title="REINFORCE is unbiased, by enumeration",
    source="Homework 4, question 2.1",
    statement=(
        f"{SETUP}: E[g] = μ (1 − μ) x_d = ∂J/∂θ_d; measured: the largest difference over d between the mean over both "
        "outcomes and the derivative of J by autograd"
    ),
    hypotheses=(FINITE,),
    relation="==",
    extreme="least",
    measure=_measure_unbiased,
    subjects={
        **_at(MUS),
        "another-f": lambda: subjects.toy(0.3, f=lambda a: 5 - 3 * a),
    },
    falsifiers={
        "straight-through": Falsifier(
            "straight-through, with f written as a², which has the same values",
            lambda: subjects.toy(0.25, f=subjects.square),
            replaces={"estimator": subjects.straight_through},
        ),
    },
)


def _measure_sampled(
    problem: Toy,
    generator: np.random.Generator,
    *,
    estimator: Estimator = _REINFORCE,
    samples: int = SAMPLES,
) -> Measurement:
    if reason := problem.unmet():
        return Measurement.unmet_because(reason)
    bound, variance = (float(v[0]) for v in subjects.enumerated(problem, subjects.reinforce))
    torch_generator = torch.Generator().manual_seed(int(generator.integers(2**62)))
    # Of the logit; d logit / d theta_1 = x_1.
    terms = estimator.terms(lambda a: problem.f(a[:, 0]), problem.family, samples, torch_generator)
    measured = float(terms.gradient[0]) * problem.x[0]
    return Measurement(measured, bound, confidence(math.sqrt(variance), samples, LEVEL))


UNBIASED_SAMPLED = Claim(
    id="estimators.unbiased-sampled",
    title="REINFORCE is unbiased, by sampling",
    source="Homework 4, question 2.1",
    statement=(
        f"{SETUP}: the mean of g_1 over {SAMPLES:,} samples ({FULL_SAMPLES:,} with --full) is μ (1 − μ) x_1, within"
        " the interval that Var[g_1] allows"
    ),
    hypotheses=(FINITE,),
    relation="==",
    measure=_measure_sampled,
    full={"samples": FULL_SAMPLES},
    subjects=_at((0.1, 0.25, 0.75)),
    falsifiers={
        "normalised": Falsifier(
            "leave-one-out with advantages divided by their standard deviation",
            lambda: subjects.toy(0.25),
            replaces={"estimator": LeaveOneOut(normalise=True)},
        ),
        "straight-through": Falsifier(
            "straight-through, with f written as a²: half the mean at μ = 1/4",
            lambda: subjects.toy(0.25, f=subjects.square),
            replaces={"estimator": StraightThrough()},
        ),
    },
)


# ------------------------------------------------------------- variance, variance-sampled, variance-largest


def _measure_variance(
    problem: Toy, generator: np.random.Generator, *, estimator: OneSample = subjects.reinforce
) -> Measurement:
    if reason := problem.unmet():
        return Measurement.unmet_because(reason)
    _, variance = subjects.enumerated(problem, estimator)
    mu, x = problem.mu, problem.x[0]
    return Measurement(float(variance[0]), mu * (1 - mu) ** 3 * x**2, rounding("float64", _OPERATIONS, x**2))


VARIANCE = Claim(
    id="estimators.variance",
    title="The variance of REINFORCE on the toy, by enumeration",
    source="Homework 4, question 2.2",
    statement=f"{SETUP}: Var[g_1] = μ (1 − μ)³ x_1²; measured: over both outcomes, the score by autograd",
    hypotheses=(FINITE,),
    relation="==",
    measure=_measure_variance,
    subjects=_at(MUS),
    falsifiers={
        "baseline": Falsifier(
            "a baseline of 0.3 added",
            lambda: subjects.toy(0.25),
            replaces={"estimator": subjects.with_baseline(0.3)},
        ),
        "negative-baseline": Falsifier(
            "a baseline of −0.3 added",
            lambda: subjects.toy(0.25),
            replaces={"estimator": subjects.with_baseline(-0.3)},
        ),
    },
)


def _measure_variance_sampled(
    problem: Toy,
    generator: np.random.Generator,
    *,
    estimator: Estimator = _REINFORCE,
    samples: int = SAMPLES,
) -> Measurement:
    if reason := problem.unmet() or ("μ is 1/2" if problem.mu == 0.5 else None):
        return Measurement.unmet_because(reason)
    torch_generator = torch.Generator().manual_seed(int(generator.integers(2**62)))
    terms = estimator.terms(lambda a: problem.f(a[:, 0]), problem.family, samples, torch_generator)
    mu, x = problem.mu, problem.x[0]
    measured = float(terms.terms[:, 0].var()) * x**2
    bound = mu * (1 - mu) ** 3 * x**2
    # g is x (1 - mu) times a bit, whose fourth central moment is known; so is the deviation of (g - E g)^2.
    fourth = (x * (1 - mu)) ** 4 * mu * (1 - mu) * (1 - 3 * mu * (1 - mu))
    return Measurement(measured, bound, confidence(math.sqrt(fourth - bound**2), samples, LEVEL))


VARIANCE_SAMPLED = Claim(
    id="estimators.variance-sampled",
    title="The variance of REINFORCE on the toy, by sampling",
    source="Homework 4, question 2.2",
    statement=(
        f"{SETUP}: the variance of {SAMPLES:,} samples ({FULL_SAMPLES:,} with --full) of g_1 is μ (1 − μ)³ x_1²,"
        " within the interval that the fourth moment allows"
    ),
    hypotheses=(FINITE, "μ is not 1/2, where the interval would have width 0"),
    relation="==",
    measure=_measure_variance_sampled,
    full={"samples": FULL_SAMPLES},
    subjects=_at((0.1, 0.25, 0.75)),
    falsifiers={
        "baseline": Falsifier(
            "a baseline of 0.3 added",
            lambda: subjects.toy(0.25),
            replaces={"estimator": Constant(baseline=0.3)},
        ),
        "negative-baseline": Falsifier(
            "a baseline of −0.3 added",
            lambda: subjects.toy(0.25),
            replaces={"estimator": Constant(baseline=-0.3)},
        ),
    },
)


_GRID = 100


def _measure_largest(
    x: float, generator: np.random.Generator, *, estimator: OneSample = subjects.reinforce
) -> Measurement:
    if reason := subjects.no_feature(x):
        return Measurement.unmet_because(reason)
    # A grid that contains 1/4; the next maxima are lower by far more than rounding.
    grid = range(1, _GRID)
    variances = [subjects.enumerated(subjects.toy(k / _GRID, (x,)), estimator)[1][0] for k in grid]
    return Measurement(
        grid[int(np.argmax(variances))] / _GRID, 0.25, exact("the argument of a maximum on a grid")
    )


VARIANCE_LARGEST = Claim(
    id="estimators.variance-largest",
    title="The variance of REINFORCE on the toy is largest at μ = 1/4",
    source="Homework 4, question 2.2",
    statement=(
        f"{SETUP}: argmax over μ of Var[g_1] = 1/4, since (μ (1 − μ)³)' = (1 − μ)² (1 − 4 μ); measured: over "
        f"μ = k/{_GRID}, by enumeration"
    ),
    hypotheses=("x_1 ≠ 0",),
    relation="==",
    measure=_measure_largest,
    subjects={"x-1": lambda: 1.0, "x-minus-3": lambda: -3.0},
    falsifiers={
        "baseline": Falsifier(
            "a baseline of 0.3 added", lambda: 1.0, replaces={"estimator": subjects.with_baseline(0.3)}
        ),
        "negative-baseline": Falsifier(
            "a baseline of −0.3 added", lambda: 1.0, replaces={"estimator": subjects.with_baseline(-0.3)}
        ),
    },
)


# ------------------------------------------------------------------------------- slow-learning, hint-as-printed


def _measure_ratio(
    problem: Toy,
    generator: np.random.Generator,
    *,
    stated: Callable[[float], float] = lambda mu: (1 - mu) / mu,
) -> Measurement:
    if reason := problem.unmet():
        return Measurement.unmet_because(reason)
    mean, variance = subjects.enumerated(problem, subjects.reinforce)
    bound = stated(problem.mu)
    slack = rounding("float64", _OPERATIONS, max(bound, 1.0), condition=1 + abs(problem.logit))
    return Measurement(float(variance[0] / mean[0] ** 2), bound, slack)


SLOW_LEARNING = Claim(
    id="estimators.slow-learning",
    title="Learning is slow where μ is small: the noise outgrows the signal",
    source="Homework 4, question 2.3",
    statement=(
        f"{SETUP}: Var[g_1] / E[g_1]² = (1 − μ)/μ, which grows without bound as μ → 0; the mean μ (1 − μ) x_1 itself "
        "vanishes at both ends"
    ),
    hypotheses=(FINITE,),
    relation="==",
    measure=_measure_ratio,
    subjects=_at((1e-9, 1e-3, *MUS, 0.999)),
    falsifiers={
        "inverted": Falsifier(
            "μ/(1 − μ) in its place",
            lambda: subjects.toy(0.25),
            replaces={"stated": lambda mu: mu / (1 - mu)},
        ),
        "second-moment": Falsifier(
            "1/μ, the second moment in the place of the variance",
            lambda: subjects.toy(0.25),
            replaces={"stated": lambda mu: 1 / mu},
        ),
    },
)


def _second_moment(mu: float) -> float:
    return (1 - mu) * 0.0**2 + mu * 1.0**2


def _variance(mu: float) -> float:
    return (1 - mu) * (0.0 - mu) ** 2 + mu * (1.0 - mu) ** 2


def _measure_hint(
    mu: float, generator: np.random.Generator, *, moment: Callable[[float], float] = _second_moment
) -> Measurement:
    if not 0 < mu < 1:
        return Measurement.unmet_because("μ is not strictly between 0 and 1")
    return Measurement(moment(mu), mu * (1 - mu), rounding("float64", 8, 1.0))


HINT_AS_PRINTED = Claim(
    id="estimators.hint-as-printed",
    title="The hint's second moment of a Bernoulli variable",
    source="Homework 4, question 2.2, hint",
    statement=(
        "a ~ Bernoulli(μ): E[a²] = μ (1 − μ), as printed. Refuted: a² = a, so E[a²] = μ; μ (1 − μ) is the variance, "
        "the second moment about the mean"
    ),
    hypotheses=("0 < μ < 1",),
    relation="==",
    measure=_measure_hint,
    subjects={"mu-0.5": lambda: 0.5, "mu-0.9": lambda: 0.9},
    falsifiers={
        "variance": Falsifier(
            "the second moment about the mean, as it must have been meant",
            lambda: 0.5,
            replaces={"moment": _variance},
            expected="holds",
        ),
    },
    expected="refuted",
)
