"""The claims about recurrent layers, and the erratum of the solutions, question 1.2.1."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from random_chains import ANY, measured, recurrences
from torch import nn

from layerlab.gradflow.theorems import (
    RNN_SIGMOID,
    RNN_TANH,
    SIGMOID_LAYER,
    SIGMOID_LAYER_AS_PRINTED,
    backward,
    recurrent,
    subjects,
)
from layerlab.gradflow.theorems.subjects import Affine, Chain


@ANY
@given(recurrences())
def test_the_bounds_hold_on_any_recurrence(chain: Chain) -> None:
    assert measured(RNN_TANH, chain).verdict == "holds"
    assert measured(RNN_SIGMOID, chain).verdict == "holds"


@pytest.mark.parametrize(("claim", "slope"), [(RNN_TANH, 1.0), (RNN_SIGMOID, 0.25)], ids=["tanh", "sigmoid"])
@pytest.mark.parametrize("norm", [0.25, 0.5, 1.0, 7.0])
def test_the_bound_is_reached_and_a_norm_a_little_too_small_is_noticed(
    claim: recurrent.Claim, slope: float, norm: float
) -> None:
    start = torch.zeros(6) if slope == 1 else torch.full((6,), 0.5).double()
    weight = norm * subjects.orthogonal(6)
    chain = subjects.recurrent(weight, start, 60, None if slope == 1 else -(weight @ start))
    outcome = measured(claim, chain)
    assert outcome.bound == pytest.approx(norm * slope, rel=1e-14)
    assert outcome.measured == pytest.approx(norm * slope, rel=1e-14)
    assert outcome.verdict == "holds"
    shy = measured(claim, chain, norm=lambda w: backward.norm(w) * (1 - 1e-12))
    assert shy.verdict == "violated"


def test_one_step_is_the_homeworks_formula() -> None:
    weight, x = subjects.gaussian(4, 4), subjects.gaussian(4)
    image = torch.tanh(weight @ x)
    dense = (1 - image**2)[:, None] * weight
    outcome = measured(RNN_TANH, subjects.recurrent(weight, x, 1))
    assert outcome.measured == pytest.approx(np.linalg.svd(dense.numpy())[1][0], rel=1e-13)
    image = torch.sigmoid(weight @ x)
    dense = (image * (1 - image))[:, None] * weight
    outcome = measured(RNN_SIGMOID, subjects.recurrent(weight, x, 1))
    assert outcome.measured == pytest.approx(np.linalg.svd(dense.numpy())[1][0], rel=1e-13)


def test_torchs_rnn_with_inputs_is_a_recurrence_with_biases_that_change() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        layer = nn.RNN(2, 5).double()
    inputs = subjects.gaussian(12, 2)
    chain = recurrent.driven(layer, inputs)

    def last(hidden: torch.Tensor) -> torch.Tensor:
        return layer(inputs[:, None], hidden[None, None])[1].flatten()

    start = torch.zeros(5, dtype=torch.float64)
    dense = torch.autograd.functional.jacobian(last, start).numpy()
    outcome = measured(RNN_TANH, chain)
    assert outcome.measured == pytest.approx(np.linalg.svd(dense)[1][0] ** (1 / 12), rel=1e-12)
    assert outcome.verdict == "holds"


def test_the_spectral_radius_bounds_nothing_for_a_weight_that_is_not_normal() -> None:
    wild = subjects.recurrent(torch.tensor([[0.0, 9.0], [0.0, 0.0]]), torch.zeros(2), 1)
    assert measured(RNN_TANH, wild).measured == pytest.approx(9, rel=1e-14)
    assert measured(RNN_TANH, wild, norm=recurrent.spectral_radius).bound == 0
    symmetric = subjects.recurrent(torch.diag(torch.tensor([0.5, -0.7])), torch.zeros(2), 9)
    assert measured(RNN_TANH, symmetric, norm=recurrent.spectral_radius).verdict == "holds"


def test_the_centred_recurrence_reaches_the_bound_for_ever() -> None:
    assert measured(RNN_SIGMOID, recurrent._centred_recurrence(0.25, 200)).tightness == pytest.approx(1)


def test_torchs_rnn_is_the_same_every_time() -> None:
    chains = []
    for seed in (0, 1):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            chains.append(recurrent._nn_rnn())
    assert torch.equal(chains[0].maps[0].weight, chains[1].maps[0].weight)


def test_a_weight_is_scaled_to_its_norm() -> None:
    assert backward.norm(subjects.with_norm(subjects.gaussian(4, 6), 0.3)) == pytest.approx(0.3, rel=1e-14)


def test_the_widest_layer_allowed() -> None:
    assert recurrent.too_wide(1000) is None


def test_the_hypothesis_that_fails_is_named() -> None:
    changing = Chain((Affine(torch.eye(2)), Affine(2 * torch.eye(2))), torch.zeros(2))
    wide = subjects.recurrent(torch.eye(1001), torch.zeros(1001), 1)
    for claim in (RNN_TANH, RNN_SIGMOID):
        assert measured(claim, changing).unmet == "the weights change from step to step"
        assert "1,001 units, too many" in str(measured(claim, wide).unmet)
        assert measured(claim, Chain((), torch.zeros(2))).unmet == "the chain has no layer"


# ------------------------------------------------------------------------ sigmoid-layer, sigmoid-layer-as-printed

ENTRIES = st.lists(st.floats(-700, 700), min_size=1, max_size=6)


@ANY
@given(ENTRIES)
def test_the_norm_of_a_sigmoid_layer_is_its_largest_slope(entries: list[float]) -> None:
    outcome = measured(SIGMOID_LAYER, torch.tensor(entries, dtype=torch.float64))
    assert outcome.verdict == "holds"
    steepest = max(1 / (4 * math.cosh(a / 2) ** 2) for a in entries)
    assert outcome.measured == pytest.approx(steepest, rel=1e-12, abs=1e-15)
    assert outcome.measured <= 0.25


@ANY
@given(ENTRIES)
def test_it_is_a_quarter_only_with_a_unit_at_0(entries: list[float]) -> None:
    verdict = measured(SIGMOID_LAYER_AS_PRINTED, torch.tensor(entries, dtype=torch.float64)).verdict
    nearest = min(map(abs, entries))
    if nearest == 0:
        assert verdict == "holds"
    elif nearest > 1e-6:
        assert verdict == "violated"


def test_no_pre_activations_are_too_strange() -> None:
    for before, reason in (
        (torch.tensor([math.inf]), "a pre-activation is not finite"),
        (torch.tensor([0.0, math.nan]), "a pre-activation is not finite"),
        (torch.zeros(0), "the pre-activations are no vector with at least one entry"),
        (torch.zeros(2, 2), "the pre-activations are no vector with at least one entry"),
        (torch.zeros(1001), "a layer has 1,001 units, too many for a dense Jacobian (up to 1,000)"),
    ):
        assert measured(SIGMOID_LAYER, before).unmet == reason


def test_the_solutions_bound_survives_their_slip() -> None:
    # With "at most" in place of "equals" their next line, (1/16)^(n − 1), is right.
    chain = subjects.recurrent(0.25 * subjects.orthogonal(5), subjects.gaussian(5), 12)
    outcome = measured(RNN_SIGMOID, chain)
    assert outcome.bound == pytest.approx(1 / 16, rel=1e-14)
    assert outcome.verdict == "holds"
