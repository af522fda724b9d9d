"""CartPole by the defaults of `layerlab estimator policy`, ten seeds that were not used for tuning."""

from __future__ import annotations

from typing import Any

from layerlab.estimators.policy.settings import Settings
from layerlab.estimators.policy.source import Source
from layerlab.estimators.policy.training import train

ENVIRONMENT, SOLVED, EPISODES = "CartPole-v1", 475.0, 100
SEEDS = range(2000, 2010)


def cell(seed: int, steps: int | None) -> dict[str, Any]:
    """Train one policy and evaluate it on fresh episodes; called in another process.

    Args:
        seed: of everything.
        steps: the most environment steps; None takes the default.
    """
    settings = Settings(episodes=EPISODES) if steps is None else Settings(episodes=EPISODES, steps=steps)
    trained = train(Source(ENVIRONMENT), settings, seed=seed)
    return {
        "seed": seed,
        "mean_return": trained.evaluation["mean"],
        "seconds": trained.seconds,
        "steps": trained.history[-1]["steps"],
        "solved": trained.evaluation["mean"] >= SOLVED,
    }
