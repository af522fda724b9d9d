"""Gradient flow: Jacobians of any model, where gradients vanish or explode in it, and the claims about them.

The names below are imported on first use: `import layerlab` does not load torch.

>>> import torch
>>> from layerlab import gradflow
>>> gradflow.profile(torch.nn.Linear(3, 3), torch.ones(2, 3)).verdict.kind
'healthy'
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from layerlab.lab.lazy import on_first_use

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

__getattr__, __dir__ = on_first_use(__name__, _HOMES)
