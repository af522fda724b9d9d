"""Score estimators: expectations by enumeration of all samples, baselines by their formulas, the known trap."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from layerlab.errors import UserError
from layerlab.estimators.estimator import Terms
from layerlab.estimators.families import Bernoulli
from layerlab.estimators.score import (
    Constant,
    InputBaseline,
    LeaveOneOut,
    MeanBaseline,
    OptimalBaseline,
    Reinforce,
    ScoreEstimator,
)

UNBIASED = [
    Reinforce(),
    Constant(baseline=0.8),
    MeanBaseline(),
    MeanBaseline(baseline=0.3),
    OptimalBaseline(),
    LeaveOneOut(),
    InputBaseline(baseline=lambda inputs: 0.1 * inputs, inputs=7.0),
]


def enumerated(estimator: ScoreEstimator, small: Any, k: int) -> tuple[Tensor, Terms, Tensor]:
    """The expectation of the estimate, the terms of every sample of size k, and their probabilities."""
    family, x, p = small.tuples(k)
    terms = estimator.from_samples(family, x, small.f(x))
    return (family.spread(p[None])[0] * terms.gradient).sum(0), terms, p


@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("estimator", UNBIASED, ids=lambda one: one.name)
def test_the_expectation_is_the_gradient(estimator: ScoreEstimator, small: Any, k: int) -> None:
    expectation, _, _ = enumerated(estimator, small, k)
    torch.testing.assert_close(expectation, small.gradient(), rtol=0.0, atol=1e-12)
    assert not estimator.biased


@pytest.mark.parametrize("k", [2, 3])
def test_normalisation_is_biased_and_says_so(small: Any, k: int) -> None:
    estimator = LeaveOneOut(normalise=True)
    expectation, _, _ = enumerated(estimator, small, k)
    assert (expectation - small.gradient()).abs().max() > 0.01
    assert estimator.biased


def test_own_sample_left_in_the_baseline_is_found_by_the_same_enumeration(small: Any) -> None:
    class Careless(LeaveOneOut):
        def advantages(self, values: Tensor, scores: Tensor, family: Any) -> Tensor:
            return values - values.mean(0)

    expectation, _, _ = enumerated(Careless(), small, 3)
    assert (expectation - small.gradient()).abs().max() > 0.01


@pytest.mark.parametrize("estimator", UNBIASED, ids=lambda one: one.name)
def test_what_is_drawn_is_what_is_formed_from_samples(estimator: ScoreEstimator, small: Any) -> None:
    family = small.replicas(4)
    terms = estimator.terms(small.f, family, 6, torch.Generator().manual_seed(0))
    x = family.sample(6, torch.Generator().manual_seed(0))
    assert torch.equal(terms.samples, x)
    assert torch.equal(terms.values, small.f(x))
    assert torch.equal(terms.terms, estimator.from_samples(family, x, small.f(x)).terms)


def sampled(n: int = 9) -> tuple[Bernoulli, Tensor, Tensor, Tensor]:
    family = Bernoulli([0.3, -2.0])
    x = family.sample(n, torch.Generator().manual_seed(4))
    values = 3 * x[:, 0] - x[:, 1] + torch.linspace(0, 1, n, dtype=torch.float64)
    return family, x, values, family.score(x)


def test_leave_one_out_is_the_sample_covariance_and_its_own_sum_over_pairs() -> None:
    family, x, values, scores = sampled()
    estimate = LeaveOneOut().from_samples(family, x, values).gradient
    for d in range(2):
        covariance = torch.cov(torch.stack([values, scores[:, d]]))[0, 1]
        assert float(estimate[d]) == pytest.approx(float(covariance), rel=1e-13)


def test_the_optimal_baseline_of_each_sample_is_that_of_the_others() -> None:
    family, x, values, scores = sampled()
    terms = OptimalBaseline().from_samples(family, x, values).terms
    lengths = scores.square().sum(-1)
    for i in range(len(x)):
        others = [j for j in range(len(x)) if j != i]
        b = (values[others] * lengths[others]).sum() / lengths[others].sum()
        torch.testing.assert_close(terms[i], (values[i] - b) * scores[i], rtol=1e-12, atol=1e-14)
    assert not OptimalBaseline().from_samples(family, x, values).independent


def test_the_optimal_baseline_tends_to_the_best_constant(bits: Any) -> None:
    lengths = bits.family.score(bits.outcomes).square().sum(-1)
    best = float((bits.p * bits.values * lengths).sum() / (bits.p * lengths).sum())
    family = bits.family
    x = family.sample(20_000, torch.Generator().manual_seed(0))
    fitted = bits.f(x) - OptimalBaseline().advantages(bits.f(x), family.score(x), family)
    assert float(fitted.mean()) == pytest.approx(best, abs=0.03)

    def variance(b: float) -> float:
        _, terms, p = enumerated(Constant(baseline=b), bits, 1)
        return float((p[:, None] * terms.gradient.square()).sum())

    assert variance(best) < min(variance(best - 0.05), variance(best + 0.05), variance(0.0))


def test_the_optimal_baseline_survives_scores_that_underflow() -> None:
    family = Bernoulli([800.0])
    x = torch.ones(3, 1, dtype=torch.float64)
    terms = OptimalBaseline().from_samples(family, x, torch.ones(3, dtype=torch.float64))
    assert terms.gradient.tolist() == [0.0]


def test_the_mean_baseline_spends_the_first_half_on_the_baseline() -> None:
    family, x, values, scores = sampled(9)
    terms = MeanBaseline().from_samples(family, x, values).terms
    torch.testing.assert_close(terms, (values[4:] - values[:4].mean())[:, None] * scores[4:])
    assert len(MeanBaseline(baseline=0.0).from_samples(family, x, values).terms) == 9


def test_an_input_baseline_gives_each_row_its_own() -> None:
    logits = torch.zeros(3, 2, dtype=torch.float64)
    inputs = torch.tensor([1.0, 2.0, 3.0])
    estimator = InputBaseline(baseline=lambda rows: 10 * rows, inputs=inputs)
    family = Bernoulli(logits)

    def f(x: Tensor) -> Tensor:
        return torch.tensor([10.0, 20.0, 30.0]).expand(x.shape[:-1])

    terms = estimator.terms(f, family, 5, torch.Generator().manual_seed(0))
    assert terms.gradient.abs().max() == 0.0


# Rewards that made leave-one-out with normalisation explode elsewhere (NVIDIA-NeMo/RL#1518 and #4158): a deviation
# over the *other* samples is 0, or nothing but rounding, for the one sample that differs.
@pytest.mark.parametrize(
    "rewards",
    [
        torch.tensor([1.0, 0.0, 0.0, 0.0]),
        torch.tensor([0.0] + [0.95] * 7, dtype=torch.float32),
        torch.tensor([0.95] * 7 + [0.0], dtype=torch.float32),
        torch.tensor([0.1] * 63 + [1e12], dtype=torch.float64),
    ],
)
def test_normalised_leave_one_out_is_bounded(rewards: Tensor) -> None:
    n = len(rewards)
    family = Bernoulli(torch.zeros(5))
    x = family.sample(n, torch.Generator().manual_seed(0))
    values = rewards.double()
    advantages = LeaveOneOut(normalise=True).advantages(values, family.score(x), family)
    assert advantages.abs().max() <= math.sqrt(n) * (1 + 1e-12)
    assert float(advantages.std()) == pytest.approx(n / (n - 1), rel=1e-12)
    terms = LeaveOneOut(normalise=True).terms(lambda _: rewards, family, n, torch.Generator().manual_seed(0))
    assert terms.gradient.norm() <= math.sqrt(n * 5)


@pytest.mark.parametrize("value", [0.1, 0.95, 1e-300, 1e300 / 64, 0.0])
@pytest.mark.parametrize("n", [2, 3, 7, 64])
def test_normalised_constant_rewards_give_zero_not_rounding(value: float, n: int) -> None:
    values = torch.full((n,), value, dtype=torch.float64)
    family = Bernoulli([0.0])
    scores = family.score(family.sample(n, torch.Generator().manual_seed(0)))
    assert LeaveOneOut(normalise=True).advantages(values, scores, family).tolist() == [0.0] * n


@pytest.mark.parametrize("estimator", UNBIASED[:4], ids=lambda one: one.name)
def test_the_squared_error_of_independent_terms_is_the_variance_on_average(
    estimator: ScoreEstimator, small: Any
) -> None:
    # Of two terms at least: the mean baseline has half of its samples for terms.
    k = 4 if estimator == MeanBaseline() else 3
    expectation, terms, p = enumerated(estimator, small, k)
    weights = p[(..., *[None] * expectation.ndim)]
    variance = (weights * (terms.gradient - expectation).square()).sum(0)
    told = (weights * terms.standard_error().square()).sum(0)
    torch.testing.assert_close(told, variance, rtol=1e-11, atol=1e-14)
    assert terms.independent


def test_the_jackknife_is_that_of_deleting_each_sample() -> None:
    family, x, values, _ = sampled()
    n = len(x)
    deleted = torch.stack(
        [
            LeaveOneOut().from_samples(family, x[keep], values[keep]).gradient
            for keep in ([j for j in range(n) if j != i] for i in range(n))
        ]
    )
    wanted = ((n - 1) / n * (deleted - deleted.mean(0)).square().sum(0)).sqrt()
    terms = LeaveOneOut().from_samples(family, x, values)
    torch.testing.assert_close(terms.standard_error(), wanted, rtol=1e-12, atol=0.0)
    assert not terms.independent


def test_the_jackknife_is_never_below_the_variance_on_average(small: Any) -> None:
    expectation, terms, p = enumerated(LeaveOneOut(), small, 3)
    weights = p[(..., *[None] * expectation.ndim)]
    variance = (weights * (terms.gradient - expectation).square()).sum(0)
    told = (weights * terms.standard_error().square()).sum(0)
    assert bool((told >= variance).all())
    assert bool((told <= 3 * variance).all())


@pytest.mark.parametrize(
    ("estimator", "n"), [(Reinforce(), 1), (LeaveOneOut(), 2), (MeanBaseline(), 2), (MeanBaseline(), 3)]
)
def test_too_few_terms_tell_no_error(estimator: ScoreEstimator, n: int, bits: Any) -> None:
    terms = estimator.terms(bits.f, bits.family, n, torch.Generator().manual_seed(0))
    if isinstance(estimator, MeanBaseline) and n == 3:
        assert bool(torch.isfinite(terms.standard_error()).all())
    else:
        assert bool(torch.isnan(terms.standard_error()).all())


@pytest.mark.parametrize(
    ("made", "samples", "message"),
    [
        (LeaveOneOut, 1, r"leave-one-out needs at least 2 samples \(evaluations of f\), got 1"),
        (OptimalBaseline, 1, "optimal needs at least 2"),
        (MeanBaseline, 1, "mean needs at least 2"),
        (Reinforce, 0, "reinforce needs at least 1 samples"),
        (Reinforce, -3, "got -3"),
        (Reinforce, 2.0, "a whole number of samples, got 2.0"),
        (Reinforce, True, "a whole number of samples, got True"),
        (Constant, 4, "constant needs the option baseline=..."),
        (lambda: Constant(baseline=math.nan), 4, "expected a finite baseline"),
        (lambda: Constant(baseline=[1.0, 2.0]), 4, r"of the shape \(\) of the batch, got \(2,\)"),
        (lambda: Constant(baseline="high"), 4, "the baseline returned a str; expected real numbers"),
        (lambda: InputBaseline(baseline=sum, inputs=[1]), 4, "input needs a batch of distributions"),
    ],
)
def test_wrong_requests_are_refused(made: Callable[[], Any], samples: Any, message: str, bits: Any) -> None:
    with pytest.raises(UserError, match=message):
        made().terms(bits.f, bits.family, samples, torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"baseline": 3.0, "inputs": 1}, "expected baseline= to be a function of the inputs, got 3.0"),
        ({"baseline": sum}, "input needs the option inputs="),
        ({"baseline": lambda rows: rows / 0, "inputs": 1}, "the baseline raised ZeroDivisionError"),
        ({"baseline": lambda rows: [1.0, 2.0, 3.0], "inputs": 1}, r"of the shape \(2,\) of the batch"),
    ],
)
def test_wrong_input_baselines_are_refused(options: dict[str, Any], message: str, bits: Any) -> None:
    with pytest.raises(UserError, match=message):
        InputBaseline(**options).terms(bits.f, bits.replicas(2), 3, torch.Generator().manual_seed(0))
