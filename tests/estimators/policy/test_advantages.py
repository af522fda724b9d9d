"""Rewards-to-go, generalised advantages and baselines against their definitions, term by term."""

from __future__ import annotations

import numpy as np
import pytest

from layerlab.estimators.policy import advantages as of

LENGTHS = np.array([3, 1, 5, 2])


@pytest.fixture
def tables() -> tuple[of.Array, of.Mask]:
    return of.padded(np.random.default_rng(3).normal(size=LENGTHS.sum()), LENGTHS)


def test_padding_and_back(tables: tuple[of.Array, of.Mask]) -> None:
    rewards, alive = tables
    assert rewards.shape == (4, 5) and alive.sum(axis=1).tolist() == LENGTHS.tolist()
    assert (rewards[~alive] == 0).all()


@pytest.mark.parametrize("discount", [1.0, 0.9])
def test_rewards_to_go_are_sums(tables: tuple[of.Array, of.Mask], discount: float) -> None:
    rewards, _ = tables
    last = np.array([0.0, 2.0, -1.0, 0.0])
    found = of.rewards_to_go(rewards, LENGTHS, discount, last)
    for i, length in enumerate(LENGTHS):
        for t in range(length):
            wanted = sum(discount ** (u - t) * rewards[i, u] for u in range(t, length))
            assert found[i, t] == pytest.approx(wanted + discount ** (length - t) * last[i], abs=1e-12)
        assert (found[i, length:] == 0).all()


def test_generalised_advantages_are_their_sums(tables: tuple[of.Array, of.Mask]) -> None:
    rewards, alive = tables
    values = np.where(alive, np.random.default_rng(4).normal(size=alive.shape), 0)
    last = np.array([0.0, 0.0, 1.5, 0.0])  # the third was cut off
    found = of.generalised(rewards, values, LENGTHS, 0.9, 0.7, last)
    for i, length in enumerate(LENGTHS):
        after = [*values[i, 1:length], last[i]]
        errors = [rewards[i, t] + 0.9 * after[t] - values[i, t] for t in range(length)]
        for t in range(length):
            wanted = sum(0.63 ** (u - t) * errors[u] for u in range(t, length))
            assert found[i, t] == pytest.approx(wanted, abs=1e-12)
    assert (found[~alive] == 0).all()


def test_generalised_advantages_with_lambda_one_are_rewards_to_go_minus_values(
    tables: tuple[of.Array, of.Mask],
) -> None:
    rewards, alive = tables
    nothing, last = np.zeros_like(rewards), np.array([0.5, 0.0, 0.0, 2.0])
    to_go = of.rewards_to_go(rewards, LENGTHS, 0.9, last)
    np.testing.assert_allclose(of.generalised(rewards, nothing, LENGTHS, 0.9, 1.0, last), to_go, atol=1e-12)
    values = np.where(alive, 3.0, 0.0)
    found = of.generalised(rewards, values, LENGTHS, 0.9, 1.0, last)
    np.testing.assert_allclose(found[alive], to_go[alive] - 3, atol=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
def test_leave_one_out_asks_the_others_of_the_group_alone(
    tables: tuple[of.Array, of.Mask], weighted: bool
) -> None:
    _, alive = tables
    rng = np.random.default_rng(5)
    to_go = np.where(alive, rng.normal(size=alive.shape), 0)
    weights = rng.uniform(0.1, 2, size=alive.shape)
    found = of.leave_one_out(to_go, alive, 2, weights if weighted else None)
    w = weights if weighted else np.ones_like(weights)
    for i, other in ((0, 1), (1, 0), (2, 3), (3, 2)):
        for t in range(LENGTHS[i]):
            # In a pair the baseline is the other one's, whatever its weight, held at its last step.
            assert found[i, t] == pytest.approx(to_go[other, min(t, LENGTHS[other] - 1)], abs=1e-12)
    whole = of.leave_one_out(to_go, alive, 1, weights if weighted else None)
    for i in range(4):
        for t in range(LENGTHS[i]):
            there = [j for j in range(4) if j != i and LENGTHS[j] > t]
            if there:
                wanted = sum(w[j, t] * to_go[j, t] for j in there) / sum(w[j, t] for j in there)
                assert whole[i, t] == pytest.approx(wanted, abs=1e-12)
            else:
                assert whole[i, t] == whole[i, t - 1]


def test_equal_returns_of_very_different_size_leave_no_noise() -> None:
    """The sum of all minus the own would leave 1e-4 of 1e12."""
    to_go = np.array([[1e12], [0.1], [0.1], [0.1]])
    found = of.leave_one_out(to_go, np.ones((4, 1), bool), 1)
    assert found[0, 0] == pytest.approx(0.1, abs=1e-15)


def test_a_profile_holds_its_last_value() -> None:
    to_go = np.array([[3.0, 2.0, 1.0], [5.0, 0.0, 0.0]])
    alive = np.array([[True, True, True], [True, False, False]])
    assert of.profile(to_go, alive, 5).tolist() == [4, 2, 1, 1, 1]
    assert of.profile(to_go, alive, 2).tolist() == [4, 2]
    assert of.at_each_step(np.array([4.0, 2.0]), 4).tolist() == [4, 2, 2, 2]
