"""Score-function estimators: a baseline apart, they are one formula.

The mean over samples of

    (f(x) - b) s(x),        s(x) = d log p(x) / d parameters,

has the gradient of E[f(x)] as its expectation for every b that does not depend on x, because E[s(x)] = 0. What b is
makes the variance.

References: Williams, Simple statistical gradient-following algorithms, Machine Learning 8 (1992); Weaver and Tao, The
optimal reward baseline, UAI 2001; Greensmith, Bartlett and Baxter, Variance reduction techniques for gradient
estimates, JMLR 5 (2004); Kool, van Hoof and Welling, Buy 4 REINFORCE samples, get a baseline for free, 2019; Richter et
al., VarGrad, NeurIPS 2020.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from layerlab.errors import UserError
from layerlab.estimators.estimator import Estimator, Terms
from layerlab.estimators.families import Family
from layerlab.estimators.values import Function, baseline_numbers, evaluated
from layerlab.lab.subjects import user_code


class ScoreEstimator(Estimator):
    """An estimator whose terms follow from the samples and their values."""

    def _terms(self, f: Function, family: Family, samples: int, generator: torch.Generator) -> Terms:
        x = family.sample(samples, generator)
        return self.from_samples(family, x, evaluated(f, x, tuple(family.batch_shape)))

    @abstractmethod
    def from_samples(self, family: Family, x: Tensor, values: Tensor) -> Terms:
        """The terms of samples that were drawn from ``family`` and evaluated elsewhere.

        Args:
            family: the distribution.
            x: ``(n, *batch, *event)``, n at least `least_samples`.
            values: ``(n, *batch)`` float64, f at x.
        """


class Baseline(ScoreEstimator):
    """A score estimator that knows a baseline for each sample: ``mean of (f(x) - b) s(x)``."""

    def from_samples(self, family: Family, x: Tensor, values: Tensor) -> Terms:
        scores = family.score(x)
        terms = family.spread(self.advantages(values, scores, family)) * scores
        return Terms(terms, values, x, independent=True)

    @abstractmethod
    def advantages(self, values: Tensor, scores: Tensor, family: Family) -> Tensor:
        """What each score is multiplied by, ``(n, *batch)`` float64."""


@dataclass(frozen=True)
class Reinforce(Baseline):
    """REINFORCE without a baseline: the mean of ``f(x) s(x)`` (Williams 1992).

    >>> from layerlab.estimators import Bernoulli
    >>> square = lambda x: (x - 0.3).square().sum(-1)  # gradient: 0.4 mu (1 - mu), 0.1 and 0.08
    >>> family, seeded = Bernoulli([0.0, 1.0]), torch.Generator().manual_seed(0)
    >>> Reinforce().terms(square, family, 1000, seeded).gradient.round(decimals=2).tolist()
    [0.1, 0.09]
    """

    name: ClassVar[str] = "reinforce"
    title: ClassVar[str] = "REINFORCE"

    def advantages(self, values: Tensor, scores: Tensor, family: Family) -> Tensor:
        return values


@dataclass(frozen=True)
class Constant(Baseline):
    """REINFORCE with a baseline that is given: the mean of ``(f(x) - b) s(x)``.

    Args:
        baseline: b, one number or ``(*batch)``; must not depend on the samples of this estimate.

    >>> from layerlab.estimators import Bernoulli
    >>> square = lambda x: (x - 0.3).square().sum(-1)  # gradient: 0.4 mu (1 - mu), 0.1 and 0.08
    >>> family, seeded = Bernoulli([0.0, 1.0]), torch.Generator().manual_seed(0)
    >>> Constant(baseline=0.5).terms(square, family, 1000, seeded).gradient.round(decimals=2).tolist()
    [0.1, 0.08]
    """

    name: ClassVar[str] = "constant"
    title: ClassVar[str] = "constant baseline"
    needs: ClassVar[tuple[str, ...]] = ("baseline",)
    baseline: Any = None

    def advantages(self, values: Tensor, scores: Tensor, family: Family) -> Tensor:
        return values - baseline_numbers(self.baseline, tuple(family.batch_shape), values.device)


@dataclass(frozen=True)
class MeanBaseline(ScoreEstimator):
    """REINFORCE with the mean of f for a baseline: the mean of ``(f(x) - b) s(x)`` with ``b = E[f(x)]``.

    The folklore choice, not the best one: for one bit with f(x) = x it is worse than no baseline where mu > 2/3.

    Args:
        baseline: an estimate of E[f] from earlier samples, one number or ``(*batch)``. Without it, the first half of
            the samples is spent on b and the second half on the gradient, so that they are independent.

    >>> from layerlab.estimators import Bernoulli
    >>> square = lambda x: (x - 0.3).square().sum(-1)  # gradient: 0.4 mu (1 - mu), 0.1 and 0.08
    >>> family, seeded = Bernoulli([0.0, 1.0]), torch.Generator().manual_seed(0)
    >>> MeanBaseline().terms(square, family, 1000, seeded).gradient.round(decimals=2).tolist()
    [0.1, 0.07]
    """

    name: ClassVar[str] = "mean"
    title: ClassVar[str] = "mean baseline"
    baseline: Any = None

    @property
    def least_samples(self) -> int:
        return 2 if self.baseline is None else 1

    def from_samples(self, family: Family, x: Tensor, values: Tensor) -> Terms:
        spent = len(x) // 2 if self.baseline is None else 0
        if self.baseline is None:
            b = values[:spent].mean(0)
        else:
            b = baseline_numbers(self.baseline, tuple(family.batch_shape), values.device)
        terms = family.spread(values[spent:] - b) * family.score(x[spent:])
        return Terms(terms, values, x, independent=True)


@dataclass(frozen=True)
class OptimalBaseline(Baseline):
    """REINFORCE with the best scalar baseline: ``b* = E[f(x) |s(x)|^2] / E[|s(x)|^2]``, estimated without bias.

    It minimises the total variance over all constants (Weaver and Tao 2001; Greensmith, Bartlett and Baxter 2004). The
    baseline of each sample is estimated from the others, so that it does not depend on its own.

    >>> from layerlab.estimators import Bernoulli
    >>> square = lambda x: (x - 0.3).square().sum(-1)  # gradient: 0.4 mu (1 - mu), 0.1 and 0.08
    >>> family, seeded = Bernoulli([0.0, 1.0]), torch.Generator().manual_seed(0)
    >>> OptimalBaseline().terms(square, family, 1000, seeded).gradient.round(decimals=2).tolist()
    [0.1, 0.08]
    """

    name: ClassVar[str] = "optimal"
    title: ClassVar[str] = "optimal scalar baseline"

    @property
    def least_samples(self) -> int:
        return 2

    def from_samples(self, family: Family, x: Tensor, values: Tensor) -> Terms:
        terms = super().from_samples(family, x, values)
        return Terms(terms.terms, values, x, independent=False)

    def advantages(self, values: Tensor, scores: Tensor, family: Family) -> Tensor:
        own = tuple(range(values.ndim, scores.ndim))
        lengths = scores.to(torch.float64).square().sum(own)
        below = of_others(lengths)
        # Where all other scores underflow, nothing is known of b*; 0 is as independent of the sample as any.
        return values - torch.where(below > 0, of_others(values * lengths) / below, 0.0)


@dataclass(frozen=True)
class InputBaseline(Baseline):
    """REINFORCE for a batch of distributions, with a baseline for each of its rows: ``(f(x) - b(input)) s(x)``.

    Args:
        baseline: a function of the inputs, such as a value network: one number for each row, ``(*batch)``. It never
            sees the samples; that is what keeps the estimate unbiased.
        inputs: what the rows of the batch were made from, handed to the function as they are.

    >>> from layerlab.estimators import Bernoulli
    >>> estimator = InputBaseline(baseline=lambda inputs: 10 * inputs, inputs=torch.tensor([1.0, 2.0]))
    >>> family, seeded = Bernoulli(torch.zeros(2, 3)), torch.Generator().manual_seed(0)
    >>> rows = lambda x: torch.tensor([10.0, 20.0]).expand(5, 2)
    >>> estimator.terms(rows, family, 5, seeded).gradient.norm().item()
    0.0
    """

    name: ClassVar[str] = "input"
    title: ClassVar[str] = "input-dependent baseline"
    needs: ClassVar[tuple[str, ...]] = ("baseline", "inputs")
    baseline: Callable[[Any], Any] | None = None
    inputs: Any = None

    def refusal(self, family: Family) -> str | None:
        if not family.batch_shape:
            return (
                "input needs a batch of distributions, one row for each input: parameters (*batch, ...); for one "
                "distribution take constant"
            )
        return super().refusal(family)

    def advantages(self, values: Tensor, scores: Tensor, family: Family) -> Tensor:
        if not callable(self.baseline):
            raise UserError(f"expected baseline= to be a function of the inputs, got {self.baseline!r}")
        with torch.no_grad(), user_code("the baseline raised"):
            b = self.baseline(self.inputs)
        return values - baseline_numbers(b, tuple(family.batch_shape), values.device)


@dataclass(frozen=True)
class LeaveOneOut(Baseline):
    """REINFORCE with the mean of the other samples for a baseline (RLOO, VarGrad):

        1/K sum_i (f(x_i) - 1/(K-1) sum_{j != i} f(x_j)) s(x_i)
            = 1/(K(K-1)) sum_{i<j} (f(x_i) - f(x_j)) (s(x_i) - s(x_j)),

    the sample covariance of f and s, a U-statistic; unbiased (Kool, van Hoof and Welling 2019; Richter et al. 2020).

    Args:
        normalise: divide by the standard deviation of f over all K samples, own one included, in float64. *Biased*:
            the length of the gradient is lost. Where f is constant up to rounding the estimate is 0. A deviation over
            the *other* samples only would explode for values such as [1, 0, 0, 0]. The standard error then holds the
            deviation for known.

    >>> from layerlab.estimators import Bernoulli
    >>> square = lambda x: (x - 0.3).square().sum(-1)  # gradient: 0.4 mu (1 - mu), 0.1 and 0.08
    >>> family, seeded = Bernoulli([0.0, 1.0]), torch.Generator().manual_seed(0)
    >>> LeaveOneOut().terms(square, family, 1000, seeded).gradient.round(decimals=2).tolist()
    [0.1, 0.07]
    """

    name: ClassVar[str] = "leave-one-out"
    title: ClassVar[str] = "leave-one-out (RLOO)"
    normalise: bool = False

    @property
    def biased(self) -> bool:
        return self.normalise

    @property
    def least_samples(self) -> int:
        return 2

    def from_samples(self, family: Family, x: Tensor, values: Tensor) -> Terms:
        scores = family.score(x)
        weights = family.spread(self.advantages(values, scores, family))

        def error() -> Tensor:
            return _jackknife(weights * (scores - scores.mean(0)))

        return Terms(weights * scores, values, x, independent=False, error=error)

    def advantages(self, values: Tensor, scores: Tensor, family: Family) -> Tensor:
        n = len(values)
        advantages = (values - values.mean(0)) * (n / (n - 1))
        if not self.normalise:
            return advantages
        deviation = values.std(0)
        rounding = n * torch.finfo(values.dtype).eps * values.abs().amax(0)
        return torch.where(deviation > rounding, advantages / deviation, 0.0)


def of_others(numbers: Tensor) -> Tensor:
    """For each entry along the first dimension the sum of all others, without subtracting.

    >>> of_others(torch.tensor([1.0, 2e-30, 2e-30], dtype=torch.float64)).tolist()
    [4e-30, 1.0, 1.0]
    """
    zero = torch.zeros_like(numbers[:1])
    before = torch.cat([zero, numbers[:-1].cumsum(0)])
    after = torch.cat([numbers[1:].flip(0).cumsum(0).flip(0), zero])
    return before + after


def _jackknife(products: Tensor) -> Tensor:
    """Standard error of a sample covariance, from ``n/(n-1)`` times its centred products, by deletion of each sample.

    Without sample i the sum of centred products is less by n/(n-1) times product i; so the n estimates need no loop.
    """
    n = len(products)
    if n < 3:
        return torch.full_like(products[0], torch.nan)
    deletions = (products - products.mean(0)) / (n - 2)
    return (deletions.square().sum(0) * (n - 1) / n).sqrt()
