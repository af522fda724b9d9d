"""Black-box optimisation by gradients of expectations: `optimise`, and what it is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from layerlab.lab.lazy import on_first_use

if TYPE_CHECKING:
    from layerlab.estimators.optimise.optimum import Optimum
    from layerlab.estimators.optimise.run import optimise
    from layerlab.estimators.optimise.settings import Settings

_HOMES = {"Optimum": "optimum", "Settings": "settings", "optimise": "run"}

__all__ = ["Optimum", "Settings", "optimise"]

__getattr__, __dir__ = on_first_use(__name__, _HOMES)
