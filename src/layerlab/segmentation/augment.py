"""Augmentation of a batch by kornia: every image with a geometry and a brightness of its own, its mask with it.

One warp a batch does it all: mirror, turn and scale are one matrix an image, applied to image and mask alike. Random
numbers come from torch's generator, so a resumed epoch draws what an uninterrupted one draws.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from layerlab.errors import UserError
from layerlab.segmentation.settings import AUGMENTATIONS

_TURN = {"photo": 15.0, "overhead": 180.0}
_FACTOR = 1.25


def augment(images: Tensor, masks: Tensor, kind: str, share: slice | None = None) -> tuple[Tensor, Tensor]:
    """Change every image of a batch at random, and its mask in the same way.

    Mirrored left to right with probability 1/2; turned by an angle from -15 to 15 degrees ("photo") or any
    ("overhead"), which with the mirror gives every orientation; scaled by 0.8 to 1.25; then values ``x`` in [0, 1]
    become ``c x^g``, clipped to [0, 1], with c and g from 0.8 to 1.25, so that a dark image stays one. Images are
    interpolated bilinearly and continued by reflection, masks take the nearest pixel and `IGNORE` outside.

    Args:
        images: ``(n, channels, h, w)`` float32 in [0, 1].
        masks: ``(n, h, w)`` uint8, classes and `IGNORE`.
        kind: "none", "photo" or "overhead".
        share: of the batch, what is returned, as it is in the whole; numbers are drawn for all images. None: all.

    Returns:
        New images and masks, of the same shapes.

    Raises:
        UserError: an unknown kind, or kornia is not installed.

    >>> images, masks = torch.zeros(2, 3, 4, 4), torch.zeros(2, 4, 4, dtype=torch.uint8)
    >>> [tuple(changed.shape) for changed in augment(images, masks, "none")]
    [(2, 3, 4, 4), (2, 4, 4)]
    """
    if kind not in AUGMENTATIONS:
        raise UserError(f"expected an augmentation of {', '.join(AUGMENTATIONS)}, got {kind!r}")
    n, _, height, width = images.shape
    if share is not None:
        images, masks = images[share], masks[share]
    if kind == "none":
        return images, masks
    geometry, enhance = _kornia()
    mine = slice(None) if share is None else share
    matrices = _matrices(geometry, n, height, width, _TURN[kind])[mine]
    common: dict[str, Any] = {"M": matrices, "dsize": (height, width), "align_corners": True}
    turned = geometry.warp_affine(images, mode="bilinear", padding_mode="reflection", **common)
    # One more, modulo 256, turns IGNORE into 0: what the warp puts outside.
    shifted = (masks + 1)[:, None].float()
    warped = geometry.warp_affine(shifted, mode="nearest", padding_mode="zeros", **common)
    factors, powers = _factors(n)[mine], _factors(n)[mine]
    # Weights of an interpolation sum to 1 but for rounding, and a power of what is below 0 is NaN.
    lit = enhance.adjust_gamma(turned.clamp(0, 1), powers)
    lit = enhance.adjust_contrast(lit, factors)
    return lit, warped[:, 0].to(torch.uint8) - 1


def require_kornia() -> None:
    """Load kornia, which takes seconds, or say that it is absent.

    Raises:
        UserError: kornia is not installed.
    """
    _kornia()


def _matrices(geometry: Any, n: int, height: int, width: int, turn: float) -> Tensor:
    angles = turn * (2 * torch.rand(n) - 1)
    mirrors = torch.where(torch.rand(n) < 0.5, -1.0, 1.0)
    scales = _factors(n)
    centres = torch.tensor([(width - 1) / 2, (height - 1) / 2]).expand(n, 2)
    matrix: Tensor = geometry.get_affine_matrix2d(
        torch.zeros(n, 2), centres, torch.stack([mirrors * scales, scales], 1), angles
    )
    return matrix[:, :2]


def _factors(n: int) -> Tensor:
    """Numbers from 0.8 to 1.25, as likely above 1 as below."""
    return torch.exp(math.log(_FACTOR) * (2 * torch.rand(n) - 1))


def _kornia() -> tuple[Any, Any]:
    try:
        from kornia import enhance
        from kornia.geometry import transform
    except ImportError as error:
        raise UserError(
            'augmentation needs kornia: pip install "layerlab[images]", or train without (--augment none)'
        ) from error
    return transform, enhance
