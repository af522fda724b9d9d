"""The variance of estimators, exactly: from one enumeration of f, or in closed form for one bit.

All variances are those of an estimate that may spend ``samples`` evaluations of f, coordinate by coordinate (the
diagonal of its covariance). With ``h = f - E f``, the score s, and g the gradient E[h s]:

- a constant baseline b (none: b = 0; the mean: b = E f): ``Var = E[((f - b) s - g)^2] / K``, least for
  ``b* = E[f |s|^2] / E[|s|^2]``;
- leave-one-out, a U-statistic of order 2 (Hoeffding 1948): ``Var = 2 / (K (K - 1)) [2 (K - 2) z1 + z2]``,
  ``z1 = Var(h s) / 4``, ``z2 = (E[h^2 s^2] + E[h^2] E[s^2]) / 2``;
- antithetic pairs of bits: `layerlab.estimators.coupling`;
- straight-through: over the outcomes, with the derivative of f at each.

References: Williams 1992; Greensmith, Bartlett and Baxter, Variance reduction techniques for gradient estimates in
reinforcement learning, JMLR 5 (2004); Kool, van Hoof and Welling, Buy 4 REINFORCE samples, get a baseline for free!,
2019.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from layerlab.errors import UserError
from layerlab.estimators.coupling import Pairing, second_moments
from layerlab.estimators.enumeration import Moments


@dataclass(frozen=True, eq=False)
class Exact:
    """The exact mean and variance of an estimate, both of the shape of the parameters."""

    mean: Tensor
    variance: Tensor

    @property
    def trace(self) -> float:
        """Variance summed over the coordinates."""
        return float(self.variance.sum())


def best_baseline(moments: Moments) -> float:
    """The constant baseline of least trace: ``b* = E[f |s|^2] / E[|s|^2]``.

    One bit with f(a) = a: 1 - mu, and not the mean mu.

    >>> from layerlab.estimators.space import Space
    >>> space = Space.parse(bits=1)
    >>> moments = Moments.of(space, torch.tensor([0.0, 1.0]).double(), space.at_probability(0.8))
    >>> round(best_baseline(moments), 12)
    0.2
    """
    return moments.mean + float(moments.with_score(1, 2).sum() / moments.with_score(0, 2).sum())


def with_baseline(moments: Moments, baseline: float, samples: int) -> Exact:
    """REINFORCE with a constant baseline that owes nothing to the samples; 0 for none.

    Args:
        moments: of f under the distribution.
        baseline: b, in the unit of f.
        samples: evaluations K.

    >>> from layerlab.estimators.space import Space
    >>> space = Space.parse(bits=1)
    >>> moments = Moments.of(space, torch.tensor([0.0, 1.0]).double(), space.at_probability(0.25))
    >>> round(with_baseline(moments, 0.0, 1).trace, 12)  # the course's mu (1 - mu)^3, largest at 1/4
    0.10546875
    """
    _at_least(samples, 1)
    gradient = moments.gradient()
    return Exact(gradient, _settled(_of_one(moments, baseline - moments.mean, gradient), moments) / samples)


def with_mean_of_half(moments: Moments, samples: int) -> Exact:
    """REINFORCE on the second half of the samples with the mean of f over the first half as baseline.

    Given b, the terms are independent, and b is independent of them:
    ``Var = (Var(h s) + Var(f) E[s^2] / (K // 2)) / (K - K // 2)``.

    Args:
        moments: of f under the distribution.
        samples: evaluations, at least 2.

    >>> from layerlab.estimators.space import Space
    >>> space = Space.parse(bits=1)
    >>> moments = Moments.of(space, torch.tensor([0.0, 1.0]).double(), space.default())
    >>> with_mean_of_half(moments, 2).trace  # (f2 - f1) s2 is 1/2 or 0, equally often
    0.0625
    """
    _at_least(samples, 2)
    gradient = moments.gradient()
    spent = samples // 2
    known = _settled(_of_one(moments, 0.0, gradient), moments)
    return Exact(gradient, (known + moments.variance / spent * moments.with_score(0, 2)) / (samples - spent))


def leave_one_out(moments: Moments, samples: int) -> Exact:
    """The mean of the other values as every sample's baseline (RLOO, VarGrad); ``samples`` is at least 2.

    >>> from layerlab.estimators.space import Space
    >>> space = Space.parse(bits=1)
    >>> moments = Moments.of(space, torch.tensor([0.0, 1.0]).double(), space.default())
    >>> leave_one_out(moments, 2).trace  # (s1 - s2) (f1 - f2) / 2 is 1/2 or 0, equally often
    0.0625
    """
    _at_least(samples, 2)
    gradient = moments.gradient()
    linear = _of_one(moments, 0.0, gradient) / 4
    # The variance of the kernel (s - s') (f - f') / 2; what is left of its mean cancels.
    whole = (moments.with_score(2, 2) + moments.variance * moments.with_score(0, 2)) / 2
    found = 2 / (samples * (samples - 1)) * (2 * (samples - 2) * linear + whole)
    return Exact(gradient, found)


def antithetic(values: Tensor, moments: Moments, samples: int, kind: Pairing) -> Exact:
    """ARM or DisARM of bits with ``samples // 2`` pairs.

    Args:
        values: of every outcome, as the moments were made of.
        moments: of f under the distribution.
        samples: evaluations, at least 2.
        kind: "arm" or "disarm".
    """
    _at_least(samples, 2)
    gradient = moments.gradient()
    variance = second_moments(values, moments, kind) - gradient.square()
    return Exact(gradient, _settled(variance, moments) / (samples // 2))


class SlopeMoments:
    """Mean and variance of straight-through, gathered block by block while f is tabulated.

    The estimate of a sample is the derivative of f at it, put through the probabilities as if they were the sample:
    ``df/dx dmu/dlogit``.

    Args:
        chances: ``(dims, k)``, see `layerlab.estimators.enumeration.probabilities`; bits are k = 2.
        shape: of the parameters.
    """

    def __init__(self, chances: Tensor, shape: tuple[int, ...]) -> None:
        self.chances, self.shape = chances, shape
        self._first: Tensor | None = None
        self._sums = torch.zeros(2, *shape, dtype=torch.float64)

    def add(self, weights: Tensor, slopes: Tensor) -> None:
        """A block of outcomes: probabilities ``(n,)`` and derivatives ``(n, dims)``, or ``(n, dims, k)`` one-hot."""
        slopes = slopes.double()
        if len(self.shape) == 1:
            terms = slopes * self.chances.prod(-1)
        else:
            centred = slopes - (slopes * self.chances).sum(-1, keepdim=True)
            terms = centred * self.chances
        if self._first is None:
            self._first = terms[0].clone()
        offsets = terms - self._first  # From the first, so that equal terms have no variance.
        self._sums[0] += torch.tensordot(weights, offsets, 1)
        self._sums[1] += torch.tensordot(weights, offsets.square(), 1)

    def exact(self, samples: int) -> Exact:
        """When every outcome has been added."""
        if self._first is None:
            raise ValueError("no outcomes were added")
        mean, square = self._sums
        return Exact(self._first + mean, (square - mean.square()).clamp_min(0) / samples)


def one_bit(
    low: float, high: float, mu: float, samples: int, baseline: float | None = None
) -> dict[str, float]:
    """Closed forms for one bit with f(0) = ``low`` and f(1) = ``high``: what the enumeration must come to.

    ``Var = mu (1 - mu) [(f(1) - b) (1 - mu) + (f(0) - b) mu]^2 / K``, which is 0 for ``b* = (1 - mu) f(1) + mu f(0)``.
    The document's toy is ``low = 0, high = 1``: ``mu (1 - mu)^3`` without a baseline.

    Args:
        low: f(0).
        high: f(1).
        mu: probability of a 1, strictly between 0 and 1.
        samples: evaluations K.
        baseline: of "constant", which is left out without one.

    Returns:
        Variance by estimator: reinforce, mean, optimal, constant, leave-one-out, arm, disarm; the last three where
        K is at least 2.

    >>> one_bit(0.0, 1.0, 0.75, 1)["mean"] > one_bit(0.0, 1.0, 0.75, 1)["reinforce"]  # mu > 2/3
    True
    """
    nu, step = 1 - mu, high - low
    spread, best = mu * nu, nu * high + mu * low

    def constant(b: float) -> float:
        return spread * (best - b) ** 2 / samples

    found = {
        "reinforce": constant(0.0),
        "mean": constant(nu * low + mu * high),
        "optimal": constant(best),
    }
    if baseline is not None:
        found["constant"] = constant(baseline)
    if samples >= 2:
        # Leave-one-out is the product's slope times the sample variance of K bits, whose variance is known.
        fourth = spread * (1 - 3 * spread)
        found["leave-one-out"] = step**2 * (
            fourth / samples - spread**2 * (samples - 3) / (samples * (samples - 1))
        )
        pairs, least, most = samples // 2, min(mu, nu), max(mu, nu)
        apart = 2 * least  # Chance that the two bits of a pair differ.
        found["disarm"] = (step * most / 2) ** 2 * apart * (1 - apart) / pairs
        found["arm"] = (step**2 * (1 / 12 - 2 * (0.5 - least) ** 3 / 3) - (spread * step) ** 2) / pairs
    return found


def _of_one(moments: Moments, offset: float, gradient: Tensor) -> Tensor:
    """Var[(h - offset) s] of one sample."""
    second = (
        moments.with_score(2, 2)
        - 2 * offset * moments.with_score(1, 2)
        + offset**2 * moments.with_score(0, 2)
    )
    return second - gradient.square()


def _settled(variance: Tensor, moments: Moments) -> Tensor:
    """Without what rounding leaves of an exact 0."""
    scale = moments.with_score(2, 2) + moments.variance * moments.with_score(0, 2)
    return torch.where(variance > 1e-13 * scale, variance, torch.zeros_like(variance))


def _at_least(samples: int, least: int) -> None:
    if samples < least:
        raise UserError(f"expected at least {least} evaluations an estimate, got {samples}")
