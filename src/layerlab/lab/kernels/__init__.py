"""What the domains' CPU kernels have in common, and the switch that tests and comparisons turn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.autograd import forward_ad

from layerlab.lab import private

_enabled = True


def serve(*tensors: Tensor | None) -> bool:
    """Whether the kernels are on and take these tensors: float32 or float64 on the CPU.

    Kernels have no forward-mode derivative and would drop a tangent without a word; plain torch refuses it.
    """
    # Where this torch does not tell its level, only the tensors themselves do.
    level = getattr(forward_ad, private.FORWARD_LEVEL, None)
    if not _enabled or (level is not None and level >= 0):
        return False
    if level is None and any(
        t is not None and forward_ad.unpack_dual(t).tangent is not None for t in tensors
    ):
        return False
    for t in tensors:
        if t is not None and not (t.is_cpu and (t.dtype is torch.float32 or t.dtype is torch.float64)):
            return False
    return True


@contextmanager
def disabled() -> Iterator[None]:
    """The pure-torch path inside the block, on any device: the kernels' slow twin."""
    global _enabled
    before, _enabled = _enabled, False
    try:
        yield
    finally:
        _enabled = before
