"""Gradient flow: Jacobians of any model, where gradients vanish or explode in it, and the claims about them.

The names below are imported on first use: `import layerlab` does not load torch.

>>> import torch
>>> from layerlab import gradflow
>>> gradflow.profile(torch.nn.Linear(3, 3), torch.ones(2, 3)).verdict.kind
'healthy'
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from layerlab.gradflow.gradients import gradient_verdict
    from layerlab.gradflow.jacobians import JacobianOperator, jacobian
    from layerlab.gradflow.monitoring.monitor import Monitor
    from layerlab.gradflow.profiling import Profile, profile
    from layerlab.gradflow.recurrent import compare_initialisations, through_time
    from layerlab.gradflow.remedies.trial import Remedy, try_remedies
    from layerlab.gradflow.singular_values import (
        extreme_singular_values,
        leading_singular_values,
        spectral_density,
    )

_HOMES = {
    "JacobianOperator": "jacobians",
    "Monitor": "monitoring.monitor",
    "Profile": "profiling",
    "Remedy": "remedies.trial",
    "compare_initialisations": "recurrent",
    "extreme_singular_values": "singular_values",
    "gradient_verdict": "gradients",
    "jacobian": "jacobians",
    "leading_singular_values": "singular_values",
    "profile": "profiling",
    "spectral_density": "singular_values",
    "through_time": "recurrent",
    "try_remedies": "remedies.trial",
}

__all__ = [
    "JacobianOperator",
    "Monitor",
    "Profile",
    "Remedy",
    "compare_initialisations",
    "extreme_singular_values",
    "gradient_verdict",
    "jacobian",
    "leading_singular_values",
    "profile",
    "spectral_density",
    "through_time",
    "try_remedies",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
