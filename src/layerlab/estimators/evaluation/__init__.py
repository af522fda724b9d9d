"""Evaluating a user's function: in this process or in others, with a time limit, and every value on disk.

The names below are imported on first use: a worker process that only needs `worker` does not load the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from layerlab.lab.lazy import on_first_use

if TYPE_CHECKING:
    from layerlab.estimators.evaluation.log import EvaluationLog
    from layerlab.estimators.evaluation.objective import Objective

_HOMES = {"EvaluationLog": "log", "Objective": "objective"}

__all__ = ["EvaluationLog", "Objective"]

__getattr__, __dir__ = on_first_use(__name__, _HOMES)
