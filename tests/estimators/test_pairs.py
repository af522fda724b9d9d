"""Antithetic pairs: ARM and DisARM by the exact law of the pair, mirrored Gaussians by the moments of polynomials."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from layerlab.errors import UserError
from layerlab.estimators.families import Bernoulli, Categorical, Gaussian
from layerlab.estimators.pairs import Antithetic, Arm, DisArm, Evolution, centred_ranks


def boxes(family: Bernoulli) -> tuple[Tensor, Tensor]:
    """The boxes of uniform numbers on each of which the pair is constant: their midpoints and their volumes."""
    middles, lengths = [], []
    for mu in family.probabilities.tolist():
        ends = [0.0, min(mu, 1 - mu), max(mu, 1 - mu), 1.0]
        middles.append([(a + b) / 2 for a, b in itertools.pairwise(ends)])
        lengths.append([b - a for a, b in itertools.pairwise(ends)])
    return (
        torch.tensor(list(itertools.product(*middles)), dtype=torch.float64),
        torch.tensor(list(itertools.product(*lengths)), dtype=torch.float64).prod(-1),
    )


def at_boxes(estimator: Arm | DisArm, bits: Any) -> tuple[Tensor, Tensor]:
    middles, volumes = boxes(bits.family)
    terms = estimator.from_uniform(bits.f, bits.replicas(len(middles)), middles[None])
    return terms.gradient, volumes


@pytest.mark.parametrize("estimator", [Arm(), DisArm()], ids=lambda one: one.name)
def test_the_expectation_over_the_pair_is_the_gradient(estimator: Arm | DisArm, bits: Any) -> None:
    # Within a box f is constant and the term linear in u: its mean is its value at the middle.
    terms, volumes = at_boxes(estimator, bits)
    torch.testing.assert_close((volumes[:, None] * terms).sum(0), bits.gradient(), rtol=0.0, atol=1e-12)


def test_disarm_is_the_mean_of_arm_given_the_pair(bits: Any) -> None:
    arm, _ = at_boxes(Arm(), bits)
    disarm, _ = at_boxes(DisArm(), bits)
    torch.testing.assert_close(disarm, arm, rtol=1e-13, atol=1e-15)


def test_disarm_varies_less_than_arm_in_every_coordinate(bits: Any) -> None:
    family = bits.replicas(20_000)
    spreads = []
    for estimator in (Arm(), DisArm()):
        terms = estimator.terms(bits.f, family, 2, torch.Generator().manual_seed(0)).gradient
        spreads.append(terms.var(0))
        z = (terms.mean(0) - bits.gradient()) / (terms.std(0) / len(terms) ** 0.5)
        assert z.abs().max() < 4.0
    assert bool((spreads[1] < spreads[0]).all())


@pytest.mark.parametrize("estimator", [Arm(), DisArm()], ids=lambda one: one.name)
def test_pairs_are_bits_with_the_right_probabilities(estimator: Arm | DisArm, bits: Any) -> None:
    terms = estimator.terms(bits.f, bits.family, 40_001, torch.Generator().manual_seed(0))
    first, second = terms.samples.chunk(2)
    assert len(terms.samples) == 40_000
    assert len(terms.terms) == 20_000
    mu = bits.family.probabilities
    for x in (first, second):
        z = (x.mean(0) - mu) / (mu * (1 - mu) / len(x)).sqrt()
        assert z.abs().max() < 4.0
    # Antithetic: they differ as often as they can.
    differ = (first != second).double().mean(0)
    torch.testing.assert_close(differ, 2 * torch.minimum(mu, 1 - mu), rtol=0.0, atol=0.015)


GAUSSIAN = Gaussian([0.5, -1.0], [0.2, -0.4])


def polynomial(x: Tensor) -> Tensor:
    return x[..., 0] ** 3 + 2 * x[..., 0] * x[..., 1] - x[..., 1].square() + 5


def polynomial_gradient() -> Tensor:
    """Of E = m0^3 + 3 m0 v0 + 2 m0 m1 - m1^2 - v1 + 5, v the variances: by hand."""
    (m0, m1), (v0, v1) = GAUSSIAN.mean.tolist(), GAUSSIAN.std.square().tolist()
    return torch.tensor(
        [[3 * m0**2 + 3 * v0 + 2 * m1, 2 * m0 - 2 * m1], [6 * m0 * v0, -2 * v1]], dtype=torch.float64
    )


@pytest.mark.parametrize("estimator", [Antithetic(), Evolution()], ids=lambda one: one.name)
def test_mirrored_pairs_are_unbiased_where_they_cover(estimator: Antithetic | Evolution) -> None:
    terms = estimator.terms(polynomial, GAUSSIAN, 400_000, torch.Generator().manual_seed(0))
    covered = estimator.covers(GAUSSIAN)
    z = (terms.gradient - polynomial_gradient()) / terms.standard_error()
    assert z[covered].abs().max() < 4.0
    assert bool((terms.gradient[~covered] == 0).all())
    assert int(covered.sum()) == (4 if isinstance(estimator, Antithetic) else 2)
    first, second = terms.samples.chunk(2)
    torch.testing.assert_close(first + second, (2 * GAUSSIAN.mean).expand_as(first))


def test_mirrored_pairs_do_not_notice_a_constant_in_the_means() -> None:
    terms = Antithetic().terms(lambda x: x.sum(-1) * 0 + 1e6, GAUSSIAN, 10, torch.Generator().manual_seed(0))
    assert terms.gradient[0].abs().max() < 1e-9
    assert terms.gradient[1].abs().max() > 1e3


def test_evolution_is_the_mean_part_of_antithetic_pairs() -> None:
    batch = Gaussian(GAUSSIAN.mean.expand(3, 2), GAUSSIAN.log_std)
    one, two = (
        e.terms(polynomial, batch, 8, torch.Generator().manual_seed(0)) for e in (Antithetic(), Evolution())
    )
    torch.testing.assert_close(one.terms[..., 0, :], two.terms[..., 0, :], rtol=1e-12, atol=1e-12)


def test_ranks_are_biased_robust_and_labelled() -> None:
    estimator = Evolution(ranks=True)
    assert estimator.biased

    def outlier(x: Tensor) -> Tensor:
        values = polynomial(x)
        values[0] = 1e200
        return values

    terms = estimator.terms(outlier, GAUSSIAN, 64, torch.Generator().manual_seed(0))
    assert terms.gradient.abs().max() < 10
    assert not terms.independent
    many = estimator.terms(polynomial, GAUSSIAN, 100_000, torch.Generator().manual_seed(0))
    assert (many.gradient - polynomial_gradient())[0].abs().max() > 0.5
    constant = estimator.terms(lambda x: [3.0] * len(x), GAUSSIAN, 64, torch.Generator().manual_seed(0))
    assert constant.gradient.abs().max() == 0.0


def test_ranks_are_taken_in_each_row_of_a_batch() -> None:
    values = torch.tensor([[1.0, 5.0], [2.0, 5.0], [3.0, 4.0]], dtype=torch.float64)
    assert centred_ranks(values).tolist() == [[-0.5, 0.25], [0.0, 0.25], [0.5, -0.5]]


@pytest.mark.parametrize(
    ("estimator", "family", "message"),
    [
        (DisArm(), Bernoulli([0.0]), r"disarm needs at least 2 samples \(evaluations of f\), got 1"),
        (Antithetic(), GAUSSIAN, "antithetic needs at least 2"),
        (Arm(), Categorical([[0.0, 0.0]]), "arm serves bernoulli parameters, not categorical ones"),
        (Evolution(), Bernoulli([0.0]), "evolution serves gaussian parameters, not bernoulli ones"),
    ],
)
def test_what_pairs_cannot_do_is_refused(estimator: Any, family: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        estimator.terms(lambda x: x.sum(-1), family, 1, torch.Generator().manual_seed(0))
