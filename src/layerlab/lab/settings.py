"""Checks of settings that come back from a run folder, which may be anybody's: nothing is taken on trust."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from layerlab.errors import UserError


@dataclass(frozen=True)
class Between:
    """The real numbers that a setting may be.

    Args:
        least: the smallest.
        most: the largest.
        without: an end that does not belong to them.
    """

    least: float
    most: float
    without: float | None = None

    def __contains__(self, value: float) -> bool:
        return self.least <= value <= self.most and value != self.without

    def __str__(self) -> str:
        least = "above" if self.least == self.without else "of at least"
        most = "below" if self.most == self.without else "at most"
        return f"a number {least} {self.least:,} and {most} {self.most:,}"


def is_number(value: object, *, whole: bool = False) -> bool:
    """Whether a value is a number of Python's or numpy's.

    To Python a bool is an int; as a setting it is a mistake.

    >>> [is_number(value) for value in (1, 0.5, np.float32(2), True, "1")]
    [True, True, True, False, False]
    """
    kinds = (int, np.integer) if whole else (int, float, np.integer, np.floating)
    return isinstance(value, kinds) and not isinstance(value, bool)


def check_whole(
    settings: Any, ranges: Mapping[str, tuple[int, int]], *, may_be_none: Collection[str] = ()
) -> None:
    """Check those of the settings that are whole numbers.

    Args:
        settings: has an attribute for every name.
        ranges: smallest and largest value, by name.
        may_be_none: names for which None is right, too.

    Raises:
        UserError: a value of another type, or out of its range.
    """
    for name, (least, most) in ranges.items():
        value = getattr(settings, name)
        if value is None and name in may_be_none:
            continue
        if not is_number(value, whole=True) or not least <= value <= most:
            raise UserError(
                f"setting {name}: expected a whole number from {least:,} to {most:,}, got {value!r}"
            )


def check_real(settings: Any, ranges: Mapping[str, Between]) -> None:
    """Check those of the settings that are real numbers.

    >>> from types import SimpleNamespace
    >>> check_real(SimpleNamespace(dropout=1.0), {"dropout": Between(0, 1, without=1)})
    Traceback (most recent call last):
    ...
    layerlab.errors.UserError: setting dropout: expected a number of at least 0 and below 1, got 1.0

    Raises:
        UserError: a value of another type, or out of its range (NaN is out of every range).
    """
    for name, allowed in ranges.items():
        value = getattr(settings, name)
        if not is_number(value) or value not in allowed:
            raise UserError(f"setting {name}: expected {allowed}, got {value!r}")
