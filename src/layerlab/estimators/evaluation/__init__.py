"""Evaluating a user's function: in this process or in others, with a time limit, and every value on disk.

The names below are imported on first use: a worker process that only needs `worker` does not load the rest.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from layerlab.estimators.evaluation.log import EvaluationLog
    from layerlab.estimators.evaluation.objective import Objective

_HOMES = {"EvaluationLog": "log", "Objective": "objective"}

__all__ = ["EvaluationLog", "Objective"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
