"""What is measured of steps against dense float64 Jacobians and plain gradients."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from layerlab.gradflow import measurement
from layerlab.gradflow.evaluation import Call
from layerlab.gradflow.flow import record
from layerlab.gradflow.linear_maps import DenseMap, dense
from layerlab.gradflow.measurement import (
    Map,
    backward,
    loss_cotangent,
    operators,
    product_ends,
    random_cotangents,
    step_ends,
)
from layerlab.gradflow.path import Step, steps
from layerlab.gradflow.trace import Trace

from .models import SUBJECTS, subject


def opened(model: Any, x: Any, wrt: Any = None) -> tuple[tuple[Step, ...], Trace, list[Map], bool]:
    call = Call.of(model, x, wrt, None, 0)
    way = steps(record(call), model)
    trace = Trace(call, [p for step in way for p in (step.start, step.stop)])
    factors, separate = operators(trace, way)
    return way, trace, factors, separate


@pytest.mark.parametrize("name", SUBJECTS)
def test_ends_agree_with_dense_jacobians(name: str) -> None:
    model, x = subject(name)
    _, _, factors, separate = opened(model, x, 0 if name in ("gcn", "gat") else None)
    assert separate == (name not in ("gcn", "gat"))
    product: Tensor | None = None
    products = list(product_ends(factors, tolerance=1e-6, budget=200, seed=0))
    for factor, over in zip(factors, products, strict=True):
        matrix = dense(factor)
        values = torch.linalg.svdvals(matrix).numpy()
        found = step_ends(factor, tolerance=1e-6, budget=200, seed=0)
        np.testing.assert_allclose(found.largest, values[:, 0], rtol=1e-8)
        assert found.smallest is not None
        if found.smallest_exact:
            np.testing.assert_allclose(found.smallest, values[:, -1], rtol=1e-6, atol=1e-14)
        else:
            assert (found.smallest >= values[:, -1] * (1 - 1e-9)).all()
        product = matrix if product is None else matrix @ product
        whole = torch.linalg.svdvals(product).numpy()
        np.testing.assert_allclose(over.largest, np.log(whole[:, 0]), atol=1e-8)
        if over.smallest is not None and over.smallest_exact:
            np.testing.assert_allclose(np.exp(over.smallest), whole[:, -1], rtol=1e-6, atol=1e-14)


def test_products_of_large_layers_agree_with_dense_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measurement, "DENSE_UP_TO", 4)
    generator = torch.Generator().manual_seed(0)
    sizes = [12, 20, 20, 9, 20, 5]
    factors = [
        DenseMap(torch.randn(3, b, a, generator=generator, dtype=torch.float64) / a**0.5)
        for a, b in pairwise(sizes)
    ]
    product: Tensor | None = None
    for factor, found in zip(factors, product_ends(factors, tolerance=1e-6, budget=100, seed=0), strict=True):
        product = factor.matrices if product is None else factor.matrices @ product
        expected = torch.linalg.svdvals(product)[:, 0].log()
        np.testing.assert_allclose(found.largest, expected, atol=1e-9)
        assert (found.largest_error <= 1e-6).all()
        assert found.method == "lanczos"
        assert found.smallest is None


@pytest.mark.parametrize("width", [4, 200])
def test_a_product_that_is_zero_is_zero(width: int) -> None:
    factors = [DenseMap(torch.zeros(2, width, width)), DenseMap(torch.ones(2, 3, width))]
    for found in product_ends(factors, tolerance=1e-3, budget=20, seed=0):
        assert np.isneginf(found.largest).all()


@pytest.mark.parametrize("width", [3, 150])
def test_depth_does_not_underflow(width: int) -> None:
    factors = [DenseMap(1e-3 * torch.eye(width))] * 40
    *_, last = product_ends(factors, tolerance=1e-6, budget=20, seed=0)
    np.testing.assert_allclose(last.largest, 40 * np.log(1e-3), rtol=1e-6)


def test_sigma_min_below_rounding_is_a_bound() -> None:
    graded = DenseMap(torch.diag(torch.tensor([1.0, 1e-5], dtype=torch.float64)))
    found = list(product_ends([graded] * 5, tolerance=1e-3, budget=20, seed=0))
    assert [entry.smallest_exact for entry in found] == [True, True, False, False, False]
    for depth, entry in enumerate(found, 1):
        assert entry.smallest is not None
        assert entry.smallest[0] >= depth * np.log(1e-5) - 1e-6


def test_a_diagonal_jacobian_is_read_off() -> None:
    _, _, factors, _ = opened(nn.Sequential(nn.Linear(3, 300), nn.Sigmoid()), torch.randn(2, 3))
    found = step_ends(factors[1], tolerance=1e-2, budget=40, seed=0)
    assert found.method == "diagonal"
    values = torch.linalg.svdvals(dense(factors[1])).numpy()
    np.testing.assert_allclose(found.largest, values[:, 0], rtol=1e-6)
    assert found.smallest is not None
    np.testing.assert_allclose(found.smallest, values[:, -1], rtol=1e-6)


def test_what_is_nearly_diagonal_is_not() -> None:
    matrix = torch.eye(200) + 1e-3 * torch.eye(200).roll(1, 0)
    found = step_ends(DenseMap(matrix), tolerance=1e-2, budget=40, seed=0)
    assert found.method == "lanczos"


@pytest.mark.parametrize("name", [n for n in SUBJECTS if n not in ("gcn", "gat")])
def test_gradients_agree_with_plain_ones(name: str) -> None:
    model, x = subject(name)
    way, trace, factors, _ = opened(model, x)
    y = trace.tensor(way[-1].stop)
    cotangent = loss_cotangent(y, lambda out: (out**2).sum() + out.sum())
    found = backward(trace, way, factors, model, [cotangent])
    names = dict(model.named_parameters())
    points = [trace.tensor(step.start) for step in way]
    grads = torch.autograd.grad(
        y, [*points, *names.values()], cotangent, allow_unused=True, retain_graph=True
    )
    for index, grad in enumerate(grads[: len(points)]):
        np.testing.assert_allclose(found.gradients[index], grad.flatten(1).norm(dim=1).log(), rtol=1e-9)
    np.testing.assert_allclose(found.gradients[-1], cotangent.flatten(1).norm(dim=1).log(), rtol=1e-12)
    seen: dict[str, list[float]] = {}
    for entry in found.weights:
        for key, (size, norm) in entry.items():
            seen.setdefault(key, []).append(size)
            assert norm == pytest.approx(float(names[key].detach().norm().log()), rel=1e-9)
    for key, grad in zip(names, grads[len(points) :], strict=True):
        if grad is not None and len(seen.get(key, [])) == 1:
            assert seen[key][0] == pytest.approx(float(grad.norm().log()), rel=1e-6, abs=1e-9), key
    used = {key for key, grad in zip(names, grads[len(points) :], strict=True) if grad is not None}
    # An embedding lies before the start.
    assert used - set(seen) <= {"tokens.weight", "places.weight"}


def test_gradients_over_many_directions_are_their_root_mean_square() -> None:
    model = nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 3)).double()
    x = torch.randn(6, 4, dtype=torch.float64)
    way, trace, factors, _ = opened(model, x)
    cotangents = random_cotangents(trace.tensor(way[-1].stop), 3, 0)
    together = backward(trace, way, factors, model, cotangents)
    each = [backward(trace, way, factors, model, [c]).gradients for c in cotangents]
    np.testing.assert_allclose(together.gradients, np.log(np.mean(np.exp(2 * np.array(each)), 0)) / 2)


def test_random_directions_have_norm_one_a_sample_in_the_mean() -> None:
    found = random_cotangents(torch.zeros(500, 40), 1, 0)[0]
    assert float(found.norm(dim=1).square().mean()) == pytest.approx(1.0, rel=0.05)


def test_a_gradient_of_a_hundred_sigmoid_layers_is_no_zero() -> None:
    parts: list[nn.Module] = []
    for _ in range(100):
        parts += [nn.Linear(8, 8), nn.Sigmoid()]
    model = nn.Sequential(*parts)
    way, trace, factors, _ = opened(model, torch.randn(3, 8))
    found = backward(trace, way, factors, model, random_cotangents(trace.tensor(way[-1].stop), 1, 0))
    assert np.isfinite(found.gradients).all()
    assert (found.gradients[0] < np.log(1e-45)).all()
    assert all(np.isfinite(size) for entry in found.weights for size, _ in entry.values())


class Cut(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x.detach())


def test_a_layer_that_cuts_the_gradient_is_the_zero_map() -> None:
    model = nn.Sequential(nn.Linear(3, 4), Cut(), nn.Linear(4, 2))
    way, trace, factors, separate = opened(model, torch.randn(5, 3))
    assert separate
    assert [factor.attached for factor in factors] == [True, False, True]
    assert (factors[1].samples, factors[1].rows, factors[1].columns) == (5, 4, 4)
    found = backward(trace, way, factors, model, random_cotangents(trace.tensor(way[-1].stop), 2, 0))
    assert np.isfinite(found.gradients[2:]).all()
    assert np.isneginf(found.gradients[:2]).all()
    assert found.weights[0]["0.weight"][0] == -np.inf
    assert np.isfinite(found.weights[2]["2.weight"][0])


def test_samples_that_mix_are_one() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh()).train()
    _, _, factors, separate = opened(model, torch.randn(5, 3))
    assert not separate
    assert {factor.samples for factor in factors} == {1}
