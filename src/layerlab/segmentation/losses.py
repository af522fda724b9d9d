"""The training loss of segmentation: cross-entropy plus soft Dice, with class weights and ignored pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from layerlab.errors import UserError
from layerlab.segmentation.dataset import IGNORE

Total: TypeAlias = Callable[[Tensor], Tensor]
"""Makes the sum over a share of a batch that over the whole batch, with its derivative."""


def _alone(part: Tensor) -> Tensor:
    return part


def segmentation_loss(
    logits: Tensor,
    target: Tensor,
    *,
    weights: Tensor | None = None,
    dice_share: float = 0.5,
    total: Total = _alone,
) -> Tensor:
    """``(1 - s) cross-entropy + s dice``.

    Cross-entropy is ``sum(-w_t log p_t) / sum(w_t)`` over the pixels that are not ignored, t their target;
    for Dice see `dice_loss`. Cross-entropy gives every pixel a gradient from the first step on, Dice does not mind
    that most pixels are background (Milletari et al. 2016; their sum: Isensee et al. 2021, nnU-Net).

    Args:
        logits: ``(n, classes, h, w)``, float; computed in float32 where they are shorter.
        target: ``(n, h, w)``, uint8 or int64: classes and `IGNORE`.
        weights: ``(classes,)``, float: of every class, in both terms; all 1 when None.
        dice_share: s, from 0 to 1.
        total: where logits and target are a share of a batch, what makes a sum that of the batch.

    Returns:
        A scalar; 0, with gradients 0, when every pixel is ignored.

    Raises:
        UserError: shapes do not fit, or the share is not in [0, 1].

    >>> logits = torch.tensor([[[[4.0, 0.0]], [[0.0, 4.0]]]])
    >>> right, wrong = torch.tensor([[[0, 1]]]), torch.tensor([[[1, 0]]])
    >>> round(segmentation_loss(logits, right).item(), 4), round(segmentation_loss(logits, wrong).item(), 4)
    (0.0181, 2.5001)
    """
    if not 0 <= dice_share <= 1:
        raise UserError(f"expected a share of Dice from 0 to 1, got {dice_share}")
    _check(logits, target, weights)
    wide = logits if logits.dtype is torch.float64 else logits.float()
    logarithms = functional.log_softmax(wide, dim=1)
    target = target.long()
    loss = wide.new_zeros(())
    if dice_share < 1:
        loss = loss + (1 - dice_share) * _cross_entropy(logarithms, target, weights, total)
    if dice_share > 0:
        loss = loss + dice_share * _dice(logarithms.exp(), target, weights, total)
    return loss


def dice_loss(logits: Tensor, target: Tensor, *, weights: Tensor | None = None) -> Tensor:
    """Soft Dice: the mean over classes of ``1 - 2 sum p g / (sum p + sum g)``.

    p is the softmax probability of the class and g is 1 where the target is the class, else 0; the sums run over all
    pixels of the batch that are not ignored. Only classes that occur in the batch's target are in the mean: of any
    other the term is 1 however small p is, and its false positives are seen by the terms of the classes that they
    replace. Milletari, Navab, Ahmadi: V-Net (3DV 2016), with p instead of its square.

    Args:
        logits: ``(n, classes, h, w)``, float.
        target: ``(n, h, w)``, uint8 or int64: classes and `IGNORE`.
        weights: ``(classes,)``: the mean over classes is weighted by them; all 1 when None.

    Returns:
        A scalar from 0 to 1; 0 when every pixel is ignored.

    Raises:
        UserError: shapes do not fit.

    >>> round(dice_loss(torch.zeros(1, 2, 1, 2), torch.tensor([[[0, 1]]])).item(), 4)
    0.5
    """
    _check(logits, target, weights)
    wide = logits if logits.dtype is torch.float64 else logits.float()
    return _dice(functional.softmax(wide, dim=1), target.long(), weights)


def balanced_weights(pixels: Sequence[int]) -> tuple[float, ...]:
    """Class weights by median frequency: ``median(f) / f_k``, at most 10.

    The median is over the classes that occur; a class that does not occur gets 1 (it is in no loss). The limit keeps
    a class of a few pixels from ruling the gradient.
    Eigen and Fergus: Predicting Depth, Surface Normals and Semantic Labels (ICCV 2015), section 4.3.

    Args:
        pixels: of every class in the training part.

    Raises:
        UserError: no pixel at all.

    >>> balanced_weights([800, 100, 50, 1, 0])
    (0.09375, 0.75, 1.5, 10.0, 1.0)
    """
    counts = torch.tensor(list(pixels), dtype=torch.float64)
    found = counts[counts > 0]
    if not len(found):
        raise UserError(
            "expected pixels of some class to weigh by, got none; every training pixel is ignored"
        )
    median = found.quantile(0.5)
    weights = torch.where(counts > 0, (median / counts.clamp(min=1)).clamp(max=10.0), 1.0)
    return tuple(float(weight) for weight in weights)


def _cross_entropy(logarithms: Tensor, target: Tensor, weights: Tensor | None, total: Total) -> Tensor:
    summed = total(functional.nll_loss(logarithms, target, weights, ignore_index=IGNORE, reduction="sum"))
    kept = target != IGNORE
    if weights is None:
        return summed / total(kept.sum()).clamp(min=1)
    size = total(weights[target.masked_fill(~kept, 0)].mul(kept).sum())
    # Nothing that counts: 0 and not 0 / 0.
    return summed / torch.where(size > 0, size, torch.ones_like(size))


def _dice(probabilities: Tensor, target: Tensor, weights: Tensor | None, total: Total = _alone) -> Tensor:
    classes = probabilities.shape[1]
    kept = target != IGNORE
    safe = target.masked_fill(~kept, 0)
    hit = probabilities.gather(1, safe[:, None])[:, 0] * kept
    # Sums over the pixels of each class, without a one-hot copy of the target.
    overlap = total(hit.new_zeros(classes).index_add(0, safe.flatten(), hit.flatten()))
    size = total(hit.new_zeros(classes).index_add(0, safe.flatten(), kept.flatten().to(hit.dtype)))
    mass = total((probabilities * kept[:, None]).sum((0, 2, 3)))
    occurs = (size > 0).to(hit.dtype)
    share = occurs if weights is None else occurs * weights
    terms = 1 - 2 * overlap / torch.where(size > 0, mass + size, torch.ones_like(size))
    whole = share.sum()
    return (share * terms).sum() / torch.where(whole > 0, whole, torch.ones_like(whole))


def _check(logits: Tensor, target: Tensor, weights: Tensor | None) -> None:
    if logits.ndim != 4 or target.shape != (logits.shape[0], *logits.shape[2:]):
        raise UserError(
            "expected logits (n, classes, h, w) and a target (n, h, w), "
            f"got {tuple(logits.shape)} and {tuple(target.shape)}"
        )
    if weights is not None and weights.shape != logits.shape[1:2]:
        raise UserError(
            f"expected one weight for each of {logits.shape[1]} classes, got {tuple(weights.shape)}"
        )
