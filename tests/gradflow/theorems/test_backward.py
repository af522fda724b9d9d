"""Backpropagation with rescaled cotangents: autograd's Jacobian, at any depth, and nothing hidden."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from layerlab.errors import UserError
from layerlab.gradflow.theorems import backward, subjects


def test_it_is_the_jacobian_of_autograd() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(2, 3, 3), nn.GELU(), nn.Flatten(0), nn.Linear(12, 5), nn.Tanh()
        ).double()
    x = subjects.gaussian(2, 4, 4)
    along = backward.points(list(model), x)
    found = backward.jacobian(list(model), along)
    dense = torch.autograd.functional.jacobian(model, x).reshape(5, 32).numpy()
    np.testing.assert_allclose(np.ldexp(found.matrix, found.exponent), dense, rtol=1e-12, atol=1e-16)
    assert found.log2_norm() == pytest.approx(math.log2(np.linalg.svd(dense)[1][0]), rel=1e-13)
    assert 0.5 <= np.abs(found.matrix).max() < 1


@pytest.mark.parametrize("factor", [0.25, 2.0**-40, 2.0**40])
def test_no_depth_is_too_deep(factor: float) -> None:
    stages = [lambda x: factor * x] * 300
    found = backward.jacobian(stages, [torch.zeros(2, dtype=torch.float64)] * 301)
    assert found.log2_norm() == 300 * math.log2(factor)
    assert backward.per_layer(found.log2_norm(), 300) == factor


def test_rescaling_is_exact() -> None:
    matrix = np.random.default_rng(0).standard_normal((3, 4)) * 1e-200
    scaled, exponent = backward._rescaled(matrix)
    assert exponent < -600
    np.testing.assert_array_equal(np.ldexp(scaled, exponent), matrix)


def test_a_derivative_that_is_not_a_number_never_counts_as_0() -> None:
    x = torch.zeros(1, dtype=torch.float64)
    stages = [lambda x: 0.0 * x, torch.sqrt]
    along = backward.points(stages, x)
    assert math.isnan(backward.jacobian(stages, along).log2_norm())
    assert math.isnan(backward.compared(stages, x, [0.0, 0.0], 1).measured)
    assert math.isnan(backward.norm(np.array([[1.0, math.inf]])))


def test_a_stage_that_ignores_its_input_has_jacobian_0() -> None:
    constant = torch.ones(3, dtype=torch.float64)
    x, parameter = torch.ones(2, dtype=torch.float64), constant.clone().requires_grad_()
    for stage in (lambda _: constant, lambda x: constant + 0.0 * x.detach().sum(), lambda _: 2 * parameter):
        found = backward.jacobian([stage], [x, constant])
        assert found.log2_norm() == -math.inf
        assert found.matrix.shape == (3, 2)


def test_a_stage_may_work_in_place() -> None:
    stages = [lambda x: 2 * x, lambda x: x.relu_(), lambda x: x.mul_(3)]
    x = torch.tensor([1.0, -1.0], dtype=torch.float64)
    along = backward.points(stages, x)
    assert [point.tolist() for point in along] == [[1, -1], [2, -2], [2, 0], [6, 0]]
    found = backward.jacobian(stages, along)
    assert np.ldexp(found.matrix, found.exponent).tolist() == [[6, 0], [0, 0]]
    assert x.tolist() == [1, -1]


@pytest.mark.parametrize(
    ("stage", "what"),
    [
        (lambda x: (x, x), "got tuple"),
        (lambda x: x > 0, "got a tensor of torch.bool"),
        (lambda x: 1.0, "got float"),
    ],
)
def test_a_stage_must_give_a_tensor(stage: subjects.Stage, what: str) -> None:
    with pytest.raises(UserError, match=f"stage 2 must give one floating-point tensor, {what}"):
        backward.points([torch.tanh, stage], torch.zeros(2))


def test_slack_is_a_layers_rounding_whatever_the_depth() -> None:
    shallow = backward.slack(1, 4, 0.25, [-2.0])
    deep = backward.slack(100, 4, 0.25, [-2.0] * 100)
    assert shallow.value == deep.value == 2.0**-52 * 4 * 12 * 3 * 0.25
    assert backward.slack(2, 4, 0.0, [-math.inf, 1.0]).value == 0
    # Logarithms that cancel in the mean are rounded all the same.
    assert backward.slack(2, 1, 1.0, [400.0, -400.0]).value == 2.0**-52 * 9 * 401


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: subjects.Affine(torch.zeros(3)), r"a weight is a matrix .* got shape \(3,\)"),
        (lambda: subjects.Affine(torch.zeros(0, 3)), r"a weight is a matrix .* got shape \(0, 3\)"),
        (lambda: subjects.Affine(torch.zeros(2, 3), torch.zeros(3)), r"expected \(2,\), got \(3,\)"),
        (
            lambda: subjects.recurrent(torch.zeros(2, 3), torch.zeros(3), 2),
            r"layer 2 takes a vector of 3, got shape \(2,\)",
        ),
        (lambda: subjects.recurrent(torch.zeros(2, 2), torch.zeros(2, 1), 2), "layer 1 takes a vector of 2"),
        (
            lambda: subjects.Network(subjects.scalar([1.0], 0.0), ()),
            "one activation a layer: expected 1, got 0",
        ),
    ],
)
def test_what_does_not_fit_is_a_users_mistake(build: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build()  # type: ignore[operator]


def test_weights_of_float32_are_taken_over_exactly() -> None:
    weight = torch.tensor([[0.1]])
    affine = subjects.Affine(weight, torch.tensor([0.2]))
    assert affine.weight.dtype == affine(torch.zeros(1).double()).dtype == torch.float64
    assert affine.weight.item() == weight.item()
    assert affine.bias is not None
    assert affine.bias.dtype == torch.float64


def scaled(x: Tensor) -> Tensor:
    return 2 * x


def test_one_activation_serves_all_layers_or_each_has_its_own() -> None:
    chain = subjects.scalar([3.0, 3.0], 1.0)
    double = subjects.Activation("double", scaled, 2.0)
    assert backward.points(chain.stages(double), chain.x)[-1].item() == 36
    assert backward.points(chain.stages(double, subjects.IDENTITY), chain.x)[-1].item() == 18
