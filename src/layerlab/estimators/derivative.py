"""Estimators that follow the derivative of f: pathwise for Gaussians, straight-through for what is discrete.

References: Kingma and Welling, Auto-encoding variational Bayes, ICLR 2014; Bengio, Léonard and Courville, Estimating or
propagating gradients through stochastic neurons for conditional computation, 2013.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from layerlab.estimators.estimator import Estimator, Terms
from layerlab.estimators.families import Bernoulli, Categorical, Family, Gaussian
from layerlab.estimators.values import Function, differentiated


def needs_one_hot(name: str, family: Family) -> str | None:
    """Why an estimator that differentiates f cannot serve integer categories; None where there are none."""
    if isinstance(family, Categorical) and not family.one_hot:
        return (
            f"{name} needs the derivative of f, which integers do not have; "
            "take Categorical(logits, one_hot=True) and let f read one-hot vectors (n, dims, k)"
        )
    return None


@dataclass(frozen=True)
class Pathwise(Estimator):
    """The reparameterised gradient of a Gaussian: with ``x = mean + std e``,

        mean of [f'(x), f'(x) * std e]

    for the means and the log standard deviations (Kingma and Welling 2014). Unbiased where f is differentiable; a step
    or a kink that is crossed with positive probability and carries a jump is not seen.

    >>> family, seeded = Gaussian([1.0], 0.0), torch.Generator().manual_seed(0)
    >>> Pathwise().terms(lambda x: x[:, 0] ** 2, family, 40000, seeded).gradient.round(decimals=1).tolist()
    [[2.0], [2.0]]
    """

    name: ClassVar[str] = "pathwise"
    title: ClassVar[str] = "pathwise"
    kinds: ClassVar[tuple[str, ...]] = ("gaussian",)
    differentiable: ClassVar[bool] = True

    def _terms(self, f: Function, family: Family, samples: int, generator: torch.Generator) -> Terms:
        assert isinstance(family, Gaussian)
        x = family.sample(samples, generator)
        values, slopes = differentiated(f, x, tuple(family.batch_shape))
        terms = torch.stack([slopes, slopes * (x - family.mean)], -2)
        return Terms(terms, values, x, independent=True)


@dataclass(frozen=True)
class StraightThrough(Estimator):
    """The derivative of f at hard samples, passed on as if they were their means: for bits

        mean of f'(x_d) mu_d (1 - mu_d),

    for one-hot categories ``p_j (f'_j - sum_i p_i f'_i)`` (Bengio et al. 2013). *Biased*, unless f is linear.

    >>> square = lambda x: (x - 0.3).square().sum(-1)  # gradient: 0.4 mu (1 - mu), 0.1 and 0.08
    >>> family, seeded = Bernoulli([0.0, 1.0]), torch.Generator().manual_seed(0)
    >>> StraightThrough().terms(square, family, 1000, seeded).gradient.round(decimals=2).tolist()
    [0.1, 0.18]
    """

    name: ClassVar[str] = "straight-through"
    title: ClassVar[str] = "straight-through (biased)"
    kinds: ClassVar[tuple[str, ...]] = ("bernoulli", "categorical")
    differentiable: ClassVar[bool] = True

    @property
    def biased(self) -> bool:
        return True

    def refusal(self, family: Family) -> str | None:
        return super().refusal(family) or needs_one_hot(self.name, family)

    def _terms(self, f: Function, family: Family, samples: int, generator: torch.Generator) -> Terms:
        assert isinstance(family, Bernoulli | Categorical)
        x = family.sample(samples, generator)
        values, slopes = differentiated(f, x, tuple(family.batch_shape))
        p = family.probabilities
        if isinstance(family, Bernoulli):
            terms = slopes * p * family.complements
        else:
            terms = p * (slopes - (p * slopes).sum(-1, keepdim=True))
        return Terms(terms, values, x, independent=True)
