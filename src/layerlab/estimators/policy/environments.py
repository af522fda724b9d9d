"""Environments of gymnasium, vectorised: reset, stepped and checked.

gymnasium's vector environments differ in when they reset a copy whose episode has ended: at the next step (its
action is not used and nothing is learned from that step), in the same step (the last observation is then in
``info["final_obs"]``), or when they are asked to. `Environments.step` hides the difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from layerlab.errors import UserError
from layerlab.estimators.policy.actions import ActionFormat
from layerlab.estimators.policy.observations import Encoder
from layerlab.lab import subjects

ACTIONS = ("Discrete", "MultiDiscrete", "MultiBinary", "Box")


@dataclass(frozen=True)
class Step:
    """What a step of all copies brought.

    Attributes:
        observations: (n, d) float32, from which the next actions are chosen.
        rewards: (n,) float64.
        terminated: (n,) bool: the episode has come to its end.
        truncated: (n,) bool: it was cut off, and would have gone on.
        finals: (n, d) float32: the observation after the step, of the episode that the step was part of.
        used: (n,) bool: whether the action was used; False in a step that only reset the copy.
    """

    observations: NDArray[np.float32]
    rewards: NDArray[np.float64]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    finals: NDArray[np.float32]
    used: NDArray[np.bool_]


class Environments:
    """Copies of one environment that are stepped together.

    Args:
        vector: a `gymnasium.vector.VectorEnv`; closed with this object.
        name: for messages.

    Raises:
        UserError: spaces that are not supported, or no word on when copies are reset.
    """

    def __init__(self, vector: Any, name: str) -> None:
        self.vector = vector
        self.name = name
        self.count = int(vector.num_envs)
        space = vector.single_action_space
        if type(space).__name__ not in ACTIONS:
            raise UserError(
                f"{name} takes actions of the kind {type(space).__name__}; expected {', '.join(ACTIONS)}: wrap the "
                "environment"
            )
        self.encoder = Encoder(vector.single_observation_space, name)
        self.actions = ActionFormat(space)
        reset = vector.metadata.get("autoreset_mode")
        self._reset = getattr(reset, "name", None)
        if self._reset not in ("NEXT_STEP", "SAME_STEP", "DISABLED"):
            raise UserError(
                f"the vectorised form of {name} does not say when it resets (autoreset_mode); choose sync"
            )
        self._ended = np.zeros(self.count, bool)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give back what the copies hold; processes end."""
        self.vector.close()

    def reset(self, seed: int) -> NDArray[np.float32]:
        """Begin all episodes anew; every later draw of the copies follows from the seed.

        Raises:
            UserError: the environment raises, or an observation is not finite.
        """
        with subjects.user_code(f"{self.name}: reset raised"):
            observations, _ = self.vector.reset(seed=seed)
        self._ended = np.zeros(self.count, bool)
        found = self.encoder(observations)
        self._check(found, np.ones(self.count, bool), "observation")
        return found

    def step(self, actions: NDArray[Any]) -> Step:
        """Take an action in every copy.

        Args:
            actions: (n, *shape of the action space), see `ActionFormat.write`.

        Raises:
            UserError: the environment raises, or an observation or reward is not finite.
        """
        used = ~self._ended if self._reset == "NEXT_STEP" else np.ones(self.count, bool)
        with subjects.user_code(f"{self.name}: step raised"):
            observations, rewards, terminated, truncated, info = self.vector.step(actions)
        rewards = np.array(rewards, np.float64).reshape(self.count)
        terminated, truncated = np.array(terminated, bool), np.array(truncated, bool)
        found = finals = self.encoder(observations)
        ended = terminated | truncated
        self._check(rewards, used, "reward")
        if ended.any() and self._reset == "SAME_STEP":
            finals = found.copy()
            for copy in np.flatnonzero(ended):
                finals[copy] = self._one(info["final_obs"][copy])
        elif ended.any() and self._reset == "DISABLED":
            with subjects.user_code(f"{self.name}: reset raised"):
                observations, _ = self.vector.reset(options={"reset_mask": ended})
            found = self.encoder(observations)
        for seen in (found, finals):
            self._check(seen, np.ones(self.count, bool), "observation")
        self._ended = ended
        return Step(found, rewards, terminated, truncated, finals, used)

    def _one(self, observation: Any) -> NDArray[np.float32]:
        if isinstance(observation, Mapping):
            return self.encoder({key: np.asarray(part)[None] for key, part in observation.items()})[0]
        if isinstance(observation, tuple):
            return self.encoder(tuple(np.asarray(part)[None] for part in observation))[0]
        return self.encoder(np.asarray(observation)[None])[0]

    def _check(self, values: NDArray[Any], used: NDArray[np.bool_], what: str) -> None:
        if np.isfinite(values).all():
            return
        bad = used & ~np.isfinite(values.reshape(self.count, -1)).all(axis=1)
        if bad.any():
            shown = values[bad][0].ravel()
            number = shown[~np.isfinite(shown)][0]
            raise UserError(
                f"{self.name} gave a{'n' if what[0] in 'aeiou' else ''} {what} that is not finite ({number}); mend the "
                "environment"
            )
