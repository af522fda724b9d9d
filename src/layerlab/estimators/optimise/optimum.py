"""What came out of an optimisation."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from layerlab.estimators.evaluation.objective import Objective
from layerlab.estimators.families import Family
from layerlab.estimators.optimise.ascent import Course, summary_of
from layerlab.estimators.optimise.settings import Settings

INTERRUPTED = "interrupted"


@dataclass(frozen=True, eq=False)
class Optimum:
    """The best sample that was found, and how.

    Attributes:
        sample: the best sample, a list of numbers.
        value: f there; of a noisy f the mean of its values there.
        values: how many values that is the mean of.
        evaluations: what was paid for, in all.
        family: the distribution at the end.
        settings: with everything filled in.
        course: how it went.
        counts: evaluations of f in this process, samples answered from memory, failures counted as the worst value.
        deterministic: whether f gave the same value for the same sample, as far as was seen.
        remarks: what a person should be told.
        seconds: of wall time, those of an earlier part that was resumed not included.
    """

    sample: list[float] | list[int]
    value: float
    values: int
    evaluations: int
    family: Family
    settings: Settings
    course: Course
    counts: dict[str, int]
    deterministic: bool
    remarks: tuple[str, ...]
    seconds: float

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended it."""
        return self.course.stopped == INTERRUPTED

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it. Two runs that took the same course differ in ``seconds`` and ``counts`` only."""
        settings = asdict(self.settings)
        return {
            "best": {"sample": self.sample, "value": self.value, "values": self.values},
            "evaluations": self.evaluations,
            "stopped": self.course.stopped,
            "exhausted": self.course.exhausted,
            "deterministic": self.deterministic,
            "estimator": summary_of(self.settings, self.course),
            "settings": settings,
            "trajectory": [list(point) for point in self.course.trajectory],
            "batches": [list(batch) for batch in self.course.batches],
            "restarts": [{"evaluations": at, "around_best": around} for at, around in self.course.starts],
            "parameters": _parameters(self.family),
            "remarks": list(self.remarks),
            "counts": self.counts,
            "seconds": self.seconds,
        }


def optimum_of(
    objective: Objective, family: Family, settings: Settings, course: Course, seconds: float
) -> Optimum | None:
    """The optimum so far; None before there is a value."""
    best = objective.best()
    if best is None:
        return None
    key, value = best
    return Optimum(
        sample=[
            int(x) if float(x).is_integer() and family.kind != "gaussian" else x
            for x in objective.sample(key).tolist()
        ],
        value=value,
        values=objective.memory.values[key][1],
        evaluations=objective.evaluations,
        family=family,
        settings=settings,
        course=course,
        counts={"called": objective.called, "repeats": objective.repeats, "failed": objective.failed},
        deterministic=objective.deterministic,
        remarks=tuple(objective.remarks),
        seconds=seconds,
    )


def _parameters(family: Family) -> dict[str, Any]:
    values = family.parameters.tolist()
    return {"mean": values[0], "log_std": values[1]} if family.kind == "gaussian" else {"logits": values}
