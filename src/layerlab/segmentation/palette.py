"""Colours of classes, the same on every picture of a room: masks, overlays, sheets and keys."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from layerlab.errors import UserError
from layerlab.segmentation.dataset import IGNORE

BACKGROUND = ("background", "rest", "other", "others", "none", "void")
"""Names, in any case, of a class that is what is left over: it is drawn black, and left clear on overlays."""

# Okabe and Ito (2008), without their black: told apart by most people who confuse colours.
_FIRST = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)
_IGNORED = (128, 128, 128)
_GOLDEN = 0.6180339887498949


def colours(classes: Sequence[str]) -> NDArray[np.uint8]:
    """A colour for every value that a mask can have.

    Args:
        classes: their names.

    Returns:
        uint8 ``(256, 3)``: row k is the colour of class k, row `IGNORE` grey, the others black.

    Raises:
        UserError: more than 255 classes.

    >>> colours(("background", "flower"))[[0, 1, 255]].tolist()
    [[0, 0, 0], [230, 159, 0], [128, 128, 128]]
    """
    if len(classes) > IGNORE:
        raise UserError(f"expected at most {IGNORE} classes, got {len(classes)}")
    table = np.zeros((256, 3), np.uint8)
    table[IGNORE] = _IGNORED
    drawn = [index for index in range(len(classes)) if index != background(classes)]
    for place, index in enumerate(drawn):
        table[index] = _FIRST[place] if place < len(_FIRST) else _further(place - len(_FIRST))
    return table


def background(classes: Sequence[str]) -> int | None:
    """The class that is what is left over, known by its name; None when there is none.

    >>> background(("flower", "Background")), background(("sky", "leaf"))
    (1, None)
    """
    return next((index for index, name in enumerate(classes) if name.casefold() in BACKGROUND), None)


def painted(mask: NDArray[np.uint8], classes: Sequence[str]) -> NDArray[np.uint8]:
    """The mask in its colours, uint8 ``(h, w, 3)``."""
    return colours(classes)[mask]


def overlay(
    image: NDArray[np.float32], mask: NDArray[np.uint8], classes: Sequence[str], *, opacity: float = 0.45
) -> NDArray[np.uint8]:
    """The image with every class but the background tinted, and outlined in its full colour.

    Args:
        image: ``(h, w, channels)`` in [0, 1], see `shown`.
        mask: ``(h, w)``: classes and `IGNORE`, which is tinted grey and not outlined.
        classes: their names.
        opacity: of the tint, from 0 to 1.

    Returns:
        uint8 ``(h, w, 3)``.

    Raises:
        UserError: mask and image differ in size.
    """
    base = shown(image)
    if mask.shape != base.shape[:2]:
        raise UserError(f"expected a mask of {base.shape[:2]} pixels like its image, got {mask.shape}")
    left = background(classes)
    tinted = np.ones(mask.shape, bool) if left is None else mask != left
    colour = painted(mask, classes)
    mixed = (base * (1 - opacity) + colour * opacity + 0.5).astype(np.uint8)
    picture = np.where(tinted[..., None], mixed, base)
    edge = _outline(mask) & tinted & (mask != IGNORE)
    picture[edge] = colour[edge]
    return picture


def shown(image: NDArray[np.float32]) -> NDArray[np.uint8]:
    """An image of any number of channels as RGB for people, uint8 ``(h, w, 3)``.

    One channel is grey, two are red and green, of more than three the first three are shown.

    >>> shown(np.ones((1, 2, 1), np.float32)).tolist()
    [[[255, 255, 255], [255, 255, 255]]]
    """
    pixels = (np.clip(np.nan_to_num(image), 0, 1) * 255 + 0.5).astype(np.uint8)
    if pixels.shape[2] == 1:
        return np.repeat(pixels, 3, axis=2)
    if pixels.shape[2] == 2:
        return np.concatenate([pixels, np.zeros_like(pixels[..., :1])], axis=2)
    return pixels[..., :3]


def _outline(mask: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Pixels with another value above, below, left or right of them."""
    edge = np.zeros(mask.shape, bool)
    down, across = mask[1:] != mask[:-1], mask[:, 1:] != mask[:, :-1]
    edge[1:] |= down
    edge[:-1] |= down
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    return edge


def _further(place: int) -> tuple[int, ...]:
    # Hues by the golden ratio: any first n of them lie well apart. Three brightnesses in turn help neighbours.
    hue = (0.5 + place * _GOLDEN) % 1.0
    channels = colorsys.hsv_to_rgb(hue, (0.9, 0.45, 0.7)[place % 3], (0.65, 1.0, 0.9)[place % 3])
    return tuple(round(255 * channel) for channel in channels)
