"""Where environments come from: ids of gymnasium and files of the user. No torch here: processes start fast."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Any

from layerlab.errors import UserError
from layerlab.lab import subjects

if TYPE_CHECKING:
    from layerlab.estimators.policy.environments import Environments

MODES = ("auto", "vector", "sync", "async")
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
        if not self.name.strip():
            raise UserError("expected the name of an environment, got none; an example: CartPole-v1")
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
            with _explained(self.name):
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
        from layerlab.estimators.policy.environments import Environments

        gym = gymnasium()
        vectorised = self._has_vector_form()
        if self.mode == "vector" and not vectorised:
            raise UserError(f"{self.name} has no vectorised form of its own; choose sync or async")
        if vectorised and self.mode in ("auto", "vector"):
            limit = {} if self.max_episode_steps is None else {"max_episode_steps": self.max_episode_steps}
            copies = min(self.copies or episodes, episodes)
            with _explained(self.name):
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
        with _explained(self.name):
            spec = gymnasium().spec(self.name)
        return spec.vector_entry_point is not None


@contextlib.contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turns gymnasium's errors about an id into a `UserError`: near names, or the package that is missing."""
    gym = gymnasium()
    try:
        with subjects.user_code(f"{name} raised"):
            yield
    except UserError as error:
        cause = error.__cause__
        if isinstance(cause, gym.error.DependencyNotInstalled):
            raise UserError(f"{name} needs a package that is missing: {cause}") from cause
        if isinstance(cause, gym.error.UnregisteredEnv | gym.error.DeprecatedEnv):
            # Ids in capitals compare badly with those in small letters.
            known = {other.lower(): other for other in gym.registry}
            near = difflib.get_close_matches(name.lower(), known, 4, 0.5)
            mend = ", ".join(known[other] for other in near) or "an id of gymnasium, or FILE.py:FACTORY"
            raise UserError(f"gymnasium knows no environment {name!r}; did you mean {mend}?") from cause
        raise
