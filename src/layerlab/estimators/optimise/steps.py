"""One step of the parameters up an estimated gradient: natural, or plain with Adam."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from layerlab.estimators.families import Bernoulli, Categorical, Family, Gaussian

_LOGIT = 30.0  # beyond it a probability reaches 0 or 1 in floating point
_LOG_STD = 80.0
_FURTHEST = 5.0  # standard deviations that a mean may move in a step


class Step(Protocol):
    """Moves the parameters of a family."""

    def __call__(self, family: Family, gradient: Tensor) -> Family:
        """The family after a step along ``gradient`` (of what is to grow, in the parameters)."""


class Natural:
    """A step along the natural gradient, in the parameters in which it cannot leave the family.

    Of probabilities p = sigmoid(logits) or softmax(logits), the natural gradient is the plain gradient in the logits:
    ``p += rate * gradient``. They are kept within a margin, so that every value stays possible. Of a Gaussian
    ``mean += rate * std^2 * gradient`` and ``log std += spread_rate / 2 * gradient``.

    Args:
        rate: of probabilities or means.
        spread_rate: of log standard deviations.
        margin: least probability of a value.

    References: Amari, Natural gradient works efficiently in learning, Neural Computation 10 (1998); Ollivier et al.,
    Information-geometric optimization algorithms, JMLR 18 (2017).
    """

    def __init__(self, rate: float, spread_rate: float, margin: float) -> None:
        self.rate = rate
        self.spread_rate = spread_rate
        self.margin = margin

    def __call__(self, family: Family, gradient: Tensor) -> Family:
        if isinstance(family, Gaussian):
            mean, log_std = family.natural(gradient)
            # One value far beyond all others must not throw the distribution out of the world.
            far = _FURTHEST * family.std
            mean = (self.rate * mean).clamp(-far, far)
            log_std = (self.spread_rate * log_std).clamp(-1.0, 1.0)
            return _within(family, family.parameters + torch.stack([mean, log_std]))
        assert isinstance(family, Bernoulli | Categorical)
        return at_probabilities(family, family.probabilities + self.rate * gradient, self.margin)


def at_probabilities(family: Bernoulli | Categorical, probabilities: Tensor, margin: float) -> Family:
    """The family at other probabilities, brought within the margin.

    >>> family = at_probabilities(Bernoulli([0.0, 0.0]), torch.tensor([0.3, 1.5], dtype=torch.float64), 0.1)
    >>> [round(p, 6) for p in family.probabilities.tolist()]
    [0.3, 0.9]
    """
    if isinstance(family, Bernoulli):
        return family.replaced(probabilities.clamp(margin, 1 - margin).logit())
    # Those at the margin keep it; what is above it shares the rest.
    above = (probabilities - margin).clamp_min(0)
    k = probabilities.shape[-1]
    share = above / above.sum(-1, keepdim=True).clamp_min(torch.finfo(above.dtype).tiny)
    return family.replaced((margin + (1 - k * margin) * share).log())


class Adam:
    """A step along the plain gradient, each coordinate on its own scale.

    Args:
        rate: about the length of a step of one coordinate.

    Reference: Kingma and Ba, Adam: a method for stochastic optimization, ICLR 2015.
    """

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._count = 0
        self._mean: Tensor | None = None
        self._square: Tensor | None = None

    def __call__(self, family: Family, gradient: Tensor) -> Family:
        self._count += 1
        mean = torch.zeros_like(gradient) if self._mean is None else self._mean
        square = torch.zeros_like(gradient) if self._square is None else self._square
        self._mean = 0.9 * mean + 0.1 * gradient
        self._square = 0.999 * square + 0.001 * gradient.square()
        scale = (self._square / (1 - 0.999**self._count)).sqrt() + 1e-12
        moved = self._mean / (1 - 0.9**self._count) / scale
        return _within(family, family.parameters + self.rate * moved)


def _within(family: Family, parameters: Tensor) -> Family:
    """The family at ``parameters``, kept where they are numbers that a distribution can have."""
    if isinstance(family, Gaussian):
        mean, log_std = parameters
        return Gaussian(mean, log_std.clamp(-_LOG_STD, _LOG_STD))
    return family.replaced(parameters.clamp(-_LOGIT, _LOGIT))
