"""Whole episodes from copies of environments, whenever these reset themselves; and environments that misbehave."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from layerlab.errors import UserError
from layerlab.estimators.policy import rollouts
from layerlab.estimators.policy.environments import Environments
from layerlab.estimators.policy.networks import Policy
from layerlab.estimators.policy.rollouts import Episodes, collect
from layerlab.estimators.policy.source import Source
from layerlab.lab import subjects

GIVEN = Path(__file__).parent / "given_environments.py"


def policy_for(environments: Environments) -> Policy:
    generator = torch.Generator().manual_seed(0)
    columns = torch.zeros(environments.encoder.size, dtype=torch.bool)
    return Policy(columns, (4,), environments.actions.head(), generator)


def collected(environments: Environments, episodes: int, **given: Any) -> Episodes:
    generator = torch.Generator().manual_seed(1)
    with environments:
        return collect(environments, policy_for(environments), episodes, seed=3, generator=generator, **given)


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_every_reset_mode_gives_the_same_whole_episodes(mode: AutoresetMode) -> None:
    factory = subjects.load(f"{GIVEN}:Counter")
    environments = Environments(SyncVectorEnv([factory] * 2, autoreset_mode=mode), "counter")
    found = collected(environments, 5)
    # The first copy runs three episodes, the second two; odd ones have a step more, and are cut off.
    assert found.lengths.tolist() == [2, 3, 2, 2, 3]
    assert found.truncated.tolist() == [False, True, False, False, True]
    wanted = [[0, 0], [0, 1], [1, 0], [1, 1], [1, 2], [2, 0], [2, 1], [0, 0], [0, 1], [1, 0], [1, 1], [1, 2]]
    assert found.observations.tolist() == wanted
    assert found.rewards.tolist() == [100 * episode + step for episode, step in wanted]
    assert found.finals.tolist() == [[0, 2], [1, 3], [2, 2], [0, 2], [1, 3]]
    assert found.returns.tolist() == [1, 303, 401, 1, 303]
    assert found.actions.shape == (12, 1)


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_the_last_observation_of_a_dict_is_found(mode: AutoresetMode) -> None:
    factory = subjects.load(f"{GIVEN}:Choice")
    found = collected(Environments(SyncVectorEnv([factory] * 2, autoreset_mode=mode), "choice"), 4)
    assert found.lengths.tolist() == [4] * 4
    assert found.finals[:, 2].tolist() == [4] * 4
    assert found.observations[:, 2].tolist() == [0, 1, 2, 3] * 4


def test_processes_give_what_one_process_gives() -> None:
    name = f"{GIVEN}:Choice"
    here = collected(Source(name, mode="sync", copies=1).open(3), 3)
    there = collected(Source(name, mode="async", copies=1).open(3), 3)
    assert torch.equal(here.observations, there.observations) and torch.equal(here.actions, there.actions)
    np.testing.assert_array_equal(here.rewards, there.rewards)


def test_the_vectorised_form_is_taken_where_there_is_one() -> None:
    with Source("CartPole-v1").open(16) as environments:
        assert environments.count == 16 and not isinstance(environments.vector, SyncVectorEnv)
    with Source("CartPole-v1", mode="sync").open(16) as environments:
        assert environments.count == 8 and isinstance(environments.vector, SyncVectorEnv)
    with pytest.raises(UserError, match="Acrobot-v1 has no vectorised form of its own; choose sync"):
        Source("Acrobot-v1", mode="vector").open(2)


@pytest.mark.parametrize("name", ["CartPole-v1", "Acrobot-v1", f"{GIVEN}:Endless"])
def test_episodes_can_be_truncated(name: str) -> None:
    found = collected(Source(name, max_episode_steps=7).open(2), 2)
    assert found.lengths.tolist() == [7, 7] and found.truncated.all()


def test_most_probable_actions_draw_nothing() -> None:
    environments = Source("CartPole-v1").open(2)
    generator = torch.Generator().manual_seed(1)
    before = generator.get_state()
    with environments:
        found = collect(environments, policy_for(environments), 2, seed=3, generator=generator, sampled=False)
        outputs = policy_for(environments)(found.observations)
    assert torch.equal(generator.get_state(), before)
    assert torch.equal(found.actions[:, 0], outputs.argmax(dim=1))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("NoNumber", r"gave an observation that is not finite \(nan\)"),
        ("NoReward", r"gave a reward that is not finite \(nan\)"),
        ("Breaks", r"given_environments.py:\d+: .*step raised RuntimeError: a wheel came off"),
        ("Speaks", "has a Text in its observation space"),
        ("Both", "takes actions of the kind Tuple"),
        ("nothing", "returned NoneType; expected a gymnasium.Env"),
        ("absent", "has no 'absent'"),
    ],
)
def test_environments_that_misbehave(name: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        collected(Source(f"{GIVEN}:{name}").open(2), 2)


def test_an_episode_without_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollouts, "ENDLESS", 30)
    with pytest.raises(UserError, match="has not ended after 30 steps; give --max-episode-steps"):
        collected(Source(f"{GIVEN}:Endless").open(2), 2)


def test_weights_that_diverged_are_told() -> None:
    with Source("CartPole-v1").open(2) as environments:
        policy = policy_for(environments)
        policy.network[0].weight.data.fill_(float("nan"))  # type: ignore[operator,union-attr]
        with pytest.raises(UserError, match="training diverged; lower --learning-rate"):
            collect(environments, policy, 2, seed=0, generator=torch.Generator())


def test_unknown_ids_are_answered_with_near_ones() -> None:
    with pytest.raises(UserError, match=r"no environment 'Cartpole-v1'; did you mean CartPole-v1"):
        Source("Cartpole-v1").open(1)
    with pytest.raises(UserError, match=r"did you mean .*Acrobot-v1"):
        Source("acrobat-v1").facts()
    with pytest.raises(UserError, match="expected the name of an environment, got none"):
        Source(" ")
    with pytest.raises(UserError, match="unknown vectorisation 'threads'"):
        Source("CartPole-v1", mode="threads")
    with pytest.raises(UserError, match="expected copies of at least 1, got 0"):
        Source("CartPole-v1", copies=0)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise gymnasium.error.DependencyNotInstalled("Box2D is not installed, run `pip install box2d`")

    monkeypatch.setattr(gymnasium, "make", refuse)
    with pytest.raises(UserError, match="needs a package that is missing: Box2D is not installed"):
        Source("Acrobot-v1").open(1)


def test_without_gymnasium_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("gymnasium"):
            raise ImportError(name)
        return found(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"pip install 'layerlab\[rl\]'"):
        Source("CartPole-v1").open(1)


def test_options_reach_the_environment() -> None:
    source = Source("CartPole-v1", options={"sutton_barto_reward": True}, max_episode_steps=5)
    assert collected(source.open(2), 2).rewards.max() == 0
    with pytest.raises(UserError, match="unexpected keyword argument 'mass'"):
        Source("CartPole-v1", options={"mass": 1}).open(1)
    assert Source("CartPole-v1").facts() == {"threshold": 475.0, "limit": 500}
