"""The loss of node classification."""

from __future__ import annotations

import torch
from torch import Tensor

from layerlab.errors import UserError
from layerlab.graph import kernels
from layerlab.graph.kernels import loss as fused
from layerlab.graph.kernels.registration import direct


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy, ``mean over i of log sum_c exp(x[i, c]) - x[i, y[i]]``.

    On a CPU softmax, loss and gradient take one pass over the logits; elsewhere this is
    ``torch.nn.functional.cross_entropy``.

    Args:
        logits: ``(n, classes)``, n >= 1.
        labels: ``(n,)`` int64, from 0 to classes - 1.

    Returns:
        A scalar.

    Raises:
        UserError: shapes do not fit, there is no row, or a label is no class.

    >>> round(float(cross_entropy(torch.zeros(3, 4), torch.tensor([0, 1, 3]))), 4)
    1.3863
    """
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or labels.dtype != torch.int64:
        raise UserError(
            f"expected logits (n, classes) and n int64 labels, got {tuple(logits.shape)} and "
            f"{tuple(labels.shape)} {labels.dtype}"
        )
    if not logits.shape[0] or not logits.shape[1]:
        raise UserError(f"expected at least one row and one class, got logits of shape {tuple(logits.shape)}")
    if kernels.serve(logits) and direct(logits) and direct(labels):
        return fused.cross_entropy(logits, labels)
    return torch.nn.functional.cross_entropy(logits, labels)
