"""The loop: a batch, an estimate, a step; another start where an ascent has ended; until the budget is spent."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from layerlab.estimators.estimation import ESTIMATORS
from layerlab.estimators.estimator import Estimator, Terms
from layerlab.estimators.evaluation.objective import Objective
from layerlab.estimators.families import OUTCOMES, Family
from layerlab.estimators.optimise.fitness import Scale, utilities
from layerlab.estimators.optimise.restarts import Patience, Start, margin, next_start
from layerlab.estimators.optimise.settings import AUTO, Settings
from layerlab.estimators.optimise.steps import Adam, Natural, Step
from layerlab.estimators.recommend import Candidate, recommend
from layerlab.estimators.score import ScoreEstimator

_IDLE = 20  # batches without a new sample, after which what is left is looked at one by one, or the run ends
_CANDIDATES = ("reinforce", "leave-one-out", "optimal")  # can be compared on the very same samples
_USUAL = "leave-one-out"
_TELLING = 8  # samples from which variances are compared
_FINALISTS = 8
_BLOCK = 1024


@dataclass
class Course:
    """What is known at the end of a run.

    Attributes:
        trajectory: ``(evaluations, value)`` whenever the best got better.
        batches: ``(evaluations, mean value, entropy)`` of each batch.
        starts: ``(evaluations, around the best)`` of each restart.
        estimator: its name.
        why: why it was taken.
        stopped: why the run ended.
        exhausted: every sample that there is was evaluated.
    """

    trajectory: list[tuple[int, float]] = field(default_factory=list)
    batches: list[tuple[int, float, float]] = field(default_factory=list)
    starts: list[tuple[int, bool]] = field(default_factory=list)
    estimator: str = ""
    why: str = ""
    stopped: str = ""
    exhausted: bool = False


class Ascent:
    """Climbs E[f] from ``first``.

    All that is drawn in batch t follows from (seed, t) alone, so that a run whose values come from a log takes the same
    course as the one that wrote it.

    Args:
        objective: f, with the budget.
        first: the family at its first parameters.
        settings: with the batch and the rate filled in.
    """

    def __init__(self, objective: Objective, first: Family, settings: Settings) -> None:
        assert settings.batch is not None and settings.rate is not None
        self.objective = objective
        self.first = first
        self.settings = settings
        self.course = Course()
        self.family = first
        self._batch, self._rate = settings.batch, settings.rate
        self._sign = 1.0 if settings.maximise else -1.0
        self._estimator: Estimator | None = None
        if settings.estimator != AUTO:
            self._estimator = ESTIMATORS[settings.estimator]
            self.course.estimator, self.course.why = settings.estimator, "asked for"
        self._count = 0
        self._idle = 0
        self._begin(Start(first))

    def run(self, tell: Callable[[int, float], None] | None = None) -> None:
        """Climb until the budget is spent or there is nothing left to find.

        Args:
            tell: is called after every batch with the evaluations so far and the best value.
        """
        while not self.course.stopped:
            least = self._estimator.least_samples if self._estimator is not None else 2
            left = self.objective.remaining - self._reserve()
            if left < least:
                self._finish(left)
                self.course.stopped = self.course.stopped or "the budget is spent"
            else:
                self._step(int(min(self._batch * self._slower, left)))
            best = self._note()
            if tell is not None and best is not None:
                tell(self.objective.evaluations, best)

    def _begin(self, start: Start) -> None:
        self.family = start.family
        self._slower = start.slower
        self._from = self.objective.evaluations
        self._scale = Scale()
        self._patience = Patience(self.first)
        self._steps = self._step_of(start)

    def _step_of(self, start: Start) -> Step:
        rate = self._rate / start.slower
        if not self.settings.natural:
            return Adam(rate)
        spread = 0.0
        if self.first.kind == "gaussian":
            dimensions = self.first.parameters.shape[-1]
            spread = (3 + math.log(dimensions)) / (5 * math.sqrt(dimensions)) / start.slower
        return Natural(rate, spread, margin(self.first))

    def _step(self, size: int) -> None:
        """One batch of ``size`` samples and the step that follows from it."""
        before = self.objective.evaluations
        self._count += 1
        terms = self._terms(size, self._generator(self._count))
        gradient = terms.gradient
        if self.settings.entropy:
            gradient = gradient + self.settings.entropy * self.family.entropy_gradient()
        entropy = float(self.family.entropy())
        self.family = self._steps(self.family, gradient)
        self._idle = 0 if self.objective.evaluations > before else self._idle + 1
        self.course.batches.append((self.objective.evaluations, self._seen, entropy))
        if self._idle >= _IDLE and self._ended():
            return
        if self.settings.restarts and self._patience.is_over(self.family, size):
            self._restart()

    def _terms(self, size: int, generator: torch.Generator) -> Terms:
        if self._estimator is None:
            samples = self.family.sample(size, generator)
            values = self._values(samples)
            self._estimator = self._chosen(samples, values)
            assert isinstance(self._estimator, ScoreEstimator)
            return self._estimator.from_samples(self.family, samples, self._fitness(values))
        return self._estimator.terms(lambda x: self._fitness(self._values(x)), self.family, size, generator)

    def _values(self, samples: Tensor) -> Tensor:
        """What is to grow, at the samples."""
        values = self.objective(samples)
        self._seen = float(values.mean())
        values = self._sign * values
        self._patience.note(values)
        return values

    def _fitness(self, values: Tensor) -> Tensor:
        return utilities(values) if self.settings.fitness == "rank" else self._scale(values)

    def _chosen(self, samples: Tensor, values: Tensor) -> Estimator:
        """The estimator of least variance on the first batch."""
        candidates = []
        for name in _CANDIDATES:
            estimator = ESTIMATORS[name]
            assert isinstance(estimator, ScoreEstimator)
            error = estimator.from_samples(self.family, samples, values).standard_error()
            variance = float(error.square().sum())
            if math.isfinite(variance):
                candidates.append(Candidate(name, variance, variance, variance))
        told = len(values) >= _TELLING and len(candidates) == len(_CANDIDATES)
        if not told or all(candidate.variance == 0 for candidate in candidates):
            self.course.estimator, self.course.why = _USUAL, "the first batch does not tell estimators apart"
        else:
            found = recommend(candidates, len(values))
            self.course.estimator, self.course.why = found.name, f"on the first batch {found.reason}"
        return ESTIMATORS[self.course.estimator]

    def _restart(self) -> None:
        best = self.objective.best()
        if best is None:
            return
        taken = self.objective.evaluations - self._from
        enough = self.objective.remaining >= 2 * taken
        number = len(self.course.starts) + 1
        start = next_start(self.first, self.objective.sample(best[0]), number, self.settings.seed, enough)
        self.course.starts.append((self.objective.evaluations, start.around))
        self._begin(start)

    def _generator(self, count: int) -> torch.Generator:
        words = np.random.SeedSequence((self.settings.seed, 0, count)).generate_state(1, np.uint64)
        return torch.Generator().manual_seed(int(words[0]) >> 1)

    def _note(self) -> float | None:
        """Write the best into the trajectory, if it is new."""
        best = self.objective.best()
        if best is None:
            return None
        value = best[1]
        trajectory = self.course.trajectory
        if not trajectory or self._sign * (value - trajectory[-1][1]) > 0:
            trajectory.append((self.objective.evaluations, value))
        return value

    def _reserve(self) -> int:
        """What is kept to evaluate the best samples of a noisy f again: one lucky value proves nothing."""
        if self.objective.deterministic:
            return 0
        return min(self.settings.budget // 10, 16 * _FINALISTS)

    def _finish(self, left: float) -> None:
        """Spend the rest: too little for an estimate, or kept for the best samples of a noisy f."""
        if left >= 1:
            self._count += 1
            self._values(self.family.sample(int(left), self._generator(self._count)))
        if self.objective.deterministic or not self._reserve():
            return
        finalists = self.objective.memory.leaders(_FINALISTS)
        samples = torch.stack([self.objective.sample(key) for key in finalists])
        while self.objective.remaining >= len(samples):
            self.objective(samples)
        self.objective.memory.settle(finalists)

    def _ended(self) -> bool:
        """Nothing new was asked for in many batches: look at what is left one by one, if that can be."""
        # More than were paid for and can still be paid for are not all looked at.
        outcomes = (
            self.first.outcomes(min(OUTCOMES, self.settings.budget)) if self.objective.deterministic else None
        )
        if outcomes is not None:
            keys = self.objective.keys(outcomes)
            new = [row for row, key in enumerate(keys) if not self.objective.memory.knows(key)]
            if len(new) <= self.objective.remaining:
                for start in range(0, len(new), _BLOCK):
                    self._values(outcomes[new[start : start + _BLOCK]])
                self.course.exhausted = True
                self.course.stopped = "every sample that there is was evaluated"
                return True
        if not self.settings.restarts:
            self.course.stopped = f"the distribution has collapsed: nothing new in {_IDLE} batches"
            return True
        self._idle = 0
        self._restart()
        return False


def summary_of(settings: Settings, course: Course) -> dict[str, Any]:
    """The estimator in words and figures."""
    estimator = ESTIMATORS[course.estimator]
    return {
        "name": course.estimator,
        "title": estimator.title,
        "biased": estimator.biased or settings.fitness == "rank",
        "why": course.why,
        "fitness": settings.fitness,
        "natural": settings.natural,
    }
