"""Estimators from antithetic pairs: two samples that mirror each other, and the difference of f between them.

References: Yin and Zhou, ARM: Augment-REINFORCE-merge gradient for stochastic binary networks, ICLR 2019; Dong, Mnih
and Tucker, DisARM: an antithetic gradient estimator for binary latent variables, NeurIPS 2020; Salimans et al.,
Evolution strategies as a scalable alternative to reinforcement learning, 2017; Wierstra et al., Natural evolution
strategies, JMLR 15 (2014).
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from layerlab.estimators.draws import uniform
from layerlab.estimators.estimator import Estimator, Terms
from layerlab.estimators.families import Bernoulli, Family, Gaussian
from layerlab.estimators.values import Function, evaluated


class _BitPairs(Estimator):
    """Pairs of bits from one uniform number u: ``[1 - u < mu]`` and ``[u < mu]``."""

    kinds: ClassVar[tuple[str, ...]] = ("bernoulli",)
    cost: ClassVar[int] = 2

    def _terms(self, f: Function, family: Family, samples: int, generator: torch.Generator) -> Terms:
        return self.from_uniform(f, family, uniform(samples // 2, generator, family.parameters))

    def from_uniform(self, f: Function, family: Family, u: Tensor) -> Terms:
        """The terms of given uniform numbers.

        Args:
            f: see `Estimator.terms`.
            family: Bernoulli.
            u: ``(m, *batch, bits)`` in [0, 1), float64.
        """
        assert isinstance(family, Bernoulli)
        x = torch.cat([1 - u < family.probabilities, u < family.probabilities]).to(family.logits.dtype)
        values = evaluated(f, x, tuple(family.batch_shape))
        first, second = values.chunk(2)
        weights = family.spread(first - second)
        return Terms(weights * self.directions(family, u, *x.chunk(2)), values, x, independent=True)

    @abstractmethod
    def directions(self, family: Bernoulli, u: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """What the difference of f is multiplied by, ``(m, *batch, bits)``."""


@dataclass(frozen=True)
class Arm(_BitPairs):
    """ARM (Yin and Zhou 2019): with u uniform, ``b = [1 - u < mu]`` and ``b' = [u < mu]``,

    mean of (f(b) - f(b')) (u - 1/2).

    >>> from layerlab.estimators import Bernoulli
    >>> square = lambda x: (x - 0.3).square().sum(-1)  # gradient: 0.4 mu (1 - mu), 0.1 and 0.08
    >>> family, seeded = Bernoulli([0.0, 1.0]), torch.Generator().manual_seed(0)
    >>> Arm().terms(square, family, 1000, seeded).gradient.round(decimals=2).tolist()
    [0.1, 0.08]
    """

    name: ClassVar[str] = "arm"
    title: ClassVar[str] = "ARM"

    def directions(self, family: Bernoulli, u: Tensor, first: Tensor, second: Tensor) -> Tensor:
        return (u - 0.5).to(family.logits.dtype)


@dataclass(frozen=True)
class DisArm(_BitPairs):
    """DisARM (Dong, Mnih and Tucker 2020): ARM, averaged over the u that give the same pair,

        mean of 1/2 (f(b) - f(b')) (-1)^b'_d [b_d != b'_d] sigmoid(|logit_d|).

    Its variance is never above that of ARM, coordinate by coordinate.

    >>> from layerlab.estimators import Bernoulli
    >>> square = lambda x: (x - 0.3).square().sum(-1)  # gradient: 0.4 mu (1 - mu), 0.1 and 0.08
    >>> family, seeded = Bernoulli([0.0, 1.0]), torch.Generator().manual_seed(0)
    >>> DisArm().terms(square, family, 1000, seeded).gradient.round(decimals=2).tolist()
    [0.1, 0.08]
    """

    name: ClassVar[str] = "disarm"
    title: ClassVar[str] = "DisARM"

    def directions(self, family: Bernoulli, u: Tensor, first: Tensor, second: Tensor) -> Tensor:
        # (-1)^b' [b != b'] is b - b'.
        return 0.5 * (first - second) * torch.sigmoid(family.logits.abs())


@dataclass(frozen=True)
class Antithetic(Estimator):
    """REINFORCE at mirrored pairs of a Gaussian: with ``x = mean + std e`` and ``x' = mean - std e``,

        mean of 1/2 (f(x) s(x) + f(x') s(x')),

    for the means ``(f(x) - f(x')) / 2 * e / std``, which no constant added to f disturbs; for the log standard
    deviations ``(f(x) + f(x')) / 2 * (e^2 - 1)``.

    >>> family, seeded = Gaussian([1.0], 0.0), torch.Generator().manual_seed(0)
    >>> Antithetic().terms(lambda x: x[:, 0] ** 2, family, 40000, seeded).gradient.round(decimals=1).tolist()
    [[2.0], [2.1]]
    """

    name: ClassVar[str] = "antithetic"
    title: ClassVar[str] = "antithetic pairs"
    kinds: ClassVar[tuple[str, ...]] = ("gaussian",)
    cost: ClassVar[int] = 2

    def _terms(self, f: Function, family: Family, samples: int, generator: torch.Generator) -> Terms:
        x, values = _mirrored(f, family, samples, generator)
        both = (family.spread(values) * family.score(x)).chunk(2)
        return Terms((both[0] + both[1]) / 2, values, x, independent=True)


@dataclass(frozen=True)
class Evolution(Estimator):
    """Evolution strategies: the gradient for the means of a Gaussian alone, from mirrored pairs,

        mean of (f(mean + std e) - f(mean - std e)) / (2 std) * e.

    The log standard deviations are held: their coordinates are 0, and `covers` says so.

    Args:
        ranks: put the centred ranks of the values, from -1/2 to 1/2, in their place (Salimans et al. 2017): robust
            against outliers and *biased*. Equal values share their mean rank.

    >>> family, seeded = Gaussian([1.0], 0.0), torch.Generator().manual_seed(0)
    >>> Evolution().terms(lambda x: x[:, 0] ** 2, family, 40000, seeded).gradient.round(decimals=1).tolist()
    [[2.0], [0.0]]
    """

    name: ClassVar[str] = "evolution"
    title: ClassVar[str] = "evolution strategies"
    kinds: ClassVar[tuple[str, ...]] = ("gaussian",)
    cost: ClassVar[int] = 2
    ranks: bool = False

    @property
    def biased(self) -> bool:
        return self.ranks

    def covers(self, family: Family) -> Tensor:
        covered = torch.zeros_like(family.parameters, dtype=torch.bool)
        covered[..., 0, :] = True
        return covered

    def _terms(self, f: Function, family: Family, samples: int, generator: torch.Generator) -> Terms:
        assert isinstance(family, Gaussian)
        x, values = _mirrored(f, family, samples, generator)
        first, second = (centred_ranks(values) if self.ranks else values).chunk(2)
        steps = x[: len(first)] - family.mean
        slopes = ((first - second) / 2)[..., None].to(x.dtype) * steps / family.std.square()
        terms = torch.stack([slopes, torch.zeros_like(slopes)], -2)
        return Terms(terms, values, x, independent=not self.ranks)


def centred_ranks(values: Tensor) -> Tensor:
    """Ranks along the first dimension, scaled to -1/2 ... 1/2; equal values share their mean rank.

    >>> centred_ranks(torch.tensor([10.0, 30.0, 10.0, 20.0, 90.0], dtype=torch.float64)).tolist()
    [-0.375, 0.25, -0.375, 0.0, 0.5]
    """
    rows = values.movedim(0, -1).contiguous()
    ordered = rows.sort(-1).values
    below = torch.searchsorted(ordered, rows)
    up_to = torch.searchsorted(ordered, rows, right=True)
    ranks = (below + up_to - 1).to(values.dtype) / 2
    return (ranks / (len(values) - 1) - 0.5).movedim(-1, 0)


def _mirrored(f: Function, family: Family, samples: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    assert isinstance(family, Gaussian)
    steps = family.std * family.noise(samples // 2, generator)
    x = torch.cat([family.mean + steps, family.mean - steps])
    return x, evaluated(f, x, tuple(family.batch_shape))
