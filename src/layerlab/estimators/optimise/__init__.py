"""Black-box optimisation by gradients of expectations: `optimise`, and what it is made of."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from layerlab.estimators.optimise.optimum import Optimum
    from layerlab.estimators.optimise.run import optimise
    from layerlab.estimators.optimise.settings import Settings

_HOMES = {"Optimum": "optimum", "Settings": "settings", "optimise": "run"}

__all__ = ["Optimum", "Settings", "optimise"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
