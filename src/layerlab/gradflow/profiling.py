"""Where gradients vanish or explode in a model: every layer on the way measured, each beside the bound that applies.

>>> import torch
>>> model = torch.nn.Sequential(*(torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Sigmoid()) for _ in range(9)))
>>> found = profile(model, torch.randn(4, 8, generator=torch.Generator().manual_seed(0)))
>>> found.verdict.kind, found.verdict.cause, found.layers[1].kind, found.layers[1].bound.value
('vanishing', 'slope', 'Sigmoid', 0.25)
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from layerlab.errors import UserError
from layerlab.gradflow.bounds.combination import Bound, bound
from layerlab.gradflow.bounds.gains import module_gain
from layerlab.gradflow.evaluation import Choice
from layerlab.gradflow.gradients import Opened, gain_of, gradient_layers, opened, recurrence, verdict
from layerlab.gradflow.layer_profile import LayerProfile, listed
from layerlab.gradflow.measurement import product_ends, step_ends
from layerlab.gradflow.path import Step
from layerlab.gradflow.recurrent import ThroughTime
from layerlab.gradflow.trace import by_memory
from layerlab.gradflow.verdict import Verdict

Values = NDArray[np.float64]
Progress = Callable[[float, str], None]

BUDGET = 40
"""Products with a Jacobian and its transpose for each search of a σ_max."""

TOLERANCE = 1e-2
"""Relative residual at which a σ_max counts as found where it is searched for; small layers are exact."""

# Shares of the work at which its parts begin.
_GRADIENTS, _TIME, _LAYERS, _PRODUCTS = 0.05, 0.1, 0.2, 0.45


@dataclass(frozen=True, eq=False)
class Profile:
    """What the layers of a model do to a signal and to the gradient.

    Attributes:
        model: its class.
        layers: from the input to the output.
        samples: B; 1 where the batch counts as one sample.
        separate: whether samples do not mix.
        output_gradient: (B), log ‖∂loss/∂output‖.
        cotangent: "loss" or "random".
        through_time: Jacobians of the recurrent layers' states; None where there are none.
        verdict: healthy, vanishing or exploding, where and why.
        notes: what is missing or not converged, and why.
        seconds: that it took.
    """

    model: str
    layers: tuple[LayerProfile, ...]
    samples: int
    separate: bool
    output_gradient: Values
    cotangent: str
    through_time: ThroughTime | None
    verdict: Verdict
    notes: tuple[str, ...]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "model": self.model,
            "samples": self.samples,
            "separate": self.separate,
            "cotangent": self.cotangent,
            "through_time": None if self.through_time is None else self.through_time.to_dict(),
            "verdict": self.verdict.to_dict(),
            "layers": [layer.to_dict() for layer in self.layers],
            "log_output_gradient": listed(self.output_gradient),
            "notes": list(self.notes),
            "seconds": self.seconds,
        }


def profile(
    model: Callable[..., Any],
    inputs: Any,
    *,
    loss: Callable[[Tensor], Tensor] | None = None,
    wrt: Choice | Sequence[Choice] = None,
    output: Choice = None,
    layers: Sequence[str] = (),
    budget: int = BUDGET,
    tolerance: float = TOLERANCE,
    seed: int = 0,
    progress: Progress | None = None,
) -> Profile:
    """Measures every layer on the way from the input to the output, and says whether gradients survive it.

    The way is cut wherever all of the signal passes one value (`layerlab.gradflow.flow`): after every layer of a
    chain, after every block of a residual net. The Jacobians of the pieces multiply to that of the model, and the
    product of their bounds bounds it: σ_max(J_L ⋯ J_1) ≤ ∏ σ_max(J_i) ≤ ∏ bound_i.

    The model is left as it was, in its train or eval mode. Its parameters need not require gradients.

    Args:
        model: a module, or a function of tensors.
        inputs: a tensor, a tuple of arguments or a mapping of named ones; a batch of a few samples.
        loss: maps the output to a number; by default random directions in place of its gradient.
        wrt: which input, see `layerlab.gradflow.jacobians.jacobian`.
        output: which output.
        layers: names of modules with ``*`` and ``?``; the way is then cut at these only.
        budget: products for each search of a σ_max, where a layer is too large to be formed.
        tolerance: relative residual at which a search ends.
        seed: of random numbers in the model (dropout) and of the measurement.
        progress: called with the share done and a few words.

    Raises:
        UserError: see `layerlab.gradflow.jacobians.jacobian`; also an output that does not depend on the input, NaN or
            Inf on the way (the first place named), a loss that raises or is not a number, a layer that is not there.
    """
    began = time.monotonic()
    tell = progress or (lambda share, text: None)
    if budget < 8 or not 0 < tolerance < 1:
        raise UserError(f"expected budget >= 8 and 0 < tolerance < 1, got {budget} and {tolerance}")
    tell(0.0, "forward pass")
    with by_memory():
        found = opened(model, inputs, wrt=wrt, output=output, layers=layers, seed=seed)
        tell(_GRADIENTS, "gradients")
        gradients, output_gradient = gradient_layers(found, loss, seed)
        tell(_TIME, "through time")
        over_time = recurrence(
            model, inputs, seed, lambda share, text: tell(_TIME + (_LAYERS - _TIME) * share, text)
        )
        ends = []
        for index, (layer, factor) in enumerate(zip(gradients, found.factors, strict=True)):
            tell(_LAYERS + (_PRODUCTS - _LAYERS) * index / len(gradients), layer.name)
            ends.append(step_ends(factor, tolerance=tolerance, budget=budget, seed=seed))
        measured: list[LayerProfile] = []
        total = 0.0
        for product in product_ends(found.factors, tolerance=tolerance, budget=budget, seed=seed):
            index = len(measured)
            step = found.way[index]
            limit = _bound(found, step)
            total += math.log(limit.value) if limit.value else -math.inf
            measured.append(
                LayerProfile(
                    **vars(gradients[index]),
                    jacobian=ends[index],
                    product=product,
                    bound=limit,
                    bound_product=total,
                )
            )
            # The k-th product costs k steps.
            share = (len(measured) / len(ends)) ** 2
            tell(_PRODUCTS + (1 - _PRODUCTS) * share, f"product up to {step.name}")
    return Profile(
        model=type(model).__name__
        if isinstance(model, nn.Module)
        else getattr(model, "__name__", "function"),
        layers=tuple(measured),
        samples=found.factors[0].samples,
        separate=found.separate,
        output_gradient=output_gradient,
        cotangent="loss" if loss else "random",
        through_time=over_time,
        verdict=verdict(found, measured, output_gradient, over_time),
        notes=tuple(_notes(measured, found.separate, tolerance)),
        seconds=time.monotonic() - began,
    )


def _bound(found: Opened, step: Step) -> Bound:
    """By operations, or where that is more by what is known of a module as a whole: of a circular convolution, say."""
    limit = bound(step.operations, step.begins, gain_of)
    if step.modules != (step.module,) or not isinstance(found.model, nn.Module):
        return limit
    given = found.trace.tensors(step.start)[0].shape
    known = module_gain(found.model.get_submodule(step.module), given)
    if known is None or len({o.module for o in step.operations}) > 1 or known.factors()[0] >= limit.value:
        return limit
    return Bound(known.factors()[0], known.scope, known.reason)


def _notes(layers: Sequence[LayerProfile], separate: bool, tolerance: float) -> list[str]:
    notes = []
    if not separate:
        notes.append(
            "samples mix (batch norm in train mode, a graph) or have no common dimension: the batch counts as one"
        )
    rough = [layer for layer in layers if float(layer.jacobian.largest_error.max()) > tolerance]
    if slow := [layer.name for layer in rough if layer.jacobian.method == "lanczos"]:
        notes.append(f"sigma_max has not converged within the budget in {', '.join(slow[:5])}: lower bounds")
    if coarse := [layer.name for layer in rough if layer.jacobian.method == "dense"]:
        worst = max(float(layer.jacobian.largest_error.max()) for layer in rough)
        notes.append(
            f"the model's precision leaves sigma_max uncertain by {worst:.0%} in {', '.join(coarse[:5])}"
        )
    if any(not layer.jacobian.smallest_exact for layer in layers):
        notes.append("sigma_min of layers too large to be formed is an upper bound, marked <=")
    unknown = sorted({layer.bound.reason for layer in layers if layer.bound.scope == "unknown"})
    notes += [f"no bound: {reason}" for reason in unknown[:3]]
    return notes
