"""The recorded calls computed again in float64, layer by layer, with the Jacobians of every step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from layerlab.errors import UserError
from layerlab.gradflow.recurrent.calls import Recorded, Run
from layerlab.gradflow.recurrent.steps import StepJacobians, Weights, joined, unroll

_AGREES = {torch.float64: 1e-8, torch.float32: 1e-2}
_AGREES_ROUGHLY = 0.1


@dataclass(frozen=True, eq=False)
class Replayed:
    """One layer and direction over all calls of a run.

    Attributes:
        layer: from 0.
        backward: whether it reads the sequence from its end.
        weights: its weights.
        jacobians: ∂s_t/∂s_(t−1) for t = 2, …, T, the samples of a step side by side.
        samples: B.
        lengths: (B), steps of each sample; None where all have T.
        largest_start: of |h_0| for a GRU, of |c_0| for an LSTM.
    """

    layer: int
    backward: bool
    weights: Weights
    jacobians: StepJacobians
    samples: int
    lengths: Tensor | None
    largest_start: float


@dataclass(frozen=True, eq=False)
class _Part:
    jacobians: StepJacobians
    start: tuple[Tensor, ...]


def replay(run: Run) -> tuple[list[Replayed], float]:
    """The layers and directions of a run, and the largest difference from what the module put out.

    Returns:
        The layers, and max |difference| / max |output|: rounding, where the module is in float64.

    Raises:
        UserError: a state that overflows, or masks of dropout that cannot be drawn again.
    """
    parts: dict[tuple[int, int], list[_Part]] = {}
    difference = 0.0
    for call in run.calls:
        outputs = _one_call(call, parts)
        off = _difference(outputs, call)
        if call.dropout and not off <= agreement(call.outputs.dtype):
            raise UserError(
                f"the dropout of {call.name or 'the model'} between its layers could not be drawn again "
                "(it is drawn inside of the module); call eval() on it first"
            )
        difference = max(difference, off)
    first = run.calls[0]
    samples = first.inputs.shape[1]
    found = []
    for (layer, direction), pieces in parts.items():
        weights = first.weights[layer][direction]
        whole = joined([piece.jacobians for piece in pieces])
        start = pieces[0].start[-1]
        found.append(
            Replayed(
                layer,
                direction == 1,
                weights,
                whole.part(samples, whole.samples),
                samples,
                first.lengths,
                float(start.abs().max()),
            )
        )
    return found, difference


def agreement(dtype: torch.dtype) -> float:
    """The difference from the module's own output up to which it is that of rounding."""
    return _AGREES.get(dtype, _AGREES_ROUGHLY)


def _one_call(call: Recorded, parts: dict[tuple[int, int], list[_Part]]) -> Tensor:
    signal = call.inputs.double()
    masks = _masks(call)
    for layer, directions in enumerate(call.weights):
        outputs = []
        for direction, weights in enumerate(directions):
            ordered = _turned(signal, call.lengths) if direction else signal
            start = tuple(t[layer * len(directions) + direction].double() for t in call.start)
            unrolled = unroll(weights, ordered, start)
            outputs.append(_turned(unrolled.outputs, call.lengths) if direction else unrolled.outputs)
            parts.setdefault((layer, direction), []).append(_Part(unrolled.jacobians, start))
        signal = torch.cat(outputs, dim=2)
        if layer < len(masks):
            signal = signal * masks[layer]
    return signal


def _turned(signal: Tensor, lengths: Tensor | None) -> Tensor:
    """The steps of each sample in reverse; what is behind its end stays there."""
    if lengths is None:
        return signal.flip(0)
    step = torch.arange(signal.shape[0])[:, None]
    index = torch.where(step < lengths, lengths - 1 - step, step)
    return signal.gather(0, index[:, :, None].expand_as(signal))


def _masks(call: Recorded) -> list[Tensor]:
    """What dropout between the layers multiplies by, drawn as in the call."""
    if not call.dropout:
        return []
    steps, samples = call.inputs.shape[:2]
    found = []
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(call.random)
        for directions in call.weights[:-1]:
            width = sum(weights.output for weights in directions)
            ones = torch.ones(steps, samples, width, dtype=call.outputs.dtype)
            found.append(functional.dropout(ones, call.dropout, training=True).double())
    return found


def _difference(outputs: Tensor, call: Recorded) -> float:
    off = (outputs - call.outputs.double()).abs()
    if call.lengths is not None:
        off = off * (torch.arange(off.shape[0])[:, None] < call.lengths)[:, :, None]
    return float(off.max()) / max(float(call.outputs.double().abs().max()), torch.finfo(torch.float32).tiny)
