"""Cross-entropy as one step of autograd: the forward has the gradient already."""

from __future__ import annotations

import math
from functools import cache
from types import ModuleType
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerlab.errors import UserError
from layerlab.graph.kernels.operators import CHUNK, array
from layerlab.lab.kernels import threads


@cache
def _cpu() -> ModuleType:
    from layerlab.graph.kernels import loss_cpu

    return loss_cpu


def value_and_gradient(x: NDArray[Any], labels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Mean cross-entropy, without dimensions, and its gradient.

    Raises:
        UserError: a label is no class.
    """
    count, chunks = x.shape[0], -(-x.shape[0] // CHUNK)
    gradient, sums = np.empty(x.shape, x.dtype), np.empty(chunks)
    arguments = (x, labels, x.dtype.type(1 / count), CHUNK, sums, gradient)
    threads.run(_cpu().cross_entropy, arguments, threads.even_parts(chunks, 2 * x.size))
    total = 0.0
    for of_chunk in sums.tolist():
        if of_chunk < 0:
            _refuse(x, labels, -1 - int(of_chunk))
        total += of_chunk
    return np.array(total / count, x.dtype), gradient


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor) -> Tensor:
        loss, ctx.gradient = value_and_gradient(array(logits), array(labels))
        ctx.save_for_backward(logits, labels)
        return torch.from_numpy(loss)

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
        return torch.from_numpy(given * given.dtype.type(upstream.item())), None


def _refuse(x: NDArray[Any], labels: NDArray[Any], place: int) -> NoReturn:
    raise UserError(f"expected labels in 0 ... {x.shape[1] - 1}, got {labels[place]} at position {place}")


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean over rows, for checked arguments that `direct` and `kernels.serve` let through."""
    loss: Tensor = _CrossEntropy.apply(logits, labels)
    return loss


def scores(logits: Tensor, rows: Tensor, labels: Tensor) -> tuple[float, float]:
    """Mean cross-entropy and accuracy at some rows, for checked arguments that `kernels.serve` lets through."""
    x, wanted, given = array(logits), array(rows), array(labels)
    chunks = -(-len(wanted) // CHUNK)
    sums, hits = np.empty(chunks), np.empty(chunks, np.int64)
    parts = threads.even_parts(chunks, 2 * len(wanted) * x.shape[1])
    threads.run(_cpu().scores, (x, wanted, given, CHUNK, sums, hits), parts)
    for of_chunk in sums.tolist():
        if of_chunk < 0:
            place = -1 - int(of_chunk)
            if not 0 <= wanted[place] < len(x):
                raise UserError(
                    f"expected rows in 0 ... {len(x) - 1}, got {wanted[place]} at position {place}"
                )
            _refuse(x, given, place)
    return math.fsum(sums) / len(wanted), int(hits.sum()) / len(wanted)
