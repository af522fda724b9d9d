"""What an optimisation is asked for, and what stands where nothing is said."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from layerlab.errors import UserError
from layerlab.estimators.estimation import with_options
from layerlab.estimators.families import Family
from layerlab.estimators.optimise.fitness import Fitness

AUTO = "auto"


@dataclass(frozen=True)
class Settings:
    """What the course of an optimisation depends on.

    Args:
        budget: evaluations of f that may be paid for.
        maximise: look for large values; else for small ones.
        estimator: a name of `layerlab.estimators.ESTIMATORS`, or "auto": the one of least variance on the first batch.
        natural: follow the natural gradient; else the plain one with Adam.
        fitness: "rank" shows the estimator rank utilities (biased: a monotone change of f changes nothing), "value" the
            values in units of the spread of earlier batches (unbiased).
        entropy: weight of the distribution's entropy beside the fitness.
        restarts: begin anew where the distribution has collapsed or nothing gets better.
        batch: evaluations a step; None takes one by dimension and budget.
        rate: learning rate; None takes one by dimension and batch.
        seed: of all that is drawn.
    """

    budget: int = 10_000
    maximise: bool = True
    estimator: str = AUTO
    natural: bool = True
    fitness: Fitness = "rank"
    entropy: float = 0.0
    restarts: bool = True
    batch: int | None = None
    rate: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.budget < 1:
            raise UserError(f"expected a budget of at least 1 evaluation, got {self.budget}; give more")
        if self.estimator != AUTO:
            with_options(self.estimator)
        if self.fitness not in ("rank", "value"):
            raise UserError(f"expected the fitness 'rank' or 'value', got {self.fitness!r}")
        if not (self.entropy >= 0 and math.isfinite(self.entropy)):
            raise UserError(f"expected a weight of the entropy of at least 0, got {self.entropy:g}")
        if self.batch is not None and self.batch < 2:
            raise UserError(f"expected a batch of at least 2 evaluations, got {self.batch}")
        if self.rate is not None and not (self.rate > 0 and math.isfinite(self.rate)):
            raise UserError(f"expected a learning rate above 0, got {self.rate:g}")
        if not 0 <= self.seed < 2**63:
            raise UserError(f"expected a seed from 0 to 2^63 - 1, got {self.seed}")

    def filled(self, start: Family) -> Settings:
        """The same, with the batch and the rate that are taken where none is given.

        Raises:
            UserError: the budget is smaller than what one estimate needs.
        """
        least = 2 if self.estimator == AUTO else max(2, with_options(self.estimator).least_samples)
        if self.budget < least:
            raise UserError(
                f"expected a budget of at least {least} evaluations, which one estimate of a gradient needs, got "
                f"{self.budget}; give more"
            )
        batch = self.batch if self.batch is not None else _batch(start, self.budget)
        batch = max(least, min(batch, self.budget))
        return replace(
            self, batch=batch, rate=self.rate if self.rate is not None else _rate(start, batch, self.natural)
        )


def _batch(start: Family, budget: int) -> int:
    """Large enough for ranks to mean something, small enough for some dozens of steps."""
    usual = 32
    if start.kind == "gaussian":
        dimensions = start.parameters.shape[-1]
        # What is customary for evolution strategies; twice that where there are steps enough, against ruggedness.
        usual = (4 + int(3 * math.log(dimensions))) * (2 if budget >= 300 * dimensions else 1)
    return max(8, min(usual, budget // 20)) // 2 * 2


def _rate(start: Family, batch: int, natural: bool) -> float:
    if not natural:
        return 0.05
    if start.kind == "gaussian":
        return 1.0
    # The noise of a step grows with its rate and shrinks with the batch: what drifts by chance is lost.
    return min(0.2, batch / 160)
