"""Environments that tests name as FILE.py:FACTORY. Their observations tell what a rollout has to record."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class Counter(gymnasium.Env[Any, Any]):
    """Observes (episode, step). Episode e ends after 2 + (e % 2) steps; its reward is 100 e + step.

    Odd episodes are truncated, even ones terminate.
    """

    observation_space = spaces.Box(-1e6, 1e6, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self) -> None:
        self.episode, self.steps = -1, 0

    def _observed(self) -> np.ndarray[Any, Any]:
        return np.array([self.episode, self.steps], np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        # A seed begins everything anew, as a seeded generator does.
        self.episode, self.steps = (0 if seed is not None else self.episode + 1), 0
        return self._observed(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        reward = 100.0 * self.episode + self.steps
        self.steps += 1
        over = self.steps == 2 + self.episode % 2
        odd = self.episode % 2 == 1
        return self._observed(), reward, over and not odd, over and odd, {}


class Endless(Counter):
    """Has no end."""

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self._observed(), 0.0, False, False, {}


class Choice(gymnasium.Env[Any, Any]):
    """Four steps; observes a random bit and the time, and pays 1 for the action that equals the bit."""

    observation_space = spaces.Dict(bit=spaces.Discrete(2), time=spaces.Box(0, 4, (1,), np.float32))
    action_space = spaces.Discrete(2, start=1)

    def _observed(self) -> dict[str, Any]:
        self.bit = int(self.np_random.integers(2))
        return {"bit": self.bit, "time": np.array([self.time], np.float32)}

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.time = 0
        return self._observed(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        reward = float(action == self.bit + 1)
        self.time += 1
        return self._observed(), reward, self.time == 4, False, {}


class Reach(Choice):
    """Continuous: pays the negative squared distance of the action from a target that is observed."""

    observation_space = spaces.Box(-1, 1, (1,), np.float32)
    action_space = spaces.Box(-3.0, 1.0, (1,), np.float32)

    def _observed(self) -> Any:
        self.aim = float(self.np_random.uniform(-1, 1))
        return np.array([self.aim], np.float32)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action)
        reward = -((float(action[0]) - self.aim) ** 2)
        self.time += 1
        return self._observed(), reward, self.time == 4, False, {}


class NoNumber(Counter):
    """Observes NaN from its second step on."""

    def _observed(self) -> Any:
        return np.array([0.0, np.nan if self.steps else 0.0], np.float32)


class NoReward(Counter):
    """Pays NaN."""

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observed, _, terminated, truncated, info = super().step(action)
        return observed, float("nan"), terminated, truncated, info


class Breaks(Counter):
    """Raises at its first step."""

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        raise RuntimeError("a wheel came off")


class Speaks(Counter):
    """Observes text."""

    observation_space = spaces.Text(8)  # type: ignore[assignment]


class Both(Counter):
    """Takes a tuple of actions."""

    action_space = spaces.Tuple([spaces.Discrete(2), spaces.Discrete(2)])  # type: ignore[assignment]


def nothing() -> None:
    """Returns no environment."""
