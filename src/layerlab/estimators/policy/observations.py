"""Observations of any flattenable space as rows of numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerlab.errors import UserError

Columns = Callable[[Any], NDArray[np.float32]]
SUPPORTED = "Box, Discrete, MultiDiscrete, MultiBinary, and Dict or Tuple of these"


class Encoder:
    """Turns a batch of observations into a float32 matrix, as `gymnasium.spaces.flatten` does one by one.

    Box and MultiBinary entries are laid out flat, Discrete and MultiDiscrete ones one-hot, the parts of a Dict or
    Tuple side by side in the space's own order.

    Args:
        space: the observation space of one environment.
        name: of the environment, for the message.

    Raises:
        UserError: another kind of space, or one without any number.

    >>> from gymnasium.spaces import Box, Dict, Discrete
    >>> encoder = Encoder(Dict(a=Discrete(3), b=Box(-1, 1, (2,))), "toy")
    >>> encoder.size
    5
    >>> encoder({"a": np.array([2]), "b": np.array([[0.5, 0.25]])})
    array([[0.  , 0.  , 1.  , 0.5 , 0.25]], dtype=float32)
    """

    def __init__(self, space: Any, name: str) -> None:
        self._name = name
        parts = self._parts(space)
        self._columns = [columns for columns, _, _ in parts]
        self.size = sum(width for _, width, _ in parts)
        self.continuous = np.array([plain for _, width, plain in parts for _ in range(width)], bool)
        if self.size == 0:
            raise UserError(f"{name} observes nothing: its observation space {space} holds no number")

    def __call__(self, observations: Any) -> NDArray[np.float32]:
        """(n, size) float32, a copy."""
        found = [columns(observations) for columns in self._columns]
        return found[0] if len(found) == 1 else np.concatenate(found, axis=1)

    def _parts(self, space: Any) -> list[tuple[Columns, int, bool]]:
        kind = type(space).__name__
        if kind in ("Dict", "Tuple"):
            keys = list(space.spaces) if kind == "Dict" else range(len(space.spaces))
            return [
                (_inside(key, columns), width, plain)
                for key in keys
                for columns, width, plain in self._parts(space.spaces[key])
            ]
        if kind in ("Box", "MultiBinary"):
            width = int(np.prod(space.shape))
            return [(lambda x: np.array(x, np.float32).reshape(len(x), width), width, kind == "Box")]
        if kind == "Discrete":
            return [_one_hot(np.array([space.n]), np.array([space.start]))]
        if kind == "MultiDiscrete":
            return [_one_hot(np.asarray(space.nvec).ravel(), np.asarray(space.start).ravel())]
        raise UserError(
            f"{self._name} has a {kind} in its observation space; expected {SUPPORTED}: wrap the environment"
        )


def _inside(key: Any, columns: Columns) -> Columns:
    return lambda observations: columns(observations[key])


def _one_hot(sizes: NDArray[np.int64], start: NDArray[np.int64]) -> tuple[Columns, int, bool]:
    first = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    width = int(sizes.sum())

    def columns(x: Any) -> NDArray[np.float32]:
        values = np.asarray(x).reshape(len(x), len(sizes)) - start
        rows = np.zeros((len(values), width), np.float32)
        np.put_along_axis(rows, values + first, 1.0, axis=1)
        return rows

    return columns, width, False
