"""What a step's score is multiplied by: rewards-to-go, generalised advantages, and baselines.

Arrays are padded: (E, T) for E episodes of at most T steps, with a mask ``alive``. Everything is float64.

A baseline leaves the gradient's expectation alone as long as, given the state, it does not depend on the action. So
the mean comes from the batch before, the leave-one-out ones from the other episodes, and the value network has not
seen the batch that it serves.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


def padded(values: NDArray[Any], lengths: NDArray[np.int64]) -> tuple[Array, Mask]:
    """Values (S,) of episodes one after the other as (E, T), zero behind each end; and where they are.

    >>> padded(np.array([1.0, 2.0, 3.0]), np.array([1, 2]))[0]
    array([[1., 0.],
           [2., 3.]])
    """
    alive = np.arange(int(lengths.max())) < lengths[:, None]
    table = np.zeros(alive.shape)
    table[alive] = values
    return table, alive


def rewards_to_go(
    rewards: Array, lengths: NDArray[np.int64], discount: float, last: Array | None = None
) -> Array:
    """``G_t = sum_{u >= t} discount^(u - t) r_u + discount^(T - t) last``.

    Args:
        rewards: (E, T), zero behind each end.
        lengths: (E,).
        discount: gamma.
        last: (E,) what an episode that was cut off would have brought; zeros when None.

    Returns:
        (E, T), zero behind each end.

    >>> rewards_to_go(np.array([[1.0, 1.0, 1.0]]), np.array([3]), 0.5)
    array([[1.75, 1.5 , 1.  ]])
    """
    rewards = rewards.copy()
    if last is not None:
        rewards[np.arange(len(lengths)), lengths - 1] += discount * last
    return _backwards(rewards, discount)


def generalised(
    rewards: Array, values: Array, lengths: NDArray[np.int64], discount: float, lam: float, last: Array
) -> Array:
    """Generalised advantages: ``A_t = sum_{u >= t} (discount lam)^(u - t) (r_u + discount V_(u+1) - V_u)``.

    With ``lam`` 1 this is the reward-to-go minus V_t; below 1 errors of V become a bias. Schulman et al., 2016.

    Args:
        rewards: (E, T), zero behind each end.
        values: (E, T) V of the state before each step, zero behind each end.
        lengths: (E,).
        discount: gamma.
        lam: lambda.
        last: (E,) V of the state after the last step; 0 where the episode came to its end.

    Returns:
        (E, T), zero behind each end.
    """
    following = np.concatenate([values[:, 1:], np.zeros((len(values), 1))], axis=1)
    following[np.arange(len(lengths)), lengths - 1] = last
    return _backwards(rewards + discount * following - values, discount * lam)


def profile(to_go: Array, alive: Mask, length: int) -> Array:
    """The mean reward-to-go at each step over the episodes that are alive, ``length`` long.

    Behind the longest episode it goes on with its last value; steps from ``length`` on share the last one.

    >>> profile(np.array([[3.0, 1.0], [5.0, 0.0]]), np.array([[True, True], [True, False]]), 3)
    array([4., 1., 1.])
    """
    means = to_go.sum(axis=0) / alive.sum(axis=0)
    kept = means[:length]
    return np.concatenate([kept, np.full(length - len(kept), kept[-1])])


def at_each_step(baseline: Array, steps: int) -> Array:
    """A `profile` stretched to ``steps`` steps.

    >>> at_each_step(np.array([4.0, 1.0]), 3)
    array([4., 1., 1.])
    """
    return baseline[np.minimum(np.arange(steps), len(baseline) - 1)]


def leave_one_out(to_go: Array, alive: Mask, groups: int, weights: Array | None = None) -> Array:
    """For every episode and step the mean reward-to-go at that step of the other episodes of its group.

    With weights ``|s|^2``, the squared lengths of the scores, it estimates ``E[|s|^2 G] / E[|s|^2]``: the baseline
    that makes the second moment of ``s (G - b)`` least, step by step. Where none of the others is alive any more,
    the baseline goes on with its last value, which depends on the others alone.

    Args:
        to_go: (E, T), zero behind each end.
        alive: (E, T).
        groups: episodes are dealt to that many groups of neighbours, each of at least 2.
        weights: (E, T) positive where alive, or None for equal ones.

    Returns:
        (E, T).
    """
    episodes, steps = to_go.shape
    shape = (groups, episodes // groups, steps)
    w = np.where(alive, 1.0 if weights is None else weights, 0.0).reshape(shape)
    total, mass = (w * to_go.reshape(shape)), w
    # Not "sum minus own": of two terms of very different size that would leave rounding noise.
    others = _sum_of_others(mass)
    numerator = _sum_of_others(total)
    there = _sum_of_others(alive.astype(np.float64).reshape(shape)) > 0
    baseline = np.divide(numerator, others, out=np.zeros(shape), where=there & (others > 0))
    # The last step at which another one was alive, at or before each step; all are alive at the first.
    latest = np.maximum.accumulate(np.where(there, np.arange(steps), 0), axis=2)
    return np.take_along_axis(baseline, latest, axis=2).reshape(episodes, steps)


def _sum_of_others(values: Array) -> Array:
    """Along the second axis, of (groups, members, steps): sums from both sides."""
    before = np.zeros_like(values)
    before[:, 1:] = np.cumsum(values, axis=1)[:, :-1]
    after = np.zeros_like(values)
    after[:, :-1] = np.cumsum(values[:, ::-1], axis=1)[:, ::-1][:, 1:]
    return before + after


def _backwards(terms: Array, factor: float) -> Array:
    """``y_t = terms_t + factor y_(t+1)`` along the second axis."""
    found = terms.copy()
    columns = found.T
    for step in range(len(columns) - 2, -1, -1):
        columns[step] += factor * columns[step + 1]
    return found
