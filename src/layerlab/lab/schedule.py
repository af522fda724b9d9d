"""How long to train, and which epoch to keep."""

from __future__ import annotations

import math
from dataclasses import dataclass

from layerlab.errors import UserError
from layerlab.lab.checkpoint import Progress


@dataclass(frozen=True)
class Schedule:
    """How long to train and which epoch to keep.

    Args:
        epochs: at most this many.
        monitor: metric that decides which epoch is best: names that end in ``loss`` are minimised, others
            maximised. Ties go to the earlier epoch; NaN is never better. None keeps the last epoch.
        tie_break: metric that decides between epochs that tie on the monitor. An accuracy on 500 nodes has 501
            values, so ties are common, and the first of them is often an epoch of luck.
        patience: stop when none of the ``watch`` metrics has reached a new best for this many epochs; None never
            stops.
        watch: metrics that reset the patience; the monitor alone when empty.
    """

    epochs: int
    monitor: str | None = None
    patience: int | None = None
    watch: tuple[str, ...] = ()
    tie_break: str | None = None

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise UserError(f"expected epochs >= 1, got {self.epochs}")
        if self.patience is not None and self.patience < 1:
            raise UserError(f"expected patience >= 1, got {self.patience}")
        if self.patience is not None and self.monitor is None:
            raise UserError("patience needs a monitor: name the metric that has to improve")
        if self.tie_break is not None and self.monitor is None:
            raise UserError("tie_break needs a monitor: name the metric that decides first")


def judge(schedule: Schedule, state: Progress, metrics: dict[str, float]) -> bool:
    """Update the records and the patience; whether this epoch is the one to keep so far."""
    if schedule.monitor is None:
        return True
    watched = schedule.watch or (schedule.monitor,)
    improved: set[str] = set()
    named = (schedule.monitor, *watched, schedule.tie_break)
    for name in dict.fromkeys(name for name in named if name is not None):
        if name not in metrics:
            raise UserError(f"the monitored metric {name!r} is not among {sorted(metrics)}")
        if _better(name, metrics[name], state.records.get(name)):
            state.records[name] = metrics[name]
            improved.add(name)
    state.waited = 0 if improved & set(watched) else state.waited + 1
    if schedule.monitor in improved or state.best_epoch == 0:
        return True
    if schedule.tie_break is None:
        return False
    kept = state.history[state.best_epoch - 1]
    tied = metrics[schedule.monitor] == kept[schedule.monitor]
    return tied and _better(schedule.tie_break, metrics[schedule.tie_break], kept[schedule.tie_break])


def exhausted(schedule: Schedule, state: Progress) -> bool:
    """Whether the patience has run out."""
    return schedule.patience is not None and state.waited >= schedule.patience


def _better(name: str, value: float, record: float | None) -> bool:
    if record is None:
        return not math.isnan(value)
    return value < record if name.endswith("loss") else value > record
