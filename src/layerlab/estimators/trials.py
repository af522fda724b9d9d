"""Estimators run many times on one function: their variance with an interval, where no formula gives it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from layerlab.errors import UserError
from layerlab.estimators.enumeration import Progress
from layerlab.estimators.estimator import Estimator
from layerlab.estimators.families import Bernoulli, Categorical, Family, Gaussian
from layerlab.lab import statistics

# Numbers in the scores of one chunk of repetitions: 16 MB.
_CHUNK = 1 << 21


class Callee(Protocol):
    """What `run` needs of a function; see `layerlab.estimators.calls.Calls`."""

    def __call__(self, samples: Tensor) -> Tensor:
        """``(n, *batch, *event)`` to ``(n, *batch)``."""

    def forget(self) -> None:
        """Drop remembered values."""


@dataclass(frozen=True, eq=False)
class Trials:
    """Repetitions of one estimate.

    Attributes:
        estimates: ``(R, *parameters)`` float64, independent of each other.
        covered: which coordinates the estimator estimates, bool, of the shape of the parameters.
    """

    estimates: Tensor
    covered: Tensor

    @cached_property
    def squares(self) -> Tensor:
        """``(R,)``: squared distances from the mean over covered coordinates, scaled so that their own mean is the
        unbiased estimate of the trace of the variance."""
        return self.squares_over(self.covered)

    def squares_over(self, coordinates: Tensor) -> Tensor:
        """`squares` over the coordinates that are True."""
        kept = self.estimates[:, coordinates]
        count = len(kept)
        return (kept - kept.mean(0)).square().sum(-1) * (count / (count - 1))

    @cached_property
    def variance(self) -> statistics.Estimate:
        """Trace of the variance with Student's 95 % interval, taken from the spread of `squares`."""
        return statistics.estimate(self.squares.tolist())

    def coordinate_variance(self) -> Tensor:
        """Variance of each coordinate, of the shape of the parameters."""
        return self.estimates.var(0)


def rows_of(family: Family, count: int) -> Family:
    """``count`` copies of one distribution as a batch.

    >>> rows_of(Bernoulli([0.0, 1.0]), 3).parameters.shape
    torch.Size([3, 2])
    """
    parameters = family.parameters.expand(count, *family.parameters.shape)
    if isinstance(family, Bernoulli):
        return Bernoulli(parameters)
    if isinstance(family, Categorical):
        return Categorical(parameters, family.one_hot)
    if isinstance(family, Gaussian):
        return Gaussian(parameters[:, 0], parameters[:, 1])
    raise UserError(f"expected bits, categories or a Gaussian, got {family.kind} parameters")


def run(
    estimators: Sequence[Estimator],
    f: Callee,
    family: Family,
    samples: int,
    repetitions: int,
    seed: int,
    progress: Progress | None = None,
) -> list[Trials]:
    """Repeat every estimator; those that draw the same numbers get the same samples, and f is called once for them.

    Args:
        estimators: to run; each serves the family.
        f: see `Callee`.
        family: one distribution.
        samples: evaluations an estimate.
        repetitions: R, at least 2, fixed beforehand.
        seed: of the draws.
        progress: told after every chunk of repetitions.

    Returns:
        One for each estimator.

    Raises:
        UserError: as `Estimator.terms`.
    """
    if repetitions < 2:
        raise UserError(f"expected at least 2 repetitions to see a variance, got {repetitions}")
    size = max(1, min(repetitions, _CHUNK // (samples * family.parameters.numel())))
    found: list[list[Tensor]] = [[] for _ in estimators]
    for start in range(0, repetitions, size):
        count = min(size, repetitions - start)
        rows = rows_of(family, count)
        # A torch generator looks at 32 bits of its seed.
        mixed = int(np.random.SeedSequence((seed, start)).generate_state(1)[0])
        for position, estimator in enumerate(estimators):
            generator = torch.Generator().manual_seed(mixed)
            found[position].append(estimator.terms(f, rows, samples, generator).gradient.double())
        f.forget()
        if progress is not None:
            progress((start + count) / repetitions, f"{start + count:,} of {repetitions:,} repetitions")
    return [
        Trials(torch.cat(parts), estimator.covers(family))
        for parts, estimator in zip(found, estimators, strict=True)
    ]
