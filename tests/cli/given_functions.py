"""Functions that the tests of `layerlab estimator` name on the command line."""

from __future__ import annotations

import math
import time
from typing import Any

import torch


def onemax(x: torch.Tensor) -> torch.Tensor:
    return x.sum(-1)


def talkative(x: torch.Tensor) -> list[float]:
    print("looking at", len(x))  # noqa: T201
    return x.sum(-1).tolist()


def one(sample: torch.Tensor) -> float:
    return float(sample[0] * 2 + sample.sum())


def noisy(x: torch.Tensor) -> torch.Tensor:
    return x.sum(-1) + torch.randn(len(x))


def bowl(x: torch.Tensor) -> torch.Tensor:
    return -x.square().sum(-1)


def matches(x: torch.Tensor) -> torch.Tensor:
    return (x == 1).sum(-1)


def unlike(x: torch.Tensor) -> torch.Tensor:
    """Neighbours that differ: no variable matters by itself, where all values are equally likely."""
    return 0.1 + 1.1 * (x[:, 1:] != x[:, :-1]).double().sum(-1)


def nan(x: torch.Tensor) -> torch.Tensor:
    return torch.where(x[:, 0] > 0, math.nan, 1.0)


def column(x: torch.Tensor) -> torch.Tensor:
    return x[:, :1]


def raising(x: torch.Tensor) -> torch.Tensor:
    raise RuntimeError("no such luck")


def silent(x: torch.Tensor) -> Any:
    return None


def hanging(x: torch.Tensor) -> torch.Tensor:
    time.sleep(60)
    return x.sum(-1)


not_a_function = 3
