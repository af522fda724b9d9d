"""What every estimator of a gradient of E[f(x)] is: a name, what it needs, and terms whose mean is the estimate."""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from layerlab.errors import UserError
from layerlab.estimators.families import Family
from layerlab.estimators.values import Function

EVERY_KIND = ("bernoulli", "categorical", "gaussian", "other")


@dataclass(frozen=True)
class Terms:
    """What an estimator measured.

    Attributes:
        terms: ``(m, *parameters.shape)``; their mean is the estimate.
        values: ``(n, *batch)`` float64, every value of f that was paid for.
        samples: ``(n, *batch, *event)``, where f was evaluated.
        independent: the terms are independent of each other.
        error: how to compute the standard error where the terms alone do not tell it.
    """

    terms: Tensor
    values: Tensor
    samples: Tensor
    independent: bool
    error: Callable[[], Tensor] | None = None

    @property
    def gradient(self) -> Tensor:
        """The estimate, in the shape of the parameters."""
        return self.terms.mean(0)

    def standard_error(self) -> Tensor:
        """Standard error of each coordinate of the estimate; NaN where there are too few terms to tell.

        Independent terms: their standard deviation divided by the root of their number; its square is unbiased.
        Leave-one-out (a U-statistic): the jackknife, whose square is never below the variance on average (Efron and
        Stein 1981). Other dependent terms (a baseline or coefficient fitted on the other samples): as if they were
        independent, which is right up to a share of the order of 1/m.
        """
        if self.error is not None:
            return self.error()
        m = len(self.terms)
        if m < 2:
            return torch.full_like(self.terms[0], torch.nan)
        return self.terms.std(0) / m**0.5


@dataclass(frozen=True)
class Estimator(ABC):
    """An estimator of ``d E[f(x)] / d parameters``. Frozen: its options are its fields.

    Attributes:
        name: under which it is registered.
        title: how it is called in a table.
        kinds: of the families that it serves.
        differentiable: it needs the derivative of f.
        cost: evaluations of f for each draw.
        needs: options that have no default.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    kinds: ClassVar[tuple[str, ...]] = EVERY_KIND
    differentiable: ClassVar[bool] = False
    cost: ClassVar[int] = 1
    needs: ClassVar[tuple[str, ...]] = ()

    @property
    def biased(self) -> bool:
        """Its expectation is not the gradient, for some f."""
        return False

    @property
    def least_samples(self) -> int:
        """Evaluations of f below which there is no estimate."""
        return self.cost

    def covers(self, family: Family) -> Tensor:
        """Which coordinates it estimates, bool, in the shape of the parameters; the others stay 0."""
        return torch.ones_like(family.parameters, dtype=torch.bool)

    def refusal(self, family: Family) -> str | None:
        """Why it does not serve this family; None if it does."""
        if family.kind not in self.kinds:
            return f"{self.name} serves {' and '.join(self.kinds)} parameters, not {family.kind} ones"
        return None

    def terms(self, f: Function, family: Family, samples: int, generator: torch.Generator) -> Terms:
        """Draw, evaluate f, and form the terms of an estimate.

        Args:
            f: takes a batch of samples, returns one number for each; see `layerlab.estimators.values.evaluated`.
            family: the distribution.
            samples: evaluations of f that may be spent; an estimator with `cost` c makes ``samples // c`` draws.
            generator: the only source of randomness.

        Raises:
            UserError: too few samples, a family that it does not serve, options missing, or f fails.
        """
        reason = self.refusal(family)
        if reason is not None:
            raise UserError(reason)
        for option in self.needs:
            if getattr(self, option) is None:
                raise UserError(f"{self.name} needs the option {option}=...")
        samples = count_of(samples)
        if samples < self.least_samples:
            raise UserError(
                f"{self.name} needs at least {self.least_samples} samples (evaluations of f), got {samples}"
            )
        return self._terms(f, family, samples, generator)

    @abstractmethod
    def _terms(self, f: Function, family: Family, samples: int, generator: torch.Generator) -> Terms:
        """`terms`, of arguments that have been checked."""


def count_of(samples: Any) -> int:
    """A number of samples as an int.

    >>> count_of(3.5)
    Traceback (most recent call last):
    layerlab.errors.UserError: expected a whole number of samples, got 3.5
    """
    if isinstance(samples, bool) or not hasattr(samples, "__index__"):
        raise UserError(f"expected a whole number of samples, got {samples!r}")
    return operator.index(samples)
