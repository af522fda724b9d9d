"""When an ascent has come to its end, and where the next one begins."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from layerlab.estimators.families import Bernoulli, Categorical, Family, Gaussian
from layerlab.estimators.optimise.steps import at_probabilities

_FRESH_EVERY = 4
_WIDTHS = (0.05, 0.1, 0.2, 0.3)  # chances that a variable leaves the best sample's value
_COLLAPSED = 0.93  # of the way from a uniform distribution to one at its margin
_SMALLEST = 1e-9  # a standard deviation, relative to the start


@dataclass(frozen=True)
class Start:
    """Where an ascent begins.

    Attributes:
        family: with its parameters.
        slower: how many times smaller the steps and larger the batches are than usual.
        around: it is centred on the best sample so far; else where the first ascent began.
    """

    family: Family
    slower: float = 1.0
    around: bool = False


class Patience:
    """Notices that an ascent has ended: its distribution has collapsed, or nothing gets better any more."""

    def __init__(self, start: Family) -> None:
        self.start = start
        self.best = -math.inf
        self.stalled = 0
        """Samples since the best of this ascent."""

    def note(self, values: Tensor) -> None:
        """Take in the values of a batch; larger is better."""
        largest = float(values.max())
        if largest > self.best:
            self.best, self.stalled = largest, 0
        else:
            self.stalled += len(values)

    def is_over(self, family: Family, batch: int) -> bool:
        """Whether it is time for another start."""
        if isinstance(family, Gaussian):
            assert isinstance(self.start, Gaussian)
            shrunk = float((family.log_std - self.start.log_std).max()) < math.log(_SMALLEST)
            return shrunk or self.stalled > batch * (30 + 10 * math.sqrt(family.mean.shape[-1]))
        size = family.parameters.shape[0]
        if self.stalled > 20 * size:
            return True
        return self.stalled > 2 * size and concentration(family) > _COLLAPSED


def concentration(family: Family) -> float:
    """How far a discrete distribution is from uniform (0) to what `margin` lets it become (1).

    >>> concentration(Bernoulli([0.0, 0.0]))
    0.0
    """
    assert isinstance(family, Bernoulli | Categorical)
    p = family.probabilities
    if isinstance(family, Bernoulli):
        p = torch.stack([p, 1 - p], -1)
    k = p.shape[-1]
    most = 1 - (k - 1) * margin(family)
    return float((p.amax(-1).mean() - 1 / k) / (most - 1 / k))


def margin(family: Family) -> float:
    """The least probability of a value of a discrete distribution.

    So much that of a collapsed one's samples one variable (of bits: half a one) differs, on average: it still looks
    around. The figures of this module were chosen by trials, see docs/estimators.md.
    """
    if isinstance(family, Gaussian):
        return 0.0
    size = family.parameters.shape[0]
    if isinstance(family, Bernoulli):
        return min(0.5 / size, 0.25)
    k = family.parameters.shape[-1]
    return min(1 / (size * (k - 1)), 0.5 / k)


def next_start(first: Family, best: Tensor, number: int, seed: int, enough: bool) -> Start:
    """Where ascent ``number`` (1 for the first restart) begins.

    Most begin around the best sample so far, at a width drawn anew; every fourth where the first one began, with
    smaller steps and larger batches each time, if what is left of the budget is enough for it.

    Args:
        first: where the first ascent began.
        best: the best sample so far.
        number: of the ascent.
        seed: of the run.
        enough: as many evaluations are left as an ascent takes.
    """
    draw = np.random.default_rng((seed, 1, number))
    if isinstance(first, Gaussian):
        slower = 2.0 ** min((number + 1) // 2, 5)
        if number % 2 and enough:
            return Start(first, slower)
        return Start(Gaussian(best, first.log_std - math.log(4)), slower / 2, around=True)
    if number % _FRESH_EVERY == 0 and enough:
        return Start(first, 2.0 ** min(6, number / (2 * _FRESH_EVERY)))
    width = float(draw.choice(_WIDTHS))
    assert isinstance(first, Bernoulli | Categorical)
    if isinstance(first, Bernoulli):
        return Start(at_probabilities(first, best * (1 - 2 * width) + width, margin(first)), around=True)
    k = first.parameters.shape[-1]
    hot = functional.one_hot(best, k).to(first.parameters.dtype)
    others = width / (k - 1)
    return Start(at_probabilities(first, hot * (1 - width - others) + others, margin(first)), around=True)
