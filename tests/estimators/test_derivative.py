"""Pathwise and straight-through estimates, by moments and by enumeration."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from layerlab.errors import UserError
from layerlab.estimators.derivative import Pathwise, StraightThrough
from layerlab.estimators.families import Bernoulli, Categorical, Gaussian


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_pathwise_gradients_are_those_of_the_reparameterised_samples() -> None:
    family = Gaussian([0.5, -1.0], [0.2, -0.4])

    def f(x: Tensor) -> Tensor:
        return (x[..., 0] * 2).sin() * x[..., 1] + x[..., 1] ** 3

    terms = Pathwise().terms(f, family, 50, generator())
    parameters = family.parameters.clone().requires_grad_()
    noise = family.noise(50, generator())
    (wanted,) = torch.autograd.grad(f(parameters[0] + parameters[1].exp() * noise).mean(), parameters)
    torch.testing.assert_close(terms.gradient, wanted, rtol=1e-12, atol=1e-14)


def test_pathwise_is_unbiased() -> None:
    family = Gaussian([0.5], [0.2])
    terms = Pathwise().terms(lambda x: x[..., 0] ** 3, family, 100_000, generator())
    m, v = 0.5, float(family.std.square())
    wanted = torch.tensor([[3 * m**2 + 3 * v], [6 * m * v]], dtype=torch.float64)
    assert ((terms.gradient - wanted) / terms.standard_error()).abs().max() < 4


def exact(family: Any, f: Any) -> tuple[Tensor, Tensor]:
    """The gradient, and the expectation of the straight-through estimate."""
    outcomes = family.outcomes()
    p = family.log_prob(outcomes).exp()
    gradient = (family.spread(p * f(outcomes)) * family.score(outcomes)).sum(0)

    class Every(type(family)):  # type: ignore[misc]
        def sample(self, n: int, generator: torch.Generator) -> Tensor:
            return outcomes

    every = Every(family.logits, True) if isinstance(family, Categorical) else Every(family.logits)
    terms = StraightThrough().terms(f, every, len(outcomes), generator()).terms
    return gradient, (family.spread(p) * terms).sum(0)


@pytest.mark.parametrize(
    "family",
    [Bernoulli([0.4, -1.3, 2.0]), Categorical([[0.1, -0.5, 1.2], [0.3, 0.3, -2.0]], one_hot=True)],
    ids=["bits", "categories"],
)
def test_straight_through_is_right_for_linear_f_and_biased_otherwise(family: Any) -> None:
    weights = torch.linspace(-1, 2, family.parameters.numel(), dtype=torch.float64)

    def linear(x: Tensor) -> Tensor:
        return x.reshape(len(x), -1) @ weights + 3

    gradient, expectation = exact(family, linear)
    torch.testing.assert_close(expectation, gradient, rtol=1e-12, atol=1e-14)
    gradient, expectation = exact(family, lambda x: linear(x) ** 3)
    assert (expectation - gradient).abs().max() > 0.1
    assert StraightThrough().biased


def test_f_without_a_derivative_is_refused() -> None:
    with pytest.raises(UserError, match="needs the derivative of f"):
        Pathwise().terms(lambda x: x.tolist() and [0.0] * len(x), Gaussian([0.0], 0.0), 4, generator())
    with pytest.raises(UserError, match="straight-through needs the derivative of f, which integers do not"):
        StraightThrough().terms(lambda x: x.sum(-1), Categorical([[0.0, 1.0]]), 4, generator())
    with pytest.raises(UserError, match="pathwise serves gaussian parameters, not bernoulli ones"):
        Pathwise().terms(lambda x: x.sum(-1), Bernoulli([0.0]), 4, generator())
