"""Jacobians through time of the recurrent layers of a model, beside the bounds that apply."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from layerlab.errors import UserError
from layerlab.gradflow.recurrent import bounds
from layerlab.gradflow.recurrent.calls import Run, called_with, linked, record, recurrent_modules
from layerlab.gradflow.recurrent.curves import DECOMPOSED_UP_TO, Curves, measure
from layerlab.gradflow.recurrent.replay import Replayed, agreement, replay
from layerlab.gradflow.recurrent.result import (
    ANY_INPUT,
    AT_INPUTS,
    ESTIMATED,
    Bound,
    Carry,
    LayerTime,
    ThroughTime,
)
from layerlab.gradflow.trace import by_memory

Values = NDArray[np.float64]

THRESHOLD = 1e-2
"""What is a hundred times weaker than the gradient of the step before drowns in it: the two are summed over time, and
a minibatch's gradient is seldom known to one per cent."""

TOLERANCE = 1e-3
"""Relative, of residuals: the logarithm is then off by 1e-3 at most, mostly by its square; a curve spans tens."""

BUDGET = 300_000
"""Products of a step: T = 256 steps of an LSTM with 512 units are within, as a matrix."""

_STATEMENTS = {
    "tanh": ("σ_max(W)^(t−1)", "∏ max φ'(a_s) · σ_max(W)"),
    "relu": ("σ_max(W)^(t−1)", "∏ max φ'(a_s) · σ_max(W)"),
    "gru": ("(√(1 + K²) + (1 + C)/4 · σ_max(W_z))^(t−1)", "∏ (max z + ‖slopes of r, z, n‖ · σ_max(W))"),
    "lstm": ("σ_max(∏ N_s), N_s from |c| ≤ C_0 + s", "σ_max(∏ N_s), N_s from the measured gates"),
}


def through_time(
    model: nn.Module,
    inputs: Any,
    *,
    module: str | None = None,
    threshold: float = THRESHOLD,
    tolerance: float = TOLERANCE,
    budget: int = BUDGET,
    seed: int = 0,
    progress: Callable[[float, str], None] | None = None,
) -> ThroughTime:
    """σ_max(∂s_t/∂s_1) for t = 1, …, T in every recurrent layer and direction that the forward pass calls.

    s is the state: h of an RNN or GRU, (h, c) of an LSTM. The derivative is along the recurrence of the layer, with
    what it reads (x_1, …, x_T) held fixed: for a layer of a stack that is the whole derivative, since no state comes
    back to what is below; for a cell whose outputs come back as its inputs, it is the part that its state carries.

    One forward pass of the model, which leaves no trace in it, records what reaches each nn.RNN, nn.LSTM, nn.GRU and
    cell. They are run again in float64 by their definition, which gives the Jacobian of each step in closed form
    (`layerlab.gradflow.recurrent.steps`). Several calls make one sequence where the state that ends one is given to
    the next. Dropout between layers is frozen: the masks are those of the pass.

    The bounds, in `layerlab.gradflow.recurrent.bounds` with their proofs: of the weights, for any input; of the gates
    and slopes that were measured; and the product of the norms of the steps. The verdict is of the median over the
    samples: "exploding" where σ_max exceeds 1/threshold at any lag, else "vanishing" where it is below the threshold at
    the last lag, T − 1, else "healthy". It thus speaks of these lengths; the horizons say from which lag on.

    Reference: R. Pascanu, T. Mikolov and Y. Bengio, On the difficulty of training recurrent neural networks (ICML
    2013); S. Hochreiter and J. Schmidhuber, Long short-term memory (Neural Computation 9, 1997).

    Args:
        model: a recurrent module, or a model with such modules in it; float32 or float64.
        inputs: of ``model``: a tensor, a packed sequence, a tuple of arguments or a mapping of named ones.
        module: the name of a recurrent module in it, or of a part; all of them by default.
        threshold: between 0 and 1.
        tolerance: of the residual of σ_max relative to it, for states of more than 64 entries; smaller ones are
            computed to rounding.
        budget: products of one step's Jacobian with one vector of each sample, for a layer and direction; T·S form
            the product over T steps of a state of S entries. With fewer, or S > 512, σ_max is converged at lags 1, 2,
            4, …, T − 1 and a lower bound in between (`Curves.error` is NaN there).
        seed: of dropout in the pass, and of the random starts.
        progress: called with the fraction done and a few words.

    Raises:
        UserError: no recurrent module, none that is called, sequences of one step, weights, inputs or states that are
            NaN or Inf, a model that raises, or numbers out of range.

    >>> _ = torch.manual_seed(0)
    >>> found = through_time(torch.nn.LSTM(3, 8), torch.randn(30, 4, 3))
    >>> [layer] = found.layers
    >>> layer.verdict, layer.curves.largest.shape, bool((layer.curves.largest <= layer.bounds[1].log + 1e-9).all())
    ('vanishing', (4, 30), True)
    """
    if not isinstance(model, nn.Module):
        raise UserError(f"expected a torch.nn.Module, got {type(model).__name__}")
    if not 0 < threshold < 1:
        raise UserError(f"expected a threshold between 0 and 1, got {threshold}")
    if not tolerance > 0 or budget < 1:
        raise UserError(f"expected a tolerance > 0 and a budget of at least 1, got {tolerance} and {budget}")
    modules = recurrent_modules(model, module)
    call = called_with(model, inputs, seed)
    with by_memory():
        runs = linked(record(call, modules))
        long = [run for run in runs if sum(call.inputs.shape[0] for call in run.calls) > 1]
        if not long:
            raise UserError(_too_short(runs))
        layers, notes = _layers(long, threshold, tolerance, budget, seed, progress)
    short = len(runs) - len(long)
    if short:
        notes.append(f"{short} calls that are sequences of one step are left out")
    return ThroughTime(tuple(layers), threshold, seed, tuple(dict.fromkeys(notes)))


def _layers(
    runs: list[Run],
    threshold: float,
    tolerance: float,
    budget: int,
    seed: int,
    progress: Callable[[float, str], None] | None,
) -> tuple[list[LayerTime], list[str]]:
    total = sum(len(run.calls[0].weights) * len(run.calls[0].weights[0]) for run in runs)
    layers: list[LayerTime] = []
    notes: list[str] = []
    sequences: dict[str, int] = {}
    for run in runs:
        first = run.calls[0]
        sequence = sequences.setdefault(first.name, 0)
        sequences[first.name] += 1
        replayed, difference = replay(run)
        name = first.name or "the model"
        if difference > agreement(first.outputs.dtype):
            notes.append(
                f"{name}: run again in float64 it differs from its own output by {difference:.1e} of the largest; the "
                "recurrence amplifies rounding, or the module computes something else"
            )
        if first.dropout:
            notes.append(f"{name}: dropout between layers is frozen, with seed {seed}")
        if first.module.endswith("Cell"):
            notes.append(f"{name}: the derivative is along its state, with what it reads held fixed")
        for one in replayed:

            def tell(share: float, text: str, done: int = len(layers)) -> None:
                if progress is not None:
                    progress((done + share) / total, text)

            curves = measure(
                one.jacobians, one.samples, tolerance=tolerance, budget=budget, seed=seed, tell=tell
            )
            layers.append(_layer(run, one, curves, sequence, threshold))
    return layers, notes


def _layer(run: Run, one: Replayed, curves: Curves, sequence: int, threshold: float) -> LayerTime:
    first = run.calls[0]
    samples, steps = curves.largest.shape
    any_input, at_gates = _STATEMENTS[one.weights.kind]
    closest = AT_INPUTS if one.weights.state <= DECOMPOSED_UP_TO else ESTIMATED
    found: tuple[Bound, ...] = (
        Bound(
            "weights",
            ANY_INPUT,
            any_input,
            np.tile(bounds.theorem(one.weights, steps - 1, one.largest_start), (samples, 1)),
        ),
        Bound("gates", AT_INPUTS, at_gates, bounds.at_gates(one.jacobians, samples)),
        Bound("steps", closest, "∏ σ_max(∂s_u/∂s_(u−1))", bounds.of_steps(curves.steps)),
    )
    carry = _carry(one, steps)
    if one.lengths is not None:
        over = np.arange(steps) >= one.lengths.numpy()[:, None]
        curves = Curves(
            _cut(curves.largest, over),
            None if curves.smallest is None else _cut(curves.smallest, over),
            _cut(curves.steps, over[:, 1:]),
            _cut(curves.error, over),
            curves.method,
            curves.products,
        )
        found = tuple(Bound(b.name, b.kind, b.statement, _cut(b.log, over)) for b in found)
        if carry is not None:
            carry = Carry(carry.gate, _cut(carry.log_largest, over), _cut(carry.log_median, over))
    return LayerTime(
        name=first.name,
        module=first.module,
        layer=one.layer,
        direction="backward" if one.backward else "forward",
        sequence=sequence,
        calls=len(run.calls),
        samples=samples,
        steps=steps,
        state=one.weights.state,
        curves=curves,
        bounds=found,
        carry=carry,
        threshold=threshold,
    )


def _carry(one: Replayed, steps: int) -> Carry | None:
    if one.jacobians.carry is None:
        return None
    gates = one.jacobians.carry.reshape(steps - 1, one.samples, -1)
    logs = torch.cat([torch.zeros_like(gates[:1]), torch.log(gates).cumsum(0)]).transpose(0, 1)
    # The median of an even number of units is the mean of logarithms: the geometric mean of two.
    return Carry(
        "forget" if one.weights.kind == "lstm" else "update",
        logs.amax(dim=2).numpy(),
        np.median(logs.numpy(), axis=2),
    )


def _cut(values: Values, over: NDArray[np.bool_]) -> Values:
    return np.where(over, math.nan, values)


def _too_short(runs: list[Run]) -> str:
    first = runs[0].calls[0]
    name = first.name or "the model"
    same = [run for run in runs if run.calls[0].name == first.name]
    if len(same) > 1 and any(run.calls[0].given for run in same[1:]):
        return (
            f"{name} is called {len(same)} times, but never with the state in which another of its calls ended: it is "
            "changed in between (masked, normalised, dropped out), so the Jacobian is not the module's own; see "
            "jacobian with start= and stop= for the points of its calls"
        )
    return f"expected sequences of at least 2 steps, got 1 in {name}: ∂s_t/∂s_1 needs a second step"
