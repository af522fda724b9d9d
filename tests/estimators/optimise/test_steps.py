"""Steps stay inside the family, and go where the gradient points."""

from __future__ import annotations

import pytest
import torch

from layerlab.estimators import Bernoulli, Categorical, Gaussian
from layerlab.estimators.optimise.fitness import Scale, utilities
from layerlab.estimators.optimise.restarts import concentration, margin, next_start
from layerlab.estimators.optimise.steps import Adam, Natural, at_probabilities


def f64(*numbers: float) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def test_the_natural_step_of_bits_moves_probabilities_by_the_gradient_in_the_logits() -> None:
    family = Bernoulli([0.3, -1.0])
    gradient = f64(0.1, -0.05)
    moved = Natural(0.5, 0.0, 0.01)(family, gradient)
    assert isinstance(moved, Bernoulli)
    torch.testing.assert_close(moved.probabilities, family.probabilities + 0.5 * gradient)
    # To first order the natural gradient in any parameters: that of the family, in logits.
    small = Natural(1e-6, 0.0, 0.01)(family, gradient)
    torch.testing.assert_close(
        small.parameters, family.logits + 1e-6 * family.natural(gradient), rtol=1e-9, atol=1e-11
    )


def test_probabilities_stay_within_the_margin_and_add_up() -> None:
    bits = at_probabilities(Bernoulli([0.0, 0.0]), f64(-3.0, 7.0), 0.1)
    torch.testing.assert_close(bits.probabilities, f64(0.1, 0.9))
    start = Categorical(torch.zeros(2, 3, dtype=torch.float64))
    moved = at_probabilities(start, torch.stack([f64(-0.2, 0.5, 0.7), f64(0.0, 0.0, 1.0)]), 0.1)
    p = moved.probabilities
    torch.testing.assert_close(p.sum(-1), f64(1.0, 1.0))
    assert float(p.min()) == pytest.approx(0.1) and p[1].tolist() == pytest.approx([0.1, 0.1, 0.8])
    assert p[0, 2] > p[0, 1] > p[0, 0]


def test_the_natural_step_of_a_gaussian_is_on_its_own_scale_and_bounded() -> None:
    family = Gaussian([0.0, 0.0], [0.0, 2.0])
    gradient = torch.stack([f64(0.1, 0.1), f64(0.2, -0.2)])
    mean, log_std = Natural(1.0, 0.5, 0.0)(family, gradient).parameters
    torch.testing.assert_close(mean, 0.1 * family.std**2)
    torch.testing.assert_close(log_std, f64(0.05, 1.95))
    far, wide = Natural(1.0, 1.0, 0.0)(family, gradient * 1e12).parameters
    torch.testing.assert_close(far, 5 * family.std)
    torch.testing.assert_close(wide, f64(1.0, 1.0))


def test_adam_moves_each_coordinate_by_the_rate_and_a_mean_as_far_as_it_must() -> None:
    step = Adam(0.5)
    first = step(Gaussian([100.0], [0.0]), torch.stack([f64(1e-5), f64(-1e5)]))
    assert first.parameters.flatten().tolist() == pytest.approx([100.5, -0.5])
    bits: Bernoulli | object = Bernoulli([29.9])
    assert Adam(0.5)(bits, f64(1.0)).parameters.tolist() == [30.0]  # type: ignore[arg-type]


def test_utilities_know_ranks_only_and_share_ties() -> None:
    values = f64(3.0, 9.0, 3.0, -1.0, 0.0, 2.0, 1.0)
    found = utilities(values)
    assert torch.equal(found, utilities(values.exp()))
    assert float(found.sum()) == pytest.approx(0.0, abs=1e-12)
    assert found[0] == found[2] and found[1] == found.max() and found[3] == found.min()
    assert utilities(f64(2.0, 2.0, 2.0)).tolist() == pytest.approx([0.0, 0.0, 0.0])


def test_the_scale_of_a_batch_is_that_of_the_batches_before() -> None:
    scale = Scale()
    assert scale(f64(0.0, 4.0)).tolist() == [0.0, 2.0]
    assert scale(f64(0.0, 100.0)).tolist() == [0.0, 50.0]
    # 0.9 parts of the first, one of the second.
    assert scale(f64(0.0, 1.0))[1] == pytest.approx(1 / ((0.9 * 4 + 2500) / 1.9) ** 0.5)
    assert Scale()(f64(1.0, 1.0)).tolist() == [1.0, 1.0]


def test_a_start_around_the_best_favours_it_and_a_fresh_one_is_the_first() -> None:
    first = Bernoulli(torch.zeros(40, dtype=torch.float64))
    best = (torch.arange(40) % 2).double()
    around = next_start(first, best, 1, seed=0, enough=True)
    assert around.around and isinstance(around.family, Bernoulli)
    agree = torch.where(best > 0.5, around.family.probabilities, around.family.complements)
    assert 0.69 < float(agree.min()) < 0.96 and float(agree.max()) == pytest.approx(float(agree.min()))
    fresh = next_start(first, best, 4, seed=0, enough=True)
    assert fresh.family is first and fresh.slower > 1
    assert next_start(first, best, 4, seed=0, enough=False).around
    colours = Categorical(torch.zeros(5, 4, dtype=torch.float64))
    near = next_start(colours, torch.tensor([0, 1, 2, 3, 0]), 1, seed=0, enough=True).family
    assert isinstance(near, Categorical) and near.probabilities.argmax(-1).tolist() == [0, 1, 2, 3, 0]
    assert float(near.probabilities.sum(-1).max()) == pytest.approx(1.0)


@pytest.mark.parametrize(
    "first",
    [Bernoulli(torch.zeros(10, dtype=torch.float64)), Categorical(torch.zeros(10, 4, dtype=torch.float64))],
)
def test_concentration_is_0_at_the_start_and_1_at_the_margin(first: Bernoulli | Categorical) -> None:
    assert concentration(first) == pytest.approx(0.0)
    certain = torch.zeros_like(first.parameters)
    certain[..., 0] = 1.0
    certain = torch.ones(10, dtype=torch.float64) if isinstance(first, Bernoulli) else certain
    assert concentration(at_probabilities(first, certain, margin(first))) == pytest.approx(1.0)  # type: ignore[arg-type]
