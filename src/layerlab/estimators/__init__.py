"""Score-function estimators: the variance told before it hurts, and black-box optimisation that uses it.

The names below are imported on first use: `import layerlab` does not load torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from layerlab.lab.lazy import on_first_use

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

__getattr__, __dir__ = on_first_use(__name__, _HOMES)
