"""The policy gradient of a batch, and its variance, from independent groups of episodes.

``g_k = 1/m sum_{i in group k} sum_t gamma_t A_it grad log pi(a_it | s_it)``: the gradient of group k, which has m
episodes and nothing from another group in it; the batch's gradient is their mean g over K groups. So

``Var(g) = 1 / (K (K - 1)) sum_k |g_k - g|^2``   (summed over all parameters)

is an unbiased estimate of the variance of the very gradient that is used, for every baseline, those made of the other
episodes included. ``|g|^2 - Var(g)`` estimates ``|E g|^2`` without bias, and their ratio is the signal-to-noise
that is logged: noise makes it negative at times.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerlab.estimators.policy.networks import Policy
from layerlab.estimators.policy.rollouts import Episodes


@dataclass(frozen=True)
class GradientEstimate:
    """A gradient with its variance.

    Attributes:
        gradient: (P,) all parameters of the policy in their order; the direction of ascent.
        variance: estimated trace of its covariance.
        entropy: mean entropy of the policy at the visited states, nats.
    """

    gradient: Tensor
    variance: float
    entropy: float

    @property
    def signal_to_noise(self) -> float:
        """``(|g|^2 - Var) / Var``; NaN where there is no variance."""
        square = float(self.gradient.double().square().sum())
        return (square - self.variance) / self.variance if self.variance > 0 else float("nan")


def estimate_gradient(
    policy: Policy,
    episodes: Episodes,
    advantages: NDArray[np.float64],
    groups: int,
    *,
    entropy: float = 0.0,
) -> GradientEstimate:
    """The gradient of the mean return, by groups of episodes that are next to each other.

    Args:
        policy: its parameters are not changed.
        episodes: E of them, E a multiple of ``groups``.
        advantages: (S,) what the score of every step is multiplied by.
        groups: K >= 2.
        entropy: weight of the policy's entropy at the visited states, summed over an episode's steps. (The usual
            bonus: that actions also change later states' entropy is left out of its gradient.)
    """
    size = len(episodes.lengths) // groups
    ends = np.cumsum(episodes.lengths)[size - 1 :: size].tolist()
    parameters = list(policy.parameters())
    weights = torch.from_numpy(advantages).to(parameters[0].dtype)
    found, total = [], 0.0
    start = 0
    for end in ends:
        part = slice(start, end)
        outputs = policy(episodes.observations[part])
        objective = (policy.head.log_prob(outputs, episodes.actions[part]) * weights[part]).sum()
        with torch.set_grad_enabled(entropy > 0):
            entropies = policy.head.entropy(outputs).sum()
        if entropy > 0:
            objective = objective + entropy * entropies
        gradients = torch.autograd.grad(objective / size, parameters)
        found.append(torch.cat([gradient.reshape(-1) for gradient in gradients]))
        total += float(entropies.detach())
        start = end
    stacked = torch.stack(found)
    mean = stacked.mean(dim=0)
    spread = float((stacked - mean).double().square().sum())
    return GradientEstimate(mean, spread / (groups * (groups - 1)), total / start)
