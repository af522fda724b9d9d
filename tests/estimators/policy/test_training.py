"""Learning, going on with the same bits, and runs on disk."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from layerlab.errors import UserError
from layerlab.estimators.policy.evaluation import evaluate
from layerlab.estimators.policy.learner import Learner
from layerlab.estimators.policy.page import policy_page
from layerlab.estimators.policy.rollouts import collect
from layerlab.estimators.policy.runs import policy_run, relative_variances, trained_policy, under_way
from layerlab.estimators.policy.settings import BASELINES, Settings
from layerlab.estimators.policy.source import Source
from layerlab.estimators.policy.training import Trained, train

GIVEN = Path(__file__).parent / "given_environments.py"
CHOICE = Source(f"{GIVEN}:Choice")
REACH = Source(f"{GIVEN}:Reach")
SMALL = Settings(
    batch=8,
    groups=4,
    hidden=(8,),
    steps=32 * 25,
    value_passes=2,
    episodes=20,
    check_every=5,
    learning_rate=0.05,
)


def same(left: Trained, right: Trained) -> bool:
    pairs = zip(left.policy.state_dict().items(), right.policy.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


@pytest.mark.parametrize("baseline", BASELINES)
def test_every_baseline_learns_the_choice(baseline: str) -> None:
    settings = replace(SMALL, baseline=baseline, sampled=False, steps=32 * 40)
    found = train(CHOICE, settings, seed=1)
    # Chance gives 2 of 4.
    assert found.history[0]["return"] < 3.2 and found.evaluation["mean"] > 3.9
    assert found.target is None and not found.reached
    assert [update["steps"] for update in found.history] == [32 * n for n in range(1, 41)]
    assert found.history[-1]["entropy"] < 0.7 * math.log(2)
    looks = [update["update"] for update in found.history if "variance_none" in update]
    assert looks == [1, 2, 4, 5, 8, 10, 15, 16, 20, 25, 30, 32, 35, 40]


def test_continuous_actions_are_learnt() -> None:
    settings = replace(SMALL, baseline="value", steps=32 * 70, sampled=False)
    found = train(REACH, settings, seed=2)
    assert found.history[0]["return"] < -4 and found.evaluation["mean"] > -0.4


def test_training_ends_at_the_target_and_keeps_the_best() -> None:
    found = train(CHOICE, replace(SMALL, target=3.0, steps=10**6), seed=1)
    assert found.reached and found.evaluation["mean"] > 2.8
    assert found.best_update == len(found.history) and found.history[-1]["confirmed"] >= 3
    assert len(found.history) % 5 == 0 and len(found.history) < 60


@pytest.mark.parametrize("baseline", ["value", "mean"])
def test_an_interrupted_training_goes_on_with_the_same_bits(tmp_path: Path, baseline: str) -> None:
    settings = replace(SMALL, baseline=baseline, normalise=True, entropy=0.01, clip=1.0, steps=32 * 16)
    whole = train(CHOICE, settings, seed=4)
    file = tmp_path / "unfinished.safetensors"

    def stop(numbers: dict[str, float]) -> None:
        if numbers["update"] == 13:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(CHOICE, settings, seed=4, checkpoint=file, every_seconds=0, on_update=stop)
    updates: list[float] = []
    again = train(
        CHOICE, settings, seed=4, checkpoint=file, on_update=lambda numbers: updates.append(numbers["update"])
    )
    assert updates == list(range(13, 17))  # the checkpoint is of update 12
    assert same(whole, again) and whole.evaluation == again.evaluation
    assert json.dumps(whole.history) == json.dumps(again.history)
    assert not same(whole, train(CHOICE, settings, seed=5))
    with pytest.raises(UserError, match="other settings"):
        train(CHOICE, settings, seed=5, checkpoint=file)


def test_clipping_and_normalisation_change_the_length_and_not_the_direction() -> None:
    with CHOICE.open(8) as environments:
        learner = Learner(replace(SMALL, baseline="none", clip=0.25), environments, 0)
        batch = collect(environments, learner.policy, 8, seed=0, generator=torch.Generator().manual_seed(0))
        before = [parameter.detach().clone() for parameter in learner.policy.parameters()]
        optimizer = torch.optim.SGD(learner.parameters(), lr=1.0)
        estimate = learner.learn(batch, optimizer, torch.Generator())
    moved = torch.cat([(b - a).ravel() for a, b in zip(before, learner.policy.parameters(), strict=True)])
    assert float(estimate.gradient.norm()) > 0.25 and float(moved.detach().norm()) == pytest.approx(
        0.25, rel=1e-4
    )
    torch.testing.assert_close(
        moved.detach() / moved.detach().norm(), estimate.gradient / estimate.gradient.norm()
    )


def test_equal_returns_do_not_blow_up_when_advantages_are_normalised() -> None:
    """The scale comes from earlier batches: a batch of equal returns has advantages 0, and not noise over noise."""
    with CHOICE.open(8) as environments:
        learner = Learner(replace(SMALL, baseline="leave-one-out", normalise=True), environments, 0)
        batch = collect(environments, learner.policy, 8, seed=0, generator=torch.Generator().manual_seed(0))
        optimizer = learner.optimizer()
        learner.learn(batch, optimizer, torch.Generator())
        scale = float(learner.square)
        assert scale > 0
        rewards = np.full_like(batch.rewards, 0.1)
        rewards[0] += 1e-9
        nearly = replace(batch, rewards=rewards)
        found = learner.learn(nearly, optimizer, torch.Generator())
        assert 0 < float(found.gradient.norm()) < 1e-6
        assert float(learner.square) == pytest.approx(0.9 * scale)


def test_the_value_network_stands_in_for_what_truncation_cut_off() -> None:
    with Source(f"{GIVEN}:Counter", copies=1).open(2) as environments:
        learner = Learner(replace(SMALL, baseline="value", discount=0.5), environments, 0)
        batch = collect(environments, learner.policy, 2, seed=0, generator=torch.Generator().manual_seed(0))
    assert batch.truncated.tolist() == [False, True]
    assert learner.value is not None
    learner.value.centre.fill_(40.0)
    learner.value.network[-1].weight.data.zero_()  # type: ignore[operator,union-attr]
    found, targets = learner.advantages(batch, "value")
    # Rewards 0, 1 and an end; then 100, 101, 102 and 40 to come.
    assert targets.tolist() == pytest.approx([0.5, 1.0, 100 + 50.5 + 25.5 + 5, 101 + 51 + 10, 102 + 20])
    assert (targets - found).tolist() == pytest.approx([40.0] * 5)


def test_evaluation_counts_whole_returns() -> None:
    with Source("CartPole-v1").open(10) as environments:
        learner = Learner(SMALL, environments, 0)
        found = evaluate(environments, learner.policy, 10, seed=3)
        assert found == evaluate(environments, learner.policy, 10, seed=3)
        assert found["mean"] == found["length"] and found["n"] == 10 and not found["sampled"]
        assert found["least"] <= found["mean"] <= found["most"] and found["low"] < found["mean"]
        assert found != evaluate(environments, learner.policy, 10, seed=4)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"baseline": "best"}, "unknown baseline 'best'; expected one of none, mean"),
        ({"batch": 30}, "divides into 4 groups, got 30 episodes"),
        ({"batch": 4, "baseline": "leave-one-out"}, "needs 2 episodes in each of 4 groups, got 1"),
        ({"groups": 1}, "at least 2 groups, got 1"),
        ({"discount": 0.0}, "discount above 0"),
        ({"discount": 1.5}, "discount above 0 and at most 1, got 1.5"),
        ({"gae": 0.9, "baseline": "mean"}, "need the baseline 'value', got 'mean'"),
        ({"gae": -0.1}, "from 0 to 1"),
        ({"learning_rate": 0.0}, "learning_rate above 0"),
        ({"clip": float("nan")}, "clip of 0 or more"),
        ({"hidden": (0,)}, "at least 1 unit"),
        ({"target": float("nan")}, "expected a mean return as the target, got nan"),
        ({"steps": 0}, "steps of at least 1"),
    ],
)
def test_settings_out_of_range(given: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        Settings(**given)


def test_a_seed_out_of_range() -> None:
    with pytest.raises(UserError, match="expected a seed from 0"):
        train(CHOICE, SMALL, seed=-1)


def test_training_that_diverges_is_told() -> None:
    with pytest.raises(UserError, match="diverged; lower --learning-rate"):
        train(REACH, replace(SMALL, baseline="none", learning_rate=1e30), seed=0)


def test_a_run_is_widened_reported_and_opened(tmp_path: Path) -> None:
    out = tmp_path / "run"
    settings = replace(SMALL, steps=32 * 6)
    asked: dict[str, Any] = {"out": out, "jobs": 1, "command": ["test"]}
    _, first = policy_run(CHOICE, settings, baselines=["mean"], seeds=[0], **asked)
    assert first["solved"] == {"mean": 0} and first["target"] is None
    seen: list[tuple[str, int]] = []
    run, summary = policy_run(
        CHOICE,
        settings,
        baselines=["mean", "leave-one-out"],
        seeds=[0, 1],
        on_cell=lambda cell: seen.append((cell["contestant"], cell["seed"])),
        **asked,
    )
    assert seen[0] == ("mean", 0) and len(seen) == 4 and not (out / "checkpoints").exists()
    assert summary["contestants"]["mean"]["n"] == 2 and len(summary["differences"]) == 1
    assert summary["evaluation"]["mean-0000"] == first["evaluation"]["mean-0000"]
    page = policy_page(run)
    assert [section.anchor for section in page.sections] == [
        "standings",
        "learning",
        "variance",
        "settings",
        "environment",
    ]
    source, policy = trained_policy(out, "leave-one-out", 1)
    alone = train(CHOICE, replace(settings, baseline="leave-one-out"), seed=1)
    assert source == CHOICE
    assert all(
        torch.equal(a, b)
        for a, b in zip(policy.state_dict().values(), alone.policy.state_dict().values(), strict=True)
    )
    with pytest.raises(UserError, match="weights are missing"):
        trained_policy(out, "mean", 7)
    with pytest.raises(UserError, match="another run"):
        policy_run(CHOICE, replace(settings, discount=0.5), baselines=["mean"], seeds=[0], **asked)


def test_a_run_is_interrupted_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from layerlab.estimators.policy import runs

    def interrupted(*given: Any, checkpoint: Path, **named: Any) -> Trained:
        def stop(numbers: dict[str, float]) -> None:
            if numbers["update"] == 4:
                raise KeyboardInterrupt

        return train(*given, checkpoint=checkpoint, every_seconds=0, on_update=stop, **named)

    settings = replace(SMALL, steps=32 * 6)
    with monkeypatch.context() as patch:
        patch.setattr(runs, "train", interrupted)
        with pytest.raises(KeyboardInterrupt):
            policy_run(CHOICE, settings, baselines=["none"], seeds=[0], out=tmp_path / "run", jobs=1)
    assert under_way(tmp_path / "run", "none-0000")["update"] == 3
    assert under_way(tmp_path / "run", "none-0001") == {}
    _, summary = policy_run(CHOICE, settings, baselines=["none"], seeds=[0], out=tmp_path / "run", jobs=1)
    assert under_way(tmp_path / "run", "none-0000") == {}
    whole = train(CHOICE, replace(settings, baseline="none"), seed=0)
    assert summary["evaluation"]["none-0000"] == whole.evaluation


def test_relative_variances_are_medians_over_the_same_batches() -> None:
    cells = {
        "a": {
            "contestant": "mean",
            "curves": {"variance_none": [1.0, None, 4.0], "variance_mean": [0.5, None, 0.0]},
        },
        "b": {"contestant": "mean", "curves": {"variance_none": [2.0], "variance_mean": [0.2]}},
    }
    assert relative_variances(cells) == {"mean": {"none": 1.0, "mean": 0.1}}
