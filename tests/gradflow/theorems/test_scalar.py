"""The claims about single units: on any weights, against closed forms, exact arithmetic and limits."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from random_chains import ANY, measured, scalar_chains

from layerlab.claims import Claim
from layerlab.gradflow.theorems import RELU_CHAIN, SIGMOID_CHAIN, TANH_CHAIN, backward, subjects
from layerlab.gradflow.theorems.subjects import Activation, Chain


@ANY
@given(scalar_chains())
def test_the_bounds_hold_on_any_chain(chain: Chain) -> None:
    assert measured(SIGMOID_CHAIN, chain).verdict == "holds"
    assert measured(TANH_CHAIN, chain).verdict == "holds"


def slope_of(function: Activation, weights: list[float], x: float) -> float:
    """|∂f/∂x| by the chain rule in plain Python, slopes from other closed forms than autograd's."""
    product = 1.0
    for weight in weights:
        a = weight * x
        if function is subjects.SIGMOID:
            product *= weight / (4 * math.cosh(a / 2) ** 2)
            x = 1 / (1 + math.exp(-a))
        else:
            product *= weight / math.cosh(a) ** 2
            x = math.tanh(a)
    return abs(product)


@pytest.mark.parametrize(
    ("claim", "function"), [(SIGMOID_CHAIN, subjects.SIGMOID), (TANH_CHAIN, subjects.TANH)]
)
@pytest.mark.parametrize("weights", [[1.0], [0.7, -2.0], [3.0, 0.2, -1.5, 1.0]])
def test_what_is_measured_and_what_bounds_it(
    claim: Claim, function: Activation, weights: list[float]
) -> None:
    outcome = measured(claim, subjects.scalar(weights, 0.4))
    n = len(weights)
    assert outcome.measured == pytest.approx(slope_of(function, weights, 0.4) ** (1 / n), rel=1e-14)
    assert outcome.bound == pytest.approx(abs(math.prod(weights)) ** (1 / n) * function.slope, rel=1e-14)


def test_where_the_bounds_are_reached() -> None:
    assert measured(SIGMOID_CHAIN, subjects.scalar([1.0], 0.0)).tightness == 1
    # The second layer's pre-activation is 1/2 at x = 0: no input reaches the bound from two layers on.
    assert measured(SIGMOID_CHAIN, subjects.scalar([1.0, 1.0], 0.0)).tightness == pytest.approx(
        math.sqrt(1 / math.cosh(0.25) ** 2)
    )
    for n in (1, 2, 7, 150):
        assert measured(TANH_CHAIN, subjects.scalar([1.0] * n, 0.0)).measured == 1
    deep = measured(SIGMOID_CHAIN, subjects.scalar([1.0] * 200, 0.3))
    # At the fixed point h = S(h).
    assert deep.measured == pytest.approx(0.659046068 * (1 - 0.659046068), rel=1e-3)


def test_off_0_tanh_vanishes_as_a_power_of_the_depth_not_exponentially() -> None:
    def slope(depth: int) -> float:
        chain = subjects.scalar([1.0] * depth, 0.5)
        stages = chain.stages(subjects.TANH)
        return 2 ** backward.jacobian(stages, backward.points(stages, chain.x)).log2_norm()

    assert slope(600) / slope(300) == pytest.approx(2**-1.5, rel=0.02)


@pytest.mark.parametrize(
    ("claim", "function"), [(SIGMOID_CHAIN, subjects.SIGMOID), (TANH_CHAIN, subjects.TANH)]
)
def test_a_slope_a_little_too_large_is_noticed(claim: Claim, function: Activation) -> None:
    steeper = Activation("steeper", lambda x: function.function(x) * (1 + 1e-13), 1.0)
    shallower = Activation("shallower", lambda x: function.function(x) * (1 - 1e-13), 1.0)
    for depth in (1, 100):
        biases = [-0.5 if function is subjects.SIGMOID else 0.0] * depth
        chain = subjects.scalar([1.0] * depth, -biases[0], biases)
        assert measured(claim, chain, activation=steeper).verdict == "violated"
        assert measured(claim, chain, activation=shallower).verdict == "holds"


@pytest.mark.parametrize("claim", [SIGMOID_CHAIN, TANH_CHAIN, RELU_CHAIN], ids=lambda claim: claim.id)
@pytest.mark.parametrize(
    ("chain", "reason"),
    [
        (Chain((), torch.zeros(1)), "the chain has no layer"),
        (subjects.recurrent(torch.eye(2), torch.ones(2), 2), "layer 1 has 2 × 2 weights, not one"),
        (subjects.scalar([1.0, math.nan], 1.0), "a weight or bias of layer 2 is not finite"),
        (subjects.scalar([1.0], 1.0, [math.inf]), "a weight or bias of layer 1 is not finite"),
        (subjects.scalar([1.0, 1e-200], 1.0), "a weight of layer 2 has a magnitude outside 1e-140 to 1e+140"),
        (subjects.scalar([1e200], 1.0), "a weight of layer 1 has a magnitude outside 1e-140 to 1e+140"),
        (subjects.scalar([1.0], math.nan), "the input is not finite"),
    ],
)
def test_the_hypothesis_that_fails_is_named(claim: Claim, chain: Chain, reason: str) -> None:
    assert measured(claim, chain).unmet == reason


# --------------------------------------------------------------------------------------------------- relu-chain


@ANY
@given(scalar_chains())
def test_relu_passes_the_product_or_nothing(chain: Chain) -> None:
    outcome = measured(RELU_CHAIN, chain)
    if outcome.unmet is None:
        assert outcome.verdict == "holds"
        full = [abs(affine.weight.item()) for affine in chain.maps]
        allowed = 0.0 if 0 in full else math.exp(sum(map(math.log, full)) / len(full))
        assert abs(outcome.measured) in (0, pytest.approx(allowed, rel=1e-12))


DYADIC = st.integers(-8, 8).map(lambda numerator: numerator / 4)


@ANY
@given(scalar_chains(DYADIC, most=6))
def test_relu_against_difference_quotients_in_exact_arithmetic(chain: Chain) -> None:
    def output(x: Fraction) -> Fraction:
        for affine in chain.maps:
            bias = 0.0 if affine.bias is None else affine.bias.item()
            x = max(Fraction(affine.weight.item()) * x + Fraction(bias), Fraction(0))
        return x

    x, step = Fraction(chain.x.item()), Fraction(1, 2**60)
    right, left = ((output(x + h) - output(x)) / h for h in (step, -step))
    outcome = measured(RELU_CHAIN, chain)
    if outcome.unmet is None:
        assert right == left
        assert outcome.measured == pytest.approx(
            math.copysign(abs(float(right)) ** (1 / len(chain)), float(right)), rel=1e-13
        )
    elif right != left:
        assert "where ReLU has no derivative" in outcome.unmet


def test_at_0_relu_has_two_one_sided_derivatives_not_the_0_of_the_solutions() -> None:
    chain = subjects.scalar([2.0, 3.0], 0.0)
    stages = chain.stages(subjects.RELU)
    right, left = (
        backward.points(stages, torch.tensor([h]).double())[-1].item() / h for h in (2.0**-20, -(2.0**-20))
    )
    assert (right, left) == (6, 0)
    assert (
        measured(RELU_CHAIN, chain).unmet
        == "the pre-activation of layer 1 is 0, where ReLU has no derivative"
    )
    # A weight of 0, or a unit that is off before it: the function is constant there, and the derivative is 0.
    assert measured(RELU_CHAIN, subjects.scalar([2.0, 0.0], 1.0)).verdict == "holds"
    assert measured(RELU_CHAIN, subjects.scalar([2.0, 3.0], -1.0)).verdict == "holds"


def test_values_that_leave_float64_are_no_violation() -> None:
    assert (
        measured(RELU_CHAIN, subjects.scalar([1e10] * 40, 1.0)).unmet
        == "the output of layer 31 is not finite"
    )
    assert "the pre-activation of layer 33 is 0" in str(
        measured(RELU_CHAIN, subjects.scalar([1e-10] * 40, 1.0)).unmet
    )
    assert measured(RELU_CHAIN, subjects.scalar([1e-10] * 30, 1.0)).verdict == "holds"


def test_relu_signs() -> None:
    assert measured(RELU_CHAIN, subjects.scalar([-4.0], -1.0)).measured == -4
    assert measured(RELU_CHAIN, subjects.scalar([-4.0, 1.0], -1.0)).measured == -2
    for wrong in (lambda w, a: -w, lambda w, a: w * (1 + 1e-13)):
        assert measured(RELU_CHAIN, subjects.scalar([2.0, 3.0, 4.0], 1.0), step=wrong).verdict == "violated"
