"""Exact variances against closed forms, and against every tuple of samples that there is."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from layerlab.errors import UserError
from layerlab.estimators.coupling import Pairing, joint_of_pair
from layerlab.estimators.enumeration import Moments, joint, outcomes, probabilities
from layerlab.estimators.space import Space
from layerlab.estimators.variance import (
    Exact,
    SlopeMoments,
    antithetic,
    best_baseline,
    leave_one_out,
    one_bit,
    with_baseline,
    with_mean_of_half,
)

TWO_BITS, THREE_BITS, CATEGORIES = Space.parse(2), Space.parse(3), Space.parse(categories="2x3")
SMALL = [TWO_BITS, CATEGORIES]


def given(space: Space, seed: int = 0) -> tuple[Tensor, Tensor, Moments]:
    """Values with a large constant part, parameters, and their moments."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(space.outcomes or 0, dtype=torch.float64, generator=generator) + 3
    parameters = torch.randn(space.shape, dtype=torch.float64, generator=generator)
    return values, parameters, Moments.of(space, values, parameters)


def scores(space: Space, parameters: Tensor) -> Tensor:
    """The score of every outcome by autograd of log p."""
    leaf = parameters.clone().requires_grad_()
    logs = torch.nn.functional.logsigmoid(torch.stack([-leaf, leaf], -1)) if space.kind == "bits" else leaf
    logs = logs if space.kind == "bits" else torch.log_softmax(logs, -1)
    rows = []
    for outcome in outcomes(space).long():
        log_probability = logs[torch.arange(space.size), outcome].sum()
        rows.append(torch.autograd.grad(log_probability, leaf, retain_graph=True)[0])
    return torch.stack(rows)


def over_tuples(
    space: Space, values: Tensor, parameters: Tensor, count: int, estimate: Callable[[Tensor, Tensor], Tensor]
) -> Exact:
    """Mean and variance of ``estimate(values, scores)`` over all tuples of ``count`` outcomes."""
    weights, every = joint(probabilities(space, parameters)), scores(space, parameters)
    first, second = torch.zeros_like(every[0]), torch.zeros_like(every[0])
    for chosen in itertools.product(range(len(values)), repeat=count):
        picked = torch.tensor(chosen)
        found = estimate(values[picked], every[picked])
        first += weights[picked].prod() * found
        second += weights[picked].prod() * found**2
    return Exact(first, second - first**2)


def same(found: Exact, expected: Exact) -> None:
    torch.testing.assert_close(found.mean, expected.mean, rtol=0, atol=1e-12)
    torch.testing.assert_close(found.variance, expected.variance, rtol=0, atol=1e-12)


def weighted(weights: Tensor, each: Tensor) -> Tensor:
    return (weights.reshape(-1, *[1] * (each.ndim - 1)) * each).mean(0)


@pytest.mark.parametrize("space", SMALL, ids=lambda space: space.describe())
@pytest.mark.parametrize("count", [1, 3])
def test_constant_baselines_against_all_tuples(space: Space, count: int) -> None:
    values, parameters, moments = given(space)
    best = best_baseline(moments)
    for baseline in (0.0, moments.mean, best):
        expected = over_tuples(space, values, parameters, count, lambda f, s, b=baseline: weighted(f - b, s))
        same(with_baseline(moments, baseline, count), expected)
    least = with_baseline(moments, best, count).trace
    for other in (best - 0.01, best + 0.01):
        assert with_baseline(moments, other, count).trace > least


@pytest.mark.parametrize("space", SMALL, ids=lambda space: space.describe())
@pytest.mark.parametrize("count", [2, 3])
def test_leave_one_out_against_all_tuples(space: Space, count: int) -> None:
    values, parameters, moments = given(space)

    def estimate(f: Tensor, s: Tensor) -> Tensor:
        others = (f.sum() - f) / (count - 1)
        return weighted(f - others, s)

    same(leave_one_out(moments, count), over_tuples(space, values, parameters, count, estimate))


@pytest.mark.parametrize("space", SMALL, ids=lambda space: space.describe())
@pytest.mark.parametrize("count", [2, 3])
def test_the_mean_of_one_half_against_all_tuples(space: Space, count: int) -> None:
    values, parameters, moments = given(space)

    def estimate(f: Tensor, s: Tensor) -> Tensor:
        half = count // 2
        return weighted(f[half:] - f[:half].mean(), s[half:])

    same(with_mean_of_half(moments, count), over_tuples(space, values, parameters, count, estimate))


def over_uniforms(values: Tensor, parameters: Tensor, kind: Pairing) -> Exact:
    """One pair of ARM or DisARM by Gauss's quadrature between the places where a bit changes: exact for polynomials."""
    bits = len(parameters)
    chance = parameters.sigmoid().tolist()
    nodes, masses = np.polynomial.legendre.leggauss(3)
    axes = []
    for mu in chance:
        ends = sorted({0.0, mu, 1 - mu, 1.0})
        axes.append(
            [
                (a + (b - a) * (node + 1) / 2, (b - a) * mass / 2)
                for a, b in itertools.pairwise(ends)
                for node, mass in zip(nodes, masses, strict=True)
            ]
        )
    first, second = (torch.zeros(bits, dtype=torch.float64) for _ in range(2))
    place = 2 ** torch.arange(bits - 1, -1, -1)
    for point in itertools.product(*axes):
        u = torch.tensor([node for node, _ in point], dtype=torch.float64)
        mass = math.prod(weight for _, weight in point)
        mu = parameters.sigmoid()
        b, mirrored = (u > 1 - mu).long(), (u < mu).long()
        apart = values[(b * place).sum()] - values[(mirrored * place).sum()]
        if kind == "arm":
            found = apart * (u - 0.5)
        else:
            found = (
                apart / 2 * (1.0 - 2 * mirrored.double()) * (b != mirrored) * torch.sigmoid(parameters.abs())
            )
        first += mass * found
        second += mass * found**2
    return Exact(first, second - first**2)


@pytest.mark.parametrize("kind", ["arm", "disarm"])
@pytest.mark.parametrize("bits", [1, 3])
def test_antithetic_pairs_against_integration_over_the_uniforms(kind: Pairing, bits: int) -> None:
    space = Space.parse(bits)
    values, parameters, moments = given(space, seed=bits)
    same(antithetic(values, moments, 2, kind), over_uniforms(values, parameters, kind))
    half = antithetic(values, moments, 2, kind).variance
    torch.testing.assert_close(antithetic(values, moments, 7, kind).variance, half / 3)  # 3 pairs of 7


@pytest.mark.parametrize("kind", ["arm", "disarm"])
def test_antithetic_pairs_of_many_bits_against_all_pairs(kind: Pairing) -> None:
    space = Space.parse(6)  # Two groups of bits.
    values, parameters, moments = given(space)
    pairs = joint_of_pair(probabilities(space, parameters))
    every = outcomes(space).long()
    torch.testing.assert_close(pairs.sum((1, 2)), torch.ones(6, dtype=torch.float64))
    # The difference of the two, weighted by the joint law: (f - f~)^2 1(b_i != b~_i) for DisARM's bit i.
    at = torch.arange(6)
    joint_weight = pairs[at, every[:, None], every[None]].prod(-1)
    squared = (values[:, None] - values[None]) ** 2 * joint_weight
    if kind == "disarm":
        unequal = (every[:, None] != every[None]).double()
        most = torch.sigmoid(parameters.abs())
        second = (squared[..., None] * unequal).sum((0, 1)) * most**2 / 4
        mean = moments.gradient()
        torch.testing.assert_close(antithetic(values, moments, 2, kind).variance, second - mean**2)
    else:
        # DisARM averages ARM over its uniforms: never above it.
        disarm = antithetic(values, moments, 2, "disarm").variance
        assert bool((antithetic(values, moments, 2, "arm").variance >= disarm).all())


@pytest.mark.parametrize("space", SMALL, ids=lambda space: space.describe())
def test_straight_through_over_the_outcomes(space: Space) -> None:
    _, parameters, _ = given(space)
    chances = probabilities(space, parameters)
    weights = joint(chances)
    shape = (len(weights), *((space.size,) if space.kind == "bits" else space.shape))
    slopes = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    found = SlopeMoments(chances, space.shape)
    for start in range(0, len(weights), 3):
        found.add(weights[start : start + 3], slopes[start : start + 3])
    leaf = parameters.clone().requires_grad_()
    soft = torch.sigmoid(leaf) if space.kind == "bits" else torch.softmax(leaf, -1)
    terms = torch.stack(
        [torch.autograd.grad((soft * row).sum(), leaf, retain_graph=True)[0] for row in slopes]
    )
    mean = torch.tensordot(weights, terms, 1)
    same(found.exact(5), Exact(mean, (torch.tensordot(weights, terms**2, 1) - mean**2) / 5))


@pytest.mark.parametrize("mu", [1e-6, 0.1, 0.25, 0.5, 2 / 3, 0.9, 1 - 1e-6])
@pytest.mark.parametrize("samples", [2, 3, 64])
@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-0.3, 2.2), (100.0, 101.0)])
def test_one_bit_equals_its_closed_forms(mu: float, samples: int, low: float, high: float) -> None:
    space = Space.parse(1)
    values = torch.tensor([low, high], dtype=torch.float64)
    moments = Moments.of(space, values, space.at_probability(mu))
    enumerated = {
        "reinforce": with_baseline(moments, 0.0, samples),
        "mean": with_baseline(moments, moments.mean, samples),
        "optimal": with_baseline(moments, best_baseline(moments), samples),
        "constant": with_baseline(moments, 0.7, samples),
        "leave-one-out": leave_one_out(moments, samples),
        "arm": antithetic(values, moments, samples, "arm"),
        "disarm": antithetic(values, moments, samples, "disarm"),
    }
    closed = one_bit(low, high, mu, samples, baseline=0.7)
    assert {name: exact.trace for name, exact in enumerated.items()} == pytest.approx(
        closed, rel=1e-10, abs=1e-10
    )
    assert closed["optimal"] == pytest.approx(0, abs=1e-25) and enumerated["optimal"].trace == 0
    for exact in enumerated.values():
        assert float(exact.mean) == pytest.approx(mu * (1 - mu) * (high - low), rel=1e-10)


def test_the_documents_toy() -> None:
    for mu in np.linspace(0.01, 0.99, 99).tolist():
        closed = one_bit(0.0, 1.0, mu, 1)
        assert closed["reinforce"] == pytest.approx(mu * (1 - mu) ** 3, rel=1e-12)
        if abs(mu - 2 / 3) > 1e-6:
            assert (closed["mean"] > closed["reinforce"]) == (mu > 2 / 3)


def test_a_large_constant_costs_no_digits() -> None:
    values, parameters, moments = given(THREE_BITS)
    shifted = Moments.of(THREE_BITS, values + 1e9, parameters)
    for count in (2, 5):
        torch.testing.assert_close(
            leave_one_out(shifted, count).variance, leave_one_out(moments, count).variance, rtol=1e-5, atol=0
        )
    assert best_baseline(shifted) - 1e9 == pytest.approx(best_baseline(moments), rel=1e-6)


def test_a_constant_function_has_no_variance_with_its_value_as_baseline() -> None:
    values = torch.full((8,), 7.3, dtype=torch.float64)
    moments = Moments.of(THREE_BITS, values, THREE_BITS.at_probability(0.2))
    assert with_baseline(moments, moments.mean, 4).trace == 0
    assert leave_one_out(moments, 4).trace == 0
    assert antithetic(values, moments, 4, "disarm").trace == 0
    assert with_baseline(moments, 0.0, 4).trace == pytest.approx(3 * 7.3**2 * 0.16 / 4)


def test_too_few_samples_are_refused() -> None:
    values, _, moments = given(TWO_BITS)
    for wanted in (
        lambda: leave_one_out(moments, 1),
        lambda: with_baseline(moments, 0.0, 0),
        lambda: antithetic(values, moments, 1, "arm"),
    ):
        with pytest.raises(UserError, match="at least"):
            wanted()
