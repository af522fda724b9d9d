"""Gradients on their way back through a model, layer by layer: what the verdict is made of, without singular values."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from layerlab.errors import UserError
from layerlab.gradflow.activations import Activation
from layerlab.gradflow.activations import look as look_at_activation
from layerlab.gradflow.bounds.gains import Gain, gain
from layerlab.gradflow.evaluation import Call, Choice
from layerlab.gradflow.flow import Flow, Operation, Seen, record
from layerlab.gradflow.layer_profile import GradientLayer, Part
from layerlab.gradflow.measurement import Map, backward, loss_cotangent, operators, random_cotangents
from layerlab.gradflow.path import Step, steps
from layerlab.gradflow.recurrent import ThroughTime, through_time
from layerlab.gradflow.trace import Trace, by_memory
from layerlab.gradflow.verdict import SATURATED_SHARE, Verdict, judge

Values = NDArray[np.float64]

_PROBES = 4


@dataclass(frozen=True, eq=False)
class Opened:
    """A model ready to be measured: its way from the input to the output, and the Jacobians along it.

    Attributes:
        model: the module or function.
        flow: of its values.
        way: the steps.
        trace: the recorded pass.
        factors: the Jacobian of each step.
        separate: whether samples do not mix.
    """

    model: Callable[..., Any]
    flow: Flow
    way: tuple[Step, ...]
    trace: Trace
    factors: list[Map]
    separate: bool


def opened(
    model: Callable[..., Any],
    inputs: Any,
    *,
    wrt: Choice | Sequence[Choice] = None,
    output: Choice = None,
    layers: Sequence[str] = (),
    seed: int = 0,
) -> Opened:
    """Two forward passes: one that shows the way, one that records it. Arguments as in `gradient_verdict`."""
    call = Call.of(model, inputs, wrt, output, seed)
    flow = _recorded(call)
    way = steps(flow, model, layers)
    if not way:
        raise UserError(_no_way(flow))
    trace = Trace(call, [point for step in way for point in (step.start, step.stop)])
    factors, separate = operators(trace, way)
    return Opened(model, flow, way, trace, factors, separate)


def gradient_layers(
    found: Opened, loss: Callable[[Tensor], Tensor] | None, seed: int
) -> tuple[tuple[GradientLayer, ...], Values]:
    """Each layer with its gradients, and (B) log ‖∂loss/∂output‖.

    Args:
        found: the opened model.
        loss: of the output; None for random directions.
        seed: of these.
    """
    trace, way = found.trace, found.way
    y = trace.tensor(way[-1].stop)
    cotangents = [loss_cotangent(y, loss)] if loss else random_cotangents(y, _PROBES, seed)
    back = backward(trace, way, found.factors, found.model, cotangents)
    bottlenecks = set(found.flow.bottlenecks())
    layers = []
    for index, step in enumerate(way):
        notes = [cast(_Note, operation.note).activation for operation in step.operations]
        layers.append(
            GradientLayer(
                name=step.name,
                kind=step.kind,
                module=step.module,
                start=str(step.start),
                stop=str(step.stop),
                shape=tuple(trace.tensor(step.stop).shape),
                gradient=back.gradients[index],
                weights=back.weights[index],
                activations=tuple(note for note in notes if note is not None),
                parts=tuple(_part(operation) for operation in step.operations),
                designed=sum(_shrinking(o) for o in step.operations if bottlenecks >= {*o.reads, o.writes}),
                attached=found.factors[index].attached,
            )
        )
    return tuple(layers), back.gradients[-1]


def gradient_verdict(
    model: Callable[..., Any],
    inputs: Any,
    *,
    loss: Callable[[Tensor], Tensor] | None = None,
    wrt: Choice | Sequence[Choice] = None,
    output: Choice = None,
    layers: Sequence[str] = (),
    seed: int = 0,
) -> Verdict:
    """The verdict of `layerlab.gradflow.profiling.profile` alone, at the cost of a few backward passes.

    Args and errors are those of `profile`.

    >>> import torch
    >>> gradient_verdict(torch.nn.Linear(3, 3), torch.ones(2, 3)).kind
    'healthy'
    """
    with by_memory():
        found = opened(model, inputs, wrt=wrt, output=output, layers=layers, seed=seed)
        measured, output_gradient = gradient_layers(found, loss, seed)
    over_time = recurrence(model, inputs, seed)
    return verdict(found, measured, output_gradient, over_time)


def verdict(
    found: Opened, layers: Sequence[GradientLayer], output_gradient: Values, over_time: ThroughTime | None
) -> Verdict:
    """The verdict on the layers of an opened model; spectral norms are computed of those to blame alone."""
    recurrent = () if over_time is None else over_time.layers
    return judge(layers, output_gradient, recurrent, lambda index: _norms(found.way[index]))


def recurrence(
    model: Callable[..., Any], inputs: Any, seed: int, progress: Callable[[float, str], None] | None = None
) -> ThroughTime | None:
    """Jacobians through time of the recurrent layers that the model has; None where it has none."""
    kinds = (nn.RNNBase, nn.RNNCellBase)
    if not isinstance(model, nn.Module) or not any(isinstance(module, kinds) for module in model.modules()):
        return None
    return through_time(model, inputs, seed=seed, progress=progress)


@dataclass(frozen=True, eq=False)
class _Note:
    """What is kept of an operation."""

    gain: Gain
    activation: Activation | None


def _recorded(call: Call) -> Flow:
    def look(seen: Seen) -> Callable[[Any], _Note]:
        after_gain, after_activation = gain(seen), look_at_activation(seen)
        return lambda result: _Note(
            after_gain(result), None if after_activation is None else after_activation(result)
        )

    flow = record(call, look)
    if flow.not_finite is not None:
        raise UserError(f"NaN or Inf first appears in {flow.not_finite}; look at its input and weights")
    return flow


def _no_way(flow: Flow) -> str:
    if flow.connected:
        return "the output is the input: there is no layer between them"
    return "the output does not depend on the input; is it computed from a constant or from a copy outside of torch?"


def gain_of(operation: Operation) -> Gain:
    return cast(_Note, operation.note).gain


def _part(operation: Operation) -> Part:
    return Part(operation.module, operation.name.split("::")[-1].rstrip("_"), gain_of(operation).scope)


def _norms(step: Step) -> list[float]:
    """The largest factor of each operation, by theorem or at these inputs; infinite where there is no rule."""
    return [max(gain_of(operation).factors(), default=0.0) for operation in step.operations]


def _shrinking(operation: Operation) -> float:
    """log of the factor by which an operation shrinks gradients and is meant to.

    An average of n by 1/√n; a softmax of n, while it still weighs many, by about 1/n.
    """
    known: _Note = operation.note
    name = operation.name.split("::")[-1]
    if name == "mean" or "avg_pool" in name:
        return sum(math.log(factor) for factor in known.gain.factors() if factor > 0)
    softmax = known.activation
    if (
        name == "_softmax"
        and softmax is not None
        and softmax.saturated < SATURATED_SHARE
        and softmax.slope_rms > 0
    ):
        return math.log(softmax.slope_rms)
    return 0.0
