"""Functions of bits, to look at with `layerlab estimator inspect` and to maximise with `layerlab estimator optimise`.

layerlab estimator inspect examples/parity.py:f --bits 12 --probability 0.8
layerlab estimator inspect examples/parity.py:toy --bits 1 --probability 0.8
"""

from __future__ import annotations

import torch


def f(x: torch.Tensor) -> torch.Tensor:
    """Parity: 1 for an odd number of ones, else 0. Every bit matters, and none of them alone."""
    return x.sum(-1) % 2


def onemax(x: torch.Tensor) -> torch.Tensor:
    """The number of ones: every bit counts by itself."""
    return x.sum(-1)


def toy(x: torch.Tensor) -> torch.Tensor:
    """The course's toy: the loss is the one sampled bit itself."""
    return x[:, 0]


def trap(x: torch.Tensor) -> torch.Tensor:
    """Best where all bits are 1, and otherwise better the fewer of them are."""
    ones, bits = x.sum(-1), x.shape[-1]
    return torch.where(ones == bits, bits + 1, bits - ones)
