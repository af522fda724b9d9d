"""Environments of gymnasium, vectorised: opened, reset, stepped and checked.

gymnasium's vector environments differ in when they reset a copy whose episode has ended: at the next step (its
action is not used and nothing is learned from that step), in the same step (the last observation is then in
``info["final_obs"]``), or when they are asked to. `Environments.step` hides the difference.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from layerlab.errors import UserError
from layerlab.estimators.policy.actions import ActionFormat
from layerlab.estimators.policy.observations import Encoder
from layerlab.lab import subjects

MODES = ("auto", "vector", "sync", "async")
ACTIONS = ("Discrete", "MultiDiscrete", "MultiBinary", "Box")
_SYNC_COPIES = 8


def gymnasium() -> ModuleType:
    """The package gymnasium.

    Raises:
        UserError: it is not installed.
    """
    try:
        import gymnasium as found
    except ImportError:
        raise UserError(
            "policies need gymnasium, which is not installed: pip install 'layerlab[rl]'"
        ) from None
    return found


@dataclass(frozen=True)
class Source:
    """An environment by name; picklable, so that another process can open it too.

    Args:
        name: an id that gymnasium knows (``CartPole-v1``, ``module:Name-v0``), or ``FILE.py:FACTORY`` of a
            function or class that returns a `gymnasium.Env`.
        options: keyword arguments for the environment.
        max_episode_steps: truncates episodes; None keeps the environment's own limit.
        mode: "vector" (the environment's own vectorised form), "sync" (copies one after the other), "async"
            (copies in processes of their own) or "auto": "vector" where there is one, else "sync".
        copies: of the environment; None chooses.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    max_episode_steps: int | None = None
    mode: str = "auto"
    copies: int | None = None

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise UserError(f"unknown vectorisation {self.mode!r}; expected one of {', '.join(MODES)}")
        for name in ("max_episode_steps", "copies"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UserError(f"expected {name} of at least 1, got {value}")

    @property
    def is_file(self) -> bool:
        """Whether a user's file is run, and not an id looked up."""
        return ".py:" in self.name

    def __call__(self) -> Any:
        """One environment.

        Raises:
            UserError: an unknown id, a package that is missing, or code that raises.
        """
        gym = gymnasium()
        limit = {} if self.max_episode_steps is None else {"max_episode_steps": self.max_episode_steps}
        if not self.is_file:
            with _Explained(self.name):
                return gym.make(self.name, disable_env_checker=True, **limit, **self.options)
        factory = subjects.load(self.name)
        with subjects.user_code(f"{self.name} raised"):
            made = factory(**self.options)
        if not isinstance(made, gym.Env):
            raise UserError(f"{self.name} returned {type(made).__name__}; expected a gymnasium.Env")
        return made if not limit else gym.wrappers.TimeLimit(made, **limit)

    def open(self, episodes: int) -> Environments:
        """Copies for that many episodes at a time.

        Raises:
            UserError: as for a call; or spaces that are not supported.
        """
        gym = gymnasium()
        vectorised = self._has_vector_form()
        if self.mode == "vector" and not vectorised:
            raise UserError(f"{self.name} has no vectorised form of its own; choose sync or async")
        if vectorised and self.mode in ("auto", "vector"):
            limit = {} if self.max_episode_steps is None else {"max_episode_steps": self.max_episode_steps}
            copies = min(self.copies or episodes, episodes)
            with _Explained(self.name):
                made = gym.make_vec(
                    self.name, copies, vectorization_mode="vector_entry_point", **limit, **self.options
                )
        elif self.mode == "async":
            makers = [self] * min(self.copies or 2, episodes)
            # spawn: a forked child of a process that has used torch's threads can hang.
            made = gym.vector.AsyncVectorEnv(makers, context="spawn")
        else:
            # Few copies: one whose episodes are done is still stepped until the others' are.
            makers = [self] * min(self.copies or _SYNC_COPIES, episodes)
            made = gym.vector.SyncVectorEnv(makers)
        try:
            return Environments(made, self.name)
        except UserError:
            made.close()
            raise

    def facts(self) -> dict[str, Any]:
        """What the environment says of itself: its threshold of being solved, and its limit of steps.

        Raises:
            UserError: as for a call.
        """
        made = self()
        try:
            spec = made.spec
            return {
                "threshold": None if spec is None else spec.reward_threshold,
                "limit": self.max_episode_steps or (None if spec is None else spec.max_episode_steps),
            }
        finally:
            made.close()

    def _has_vector_form(self) -> bool:
        if self.is_file:
            return False
        with _Explained(self.name):
            spec = gymnasium().spec(self.name)
        return spec.vector_entry_point is not None


class _Explained(subjects._Translated):
    """Turns gymnasium's errors about an id into a `UserError`: near names, or the package that is missing."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} raised")
        self._name = name

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        gym = gymnasium()
        errors = gym.error
        if isinstance(error, errors.DependencyNotInstalled | errors.UnregisteredEnv | errors.DeprecatedEnv):
            text = " ".join(str(error).split())
            if isinstance(error, errors.DependencyNotInstalled):
                raise UserError(f"{self._name} needs a package that is missing: {text}") from error
            # Ids in capitals compare badly with those in small letters.
            known = {name.lower(): name for name in gym.registry}
            near = difflib.get_close_matches(self._name.lower(), known, 4, 0.5)
            mend = ", ".join(known[name] for name in near) or "an id of gymnasium, or FILE.py:FACTORY"
            raise UserError(f"gymnasium knows no environment {self._name!r}; did you mean {mend}?") from error
        super().__exit__(kind, error, trace)


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
        self._check(found, np.ones(self.count, bool), "observation")
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
