"""Functions of a user that the tests optimise as FILE.py:FUNC."""

from __future__ import annotations

import time

from torch import Tensor


def ones(x: Tensor) -> Tensor:
    return x.sum(-1)


def slow(x: Tensor) -> Tensor:
    time.sleep(0.002 * len(x))
    return (x * x.roll(1, -1)).sum(-1)


def broken_once(x: Tensor) -> float:
    if x.sum() == 9 and x[0] == 1:
        raise ValueError("nine")
    return float(x.sum())
