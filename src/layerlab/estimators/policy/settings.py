"""What a training run of a policy depends on, besides the environment and the seed."""

from __future__ import annotations

import math
from dataclasses import dataclass

from layerlab.errors import UserError

BASELINES = ("none", "mean", "optimal", "leave-one-out", "value")
COUPLED = ("optimal", "leave-one-out")
"""Baselines made of the other episodes of a batch: their terms are not independent of each other."""


@dataclass(frozen=True)
class Settings:
    """Settings of `layerlab.estimators.policy.training.train`.

    Args:
        baseline: one of `BASELINES`.
        steps: environment steps that training may spend; the update that reaches them is the last.
        batch: whole episodes an update.
        groups: parts of a batch whose gradients are independent of each other: they give the gradient's variance.
        discount: gamma, of rewards-to-go.
        exact_discount: weight step t by gamma^t, which makes the gradient that of the discounted return; without
            it (usual) a discount below 1 leaves a bias.
        gae: lambda of generalised advantage estimation, for the baseline "value"; 1 is no estimation.
        normalise: divide advantages by their running root mean square over earlier updates.
        normalise_observations: see `layerlab.estimators.policy.networks.Normaliser`.
        entropy: weight of the policy's entropy, summed over an episode's steps.
        clip: largest length of the gradient; 0 does not clip.
        learning_rate: of Adam, for the policy.
        value_learning_rate: of Adam, for the value network.
        value_passes: over a batch, when the value network learns from it.
        hidden: widths of the hidden layers of both networks.
        check_every: updates between two looks at the policy in fresh episodes; the best one is kept.
        target: mean return at which training ends; None takes the environment's own threshold, if it has one.
        episodes: of an evaluation.
        sampled: evaluate with sampled actions, as trained, or else with the most probable ones.

    Raises:
        UserError: a value out of range, or two that exclude each other.

    >>> Settings(batch=10, groups=4)
    Traceback (most recent call last):
    layerlab.errors.UserError: expected a batch that divides into 4 groups, got 10 episodes; change one of them
    """

    baseline: str = "value"
    steps: int = 3_000_000
    batch: int = 32
    groups: int = 4
    discount: float = 0.99
    exact_discount: bool = False
    gae: float = 1.0
    normalise: bool = False
    normalise_observations: bool = True
    entropy: float = 0.0
    clip: float = 0.0
    learning_rate: float = 0.01
    value_learning_rate: float = 0.003
    value_passes: int = 4
    hidden: tuple[int, ...] = (64, 64)
    check_every: int = 10
    target: float | None = None
    episodes: int = 100
    sampled: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", tuple(self.hidden))
        if self.baseline not in BASELINES:
            raise UserError(f"unknown baseline {self.baseline!r}; expected one of {', '.join(BASELINES)}")
        for name in ("steps", "batch", "value_passes", "check_every", "episodes"):
            if getattr(self, name) < 1:
                raise UserError(f"expected {name} of at least 1, got {getattr(self, name)}")
        if self.groups < 2:
            raise UserError(
                f"expected at least 2 groups, got {self.groups}: one tells nothing of the variance"
            )
        if self.batch % self.groups:
            raise UserError(
                f"expected a batch that divides into {self.groups} groups, got {self.batch} episodes; "
                "change one of them"
            )
        if self.baseline in COUPLED and self.batch < 2 * self.groups:
            raise UserError(
                f"the baseline {self.baseline!r} needs 2 episodes in each of {self.groups} groups, got "
                f"{self.batch // self.groups}; take a batch of {2 * self.groups} or more"
            )
        if not 0 < self.discount <= 1:
            raise UserError(f"expected a discount above 0 and at most 1, got {self.discount}")
        if not 0 <= self.gae <= 1:
            raise UserError(f"expected lambda of GAE from 0 to 1, got {self.gae}")
        if self.gae < 1 and self.baseline != "value":
            raise UserError(
                f"generalised advantages need the baseline 'value', got {self.baseline!r}; leave out one of them"
            )
        for name in ("entropy", "clip"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UserError(f"expected {name} of 0 or more, got {getattr(self, name)}")
        for name in ("learning_rate", "value_learning_rate"):
            if not 0 < getattr(self, name) < math.inf:
                raise UserError(f"expected a {name} above 0, got {getattr(self, name)}")
        if self.target is not None and math.isnan(self.target):
            raise UserError(
                "expected a mean return as the target, got nan; leave it out to have none of your own"
            )
        if any(width < 1 for width in self.hidden):
            raise UserError(f"expected hidden layers of at least 1 unit, got {list(self.hidden)}")
