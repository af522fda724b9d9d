"""Training a policy: update by update, with looks at it in fresh episodes, resumable to the bit.

Every update begins its episodes anew, with seeds that follow from (seed, update). So a run that resumes at an update
draws what an uninterrupted one draws, and a checkpoint needs no state of an environment or generator.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from layerlab.errors import UserError
from layerlab.estimators.policy.environments import Environments
from layerlab.estimators.policy.evaluation import evaluate
from layerlab.estimators.policy.learner import Learner
from layerlab.estimators.policy.networks import Policy
from layerlab.estimators.policy.rollouts import Episodes, collect
from layerlab.estimators.policy.settings import BASELINES, COUPLED, Settings
from layerlab.estimators.policy.source import Source
from layerlab.lab.checkpoint import Progress, load_checkpoint, save_checkpoint
from layerlab.lab.interrupts import interruptible
from layerlab.lab.training import one_thread, stream_seed

# Streams of seeds; 0 is that of the initial weights.
_EPISODES, _ACTIONS, _CHECK, _CONFIRM, _FINAL = range(1, 6)

OnUpdate = Callable[[dict[str, float]], None]


@dataclass
class Trained:
    """What training left behind.

    Attributes:
        policy: with its best weights.
        evaluation: see `layerlab.estimators.policy.evaluation.evaluate`, on episodes that decided nothing before.
        target: the mean return at which training was to end; None where there was none.
        reached: whether it ended there.
        best_update: the update whose weights were kept.
        history: one dict of numbers an update.
        seconds: of training, checks included, over all sittings.
        update_seconds: median time of an update, checks excluded.
        parameters: trained numbers, those of a value network included.
    """

    policy: Policy
    evaluation: dict[str, Any]
    target: float | None
    reached: bool
    best_update: int
    history: list[dict[str, float]]
    seconds: float
    update_seconds: float
    parameters: int

    def record(self) -> dict[str, Any]:
        """Everything but the weights, as JSON can hold it."""
        names = list(dict.fromkeys(name for update in self.history for name in update))
        return {
            "metrics": {
                "evaluation_return": self.evaluation["mean"],
                "steps": self.history[-1]["steps"],
                "updates": len(self.history),
            },
            "evaluation": self.evaluation,
            "target": self.target,
            "reached": self.reached,
            "best_update": self.best_update,
            "seconds": self.seconds,
            "step_seconds": self.update_seconds,
            "parameters": self.parameters,
            "curves": {name: [_rounded(update.get(name)) for update in self.history] for name in names},
        }


def _rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.6g}")


def train(
    source: Source,
    settings: Settings,
    *,
    seed: int = 0,
    checkpoint: Path | None = None,
    every_seconds: float = 2.0,
    on_update: OnUpdate | None = None,
) -> Trained:
    """Train a policy by REINFORCE, and evaluate its best weights.

    The gradient of an update is ``mean_i sum_t A_it grad log pi(a_it | s_it)`` over whole episodes i (Williams, 1992),
    with the baseline of the settings; Adam follows it.

    Args:
        source: the environment.
        settings: see `Settings`.
        seed: of everything, from 0 to 2**32 - 1.
        checkpoint: a file to resume from if it exists, written every ``every_seconds`` and when interrupted (the
            first Ctrl-C ends training after the update, the second at once). The caller removes it.
        every_seconds: time between checkpoints.
        on_update: called after each update with its numbers.

    Returns:
        The policy and what is known of it. Same seed, same bits, on one machine.

    Raises:
        UserError: what the environment raises or gives wrong, training that diverged, or a checkpoint that is
            damaged, belongs to another run or cannot be written.
        KeyboardInterrupt: Ctrl-C; with a checkpoint, the updates so far are in it.
    """
    if not 0 <= seed < 2**32:
        raise UserError(f"expected a seed from 0 to 4,294,967,295, got {seed}")
    identity = json.dumps(
        {"seed": seed, "source": asdict(source), "settings": asdict(settings)}, sort_keys=True
    )
    threshold = source.facts()["threshold"]
    target = settings.target if settings.target is not None else threshold
    with (
        one_thread(),
        source.open(settings.batch) as environments,
        source.open(settings.episodes) as fresh,
    ):
        learner = Learner(settings, environments, seed)
        optimizer = learner.optimizer()
        resumed = None if checkpoint is None else load_checkpoint(checkpoint, identity, learner, optimizer)
        state, best = resumed or (Progress(), _copy(learner))
        run = _Run(settings, seed, environments, fresh, learner, optimizer, target, state, best)
        saved_at = time.monotonic()
        with interruptible(enabled=checkpoint is not None) as interrupted:
            while not run.finished:
                run.update()
                if on_update is not None:
                    on_update(state.history[-1])
                stop = interrupted.is_set()
                if checkpoint is not None and (stop or time.monotonic() - saved_at >= every_seconds):
                    save_checkpoint(checkpoint, identity, learner, optimizer, run.best, state)
                    saved_at = time.monotonic()
                if stop:
                    break
        learner.load_state_dict(run.best)
        learner.eval()
        evaluation = run.look(settings.episodes, _FINAL, 0)
    return Trained(
        policy=learner.policy,
        evaluation=evaluation,
        target=target,
        reached=run.reached,
        best_update=state.best_epoch,
        history=state.history,
        seconds=state.seconds,
        update_seconds=float(np.median(state.step_times)),
        parameters=sum(p.numel() for p in learner.parameters()),
    )


def _copy(learner: Learner) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in learner.state_dict().items()}


@dataclass
class _Run:
    """One training run under way; an "epoch" of its `Progress` is an update."""

    settings: Settings
    seed: int
    environments: Environments
    fresh: Environments
    learner: Learner
    optimizer: torch.optim.Optimizer
    target: float | None
    state: Progress
    best: dict[str, Tensor]

    @property
    def reached(self) -> bool:
        return bool(self.state.history) and "confirmed" in self.state.history[-1]

    @property
    def finished(self) -> bool:
        last = self.state.history[-1] if self.state.history else {"steps": 0.0}
        return self.reached or last["steps"] >= self.settings.steps

    def update(self) -> None:
        started = time.perf_counter()
        number = self.state.epoch + 1
        generator = torch.Generator().manual_seed(stream_seed(self.seed, _ACTIONS, number))
        episodes = collect(
            self.environments,
            self.learner.policy,
            self.settings.batch,
            seed=stream_seed(self.seed, _EPISODES, number) % 2**32,
            generator=generator,
        )
        collected = time.perf_counter()
        steps = (self.state.history[-1]["steps"] if self.state.history else 0) + int(episodes.lengths.sum())
        look = number % self.settings.check_every == 0 or steps >= self.settings.steps
        # Before the step: all baselines on one batch of one policy can be compared. Early on at powers of 2, since a
        # simple task is solved before the first look.
        compare = look or number & (number - 1) == 0
        compared = self._variances(episodes) if compare else {}
        middle = time.perf_counter()
        estimate = self.learner.learn(episodes, self.optimizer, generator)
        returns = episodes.returns
        numbers: dict[str, float] = {
            "update": number,
            "steps": steps,
            "return": float(returns.mean()),
            "return_sd": float(returns.std()),
            "length": float(episodes.lengths.mean()),
            "gradient_norm": float(estimate.gradient.norm()),
            "variance": estimate.variance,
            "signal_to_noise": estimate.signal_to_noise,
            "entropy": estimate.entropy,
            **compared,
        }
        if not math.isfinite(numbers["gradient_norm"]):
            raise UserError(
                f"the gradient of update {number} is not finite, training diverged; lower --learning-rate"
            )
        done = time.perf_counter()
        if look:
            numbers |= self._check(number)
        self.state.epoch = number
        self.state.history.append(numbers)
        if look:
            self._keep(numbers["check"])
        elif not self.state.records:
            # Before the first look the latest weights are the best known ones.
            self.best, self.state.best_epoch = _copy(self.learner), number
        self.state.step_times.append(done - middle + collected - started)
        self.state.seconds += time.perf_counter() - started

    def look(self, episodes: int, stream: int, number: int) -> dict[str, Any]:
        return evaluate(
            self.fresh,
            self.learner.policy,
            episodes,
            seed=stream_seed(self.seed, stream, number),
            sampled=self.settings.sampled,
        )

    def _check(self, number: int) -> dict[str, float]:
        """The policy in fresh episodes; at the target in others again, so that luck does not end training."""
        found = {"check": float(self.look(min(self.settings.episodes, 32), _CHECK, number)["mean"])}
        if self.target is not None and found["check"] >= self.target:
            again = float(self.look(self.settings.episodes, _CONFIRM, number)["mean"])
            found["check"] = again
            if again >= self.target:
                found["confirmed"] = again
        return found

    def _keep(self, value: float) -> None:
        if value >= self.state.records.get("check", -math.inf):
            self.state.records["check"] = value
            self.best, self.state.best_epoch = _copy(self.learner), self.state.epoch

    def _variances(self, episodes: Episodes) -> dict[str, float]:
        """The gradient's variance with every baseline, on one batch."""
        wanted = [name for name in BASELINES if name != "value" or self.learner.value is not None]
        if self.settings.batch < 2 * self.settings.groups:
            wanted = [name for name in wanted if name not in COUPLED]
        return {f"variance_{name}": self.learner.gradient(episodes, name).variance for name in wanted}
