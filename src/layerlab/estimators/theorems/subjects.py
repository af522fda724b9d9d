"""The homework's toy, its estimator by autograd, and small problems whose expectations are sums."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerlab.errors import UserError
from layerlab.estimators.families import Bernoulli

Array = NDArray[np.float64]
Function = Callable[[Tensor], Tensor]


def identity(a: Tensor) -> Tensor:
    """The document's f(a) = a."""
    return a


def square(a: Tensor) -> Tensor:
    """f(a) = a^2: on 0 and 1 the same values as `identity`, with another derivative."""
    return a.square()


@dataclass(frozen=True)
class Toy:
    """Homework 4, section 2: ``a ~ Bernoulli(mu)``, ``mu = sigmoid(theta . x)``, and a function of a.

    Args:
        theta: D parameters.
        x: D features.
        f: of a batch of 0. and 1., float64.
    """

    theta: tuple[float, ...]
    x: tuple[float, ...]
    f: Function = identity

    def __post_init__(self) -> None:
        if not self.x or len(self.theta) != len(self.x):
            raise UserError(
                f"expected as many parameters as features, at least one, got {len(self.theta)} and {len(self.x)}"
            )

    @property
    def logit(self) -> float:
        return math.fsum(t * x for t, x in zip(self.theta, self.x, strict=True))

    @property
    def mu(self) -> float:
        return float(torch.sigmoid(torch.tensor(self.logit, dtype=torch.float64)))

    @property
    def family(self) -> Bernoulli:
        """The distribution of a, whose parameter is the logit theta . x."""
        return Bernoulli(torch.tensor([self.logit], dtype=torch.float64))

    def value(self, a: float) -> float:
        """f(a)."""
        return float(self.f(torch.tensor([a], dtype=torch.float64))[0])

    def unmet(self) -> str | None:
        """The hypothesis that does not hold, if one does not."""
        if not all(map(math.isfinite, (*self.theta, *self.x))):
            return "theta or x is not finite"
        if not abs(self.logit) <= 30:
            return "mu is closer than 1e-13 to 0 or 1"
        return None


def toy(mu: float, x: tuple[float, ...] = (2.0, -1.0, 0.5), f: Function = identity) -> Toy:
    """The toy whose output is mu: theta points along x."""
    logit = math.log(mu) - math.log1p(-mu)
    length = math.fsum(each * each for each in x)
    return Toy(tuple(logit * each / length for each in x), x, f)


def no_feature(x: float) -> str | None:
    """Why there is no toy with the one feature x, if there is none: theta could not reach any mu."""
    return None if math.isfinite(x) and x != 0 else f"x_1 is {x:g}"


OneSample = Callable[[Toy, float], Array]
"""An estimate from one sample a, (D,)."""


def reinforce(problem: Toy, a: float) -> Array:
    """f(a) d log p(a) / d theta, the score by autograd."""
    return problem.value(a) * score(problem, a)


def score(problem: Toy, a: float) -> Array:
    """d log p(a) / d theta by autograd through sigmoid and torch's own log-probability."""
    theta = torch.tensor(problem.theta, dtype=torch.float64, requires_grad=True)
    logit = theta @ torch.tensor(problem.x, dtype=torch.float64)
    log_prob = torch.distributions.Bernoulli(logits=logit).log_prob(torch.tensor(a, dtype=torch.float64))
    return np.asarray(torch.autograd.grad(log_prob, theta)[0])


def with_baseline(baseline: float) -> OneSample:
    """(f(a) - b) d log p(a) / d theta."""
    return lambda problem, a: (problem.value(a) - baseline) * score(problem, a)


def straight_through(problem: Toy, a: float) -> Array:
    """f'(a) dmu / dtheta: the sample's own derivative, put through as if a were mu."""
    point = torch.tensor([a], dtype=torch.float64, requires_grad=True)
    slope = torch.autograd.grad(problem.f(point).sum(), point)[0].item()
    return slope * gradient_of(problem, lambda mu: mu)


def gradient_of(problem: Toy, expectation: Callable[[Tensor], Tensor]) -> Array:
    """d expectation(mu) / d theta by autograd."""
    theta = torch.tensor(problem.theta, dtype=torch.float64, requires_grad=True)
    mu = torch.sigmoid(theta @ torch.tensor(problem.x, dtype=torch.float64))
    return np.asarray(torch.autograd.grad(expectation(mu), theta)[0])


def exact_gradient(problem: Toy) -> Array:
    """dJ / dtheta of ``J = (1 - mu) f(0) + mu f(1)``, by autograd through J."""
    low, high = problem.value(0.0), problem.value(1.0)
    return gradient_of(problem, lambda mu: (1 - mu) * low + mu * high)


def enumerated(problem: Toy, estimator: OneSample) -> tuple[Array, Array]:
    """Mean and variance of a one-sample estimate over both outcomes, each (D,)."""
    at_0, at_1 = estimator(problem, 0.0), estimator(problem, 1.0)
    mu, nu = problem.mu, 1 - problem.mu
    # Of a variable with two values; E[g^2] - E[g]^2 would cancel where mu is close to 0 or 1.
    return nu * at_0 + mu * at_1, mu * nu * (at_1 - at_0) ** 2


@dataclass(frozen=True)
class Bits:
    """A function of a few bits and their probabilities: small enough to go over all tuples of samples.

    Args:
        probabilities: of a 1, for each bit.
        f: ``(n, bits)`` of 0. and 1. in, ``(n,)`` out.
        samples: evaluations of an estimate.
    """

    probabilities: tuple[float, ...]
    f: Function
    samples: int = 2

    @property
    def family(self) -> Bernoulli:
        mu = torch.tensor(self.probabilities, dtype=torch.float64)
        return Bernoulli(mu.log() - torch.log1p(-mu))

    def weighted_outcomes(self) -> tuple[Tensor, Tensor]:
        """Every outcome ``(2^bits, bits)`` and its probability."""
        family = self.family
        found = family.outcomes()
        assert found is not None
        return found, family.log_prob(found).exp()

    def gradient(self) -> Tensor:
        """dE[f] / dlogits by autograd through the sum over all outcomes; no score is used."""
        outcomes, _ = self.weighted_outcomes()
        logits = self.family.logits.clone().requires_grad_()
        mu = torch.sigmoid(logits)
        chances = (outcomes * mu + (1 - outcomes) * (1 - mu)).prod(1)
        return torch.autograd.grad(chances @ self.f(outcomes), logits)[0]


def parity(x: Tensor) -> Tensor:
    """1 where the number of ones is odd."""
    return x.sum(1) % 2


def counted(x: Tensor) -> Tensor:
    """The number of ones."""
    return x.sum(1)


def lifted(x: Tensor) -> Tensor:
    """The number of ones and 10: what a baseline is for."""
    return x.sum(1) + 10


def rugged(x: Tensor) -> Tensor:
    """No pattern: the sine of the outcome's number."""
    powers = 2.0 ** torch.arange(x.shape[1] - 1, -1, -1, dtype=x.dtype)
    return torch.sin(3 * (x @ powers) + 1)
