"""Families against torch.distributions: log-probabilities, scores, entropies, Fisher informations, frequencies."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, distributions

from layerlab.errors import UserError
from layerlab.estimators.draws import drawn
from layerlab.estimators.families import Bernoulli, Categorical, Family, Gaussian


def normal(shape: tuple[int, ...], seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def peer_bernoulli(parameters: Tensor) -> Any:
    return distributions.Independent(distributions.Bernoulli(logits=parameters), 1)


def peer_categorical(parameters: Tensor) -> Any:
    return distributions.Independent(distributions.Categorical(logits=parameters), 1)


def peer_one_hot(parameters: Tensor) -> Any:
    return distributions.Independent(distributions.OneHotCategorical(logits=parameters), 1)


def peer_gaussian(parameters: Tensor) -> Any:
    mean, log_std = parameters.unbind(-2)
    return distributions.Independent(distributions.Normal(mean, log_std.exp()), 1)


CASES = [
    pytest.param(lambda batch: Bernoulli(2 * normal((*batch, 5))), peer_bernoulli, id="bernoulli"),
    pytest.param(lambda batch: Categorical(normal((*batch, 3, 4))), peer_categorical, id="categorical"),
    pytest.param(lambda batch: Categorical(normal((*batch, 3, 4)), one_hot=True), peer_one_hot, id="one-hot"),
    pytest.param(
        lambda batch: Gaussian(normal((*batch, 3)), normal((*batch, 3), 1)), peer_gaussian, id="gaussian"
    ),
]
Made = Callable[[tuple[int, ...]], Family]


@pytest.mark.parametrize("batch", [(), (2, 3)])
@pytest.mark.parametrize(("made", "peer"), CASES)
def test_closed_forms_equal_autograd_of_torch(
    made: Made, peer: Callable[[Tensor], Any], batch: tuple[int, ...]
) -> None:
    family = made(batch)
    x = family.sample(7, torch.Generator().manual_seed(3))
    assert family.batch_shape == batch
    assert x.shape[:-1] == (7, *batch) or x.shape[:-2] == (7, *batch)
    # One copy of the parameters for each sample, so that every sample has its own score.
    leaf = family.parameters.expand(7, *family.parameters.shape).clone().requires_grad_()
    wanted = peer(leaf).log_prob(x)
    (scores,) = torch.autograd.grad(wanted.sum(), leaf)
    torch.testing.assert_close(family.log_prob(x), wanted.detach(), rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(family.score(x), scores, rtol=1e-12, atol=1e-13)
    own = family.parameters.clone().requires_grad_()
    entropy = peer(own).entropy()
    (slope,) = torch.autograd.grad(entropy.sum(), own)
    torch.testing.assert_close(family.entropy(), entropy.detach(), rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(family.entropy_gradient(), slope, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("made", [case.values[0] for case in CASES[:3]])
def test_outcomes_are_all_and_their_probabilities_sum_to_one(made: Made) -> None:
    family = made((2,))
    outcomes = family.outcomes()
    assert outcomes is not None
    p = family.log_prob(outcomes).exp()
    torch.testing.assert_close(p.sum(0), torch.ones(2, dtype=torch.float64), rtol=1e-13, atol=0)
    assert len(torch.unique(outcomes[:, 0], dim=0)) == len(outcomes)
    assert family.outcomes(limit=len(outcomes) - 1) is None
    # The score has mean zero.
    mean = (family.spread(p) * family.score(outcomes)).sum(0)
    assert mean.abs().max() < 1e-14


@pytest.mark.parametrize("made", [case.values[0] for case in CASES[:3]])
def test_natural_solves_the_enumerated_fisher_information(made: Made) -> None:
    family = made(())
    outcomes = family.outcomes()
    assert outcomes is not None
    scores = family.score(outcomes).flatten(1)
    fisher = (scores * family.log_prob(outcomes).exp()[:, None]).T @ scores
    gradient = normal((fisher.shape[0],), 5)
    wanted = torch.linalg.pinv(fisher, rtol=1e-10) @ gradient
    found = family.natural(gradient.reshape(family.parameters.shape)).flatten()
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-10)


def test_natural_of_a_gaussian_is_by_its_known_information() -> None:
    family = Gaussian([0.0, 1.0], [math.log(2.0), 0.0])
    assert family.natural(torch.ones(2, 2, dtype=torch.float64)).tolist() == [
        [pytest.approx(4.0), pytest.approx(1.0)],
        [0.5, 0.5],
    ]


@pytest.mark.parametrize(("made", "peer"), CASES)
def test_samples_have_the_stated_distribution(made: Made, peer: Callable[[Tensor], Any]) -> None:
    family = made(())
    x = family.sample(40_000, torch.Generator().manual_seed(1)).to(torch.float64)
    hot = (
        torch.nn.functional.one_hot(x.long(), 4).double()
        if family.kind == "categorical" and x.ndim == 2
        else x
    )
    if family.kind == "categorical":
        mean, variance = family.probabilities, family.probabilities * (1 - family.probabilities)
    else:
        mean, variance = peer(family.parameters).mean, peer(family.parameters).variance
    z = (hot.mean(0) - mean) / (variance / len(x)).sqrt()
    assert z.abs().max() < 4.5
    if family.kind == "gaussian":
        torch.testing.assert_close(hot.var(0), variance, rtol=0.04, atol=0.0)


def test_sampling_draws_from_the_generator_alone() -> None:
    family = Bernoulli(torch.zeros(8))
    before = torch.random.get_rng_state()
    first, second = (family.sample(9, torch.Generator().manual_seed(2)) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(before, torch.random.get_rng_state())
    assert first.dtype == torch.float32


def test_a_probability_next_to_one_keeps_its_digits() -> None:
    family = Bernoulli(torch.tensor([30.0], dtype=torch.float32))
    assert float(family.score(torch.ones(1, 1))) == pytest.approx(math.exp(-30.0), rel=1e-5, abs=0)
    saturated = Bernoulli([2000.0])
    assert saturated.natural(torch.zeros(1, dtype=torch.float64)).tolist() == [0.0]
    assert saturated.log_prob(torch.ones(1, 1, dtype=torch.float64)).tolist() == [0.0]


@pytest.mark.parametrize("family", [Bernoulli(torch.zeros(50)), Categorical(torch.zeros(50, 2))])
def test_float32_families_are_drawn_by_numbers_finer_than_float32(
    family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def watched(*arguments: Any) -> Tensor:
        seen.append(drawn(*arguments))
        return seen[-1]

    monkeypatch.setattr("layerlab.estimators.draws.drawn", watched)
    family.sample(20, torch.Generator().manual_seed(0))
    assert bool((seen[0] * 2**24 % 1 > 0).any())


def test_parameters_are_a_copy() -> None:
    logits = torch.zeros(3, requires_grad=True)
    family = Bernoulli(logits)
    with torch.no_grad():
        logits += 1
    assert family.parameters.tolist() == [0.0, 0.0, 0.0]
    assert not family.parameters.requires_grad
    assert family.replaced(torch.ones(3)).parameters.tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: Bernoulli([0.0, math.inf]), r"got inf at \[1\]: a probability of exactly 0 or 1.*clamp"),
        (lambda: Bernoulli([math.nan]), r"expected finite Bernoulli logits, got nan at \[0\]"),
        (lambda: Bernoulli("0.5"), "Bernoulli logits as a tensor, array or list of numbers, got '0.5'"),
        (lambda: Bernoulli([[0.0], [0.0, 1.0]]), "as a tensor, array or list"),
        (lambda: Gaussian([0.0], None), "log_std as a tensor, array or list of numbers, got None"),
        (lambda: Bernoulli([]), r"at least one, got \(0,\)"),
        (lambda: Bernoulli(torch.tensor(1.0)), r"shape \(\*batch, bits\).*got \(\)"),
        (lambda: Bernoulli(torch.zeros(2, dtype=torch.int64)), "float32 or float64, got torch.int64"),
        (lambda: Bernoulli(torch.zeros(2, dtype=torch.bfloat16)), r"pass logits.float\(\)"),
        (lambda: Categorical([0.0, 0.0]), r"\(\*batch, dims, k\)"),
        (lambda: Categorical([[0.0], [0.0]]), "at least 2 values"),
        (lambda: Categorical([[0.0, -math.inf]]), "probability of exactly 0 or 1"),
        (lambda: Gaussian([0.0, math.inf], 0.0), "expected finite Gaussian means"),
        (lambda: Gaussian([0.0], -math.inf), "neither 0 nor infinite"),
        (lambda: Gaussian([0.0], 800.0), "neither 0 nor infinite"),
        (lambda: Gaussian([0.0, 1.0], [0.0, 0.0, 0.0]), r"log_std of the shape \(2,\)"),
        (lambda: Bernoulli([0.0]).replaced(torch.zeros(2)), r"shape \(1,\) as before, got \(2,\)"),
        (lambda: Bernoulli([0.0]).sample(2, 0), "expected a torch.Generator, got int"),
    ],
)
def test_what_has_no_score_is_refused(made: Callable[[], Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        made()
