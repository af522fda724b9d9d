"""The bounds: never beaten, and nearly attained where they can be."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from layerlab.gradflow.recurrent import LayerTime, bounds, through_time
from layerlab.gradflow.recurrent.horizon import Horizon
from layerlab.gradflow.recurrent.result import ANY_INPUT, AT_INPUTS
from layerlab.gradflow.recurrent.steps import StepJacobians, Weights

from .modules import KINDS, holds, jacobians_of, made, measured, randn, started


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    hidden=st.integers(4, 7),
    steps=st.integers(2, 12),
    scale=st.floats(0.01, 8.0),
    start=st.floats(0.0, 30.0),
    drive=st.floats(0.0, 20.0),
    seed=st.integers(0, 1000),
)
@example(kind="gru", hidden=4, steps=4, scale=6.5, start=29.0, drive=8.0, seed=81)
def test_no_bound_is_beaten(
    kind: str, hidden: int, steps: int, scale: float, start: float, drive: float, seed: int
) -> None:
    module = made(kind, 2, hidden, scale=scale, seed=seed)
    x = drive * randn(steps, 2, 2, seed=seed)
    [layer] = through_time(module, (x, started(module, 2, start))).layers
    assert [bound.kind for bound in layer.bounds] == [ANY_INPUT, AT_INPUTS, AT_INPUTS]
    holds(layer)
    if kind != "lstm" and kind != "projected":
        assert (layer.bounds[2].log <= layer.bounds[1].log + 1e-11 * steps).all()
    with np.errstate(invalid="ignore"):
        assert not (layer.bounds[1].log > layer.bounds[0].log + 1e-11 * steps).any() or kind == "gru"


def one_step(kind: str, gate: int, weight: float, before: list[float], start: list[float]) -> LayerTime:
    """One unit, driven in the second step to the pre-activations ``before``; the first step keeps what it can."""
    module = KINDS[kind][0](len(before), 1, dtype=torch.float64)
    for parameter in module.parameters():
        parameter.data.zero_()
    module.weight_ih_l0.data = torch.eye(len(before), dtype=torch.float64)
    module.weight_hh_l0.data[gate, 0] = weight
    # GRU: z = 1 keeps h_0. LSTM: f = i = g = 1 adds 1 to c_0, and o = 0 makes h_1 = 0.
    first = [0.0, 60.0, 0.0] if kind == "gru" else [60.0, 60.0, 60.0, -60.0]
    x = torch.tensor([first, before], dtype=torch.float64)
    x[:, gate] -= weight * (start[0] if kind == "gru" else 0.0)
    if kind == "gru":
        module.bias_hh_l0.data[2] = 4.0
        x[1, 2] -= 0.5 * 4.0 if gate == 0 else 4.0
        x[1, 2] += 0.0 if gate == 0 else 4.0 * (1 - 1 / (1 + math.exp(-before[0])))
    hx = tuple(torch.tensor([[value]], dtype=torch.float64) for value in start)
    [layer] = through_time(module, (x, hx if kind == "lstm" else hx[0])).layers
    return layer


@pytest.mark.parametrize(
    ("kind", "gate", "before", "start"),
    [
        ("gru", 0, [0.0, -60.0, 0.0], [0.0]),  # r = 1/2, z = 0, n = 0
        ("gru", 1, [0.0, 0.0, -60.0], [1.0]),  # z = 1/2, h = 1, n = −1
        ("gru", 1, [0.0, 0.0, -60.0], [3.0]),  # a start beyond 1
        ("gru", 2, [60.0, -60.0, 0.0], [0.0]),  # r = 1, z = 0, n = 0
        ("lstm", 0, [0.0, 0.0, -60.0, 60.0], [0.0, 0.0]),  # i = f = 1/2, g = −1: c' = 0
        ("lstm", 1, [0.0, 0.0, -60.0, 60.0], [0.0, 0.0]),
        ("lstm", 2, [60.0, -60.0, 0.0, 60.0], [0.0, 0.0]),  # i = 1, g = 0, f = 0
        ("lstm", 3, [0.0, 60.0, 0.0, 0.0], [0.0, 20.0]),  # tanh c' = 1, o = 1/2
    ],
)
def test_the_theorems_are_nearly_attained(
    kind: str, gate: int, before: list[float], start: list[float]
) -> None:
    """A weight of 1000 in one gate: a constant that were a few per cent too small would be beaten here."""
    layer = one_step(kind, gate, 1000.0, before, start)
    slack = layer.bounds[0].log[0, 1] - layer.curves.largest[0, 1]
    assert -1e-12 <= slack <= 0.02, slack


def test_the_theorem_of_an_lstm_knows_where_its_cell_starts() -> None:
    """c_1 = 4 and f = 1/2, so ∂c_2/∂h_1 is the weight itself; 2 of N's 4 entries then are not reached together."""
    layer = one_step("lstm", 1, 1000.0, [60.0, 0.0, -60.0, 60.0], [0.0, 3.0])
    assert layer.curves.largest[0, 1] >= math.log(1000.0)
    assert 0 <= layer.bounds[0].log[0, 1] - layer.curves.largest[0, 1] <= 0.3


@pytest.mark.parametrize("kind", ["tanh", "relu", "gru", "lstm"])
def test_the_bound_at_the_gates_is_attained_by_one_unit(kind: str) -> None:
    """With slopes and weights of one sign every triangle inequality is an equality."""
    jacobians = jacobians_of(kind, 5, 1, 1)
    weights = Weights(
        jacobians.weights.kind,
        jacobians.weights.input,
        jacobians.weights.recurrent.abs(),
        jacobians.weights.input_bias,
        jacobians.weights.recurrent_bias,
    )
    positive = StepJacobians(weights, jacobians.slopes.abs(), jacobians.carry, jacobians.read)
    np.testing.assert_allclose(measured(positive, 1).largest, bounds.at_gates(positive, 1), atol=1e-12)


def test_the_bound_of_orthogonal_weights_at_0_is_attained() -> None:
    module = nn.RNN(2, 6, bias=False, dtype=torch.float64)
    module.weight_hh_l0.data = 0.5 * torch.linalg.qr(randn(6, 6))[0]
    [layer] = through_time(module, torch.zeros(40, 1, 2, dtype=torch.float64)).layers
    for bound in layer.bounds:
        np.testing.assert_allclose(layer.curves.largest, bound.log, atol=1e-12)
    np.testing.assert_allclose(layer.rate, math.log(0.5), rtol=1e-12)
    assert layer.vanishing == Horizon(7, 7) and layer.exploding == Horizon(None, None)
