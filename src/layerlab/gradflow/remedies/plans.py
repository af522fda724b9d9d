"""Which changes to a model theory advises for a verdict, in which order and to which of its layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import nn

from layerlab.gradflow.remedies import structure_plans, weight_plans
from layerlab.gradflow.remedies.targets import Change, Scope, Targets
from layerlab.gradflow.remedies.weighted import Anatomy
from layerlab.gradflow.verdict import Verdict

Idea = Literal[
    "reset", "biases", "statistics", "inputs", "softmax", "orthogonal", "variance", "unit variance", "norm",
    "relu", "gelu", "selu", "leaky_relu", "skip", "scaled skip", "recurrent", "forget",
]  # fmt: skip

_WEIGHTS: tuple[Idea, ...] = ("variance", "orthogonal", "unit variance")

IDEAS: dict[str, tuple[Idea, ...]] = {
    "saturation": ("reset", "biases", "inputs", "softmax", *_WEIGHTS, "norm", "relu"),
    "dead units": ("reset", "biases", *_WEIGHTS, "norm", "leaky_relu"),
    "small norm": ("reset", "recurrent", "forget", *_WEIGHTS, "norm", "skip"),
    "large norm": ("statistics", "reset", "recurrent", *_WEIGHTS, "norm", "scaled skip"),
    "slope": ("relu", "gelu", "selu", *_WEIGHTS, "norm", "skip"),
    "missing residual": ("skip", "scaled skip", *_WEIGHTS, "norm"),
    "recurrent norm": ("recurrent", "forget"),
}
"""What is tried for each cause, the smallest change first."""

# What is repaired where it is broken, not everywhere.
_LOCAL: frozenset[Idea] = frozenset({"reset", "biases", "statistics", "inputs", "softmax"})

SCOPES: dict[str, tuple[Scope, ...]] = {
    "saturation": ("here", "alike", "everywhere"),
    "dead units": ("here", "alike", "everywhere"),
    "slope": ("everywhere",),
    "missing residual": ("everywhere",),
}
"""Where changes are tried for a cause; each scope only if none before has made the gradient healthy."""

_PLANS: dict[Idea, Callable[[Targets], Change | None]] = {
    "reset": weight_plans.reset,
    "biases": weight_plans.biases,
    "statistics": weight_plans.statistics,
    "orthogonal": weight_plans.orthogonal,
    "variance": weight_plans.variance,
    "unit variance": weight_plans.unit_variance,
    "recurrent": weight_plans.recurrent,
    "forget": weight_plans.forget,
    "inputs": structure_plans.inputs,
    "softmax": structure_plans.softmax,
    "norm": structure_plans.norm,
    "relu": lambda targets: structure_plans.activation(targets, "relu"),
    "gelu": lambda targets: structure_plans.activation(targets, "gelu"),
    "selu": lambda targets: structure_plans.activation(targets, "selu"),
    "leaky_relu": lambda targets: structure_plans.activation(targets, "leaky_relu"),
    "skip": lambda targets: structure_plans.skip(targets, scaled=False),
    "scaled skip": lambda targets: structure_plans.skip(targets, scaled=True),
}


def changes(found: Anatomy, model: nn.Module, verdict: Verdict) -> tuple[Change, ...]:
    """What to try, in order.

    Args:
        found: the weights and activations of the model.
        model: the user's own, which is not changed.
        verdict: on it: vanishing or exploding, of a cause in `IDEAS`.
    """
    plans: dict[tuple[str, tuple[str, ...]], Change] = {}
    for scope in SCOPES.get(str(verdict.cause), ("here", "everywhere")):
        targets = Targets(found, model, verdict, scope)
        for idea in IDEAS[str(verdict.cause)]:
            if scope != "everywhere" or idea not in _LOCAL:
                change = _PLANS[idea](targets)
                if change is not None:
                    plans.setdefault((change.what, change.applies_to), change)
    return tuple(plans.values())
