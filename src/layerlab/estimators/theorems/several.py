"""The claims about estimators that use several samples: leave-one-out and antithetic pairs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from layerlab.claims import Claim, Falsifier, Measurement, rounding
from layerlab.estimators.enumeration import Moments
from layerlab.estimators.families import Bernoulli, Family
from layerlab.estimators.pairs import Arm, DisArm
from layerlab.estimators.score import Baseline, LeaveOneOut, Reinforce, ScoreEstimator
from layerlab.estimators.space import Space
from layerlab.estimators.theorems import subjects
from layerlab.estimators.theorems.subjects import Bits
from layerlab.estimators.variance import leave_one_out, with_baseline

INSIDE = "the probabilities lie strictly between 0 and 1"
_MOST_TUPLES = 5000
# No sum here has more terms, and each is a product of a few scores and values.
_OPERATIONS = _MOST_TUPLES
_LEAVE_ONE_OUT = LeaveOneOut()


class OwnSampleLeftIn(Baseline):
    """Broken: the mean of all samples, own one included, for a baseline; short by a factor 1 - 1/K."""

    name = "own-sample-left-in"
    title = "mean of all samples"

    def advantages(self, values: Tensor, scores: Tensor, family: Family) -> Tensor:
        return values - values.mean(0)


class _Added(Baseline):
    """Broken: the mean of the others is added."""

    name = "added"
    title = "mean of the others added"

    def advantages(self, values: Tensor, scores: Tensor, family: Family) -> Tensor:
        return values + (values.sum(0) - values) / (len(values) - 1)


def _unmet(problem: Bits) -> str | None:
    if not all(0 < mu < 1 for mu in problem.probabilities):
        return "a probability is 0 or 1"
    if 2 ** (len(problem.probabilities) * problem.samples) > _MOST_TUPLES:
        return f"there are more than {_MOST_TUPLES} tuples of samples"
    return None


def over_tuples(estimator: ScoreEstimator, problem: Bits) -> tuple[Tensor, Tensor]:
    """Mean and variance of an estimate over all tuples of samples."""
    outcomes, weights = problem.weighted_outcomes()
    family = problem.family

    def estimates() -> Iterator[tuple[float, Tensor]]:
        for tuple_ in itertools.product(range(len(outcomes)), repeat=problem.samples):
            chosen = outcomes[list(tuple_)]
            terms = estimator.from_samples(family, chosen, problem.f(chosen))
            yield float(weights[list(tuple_)].prod()), terms.gradient

    return _moments(estimates())


def over_uniforms(estimator: Arm | DisArm, problem: Bits) -> tuple[Tensor, Tensor]:
    """Mean and variance of the estimate of one pair over its uniform numbers.

    An estimate is a polynomial of degree 1 at most in each u between the points where a bit turns over, and its square
    one of degree 2: two Gauss nodes an interval integrate both exactly.
    """
    nodes = [list(_gauss(mu)) for mu in problem.probabilities]

    def estimates() -> Iterator[tuple[float, Tensor]]:
        for choice in itertools.product(*nodes):
            u = torch.tensor([[at for at, _ in choice]], dtype=torch.float64)
            weight = float(np.prod([weight for _, weight in choice]))
            yield weight, estimator.from_uniform(problem.f, problem.family, u).gradient

    return _moments(estimates())


def _gauss(mu: float) -> Iterator[tuple[float, float]]:
    ends = sorted({0.0, mu, 1 - mu, 1.0})
    for low, high in itertools.pairwise(ends):
        middle, half = (low + high) / 2, (high - low) / 2
        for side in (-1, 1):
            yield middle + side * half / 3**0.5, half


def _moments(estimates: Iterator[tuple[float, Tensor]]) -> tuple[Tensor, Tensor]:
    weights, gradients = zip(*estimates, strict=True)
    weight, gradient = torch.tensor(weights, dtype=torch.float64)[:, None], torch.stack(gradients)
    mean = (weight * gradient).sum(0)
    return mean, (weight * (gradient - mean) ** 2).sum(0)


def moments(estimator: Any, problem: Bits) -> tuple[Tensor, Tensor]:
    """Mean and variance of an estimate, over tuples of samples or over the uniform numbers of one pair."""
    if isinstance(estimator, ScoreEstimator):
        return over_tuples(estimator, problem)
    return over_uniforms(estimator, problem)


def _scale(problem: Bits) -> float:
    outcomes, _ = problem.weighted_outcomes()
    return float(problem.f(outcomes).abs().max())


# ------------------------------------------------------------------------------------------ loo, arm, disarm


def _measure_mean(problem: Bits, generator: np.random.Generator, *, estimator: Any) -> Measurement:
    if reason := _unmet(problem):
        return Measurement.unmet_because(reason)
    mean, _ = moments(estimator, problem)
    difference = float((mean - problem.gradient()).abs().max())
    return Measurement(difference, 0.0, rounding("float64", _OPERATIONS, _scale(problem)))


_SMALL: dict[str, Callable[[], Bits]] = {
    "course-toy": lambda: Bits((0.8,), subjects.counted),
    "parity-2": lambda: Bits((0.3, 0.6), subjects.parity),
    "lifted-2": lambda: Bits((0.5, 0.05), subjects.lifted),
    "rugged-3": lambda: Bits((0.3, 0.6, 0.9), subjects.rugged),
}

LOO = Claim(
    id="estimators.loo",
    title="Leave-one-out is unbiased",
    source="beyond homework 4; Kool, van Hoof and Welling 2019",
    statement=(
        "x_1 ... x_K independent, K ≥ 2: E[1/K Σ_i (f(x_i) − 1/(K−1) Σ_(j≠i) f(x_j)) s(x_i)] = ∂E[f]/∂logits; "
        "measured: the largest difference between the mean over all tuples of outcomes and the derivative by autograd"
    ),
    hypotheses=(INSIDE,),
    relation="==",
    extreme="least",
    measure=partial(_measure_mean, estimator=LeaveOneOut()),
    subjects={**_SMALL, "three-samples": lambda: Bits((0.3, 0.6), subjects.rugged, 3)},
    falsifiers={
        "own-sample-left-in": Falsifier(
            "the own sample left in the baseline without correction",
            lambda: Bits((0.3, 0.6), subjects.rugged, 3),
            replaces={"estimator": OwnSampleLeftIn()},
        ),
        "normalised": Falsifier(
            "advantages divided by their standard deviation",
            lambda: Bits((0.3, 0.6), subjects.rugged, 3),
            replaces={"estimator": LeaveOneOut(normalise=True)},
        ),
        "certain": Falsifier(
            "a probability of 1", lambda: Bits((1.0,), subjects.counted), expected="hypotheses unmet"
        ),
    },
)


class _Doubled(DisArm):
    """Broken: without the factor 1/2."""

    def directions(self, family: Bernoulli, u: Tensor, first: Tensor, second: Tensor) -> Tensor:
        return 2 * super().directions(family, u, first, second)


class _Signed(DisArm):
    """Broken: sigmoid(logit) in the place of sigmoid(|logit|)."""

    def directions(self, family: Bernoulli, u: Tensor, first: Tensor, second: Tensor) -> Tensor:
        return 0.5 * (first - second) * family.probabilities


class _Uncentred(Arm):
    """Broken: u - 1/2 with the sign turned."""

    def directions(self, family: Bernoulli, u: Tensor, first: Tensor, second: Tensor) -> Tensor:
        return 0.5 - u


_PAIR = "u uniform, b = [1 − u < μ], b' = [u < μ], bit by bit"
_OVER_U = (
    "measured: the largest difference between the mean over u, by an exact quadrature, and the derivative by "
    "autograd"
)

ARM = Claim(
    id="estimators.arm",
    title="ARM is unbiased",
    source="beyond homework 4; Yin and Zhou 2019, theorem 1",
    statement=f"{_PAIR}: E[(f(b) − f(b')) (u_d − ½)] = ∂E[f]/∂logit_d; {_OVER_U}",
    hypotheses=(INSIDE,),
    relation="==",
    extreme="least",
    measure=partial(_measure_mean, estimator=Arm()),
    subjects=_SMALL,
    falsifiers={
        "sign": Falsifier(
            "½ − u in the place of u − ½",
            lambda: Bits((0.3, 0.6), subjects.rugged),
            replaces={"estimator": _Uncentred()},
        ),
    },
)

DISARM = Claim(
    id="estimators.disarm",
    title="DisARM is unbiased",
    source="beyond homework 4; Dong, Mnih and Tucker 2020, section 3",
    statement=(f"{_PAIR}: E[½ (f(b) − f(b')) (b_d − b'_d) sigmoid(|logit_d|)] = ∂E[f]/∂logit_d; {_OVER_U}"),
    hypotheses=(INSIDE,),
    relation="==",
    extreme="least",
    measure=partial(_measure_mean, estimator=DisArm()),
    subjects=_SMALL,
    falsifiers={
        "factor": Falsifier(
            "without the factor ½",
            lambda: Bits((0.3, 0.6), subjects.rugged),
            replaces={"estimator": _Doubled()},
        ),
        "sign-of-the-logit": Falsifier(
            "sigmoid(logit) in the place of sigmoid(|logit|)",
            lambda: Bits((0.3, 0.6), subjects.rugged),
            replaces={"estimator": _Signed()},
        ),
    },
)


# ------------------------------------------------------------------- disarm-variance, loo-variance, loo-not-above


def _measure_excess(
    problem: Bits, generator: np.random.Generator, *, estimator: Any, rival: Any
) -> Measurement:
    if reason := _unmet(problem):
        return Measurement.unmet_because(reason)
    excess = moments(estimator, problem)[1] - moments(rival, problem)[1]
    return Measurement(float(excess.max()), 0.0, rounding("float64", _OPERATIONS, _scale(problem) ** 2))


DISARM_VARIANCE = Claim(
    id="estimators.disarm-variance",
    title="DisARM's variance is not above ARM's",
    source="beyond homework 4; Dong, Mnih and Tucker 2020, section 3",
    statement=(
        "DisARM = E[ARM | b, b'], so Var[DisARM_d] ≤ Var[ARM_d] for every d (Rao and Blackwell); measured: the largest "
        "difference over d, by an exact quadrature over u"
    ),
    hypotheses=(INSIDE,),
    relation="<=",
    measure=partial(_measure_excess, estimator=DisArm(), rival=Arm()),
    subjects=_SMALL,
    falsifiers={
        "exchanged": Falsifier(
            "the two exchanged",
            lambda: Bits((0.3, 0.6), subjects.rugged),
            replaces={"estimator": Arm(), "rival": DisArm()},
        ),
    },
)


Formula = Callable[[Bits], Tensor]


def _u_statistic(problem: Bits) -> Tensor:
    return leave_one_out(_table(problem), problem.samples).variance


def _as_if_known(problem: Bits) -> Tensor:
    """Broken: as if the mean of the others were E[f] itself."""
    table = _table(problem)
    return with_baseline(table, table.mean, problem.samples).variance


def _table(problem: Bits) -> Moments:
    outcomes, _ = problem.weighted_outcomes()
    space = Space.parse(bits=len(problem.probabilities))
    return Moments.of(space, problem.f(outcomes), problem.family.logits)


def _measure_formula(
    problem: Bits, generator: np.random.Generator, *, formula: Formula = _u_statistic
) -> Measurement:
    if reason := _unmet(problem):
        return Measurement.unmet_because(reason)
    _, variance = moments(LeaveOneOut(), problem)
    difference = float((variance - formula(problem)).abs().max())
    return Measurement(difference, 0.0, rounding("float64", _OPERATIONS, _scale(problem) ** 2))


LOO_VARIANCE = Claim(
    id="estimators.loo-variance",
    title="The variance of leave-one-out in closed form",
    source="beyond homework 4; Hoeffding 1948 (U-statistics)",
    statement=(
        "with h = f − E[f] and g = E[h s]: K Var[leave-one-out] = Var[h s] + (g² + E[h²] E[s²])/(K − 1), coordinate by "
        "coordinate; measured: the largest difference from the variance over all tuples of outcomes"
    ),
    hypotheses=(INSIDE,),
    relation="==",
    extreme="least",
    measure=_measure_formula,
    subjects={**_SMALL, "three-samples": lambda: Bits((0.3, 0.6), subjects.rugged, 3)},
    falsifiers={
        "mean-known": Falsifier(
            "the variance with E[f] itself for a baseline",
            lambda: Bits((0.3, 0.6), subjects.rugged),
            replaces={"formula": _as_if_known},
        ),
    },
)


def _not_above(problem: Bits) -> bool:
    """(g^2 + E[h^2] E[s^2]) / (K - 1) <= E f (2 E[h s^2] + E f E[s^2]), in every coordinate."""
    table = _table(problem)
    price = table.gradient().square() + table.variance * table.with_score(0, 2)
    gain = table.mean * (2 * table.with_score(1, 2) + table.mean * table.with_score(0, 2))
    return bool((price / (problem.samples - 1) <= gain).all())


def _measure_not_above(
    problem: Bits, generator: np.random.Generator, *, estimator: ScoreEstimator = _LEAVE_ONE_OUT
) -> Measurement:
    if (reason := _unmet(problem)) is None and not _not_above(problem):
        reason = "E[f] is too small, or too much of the noise of the others' mean is left"
    if reason is not None:
        return Measurement.unmet_because(reason)
    return _measure_excess(problem, generator, estimator=estimator, rival=Reinforce())


LOO_NOT_ABOVE = Claim(
    id="estimators.loo-not-above",
    title="When leave-one-out's variance is not above plain REINFORCE's",
    source="beyond homework 4; Richter et al. 2020 (VarGrad) for K → ∞",
    statement=(
        "Var[leave-one-out_d] ≤ Var[REINFORCE_d], both of K samples, where (g_d² + E[h²] E[s_d²])/(K − 1) ≤ "
        "E[f] (2 E[h s_d²] + E[f] E[s_d²]), h = f − E[f]; measured: the largest difference over d, over "
        "all tuples of outcomes"
    ),
    hypotheses=(INSIDE, "the stated inequality between g, E[f], Var[f] and K"),
    relation="<=",
    measure=_measure_not_above,
    subjects={
        "course-toy-4": lambda: Bits((0.3,), subjects.counted, 4),
        "lifted-2": lambda: Bits((0.5, 0.05), subjects.lifted),
        "lifted-3": lambda: Bits((0.3, 0.6), subjects.lifted, 3),
    },
    falsifiers={
        "course-toy-mu-0.8": Falsifier(
            "μ > 2/3, where the mean baseline itself is worse than none",
            lambda: Bits((0.8,), subjects.counted, 8),
            expected="hypotheses unmet",
        ),
        "sign": Falsifier(
            "the mean of the others added, not subtracted",
            lambda: Bits((0.5, 0.05), subjects.lifted),
            replaces={"estimator": _Added()},
        ),
    },
)
