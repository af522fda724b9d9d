"""Whole episodes of a policy, a fixed number from every copy of the environment.

The number is fixed before anything is drawn, so a short episode is never preferred to a long one because it ended
first, and episodes are independent of each other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerlab.errors import UserError
from layerlab.estimators.policy.environments import Environments
from layerlab.estimators.policy.networks import Policy

ENDLESS = 1_000_000


@dataclass(frozen=True)
class Episodes:
    """Whole episodes, one after the other; S steps in all, E episodes.

    Attributes:
        observations: (S, d) float32, before each action.
        actions: (S, variables) int64 or (S, dimensions) float32, as the policy's head draws them.
        rewards: (S,) float64.
        lengths: (E,) steps of each.
        truncated: (E,) bool: cut off, not come to an end.
        finals: (E, d) float32: the observation after the last step.
    """

    observations: Tensor
    actions: Tensor
    rewards: NDArray[np.float64]
    lengths: NDArray[np.int64]
    truncated: NDArray[np.bool_]
    finals: Tensor

    @property
    def starts(self) -> NDArray[np.int64]:
        """(E,) the first step of each."""
        return np.cumsum(self.lengths) - self.lengths

    @property
    def returns(self) -> NDArray[np.float64]:
        """(E,) sums of rewards, not discounted."""
        return np.add.reduceat(self.rewards, self.starts)


def collect(
    environments: Environments,
    policy: Policy,
    episodes: int,
    *,
    seed: int,
    generator: torch.Generator,
    sampled: bool = True,
) -> Episodes:
    """Run a policy for a number of whole episodes.

    Args:
        environments: copies; each runs ``episodes / copies`` of them, the first ones one more where that is no
            whole number.
        policy: chooses the actions; it is not changed.
        episodes: at least one a copy.
        seed: of the environments.
        generator: of the actions.
        sampled: draw actions, or take the most probable ones.

    Returns:
        The episodes, those of a copy next to each other in the order in which they were run.

    Raises:
        UserError: what the environment raises or gives wrong, an episode without end, or outputs of the policy that
            are not finite.
    """
    count, head, form = environments.count, policy.head, environments.actions
    quota = episodes // count + (np.arange(count) < episodes % count)
    left = quota.copy()
    seen, chosen, gained, recorded, ended, cut, finals = [], [], [], [], [], [], []
    observations = environments.reset(seed)
    age = np.zeros(count, np.int64)
    with torch.inference_mode():
        while left.any():
            outputs = policy(torch.from_numpy(observations))
            actions = head.sample(outputs, head.noise(count, generator)) if sampled else head.mode(outputs)
            step = environments.step(form.write(actions))
            counted = step.used & (left > 0)
            done = counted & (step.terminated | step.truncated)
            seen.append(observations)
            chosen.append(actions)
            gained.append(step.rewards)
            recorded.append(counted)
            ended.append(done)
            cut.append(step.truncated & ~step.terminated)
            finals.append(step.finals if done.any() else None)
            left -= done
            age = np.where(done, 0, age + counted)
            if age.max() >= ENDLESS:
                raise UserError(
                    f"an episode of {environments.name} has not ended after {ENDLESS:,} steps; "
                    "give --max-episode-steps"
                )
            observations = step.observations
        # NaN weights give actions all the same; the last outputs of the rollout show them.
        if not bool(torch.isfinite(outputs).all()):
            raise UserError("the policy's outputs are not finite, training diverged; lower --learning-rate")
    mask = np.stack(recorded, axis=1)
    last = np.stack(ended, axis=1)
    flat = np.flatnonzero(last[mask])
    copies, times = np.nonzero(last)
    behind = [_row(finals[t], c) for c, t in zip(copies.tolist(), times.tolist(), strict=True)]
    return Episodes(
        observations=torch.from_numpy(np.stack(seen, axis=1)[mask]),
        actions=torch.stack(chosen, dim=1)[torch.from_numpy(mask)].clone(),
        rewards=np.stack(gained, axis=1)[mask],
        lengths=np.diff(flat, prepend=-1),
        truncated=np.stack(cut, axis=1)[copies, times],
        finals=torch.from_numpy(np.stack(behind)),
    )


def _row(rows: NDArray[np.float32] | None, copy: int) -> NDArray[np.float32]:
    assert rows is not None  # kept wherever an episode ended
    return rows[copy]
