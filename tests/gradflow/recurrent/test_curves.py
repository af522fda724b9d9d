"""σ_max over time against torch's own derivatives and graded products, by each method."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from layerlab.gradflow.jacobi import log_singular_values
from layerlab.gradflow.recurrent import curves, through_time
from layerlab.gradflow.recurrent.carried import Carried
from layerlab.gradflow.recurrent.steps import StepJacobians, Weights

from .modules import KINDS, by_autograd, dense_steps, holds, jacobians_of, made, measured, randn, started


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}, {"batch_first": True}])
def test_against_dense_derivatives(kind: str, options: dict[str, Any]) -> None:
    module = made(kind, 4, 5, scale=1.5, **options)
    x = randn(7, 3, 4)
    hx = started(module, 3)
    found = through_time(module, (x.transpose(0, 1) if module.batch_first else x, hx))
    expected = list(by_autograd(module, x, hx))
    assert not found.notes
    assert len(found.layers) == len(expected) == module.num_layers * (1 + module.bidirectional)
    for number, (layer, jacobians) in enumerate(zip(found.layers, expected, strict=True)):
        assert (layer.layer, layer.direction == "backward") == divmod(number, 1 + module.bidirectional)
        values = torch.stack([torch.linalg.svdvals(j) for j in jacobians], 1).numpy()
        assert layer.curves.largest.shape == (3, 7)
        np.testing.assert_allclose(np.exp(layer.curves.largest[:, 1:]), values[:, :, 0], rtol=1e-10)
        assert (layer.curves.largest[:, 0] == 0).all()
        np.testing.assert_allclose(np.exp(layer.curves.steps[:, 0]), values[:, 0, 0], rtol=1e-10)
        smallest = np.exp(layer.curves.smallest[:, 1:])
        # Below, the reference is its own rounding.
        known = values[:, :, -1] > 1e-4 * values[:, :, 0]
        np.testing.assert_allclose(smallest[known], values[:, :, -1][known], rtol=1e-9)
        assert known[:, 0].any() or kind in ("relu", "projected")
        assert (smallest[~known] <= 1.01e-4 * values[:, :, 0][~known]).all()
        holds(layer)


def test_without_biases_unbatched_and_from_zero() -> None:
    module = made("gru", 4, 5, bias=False)
    x = randn(6, 4)
    [layer] = through_time(module, x).layers
    [jacobians] = by_autograd(module, x[:, None], torch.zeros(1, 1, 5, dtype=torch.float64))
    assert (layer.samples, layer.steps, layer.state) == (1, 6, 5)
    np.testing.assert_allclose(
        np.exp(layer.curves.largest[0, -1]), torch.linalg.svdvals(jacobians[-1])[0, 0], rtol=1e-10
    )


@pytest.mark.parametrize("kind", KINDS)
def test_long_sequences_against_graded_products(kind: str) -> None:
    jacobians = jacobians_of(kind, 200, 2, 4)
    found = measured(jacobians, 2)
    steps = dense_steps(jacobians, 2)
    for b in range(2):
        for lag in (17, 200):
            expected = log_singular_values(list(steps[:lag, b]))
            np.testing.assert_allclose(found.largest[b, lag], expected[0], rtol=0, atol=1e-9)
            if np.isfinite(expected[-1]) and kind != "projected":
                np.testing.assert_allclose(found.smallest[b, lag], expected[-1], rtol=1e-7)
    assert found.largest.min() < -40 and found.method == "dense"


def test_dead_units_make_the_smallest_value_zero_and_at_last_the_largest() -> None:
    jacobians = jacobians_of("relu", 5, 1, 4, scale=3.0)
    dead = StepJacobians(jacobians.weights, jacobians.slopes * torch.tensor([1.0, 0.0, 1.0, 1.0]).double())
    found = measured(dead, 1)
    assert np.isneginf(found.smallest[0, 1:]).all() and np.isfinite(found.largest).all()
    none = StepJacobians(jacobians.weights, torch.zeros_like(jacobians.slopes))
    assert np.isneginf(measured(none, 1).largest[0, 1:]).all()


@pytest.mark.parametrize(("rate", "steps"), [(0.5, 2000), (3.0, 700)])
def test_long_products_neither_underflow_nor_overflow(rate: float, steps: int) -> None:
    module = nn.RNN(2, 6, nonlinearity="relu", dtype=torch.float64, bias=False)
    turn = torch.linalg.qr(randn(6, 6))[0]
    weights = Weights("relu", module.weight_ih_l0.detach(), rate * turn, torch.zeros(6), torch.zeros(6))
    slopes = torch.ones(steps, 6, dtype=torch.float64)
    found = measured(StepJacobians(weights, slopes), 1)
    expected = math.log(rate) * np.arange(steps + 1)
    np.testing.assert_allclose(found.largest[0], expected, atol=1e-9)
    np.testing.assert_allclose(found.smallest[0], expected, atol=1e-9)


def test_units_that_decay_apart_do_not_underflow() -> None:
    """One unit keeps everything for 600 steps, then loses it; the other had decayed to 1e-361 of it by then."""
    weights = Weights("relu", torch.zeros(2, 1), torch.eye(2).double(), torch.zeros(2), torch.zeros(2))
    slopes = torch.ones(700, 2, dtype=torch.float64)
    slopes[:600, 1], slopes[600:, 0] = 0.25, 1e-4
    found = measured(StepJacobians(weights, slopes), 1)
    np.testing.assert_allclose(found.largest[0, -1], 600 * math.log(0.25), rtol=1e-12)


@pytest.mark.parametrize("kind", ["tanh", "gru", "lstm"])
def test_wide_states_by_lanczos_method(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    jacobians = jacobians_of(kind, 60, 2, 40 if kind == "lstm" else 70, scale=1.2)
    found = measured(jacobians, 2)
    rough = measured(jacobians, 2, tolerance=1e-3)
    assert found.method == "lanczos" and found.smallest is None
    monkeypatch.setattr(curves, "DECOMPOSED_UP_TO", 1000)
    exact = measured(jacobians, 2)
    assert exact.method == "dense"
    np.testing.assert_allclose(found.largest, exact.largest, rtol=0, atol=1e-7)
    np.testing.assert_allclose(found.steps, exact.steps, rtol=0, atol=1e-7)
    np.testing.assert_allclose(rough.largest, exact.largest, rtol=0, atol=1e-3)
    np.testing.assert_allclose(rough.steps, exact.steps, rtol=0, atol=1e-3)
    assert (rough.error <= 1e-3).all() and (found.error <= 1e-8).all()


def test_columns_that_add_nothing_are_left_out() -> None:
    carried = Carried(torch.eye(4, dtype=torch.float64)[None])
    carried.matrix = carried.matrix * torch.tensor([1.0, 0.5, 1e-15, 1e-16]).double()[None, :, None]
    generator = torch.Generator().manual_seed(0)
    kept = carried.narrowed(generator)
    assert kept is not None and kept.shape == (1, 4, 2) and carried.rows == 2
    np.testing.assert_allclose(float(carried.largest()), 1.0, rtol=1e-12)
    assert carried.narrowed(generator) is None
    carried = Carried(torch.diag(torch.tensor([1.0, 0.5, 1e-11, 1e-11]).double())[None])
    assert carried.narrowed(generator) is None


@pytest.mark.parametrize("kind", ["tanh", "gru", "lstm", "projected"])
def test_without_matrices(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    jacobians = jacobians_of(kind, 50, 2, 12, scale=1.2)
    exact = measured(jacobians, 2)
    assert measured(jacobians, 2, budget=50 * jacobians.columns).method == "dense"
    assert measured(jacobians, 2, budget=50 * jacobians.columns - 1).method == "matrix-free"
    monkeypatch.setattr(curves, "DENSE_UP_TO", 0)
    found = measured(jacobians, 2, tolerance=1e-6, budget=5000)
    assert found.method == "matrix-free" and found.products <= 5600
    grid = [0, 1, 2, 4, 8, 16, 32, 50]
    assert np.flatnonzero(~np.isnan(found.error[0])).tolist() == grid
    np.testing.assert_allclose(found.largest[:, grid], exact.largest[:, grid], atol=1e-5)
    assert (found.largest <= exact.largest + 1e-9).all()
    np.testing.assert_allclose(found.largest, exact.largest, atol=0.05)


def test_products_and_transposes_agree() -> None:
    for kind in KINDS:
        jacobians = jacobians_of(kind, 3, 2, 4)
        u, v = randn(6, jacobians.rows), randn(6, jacobians.columns, seed=1)
        forth, back = (u * jacobians.product(v)).sum(1), (jacobians.transposed_product(u) * v).sum(1)
        torch.testing.assert_close(forth, back, rtol=1e-12, atol=1e-12)
