"""Evaluation: fresh episodes of a policy that is not changed."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch

from layerlab.estimators.policy.environments import Environments
from layerlab.estimators.policy.networks import Policy
from layerlab.estimators.policy.rollouts import collect
from layerlab.lab.statistics import estimate
from layerlab.lab.training import stream_seed


def evaluate(
    environments: Environments, policy: Policy, episodes: int, *, seed: int, sampled: bool = False
) -> dict[str, Any]:
    """Returns of fresh episodes.

    Args:
        environments: copies, see `layerlab.estimators.policy.rollouts.collect`.
        policy: it is not changed, nor are its statistics of observations.
        episodes: their number.
        seed: of environments and actions.
        sampled: draw actions, or take the most probable ones.

    Returns:
        ``n``, ``mean``, ``sd``, ``low``, ``high`` (95 per cent interval of the mean), ``least``, ``most``, ``length``
        (mean steps) and ``sampled``. Returns are sums of rewards, not discounted.

    Raises:
        UserError: as `collect`.
    """
    generator = torch.Generator().manual_seed(stream_seed(seed, 1))
    found = collect(
        environments,
        policy,
        episodes,
        seed=stream_seed(seed, 2) % 2**32,
        generator=generator,
        sampled=sampled,
    )
    returns = found.returns
    return {
        **asdict(estimate(returns.tolist())),
        "least": float(returns.min()),
        "most": float(returns.max()),
        "length": float(found.lengths.mean()),
        "sampled": sampled,
    }
