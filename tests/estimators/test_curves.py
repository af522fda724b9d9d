"""Variance against mu."""

from __future__ import annotations

import math

import pytest
import torch

from layerlab.errors import UserError
from layerlab.estimators.curves import NAMES, against_mu, default_grid, exact_variances, signal_to_noise
from layerlab.estimators.enumeration import Moments
from layerlab.estimators.space import Space
from layerlab.estimators.variance import one_bit

TOY = torch.tensor([0.0, 1.0], dtype=torch.float64)


def test_the_documents_curve() -> None:
    told: list[float] = []
    found = against_mu(Space.parse(1), TOY, 64, progress=lambda share, words: told.append(share))
    assert found.mu[0] == 0.02 and found.mu[24] == 0.5 and found.mu[-1] == 0.98 and len(told) == 49
    assert set(found.variance) == set(NAMES)
    for at, mu in enumerate(found.mu):
        closed = one_bit(0.0, 1.0, mu, 64)
        for name, curve in found.variance.items():
            assert curve[at] == pytest.approx(closed[name], rel=1e-10, abs=1e-16)
        assert found.gradient[at] == pytest.approx(mu * (1 - mu), rel=1e-12)
    # Largest at 1/4; the mean worse than none beyond 2/3; the best constant has none.
    assert found.mu[max(range(49), key=lambda at: found.variance["reinforce"][at])] == pytest.approx(
        0.25, abs=0.02
    )
    worse = [
        m
        for m, a, b in zip(found.mu, found.variance["mean"], found.variance["reinforce"], strict=True)
        if a > b
    ]
    assert worse == [mu for mu in found.mu if mu > 2 / 3]
    assert set(found.variance["optimal"]) == {0.0}
    ratio = found.signal_to_noise("reinforce")
    assert ratio[24] == pytest.approx(math.sqrt(64))  # mu / (1 - mu) per sample
    assert set(found.signal_to_noise("optimal")) == {math.inf}


def test_curves_of_several_bits_are_the_moments_at_each_mu() -> None:
    space = Space.parse(3)
    values = torch.randn(8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = against_mu(space, values, 5, [0.3, 0.9], ["leave-one-out", "disarm"])
    assert set(found.variance) == {"leave-one-out", "disarm"}
    for at, mu in enumerate(found.mu):
        exact = exact_variances(values, Moments.of(space, values, space.at_probability(mu)), 5)
        assert found.variance["disarm"][at] == exact["disarm"].trace
        assert found.gradient[at] == float(exact["disarm"].mean.norm())


def test_one_evaluation_leaves_out_what_needs_two() -> None:
    assert set(against_mu(Space.parse(1), TOY, 1, [0.5]).variance) == {"reinforce", "mean", "optimal"}


def test_grids_signals_and_refusals() -> None:
    assert len(default_grid(Space.parse(17))) == 25 and default_grid(Space.parse(17))[12] == 0.5
    assert math.isnan(signal_to_noise(0.0, 0.0))
    with pytest.raises(UserError, match="is one of bits, not of 4 variables"):
        against_mu(Space.parse(categories="4x8"), TOY, 4)
    with pytest.raises(UserError, match="strictly between 0 and 1"):
        against_mu(Space.parse(1), TOY, 4, [0.0])
    with pytest.raises(UserError, match="no exact variance of 'rebar'"):
        against_mu(Space.parse(1), TOY, 4, [0.5], ["rebar"])
