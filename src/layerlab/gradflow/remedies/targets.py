"""What can be changed in a model, and in which of its layers."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from layerlab.gradflow.activations import Activation
from layerlab.gradflow.evaluation import Call
from layerlab.gradflow.flow import Operation
from layerlab.gradflow.remedies.weighted import Anatomy, Weighted, matrices
from layerlab.gradflow.verdict import Verdict

Scope = Literal["here", "alike", "everywhere"]
"""At the layer to blame; at all whose activations are as badly off; at all layers."""

OFF_AT_ZERO = ("relu", "relu6", "threshold")
"""Activations with units that can die."""

# Shares of units or values from which on an activation is badly off; the verdict's.
_ASLEEP, _OFF = 0.5, 0.95

_NAMED = 4


@dataclass(frozen=True, eq=False)
class Change:
    """What can be done to a copy of a model.

    Attributes:
        name: in a few words.
        what: one sentence, with the line of code a user would write.
        applies_to: names of the modules or parameters changed.
        reference: where it comes from.
        scope: which layers are changed.
        apply: is given the copy with its inputs, and a seed; changes the copy; returns other inputs, or None.
    """

    name: str
    what: str
    applies_to: tuple[str, ...]
    reference: str
    scope: Scope
    apply: Callable[[Call, int], Any]


class Targets:
    """The layers in a scope.

    Attributes:
        found: the weights and activations of the model.
        model: the user's own; to be looked at only.
        scope: how much of it.
        here: operations in the scope.
        weighted: what has weights in it, or, where its activations are badly off, what feeds those.
        matrices: of these what multiplies by parameters.
        recurrent: of these the recurrent ones.
    """

    def __init__(self, found: Anatomy, model: nn.Module, verdict: Verdict, scope: Scope) -> None:
        self.found, self.model, self.scope = found, model, scope
        here = (
            found.operations_at(verdict.layer, verdict.module) if scope == "here" else found.flow.operations
        )
        within = found.among(here)
        if verdict.cause in ("saturation", "dead units") and scope != "everywhere":
            # An activation is saturated or dead by what comes before it.
            asleep = tuple(o for o, a in found.activations(here) if _asleep(a))
            if asleep:
                here, within = asleep, found.feeding(asleep)
        elif not within:
            within = found.feeding(here)
        self.here: Sequence[Operation] = here
        self.weighted = within
        self.matrices: Sequence[Weighted] = matrices(within)
        self.recurrent = [w for w in self.matrices if w.role == "recurrent"]

    def change(
        self,
        name: str,
        what: str,
        applies_to: Sequence[str],
        reference: str,
        apply: Callable[[Call, int], Any],
    ) -> Change:
        """A change in this scope."""
        name = f"{name}, all layers" if self.scope == "everywhere" and len(applies_to) > 1 else name
        return Change(name, what, tuple(applies_to), reference, self.scope, apply)


def _asleep(activation: Activation) -> bool:
    if activation.kind in OFF_AT_ZERO:
        return (activation.dead or 0.0) >= _ASLEEP or (activation.off or 0.0) >= _OFF
    return activation.saturated >= _ASLEEP


def module_of(call: Call) -> nn.Module:
    """The copy to be changed."""
    assert isinstance(call.model, nn.Module)
    return call.model


def path(name: str) -> str:
    """A name as Python spells it.

    >>> path("layers.2.weight")
    'model.layers[2].weight'
    """
    return re.sub(r"\.(\d+)(?=\.|$)", r"[\1]", f"model.{name}" if name else "model")


def listed(names: Sequence[str]) -> str:
    """Names in a sentence, the first two of many."""
    plain = [name or "the model" for name in names]
    return ", ".join(plain) if len(plain) <= _NAMED else f"{plain[0]}, {plain[1]}, … ({len(plain)})"
