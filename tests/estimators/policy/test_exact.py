"""The estimator on a decision process that is small enough to list every batch of episodes."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from layerlab.estimators.policy.actions import CategoricalHead
from layerlab.estimators.policy.learner import Learner
from layerlab.estimators.policy.rollouts import Episodes
from layerlab.estimators.policy.settings import Settings

GAMMA = 0.8
GOES_ON = (0.0, 0.6)  # probability that the second state follows, by the first action
REWARDS = {"first": (0.5, -1.0), "second": (2.0, 0.3)}


@dataclass(frozen=True)
class Path:
    """One course of an episode: its actions, and the probability of its chances."""

    actions: tuple[int, ...]
    chance: float

    @property
    def rewards(self) -> list[float]:
        return [
            REWARDS[name][action] for name, action in zip(("first", "second"), self.actions, strict=False)
        ]


PATHS = [Path((0,), 1.0), Path((1,), 1 - GOES_ON[1]), Path((1, 0), GOES_ON[1]), Path((1, 1), GOES_ON[1])]


def learner_of(**settings: Any) -> Learner:
    given = Settings(**{"hidden": (), "discount": GAMMA, "normalise_observations": False, **settings})
    spaces: Any = SimpleNamespace(
        encoder=SimpleNamespace(continuous=np.zeros(2, bool)),
        actions=SimpleNamespace(head=lambda: CategoricalHead([2])),
    )
    learner = Learner(given, spaces, seed=0).double()
    torch.manual_seed(5)
    for parameter in learner.parameters():
        parameter.data.normal_()
    learner.profile.normal_()
    return learner


def batch_of(paths: tuple[Path, ...]) -> Episodes:
    lengths = np.array([len(path.actions) for path in paths])
    rows = torch.eye(2, dtype=torch.float64)
    return Episodes(
        observations=torch.cat([rows[: len(path.actions)] for path in paths]),
        actions=torch.tensor([[action] for path in paths for action in path.actions]),
        rewards=np.concatenate([path.rewards for path in paths]),
        lengths=lengths,
        truncated=np.zeros(len(paths), bool),
        finals=torch.zeros(len(paths), 2, dtype=torch.float64),
    )


def probabilities(learner: Learner) -> list[Tensor]:
    """Of every path, differentiable."""
    logs = learner.policy(torch.eye(2, dtype=torch.float64)).log_softmax(dim=1)
    return [
        path.chance * sum(logs[state, action] for state, action in enumerate(path.actions)).exp()
        for path in PATHS
    ]


def exact_gradient(learner: Learner, discount: float) -> Tensor:
    value = sum(
        p * sum(discount**t * reward for t, reward in enumerate(path.rewards))
        for p, path in zip(probabilities(learner), PATHS, strict=True)
    )
    return torch.cat([g.ravel() for g in torch.autograd.grad(value, list(learner.policy.parameters()))])


def moments(learner: Learner, baseline: str) -> tuple[Tensor, float, float]:
    """Expectation of the gradient, its variance, and the expectation of the variance that is logged."""
    chances = [float(p.detach()) for p in probabilities(learner)]
    mean, square, logged, mass = 0.0, 0.0, 0.0, 0.0
    for chosen in itertools.product(range(len(PATHS)), repeat=learner.settings.batch):
        p = float(np.prod([chances[i] for i in chosen]))
        found = learner.gradient(batch_of(tuple(PATHS[i] for i in chosen)), baseline)
        mean = mean + p * found.gradient
        square += p * float(found.gradient.square().sum())
        logged += p * found.variance
        mass += p
    assert mass == pytest.approx(1, abs=1e-12)
    assert isinstance(mean, Tensor)
    return mean, square - float(mean.square().sum()), logged


@pytest.mark.parametrize(
    ("baseline", "batch"), [("none", 2), ("mean", 2), ("value", 2), ("leave-one-out", 4), ("optimal", 4)]
)
def test_expectation_and_logged_variance_are_exact(baseline: str, batch: int) -> None:
    learner = learner_of(baseline=baseline, batch=batch, groups=2, exact_discount=True)
    mean, variance, logged = moments(learner, baseline)
    assert float(variance) > 0.05
    torch.testing.assert_close(mean, exact_gradient(learner, GAMMA), rtol=0, atol=1e-10)
    assert logged == pytest.approx(variance, abs=1e-10)


def test_without_exact_weights_a_discount_leaves_a_bias() -> None:
    learner = learner_of(baseline="none", batch=2, groups=2)
    mean, _, _ = moments(learner, "none")
    assert float((mean - exact_gradient(learner, GAMMA)).norm()) > 0.01
    plain = learner_of(baseline="none", batch=2, groups=2, discount=1.0)
    torch.testing.assert_close(moments(plain, "none")[0], exact_gradient(plain, 1.0), rtol=0, atol=1e-10)


def test_generalised_advantages_below_one_are_biased_unless_the_values_are_right() -> None:
    settings: dict[str, Any] = {"baseline": "value", "batch": 2, "groups": 2, "exact_discount": True}
    learner = learner_of(**settings, gae=0.5)
    wrong, _, _ = moments(learner, "value")
    assert float((wrong - exact_gradient(learner, GAMMA)).norm()) > 0.01
    # V of both states under this policy, in a network without hidden layers.
    p = learner.policy(torch.eye(2, dtype=torch.float64)).softmax(dim=1)
    second = float(p[1].detach() @ torch.tensor(REWARDS["second"], dtype=torch.float64))
    first = sum(float(p[0, a].detach()) * (REWARDS["first"][a] + GAMMA * GOES_ON[a] * second) for a in (0, 1))
    assert learner.value is not None
    learner.value.network[0].weight.data = torch.tensor([[first, second]], dtype=torch.float64)  # type: ignore[union-attr]
    learner.value.network[0].bias.data.zero_()  # type: ignore[union-attr,operator]
    learner.value.unit.fill_(1.0)
    learner.value.centre.fill_(0.0)
    right, _, _ = moments(learner, "value")
    torch.testing.assert_close(right, exact_gradient(learner, GAMMA), rtol=0, atol=1e-10)


def test_the_entropy_bonus_is_the_gradient_of_the_visited_states_entropies() -> None:
    learner = learner_of(baseline="none", batch=2, groups=2, entropy=0.3, discount=1.0)
    batch = batch_of((PATHS[0], PATHS[3]))
    rows = learner.policy(batch.observations)
    parameters = list(learner.policy.parameters())
    bonus = 0.3 * learner.policy.head.entropy(rows).sum() / 2
    wanted = torch.cat([g.ravel() for g in torch.autograd.grad(bonus, parameters)])
    plain = learner_of(baseline="none", batch=2, groups=2, discount=1.0).gradient(batch, "none")
    found = learner.gradient(batch, "none")
    torch.testing.assert_close(found.gradient - plain.gradient, wanted, rtol=0, atol=1e-12)
    assert found.entropy == pytest.approx(float(learner.policy.head.entropy(rows).mean().detach()))
