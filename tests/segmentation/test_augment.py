"""Augmentation: one geometry for image and mask, ignored pixels outside, and draws that can be repeated."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import Tensor

from layerlab.errors import UserError
from layerlab.segmentation.augment import augment
from layerlab.segmentation.dataset import IGNORE


def discs(n: int, size: int = 40) -> tuple[Tensor, Tensor]:
    """Images that are bright exactly where their mask is 1, off centre, on a ground that is not black."""
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    masks = ((rows - size / 3) ** 2 + (columns - size / 2.2) ** 2 < (size / 5) ** 2).to(torch.uint8)
    images = 0.1 + 0.6 * masks.float()
    return images.expand(n, 3, size, size).clone(), masks.expand(n, size, size).clone()


@pytest.mark.parametrize("kind", ["photo", "overhead"])
def test_image_and_mask_move_together(kind: str) -> None:
    torch.manual_seed(0)
    images, masks = discs(16)
    turned, labels = augment(images, masks, kind)
    assert turned.shape == images.shape
    assert labels.dtype == torch.uint8
    assert set(labels.unique().tolist()) == {0, 1, IGNORE}
    for image, label in zip(turned, labels, strict=True):
        known = label != IGNORE
        middle = (image[0][known].max() + image[0][known].min()) / 2
        bright = image[0] > middle
        assert (bright[known] == (label[known] == 1)).float().mean() > 0.97
        assert 200 * 0.6 < (label == 1).sum() < 200 * 1.7
    # Every image for itself, and away from where it was.
    assert len({label.numpy().tobytes() for label in labels}) == 16
    assert ((labels == 1) != (masks == 1)).float().mean() > 0.02
    assert turned.min() >= 0
    assert turned.max() <= 1


def test_orientations_of_each_kind() -> None:
    torch.manual_seed(1)
    images, masks = discs(64)
    upright = augment(images, masks, "photo")[1] == 1
    any_way = augment(images, masks, "overhead")[1] == 1
    rows = torch.arange(40.0)

    def heights(found: Tensor) -> Tensor:
        return (found.sum(2) * rows).sum(1) / found.sum((1, 2))

    # The disc stands above the middle; turned by 15 degrees it still does, turned by any angle it need not.
    assert (heights(upright) < 19.5).all()
    assert 10 < (heights(any_way) < 19.5).sum() < 54


def test_ignored_pixels_stay_ignored() -> None:
    torch.manual_seed(2)
    images, masks = discs(4)
    masks[masks == 1] = IGNORE
    labels = augment(images, masks, "photo")[1]
    assert set(labels.unique().tolist()) == {0, IGNORE}
    assert ((labels == IGNORE).sum((1, 2)) > 100).all()


def test_the_same_seed_draws_the_same() -> None:
    images, masks = discs(3)
    found = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        found.append(augment(images, masks, "photo"))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])
    assert not torch.equal(found[0][1], found[2][1])


def test_none_changes_nothing_and_needs_no_kornia(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kornia", None)
    images, masks = discs(1)
    state = torch.get_rng_state()
    assert augment(images, masks, "none") == (images, masks)
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(UserError, match=r"pip install \"layerlab\[images\]\""):
        augment(images, masks, "photo")


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(UserError, match="got 'wild'"):
        augment(*discs(1), "wild")
