"""The claims about products: on any modules, any activations and shapes, and where the bound is reached."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from random_chains import ACTIVATIONS, ANY, matrices, measured, networks
from torch import Tensor, nn

from layerlab.gradflow.theorems import ATTAINED, LIPSCHITZ_CHAIN, PRODUCT, backward, products, subjects
from layerlab.gradflow.theorems.subjects import Activation, Affine, Chain, Network, Pipeline


@ANY
@given(st.data())
def test_the_norm_of_a_product_of_matrices(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(1, 5), min_size=2, max_size=5))
    factors = [data.draw(matrices(rows, columns)) for columns, rows in itertools.pairwise(sizes)]
    outcome = measured(PRODUCT, products._matrices(*factors))
    whole = factors[0]
    for factor in factors[1:]:
        whole = factor @ whole
    assert outcome.verdict == "holds"
    n = len(factors)
    norms = [np.linalg.svd(factor.numpy())[1][0] for factor in factors]
    assert outcome.measured**n == pytest.approx(
        np.linalg.svd(whole.numpy())[1][0], rel=1e-12, abs=1e-14 * math.prod(norms)
    )
    assert outcome.bound**n == pytest.approx(math.prod(norms), rel=1e-12)


@ANY
@given(networks())
def test_any_layers_are_bounded_by_their_own_norms_and_those_by_theory(network: Network) -> None:
    general = measured(LIPSCHITZ_CHAIN, network)
    own = measured(PRODUCT, Pipeline(tuple(network.stages()), network.chain.x))
    assert (general.verdict, own.verdict) == ("holds", "holds")
    assert general.measured == own.measured
    assert own.bound <= general.bound + general.slack


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda activation: activation.name)
def test_stated_lipschitz_constants_are_the_least(activation: Activation) -> None:
    x = (
        torch.cat([torch.linspace(-40, 40, 800_001), torch.linspace(-4, 4, 800_001)])
        .double()
        .requires_grad_()
    )
    (slopes,) = torch.autograd.grad(activation.function(x).sum(), x)
    steepest = slopes.abs().max().item()
    assert steepest <= activation.slope * (1 + 1e-15)
    # The grid is 1e-5 apart and the slope flat at its largest.
    assert steepest == pytest.approx(activation.slope, rel=1e-9)


def test_modules_of_any_kind() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.MultiheadAttention(4, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x, x, x, need_weights=False)[0]

    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.LSTM(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x)[0]

    for build in (
        lambda: nn.Sequential(Attention(), nn.LayerNorm(4), Recurrent(), nn.Softmax(dim=-1)),
        lambda: nn.Sequential(Recurrent(), nn.BatchNorm1d(3), nn.Linear(3, 7), nn.Hardtanh()),
    ):
        pipeline = products._seeded(build, 5, 4)
        outcome = measured(PRODUCT, pipeline)
        assert outcome.verdict == "holds"
        whole = torch.autograd.functional.jacobian(nn.Sequential(*pipeline.stages), pipeline.x)
        dense = whole.reshape(math.prod(whole.shape[:2]), -1).numpy()
        largest = np.linalg.svd(dense)[1][0] ** (1 / len(pipeline.stages))
        assert outcome.measured == pytest.approx(largest, rel=1e-12)


def test_modules_are_the_same_every_time() -> None:
    weights = []
    for seed in (0, 1):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            weights.append(products._seeded(products._mlp, 6).stages[0].weight)
    assert torch.equal(*weights)


def test_a_factor_a_little_too_small_is_noticed() -> None:
    pipeline = products._matrices(*(2.0 * subjects.orthogonal(5, seed) for seed in range(4)))

    def shy(stages: list[subjects.Stage], along: list[Tensor]) -> list[float]:
        return [log + math.log2(1 - 1e-12) for log in products._factors(stages, along)]

    assert measured(PRODUCT, pipeline, factors=shy).verdict == "violated"


@pytest.mark.parametrize(
    ("pipeline", "reason"),
    [
        (Pipeline((), torch.zeros(2).double()), "there is no module"),
        (Pipeline((torch.tanh,), torch.zeros(2)), "the input is float32, not float64"),
        (Pipeline((torch.tanh,), torch.zeros(2, dtype=torch.int64)), "the input is int64, not float64"),
        (Pipeline((torch.log,), torch.zeros(2).double()), "the output of layer 1 is not finite"),
        # One number of the two.
        (Pipeline((torch.log,), torch.tensor([0.0, 1.0]).double()), "the output of layer 1 is not finite"),
        (
            Pipeline((lambda x: x.expand(1001),), torch.zeros(1).double()),
            "a layer has 1,001 units, too many for a dense Jacobian (up to 1,000)",
        ),
    ],
)
def test_the_hypothesis_of_the_product_that_fails_is_named(pipeline: Pipeline, reason: str) -> None:
    assert measured(PRODUCT, pipeline).unmet == reason


@pytest.mark.parametrize(
    ("weight", "reason"),
    [
        (torch.diag(torch.tensor([1.0, math.inf])), "a weight or bias of layer 1 is not finite"),
        (torch.ones(1, 1001), "a layer has 1,001 units, too many for a dense Jacobian (up to 1,000)"),
    ],
)
def test_the_hypothesis_of_any_layers_that_fails_is_named(weight: Tensor, reason: str) -> None:
    chain = Chain((Affine(weight),), torch.zeros(weight.shape[1]))
    assert measured(LIPSCHITZ_CHAIN, Network(chain, (subjects.TANH,))).unmet == reason


def test_biases_do_not_move_the_bound() -> None:
    network = products._dense((5, 9, 4), (subjects.SIGMOID, subjects.TANH))
    bare = Network(
        Chain(tuple(Affine(affine.weight) for affine in network.chain.maps), network.chain.x),
        network.activations,
    )
    with_biases, without = measured(LIPSCHITZ_CHAIN, network), measured(LIPSCHITZ_CHAIN, bare)
    assert with_biases.bound == without.bound
    assert with_biases.measured != without.measured


# ------------------------------------------------------------------------------------------------------ attained


@ANY
@given(st.integers(1, 15), st.integers(1, 4), st.floats(0.01, 100))
def test_centred_orthogonal_layers_reach_the_bound(depth: int, size: int, scale: float) -> None:
    network = products._centred_chain(depth, size, scale)
    outcome = measured(ATTAINED, network)
    if outcome.unmet is None:
        assert outcome.verdict == "holds"
        assert outcome.measured == pytest.approx(scale / 4, rel=1e-12)
    assert outcome.unmet is None or scale > 1


def test_the_hypothesis_of_attained_that_fails_is_named() -> None:
    for network, reason in (
        (products._same(subjects.scalar([1.0], 1e-3), subjects.TANH), "a pre-activation of layer 1 is not 0"),
        (
            products._same(subjects.scalar([1.0], -1e-3), subjects.TANH),
            "a pre-activation of layer 1 is not 0",
        ),
        # One unit of the two is centred.
        (
            products._same(Chain((Affine(torch.eye(2)),), torch.tensor([0.0, 1e-3])), subjects.TANH),
            "a pre-activation of layer 1 is not 0",
        ),
        (
            products._tanh_at_0(torch.diag(torch.tensor([1.0, 1e-200], dtype=torch.float64)), 1),
            "a weight of layer 1 has a magnitude outside 1e-140 to 1e+140",
        ),
        (
            products._same(
                Chain((Affine(torch.eye(2), torch.tensor([0.0, math.inf])),), torch.zeros(2)), subjects.TANH
            ),
            "a weight or bias of layer 1 is not finite",
        ),
        (
            products._tanh_at_0(torch.diag(torch.tensor([1.0, 1e200], dtype=torch.float64)), 1),
            "a weight of layer 1 has a magnitude outside 1e-140 to 1e+140",
        ),
        (
            products._tanh_at_0(1e-6 * torch.diag(torch.tensor([1.0, 1.0 + 1e-9], dtype=torch.float64)), 1),
            "the weight of layer 1 is no multiple of an orthogonal matrix",
        ),
        (
            products._tanh_at_0(subjects.shear(0.5), 2),
            "the weight of layer 1 is no multiple of an orthogonal matrix",
        ),
        (
            products._tanh_at_0(torch.ones(1, 1) * math.inf, 2),
            "a weight or bias of layer 1 is not finite",
        ),
        (
            Network(Chain((Affine(torch.eye(3)[:2]),), torch.zeros(3)), (subjects.TANH,)),
            "the weight of layer 1 is no multiple of an orthogonal matrix",
        ),
        (products._same(subjects.scalar([1.0], 0.0), subjects.GELU), "GELU is not known to be steepest at 0"),
    ):
        assert measured(ATTAINED, network).unmet == reason


def test_orthogonal_is_meant_up_to_the_size_of_the_weight() -> None:
    assert measured(ATTAINED, products._tanh_at_0(1e6 * subjects.orthogonal(8), 3)).verdict == "holds"


def test_the_width_is_that_of_the_widest_layer() -> None:
    assert Chain((Affine(torch.eye(2)), Affine(torch.ones(5, 2))), torch.ones(2)).width == 5


def test_a_step_off_the_steepest_point_is_noticed() -> None:
    network = products._same(subjects.scalar([1.0] * 4, 1e-6), subjects.TANH)
    assert measured(ATTAINED, network, centred=lambda _: None).verdict == "violated"
    nearer = products._same(subjects.scalar([1.0] * 4, 1e-9), subjects.TANH)
    assert measured(ATTAINED, nearer).verdict == "holds"


def test_a_diagonal_matrix_reaches_the_bound_without_being_orthogonal() -> None:
    # Orthogonal is enough, not needed.
    network = products._tanh_at_0(torch.diag(torch.tensor([2.0, 1.0])), 5)
    assert "no multiple of an orthogonal matrix" in str(measured(ATTAINED, network).unmet)
    assert measured(ATTAINED, network, orthogonal=lambda _: None).verdict == "holds"
    assert backward.norm(torch.diag(torch.tensor([2.0, 1.0]))) == 2
