"""The loss and the accuracy of node classification."""

from __future__ import annotations

import torch
from torch import Tensor

from layerlab.errors import UserError
from layerlab.graph.kernels import loss as fused
from layerlab.graph.sparse import expect_tensors
from layerlab.lab import kernels
from layerlab.lab.kernels.registration import direct


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
    expect_tensors(logits, labels)
    _check(logits, labels, logits.shape[:1])
    if kernels.serve(logits) and direct(logits) and direct(labels):
        return fused.cross_entropy(logits, labels)
    return torch.nn.functional.cross_entropy(logits, labels)


def scores(logits: Tensor, rows: Tensor, labels: Tensor) -> tuple[float, float]:
    """Mean cross-entropy and accuracy at some rows, in one pass over them on a CPU.

    Accuracy is the share of rows whose largest logit, the first of several, is that of the label.

    Args:
        logits: ``(n, classes)``.
        rows: ``(k,)`` int64, from 0 to n - 1, k >= 1.
        labels: ``(k,)`` int64, those of the rows.

    Returns:
        Loss and accuracy, without gradients.

    Raises:
        UserError: shapes do not fit, there is no row, a row is not there, or a label is no class.

    >>> loss, accuracy = scores(torch.zeros(3, 4), torch.tensor([0, 2]), torch.tensor([0, 1]))
    >>> round(loss, 4), accuracy
    (1.3863, 0.5)
    """
    expect_tensors(logits, rows, labels)
    if rows.ndim != 1 or rows.dtype != torch.int64:
        raise UserError(f"expected a list of int64 rows, got {tuple(rows.shape)} {rows.dtype}")
    _check(logits, labels, rows.shape)
    if kernels.serve(logits) and direct(logits) and direct(rows) and direct(labels):
        return fused.scores(logits, rows, labels)
    if int(rows.min()) < 0 or int(rows.max()) >= len(logits):
        raise UserError(
            f"expected rows in 0 ... {len(logits) - 1}, got {int(rows.min())} to {int(rows.max())}"
        )
    part = logits.detach().index_select(0, rows)
    hits = int((part.argmax(1) == labels).sum())
    return float(torch.nn.functional.cross_entropy(part, labels)), hits / len(rows)


def _check(logits: Tensor, labels: Tensor, expected: torch.Size) -> None:
    if logits.ndim != 2 or labels.shape != expected or labels.dtype != torch.int64:
        raise UserError(
            f"expected logits (n, classes) and n int64 labels, got {tuple(logits.shape)} and "
            f"{tuple(labels.shape)} {labels.dtype}"
        )
    if not len(labels) or not logits.shape[1]:
        raise UserError(f"expected at least one row and one class, got logits of shape {tuple(logits.shape)}")
