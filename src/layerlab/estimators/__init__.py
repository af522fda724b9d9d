"""Score-function estimators: the variance told before it hurts, and black-box optimisation that uses it.

The names below are imported on first use: `import layerlab` does not load torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from layerlab.estimators.distributions import family_of
    from layerlab.estimators.families import Bernoulli, Categorical, Family, Gaussian

_HOMES = {
    "Bernoulli": "families",
    "Categorical": "families",
    "Family": "families",
    "Gaussian": "families",
    "family_of": "distributions",
}

__all__ = [
    "Bernoulli",
    "Categorical",
    "Family",
    "Gaussian",
    "family_of",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
