"""Score-function estimators: the variance told before it hurts, and black-box optimisation that uses it.

The names below are imported on first use: `import layerlab` does not load torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from layerlab.estimators.distributions import family_of
    from layerlab.estimators.estimation import ESTIMATORS, Diagnostics, Estimate, estimate
    from layerlab.estimators.estimator import Estimator
    from layerlab.estimators.families import Bernoulli, Categorical, Family, Gaussian
    from layerlab.estimators.relaxed import Surrogate

_HOMES = {
    "Bernoulli": "families",
    "Categorical": "families",
    "Diagnostics": "estimation",
    "ESTIMATORS": "estimation",
    "Estimate": "estimation",
    "Estimator": "estimator",
    "Family": "families",
    "Gaussian": "families",
    "Surrogate": "relaxed",
    "estimate": "estimation",
    "family_of": "distributions",
}

__all__ = [
    "ESTIMATORS",
    "Bernoulli",
    "Categorical",
    "Diagnostics",
    "Estimate",
    "Estimator",
    "Family",
    "Gaussian",
    "Surrogate",
    "estimate",
    "family_of",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
