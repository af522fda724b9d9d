"""The training loss: against slow twins pixel by pixel, values and gradients, and worked by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from layerlab.errors import UserError
from layerlab.segmentation.dataset import IGNORE
from layerlab.segmentation.losses import balanced_weights, dice_loss, segmentation_loss


def slow_loss(logits: Tensor, target: Tensor, weights: Tensor, share: float) -> Tensor:
    """Both terms from their formulas, one pixel at a time."""
    n, _, height, width = logits.shape
    pixels = [
        (functional.softmax(logits[i, :, y, x], 0), int(target[i, y, x]))
        for i in range(n)
        for y in range(height)
        for x in range(width)
        if target[i, y, x] != IGNORE
    ]
    entropy = sum(-weights[t] * p[t].log() for p, t in pixels) / sum(weights[t] for _, t in pixels)
    terms = []
    for k in sorted({t for _, t in pixels}):
        overlap = sum(p[k] for p, t in pixels if t == k)
        sizes = sum(p[k] for p, _ in pixels) + sum(t == k for _, t in pixels)
        terms.append((weights[k], 1 - 2 * overlap / sizes))
    dice = sum(w * term for w, term in terms) / sum(w for w, _ in terms)
    return (1 - share) * torch.as_tensor(entropy) + share * torch.as_tensor(dice)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_values_and_gradients_equal_the_slow_twin(share: float, weighted: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 5, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    target = torch.randint(0, 3, (2, 5, 3), generator=generator)  # class 3 does not occur
    target[torch.rand(2, 5, 3, generator=generator) < 0.3] = IGNORE
    weights = torch.tensor([0.5, 2.0, 1.0, 3.0], dtype=torch.float64)
    given = weights if weighted else None
    loss = segmentation_loss(logits, target.to(torch.uint8), weights=given, dice_share=share)
    expected = slow_loss(logits, target, weights if weighted else torch.ones_like(weights), share)
    torch.testing.assert_close(loss, expected)
    gradient, wanted = (torch.autograd.grad(value, logits)[0] for value in (loss, expected))
    torch.testing.assert_close(gradient, wanted)
    ignored = (target == IGNORE)[:, None].expand_as(gradient)
    assert (gradient[ignored] == 0).all()
    assert (gradient[~ignored] != 0).any()


def test_gradcheck() -> None:
    logits = torch.randn(1, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    target = torch.tensor([[[0, 1], [2, IGNORE]]])
    assert torch.autograd.gradcheck(lambda x: segmentation_loss(x, target), (logits,))


def test_dice_worked_by_hand() -> None:
    # Probabilities 3/4 and 1/4 in both pixels, the target 0 and 1.
    logits = torch.tensor([[[[math.log(3.0), math.log(3.0)]], [[0.0, 0.0]]]])
    zero = 1 - 2 * 0.75 / (1.5 + 1)
    one = 1 - 2 * 0.25 / (0.5 + 1)
    target = torch.tensor([[[0, 1]]])
    assert dice_loss(logits, target).item() == pytest.approx((zero + one) / 2)
    weighted = dice_loss(logits, target, weights=torch.tensor([3.0, 1.0]))
    assert weighted.item() == pytest.approx((3 * zero + one) / 4)
    # A class that is not in the target is not in the mean.
    assert dice_loss(logits, torch.tensor([[[0, 0]]])).item() == pytest.approx(1 - 2 * 1.5 / (1.5 + 2))


@pytest.mark.parametrize("weights", [None, torch.tensor([0.0, 1.0])])
def test_nothing_that_counts_is_zero_with_zero_gradients(weights: Tensor | None) -> None:
    logits = torch.randn(1, 2, 2, 2, requires_grad=True)
    # All ignored; with weights, also a class of weight 0.
    target = torch.full((1, 2, 2), IGNORE)
    if weights is not None:
        target[0, 0, 0] = 0
    loss = segmentation_loss(logits, target, weights=weights)
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad is not None
    assert (logits.grad == 0).all()


def test_one_pixel_and_short_floats() -> None:
    logits = torch.tensor([2.0, 0.0]).view(1, 2, 1, 1)
    loss = segmentation_loss(logits, torch.zeros(1, 1, 1, dtype=torch.uint8))
    p = math.exp(2) / (1 + math.exp(2))
    assert loss.item() == pytest.approx(0.5 * -math.log(p) + 0.5 * (1 - 2 * p / (p + 1)))
    short = segmentation_loss(logits.bfloat16(), torch.zeros(1, 1, 1, dtype=torch.uint8))
    assert short.dtype is torch.float32
    assert short.item() == loss.item()


def test_layouts_agree() -> None:
    logits = torch.randn(2, 3, 4, 6, generator=torch.Generator().manual_seed(1))
    target = torch.randint(0, 3, (2, 4, 6))
    last = segmentation_loss(logits.contiguous(memory_format=torch.channels_last), target)
    torch.testing.assert_close(last, segmentation_loss(logits, target))


def test_extreme_logits_stay_finite() -> None:
    logits = torch.tensor([1e4, -1e4]).view(1, 2, 1, 1).requires_grad_()
    loss = segmentation_loss(logits, torch.ones(1, 1, 1, dtype=torch.long))
    loss.backward()
    assert loss.item() == pytest.approx(0.5 * 2e4 + 0.5)
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_balanced_weights() -> None:
    assert balanced_weights([10, 10]) == (1.0, 1.0)
    assert balanced_weights([90, 0, 10]) == pytest.approx((50 / 90, 1.0, 5.0))
    with pytest.raises(UserError, match="every training pixel is ignored"):
        balanced_weights([0, 0])


def test_wrong_input_is_refused() -> None:
    logits = torch.zeros(1, 2, 3, 3)
    with pytest.raises(UserError, match="target"):
        segmentation_loss(logits, torch.zeros(1, 3, 2, dtype=torch.long))
    with pytest.raises(UserError, match="from 0 to 1"):
        segmentation_loss(logits, torch.zeros(1, 3, 3, dtype=torch.long), dice_share=2.0)
    with pytest.raises(UserError, match="one weight"):
        dice_loss(logits, torch.zeros(1, 3, 3, dtype=torch.long), weights=torch.ones(3))
