"""Functions of a user, good and bad, that the tests name as FILE.py:FUNC."""

from __future__ import annotations

import itertools
import os
import time

import torch
from torch import Tensor

count = itertools.count()


def ones(x: Tensor) -> Tensor:
    print("ones is called")  # noqa: T201
    return x.sum(1)


def ones_of_one(x: Tensor) -> float:
    return float(x.sum())


def threads(x: Tensor) -> list[float]:
    return [float(torch.get_num_threads())] * len(x)


def raises_at_three(x: Tensor) -> Tensor:
    if (x.sum(1) == 3).any():
        raise ValueError("three")
    return x.sum(1)


def nan_at_three(x: Tensor) -> Tensor:
    return torch.where(x.sum(1) == 3, torch.nan, x.sum(1))


def hangs_at_three(x: Tensor) -> Tensor:
    if (x.sum(1) == 3).any():
        time.sleep(600)
    return x.sum(1)


def dies_at_three(x: Tensor) -> Tensor:
    if (x.sum(1) == 3).any():
        os._exit(7)
    return x.sum(1)


def grows(x: Tensor) -> list[float]:
    return [float(next(count)) for _ in x]


number = 3
