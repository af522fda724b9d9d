"""`estimate`: one interface to every estimator, and what an estimate tells about itself."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from layerlab.errors import UserError
from layerlab.estimators.derivative import Pathwise, StraightThrough
from layerlab.estimators.distributions import family_of
from layerlab.estimators.estimator import Estimator, Terms
from layerlab.estimators.pairs import Antithetic, Arm, DisArm, Evolution
from layerlab.estimators.relaxed import GumbelSoftmax, Rebar, Relax
from layerlab.estimators.score import (
    Constant,
    InputBaseline,
    LeaveOneOut,
    MeanBaseline,
    OptimalBaseline,
    Reinforce,
)
from layerlab.estimators.values import Function, Meter, all_finite

ESTIMATORS: dict[str, Estimator] = {
    one.name: one
    for one in (
        Reinforce(),
        Constant(),
        MeanBaseline(),
        OptimalBaseline(),
        InputBaseline(),
        LeaveOneOut(),
        Arm(),
        DisArm(),
        Antithetic(),
        Evolution(),
        Rebar(),
        Relax(),
        StraightThrough(),
        GumbelSoftmax(),
        Pathwise(),
    )
}
"""Every estimator with its default options, by name."""


@dataclass(frozen=True)
class Diagnostics:
    """What an estimate tells about itself.

    Attributes:
        estimator: with its options.
        evaluations: of f, each a sample (of the whole batch, where there is a batch).
        samples: ``(n, *batch, *event)``, where f was evaluated.
        values: ``(n, *batch)`` float64, f there.
        f_seconds: wall time inside f.
        overhead_seconds: wall time of everything else.
        terms: what the estimate is the mean of.
    """

    estimator: Estimator
    evaluations: int
    samples: Tensor
    values: Tensor
    f_seconds: float
    overhead_seconds: float
    terms: Terms

    @cached_property
    def mean(self) -> Tensor:
        """The mean of f over the samples, ``(*batch)``: an estimate of E[f(x)]."""
        return self.values.mean(0)

    @cached_property
    def standard_error(self) -> Tensor:
        """Standard error of each coordinate of the gradient; see `Terms.standard_error`."""
        return self.terms.standard_error()

    @cached_property
    def signal_to_noise(self) -> float:
        """The length of the gradient divided by that of its standard errors; NaN where they are not known."""
        gradient = self.terms.gradient.to(torch.float64)
        noise = self.standard_error.to(torch.float64)
        return float(gradient.norm() / noise.norm())

    @cached_property
    def best_value(self) -> Tensor:
        """The largest value of f that was met, ``(*batch)``."""
        return self.values.amax(0)

    @cached_property
    def best_sample(self) -> Tensor:
        """A sample that has the largest value, ``(*batch, *event)``."""
        at = self.values.argmax(0)
        index = at[(..., *[None] * (self.samples.ndim - self.values.ndim))]
        return self.samples.take_along_dim(index[None], 0)[0]


class Estimate(NamedTuple):
    """The estimated gradient, in the shape and dtype of the parameters, and what it tells about itself."""

    gradient: Tensor
    diagnostics: Diagnostics


def estimate(
    f: Function,
    distribution: Any,
    samples: int,
    generator: torch.Generator,
    estimator: str | Estimator = "leave-one-out",
    **options: Any,
) -> Estimate:
    """An estimate of the gradient of ``E[f(x)]`` with respect to the parameters of the distribution of x.

    The gradient points upwards: add it to the parameters to raise E[f]. A network that made the logits gets its own by
    ``logits.backward(-gradient)``, where an optimiser descends.

    Args:
        f: any function that takes samples ``(n, *batch, *event)`` and returns ``(n, *batch)`` finite numbers, as a
            tensor, numpy array or list. Called without recording gradients, unless the estimator needs its derivative.
        distribution: a `Family` (Bernoulli, Categorical, Gaussian) or a torch distribution; see `family_of`.
        samples: evaluations of f that may be spent, so that estimators compare at equal cost.
        generator: the only source of randomness.
        estimator: a name in `ESTIMATORS`, or an estimator.
        **options: of the estimator, such as ``baseline=`` of "constant" or ``normalise=`` of "leave-one-out".

    Returns:
        ``(gradient, diagnostics)``.

    Raises:
        UserError: f raises (with file and line), returns NaN, infinity or another shape; too few samples; a family or
            an option that the estimator does not know; a gradient that overflows its dtype.

    >>> from layerlab.estimators import Bernoulli
    >>> count_ones = lambda x: x.sum(-1)  # E = mu_1 + mu_2, so the gradient is mu (1 - mu): 0.25 and 0.1966
    >>> gradient, diagnostics = estimate(count_ones, Bernoulli([0.0, 1.0]), 10000, torch.Generator().manual_seed(0))
    >>> [round(g, 2) for g in gradient.tolist()], [round(e, 3) for e in diagnostics.standard_error.tolist()]
    ([0.25, 0.2], [0.002, 0.003])
    >>> diagnostics.evaluations, diagnostics.best_sample.tolist()
    (10000, [1.0, 1.0])
    """
    start = time.perf_counter()
    chosen = with_options(estimator, **options)
    family = family_of(distribution)
    meter = Meter(f)
    terms = chosen.terms(meter, family, samples, generator)
    gradient = terms.gradient
    if not all_finite(gradient):
        raise UserError(
            f"the estimated gradient overflows {gradient.dtype}: f reaches {float(terms.values.abs().amax()):g}; "
            "scale f down, or use float64 parameters"
        )
    overhead = time.perf_counter() - start - meter.seconds
    return Estimate(
        gradient,
        Diagnostics(
            estimator=chosen,
            evaluations=meter.evaluations,
            samples=terms.samples,
            values=terms.values,
            f_seconds=meter.seconds,
            overhead_seconds=overhead,
            terms=terms,
        ),
    )


def with_options(estimator: str | Estimator, **options: Any) -> Estimator:
    """The estimator of that name, with these options.

    Raises:
        UserError: there is no such estimator or option; what there is, is named.

    >>> with_options("leave-one-out", normalise=True)
    LeaveOneOut(normalise=True)
    >>> with_options("reinforce", baseline=1.0)
    Traceback (most recent call last):
    layerlab.errors.UserError: reinforce has no option 'baseline'; it has none
    """
    if isinstance(estimator, str):
        if estimator not in ESTIMATORS:
            raise UserError(f"there is no estimator {estimator!r}; there are {', '.join(ESTIMATORS)}")
        estimator = ESTIMATORS[estimator]
    if not isinstance(estimator, Estimator):
        raise UserError(f"expected the name of an estimator or an estimator, got {estimator!r}")
    known = [field.name for field in dataclasses.fields(estimator)]
    for name in options:
        if name not in known:
            raise UserError(
                f"{estimator.name} has no option {name!r}; it has {', '.join(known) if known else 'none'}"
            )
    return dataclasses.replace(estimator, **options) if options else estimator
