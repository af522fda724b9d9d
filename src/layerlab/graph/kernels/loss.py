"""Cross-entropy as one step of autograd: the forward has the gradient already."""

from __future__ import annotations

from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerlab.errors import UserError
from layerlab.graph.kernels import threads
from layerlab.graph.kernels.operators import CHUNK, array


@cache
def _cpu() -> ModuleType:
    from layerlab.graph.kernels import loss_cpu

    return loss_cpu


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor) -> Tensor:
        x = array(logits)
        count, chunks = x.shape[0], -(-x.shape[0] // CHUNK)
        gradient, sums = np.empty(x.shape, x.dtype), np.empty(chunks)
        arguments = (x, array(labels), x.dtype.type(1 / count), CHUNK, sums, gradient)
        threads.run(_cpu().cross_entropy, arguments, threads.even_parts(chunks, 2 * x.size))
        total = 0.0
        for of_chunk in sums.tolist():
            if of_chunk < 0:
                wrong = -1 - int(of_chunk)
                raise UserError(
                    f"expected labels in 0 ... {x.shape[1] - 1}, got {int(labels[wrong])} at position {wrong}"
                )
            total += of_chunk
        ctx.save_for_backward(logits, labels)
        ctx.gradient = gradient
        return torch.tensor(total / count, dtype=logits.dtype)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        logits, labels = ctx.saved_tensors
        if torch.is_grad_enabled():
            with torch.enable_grad():
                loss = torch.nn.functional.cross_entropy(logits, labels)
            (to_logits,) = torch.autograd.grad(loss, logits, upstream, create_graph=True)
            return to_logits, None
        given: NDArray[Any] = ctx.gradient
        # Never the kept one itself: a second backward must find it as it is.
        return torch.from_numpy(given * array(upstream)), None


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean over rows, for checked arguments that `direct` and `kernels.serve` let through."""
    loss: Tensor = _CrossEntropy.apply(logits, labels)
    return loss
