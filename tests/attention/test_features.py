"""Feature maps: what they compute, where they stay finite, how they are named."""

from __future__ import annotations

import math

import pytest
import torch

from layerlab.attention.features import (
    NAMES,
    EluPlusOne,
    FeatureMap,
    Hedgehog,
    PositiveRandomFeatures,
    feature_map,
)
from layerlab.errors import UserError


def test_elu_keeps_the_digits_of_small_features() -> None:
    x = torch.tensor([-30.0, -1.0, 0.0, 2.0, 200.0])
    expected = torch.where(x.double() > 0, x.double() + 1, x.double().exp()).float()
    torch.testing.assert_close(EluPlusOne()(x), expected, rtol=2e-6, atol=0.0)


def test_elu_has_a_finite_gradient_everywhere() -> None:
    x = torch.tensor([-300.0, 0.0, 300.0], requires_grad=True)
    EluPlusOne()(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0.0, 1.0, 1.0]


@pytest.mark.parametrize("name", ["elu", "relu", "random", "hedgehog"])
def test_no_feature_is_negative(name: str) -> None:
    phi = feature_map(name, heads=2, head_size=4)
    x = 10 * torch.randn(1, 2, 50, 4, generator=torch.Generator().manual_seed(0))
    assert phi.non_negative
    for features in (phi(x), phi.queries(x), phi.keys(x)):
        assert features.isfinite().all()
        assert (features >= 0).all()


@pytest.mark.parametrize("name", ["elu", "relu", "random", "hedgehog", "identity"])
def test_queries_and_keys_are_the_map_times_positive_numbers(name: str) -> None:
    phi = feature_map(name, heads=2, head_size=4)
    x = torch.randn(1, 2, 50, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x[:, :, :5] -= 5.0  # rows that are negative throughout
    features = phi(x)
    largest = features.abs().argmax(-1, keepdim=True)
    of_queries = (phi.queries(x).gather(-1, largest) / features.gather(-1, largest)).nan_to_num(1.0)
    assert (of_queries > 0).all()
    torch.testing.assert_close(phi.queries(x), of_queries * features)
    one = features.abs().argmax()
    of_keys = phi.keys(x).flatten()[one] / features.flatten()[one]
    assert of_keys > 0
    torch.testing.assert_close(phi.keys(x), of_keys * features)


@pytest.mark.parametrize("orthogonal", [False, True])
def test_random_features_estimate_the_exponential_without_bias(orthogonal: bool) -> None:
    d, draws = 4, 2000
    generator = torch.Generator().manual_seed(0)
    q, k = 0.7 * torch.randn(2, d, generator=generator, dtype=torch.float64)
    found = []
    for seed in range(draws):
        phi = PositiveRandomFeatures(d, features=8, seed=seed, orthogonal=orthogonal)
        found.append(phi(q) @ phi(k))
    estimates = torch.stack(found)
    expected = math.exp(float(q @ k) / math.sqrt(d))
    assert abs(float(estimates.mean()) - expected) < 4 * float(estimates.std()) / math.sqrt(draws)
    # Independent directions: the estimate's relative variance is (exp(scale |q + k|^2) - 1) / r.
    predicted = expected**2 * (math.exp(float((q + k).square().sum()) / math.sqrt(d)) - 1) / 8
    if not orthogonal:
        assert float(estimates.var()) == pytest.approx(predicted, rel=0.3)
    else:
        assert float(estimates.var()) < 0.9 * predicted


def test_orthogonal_directions_are_orthogonal_in_blocks_and_uniform() -> None:
    w = PositiveRandomFeatures(4, features=4000, seed=1).directions.double()
    blocks = w.view(-1, 4, 4)
    gram = blocks @ blocks.mT
    off = gram - gram.diagonal(dim1=1, dim2=2).diag_embed()
    assert off.abs().max() < 1e-5
    # E[w w^T] = 1 and E[w] = 0: five standard deviations of the means over 4000 rows.
    assert ((w.T @ w / 4000 - torch.eye(4, dtype=torch.float64)).abs() < 5 * math.sqrt(2 / 4000)).all()
    assert (w.mean(0).abs() < 5 / math.sqrt(4000)).all()


def test_random_features_do_not_overflow_for_long_vectors() -> None:
    phi = PositiveRandomFeatures(128)
    x = 20 * phi.directions[:8] / math.sqrt(phi.root)
    for features in (phi.queries(x), phi.keys(x)):
        assert features.isfinite().all()


def test_hedgehog_is_a_softmax_of_both_signs_with_weights_for_each_side() -> None:
    phi = Hedgehog(4, 3, kv_heads=2)
    x = torch.randn(2, 4, 5, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(phi.queries(x), torch.cat([x, -x], -1).softmax(-1))
    assert phi.keys(x[:, :2]).shape == (2, 2, 5, 6)
    with torch.no_grad():
        phi.key_weight[1] *= 2
    torch.testing.assert_close(
        phi.keys(x[:, :2])[:, 1], torch.cat([2 * x[:, 1], -2 * x[:, 1]], -1).softmax(-1)
    )
    torch.testing.assert_close(phi(x), phi.queries(x))
    with pytest.raises(UserError, match="for a hedgehog map of 2 heads, got"):
        phi.keys(x)


def test_a_map_is_named_or_given() -> None:
    mine = EluPlusOne()
    assert feature_map(mine) is mine
    for name in NAMES:
        assert feature_map(name, heads=2, head_size=4).name == name
    assert feature_map("random", head_size=4, features=6, seed=3).directions.shape == (6, 4)
    same = feature_map("random", head_size=4, seed=3).directions
    assert torch.equal(same, feature_map("random", head_size=4, seed=3).directions)
    assert not torch.equal(same, feature_map("random", head_size=4, seed=4).directions)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: feature_map("cosine"), "expected a FeatureMap or one of elu, relu"),
        (lambda: feature_map(EluPlusOne), "expected a FeatureMap or one of elu, relu"),
        (lambda: feature_map("random"), "expected the head size"),
        (lambda: feature_map("hedgehog", head_size=4), "expected the head size"),
        (lambda: PositiveRandomFeatures(0), "at least 1, got 0"),
        (lambda: PositiveRandomFeatures(4, features=0), "at least 1, got 4 and 0"),
        (lambda: PositiveRandomFeatures(4, scale=-1.0), "expected a positive scale, got -1.0"),
        (lambda: Hedgehog(0, 4), "expected heads and a head size of at least 1"),
    ],
)
def test_bad_maps_are_named(make: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()  # type: ignore[operator]


def test_a_map_without_forward_says_so() -> None:
    with pytest.raises(NotImplementedError, match="FeatureMap has no forward"):
        FeatureMap()(torch.ones(1))
