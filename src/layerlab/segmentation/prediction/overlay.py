"""A picture by which a person can judge a mask: the image, tinted and outlined, with names and a key."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from layerlab.segmentation import palette
from layerlab.segmentation.images import fractions

if TYPE_CHECKING:
    from PIL import Image, ImageDraw, ImageFont

_LARGEST, _SMALLEST = 1600, 512
_TEXT, _LINE, _SWATCH = 15, 24, 16  # pixels
_LEAST_AREA = 0.002  # of the picture: a smaller region gets no name
_NAMED = 40  # regions at most
_LISTED = 24  # classes in the key at most


def drawn(
    pixels: NDArray[Any], mask: NDArray[np.uint8], classes: Sequence[str], shares: Sequence[float]
) -> NDArray[np.uint8]:
    """The image with its mask over it, and a key below; about 512 to 1600 pixels on its longer side.

    Every region is outlined, tinted and, if it is not small, named: colours alone need not be told apart. The class
    that is what is left over stays clear.

    Args:
        pixels: uint8 or uint16 ``(h, w, channels)``.
        mask: uint8 ``(h, w)``.
        classes: their names.
        shares: of the mask's pixels, one a class.

    Returns:
        uint8 ``(height, width, 3)``.
    """
    from PIL import Image, ImageDraw

    image, labels = _sized(pixels, mask)
    picture = Image.fromarray(palette.overlay(image, labels, classes))
    font = _font()
    pen = ImageDraw.Draw(picture)
    left_over = palette.background(classes)
    for row, column, index in _regions(labels, left_over):
        _write(pen, (column, row), classes[index], font, picture.size)
    key = _key(picture.width, classes, shares, font)
    whole = Image.new("RGB", (max(picture.width, key.width), picture.height + key.height), "white")
    whole.paste(picture, (0, 0))
    whole.paste(key, (0, picture.height))
    return np.asarray(whole)


def _sized(pixels: NDArray[Any], mask: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Image in [0, 1] and mask, by whole factors smaller or larger: means of squares, nearest pixels."""
    longer, shorter = max(mask.shape), min(mask.shape)
    if longer > _LARGEST:
        step = -(-longer // _LARGEST)
        if shorter < step:
            return fractions(pixels[::step, ::step]), mask[::step, ::step]
        height, width = (side // step * step for side in mask.shape)
        total: NDArray[np.float32] = np.zeros((height // step, width // step, pixels.shape[2]), np.float32)
        for down in range(step):
            for across in range(step):
                total += fractions(pixels[down:height:step, across:width:step])
        middle = step // 2
        total *= np.float32(1 / (step * step))
        return total, mask[middle:height:step, middle:width:step]
    factor = max(1, min(16, _SMALLEST // longer))
    grown = fractions(pixels).repeat(factor, 0).repeat(factor, 1)
    return grown, mask.repeat(factor, 0).repeat(factor, 1)


def _regions(mask: NDArray[np.uint8], left_over: int | None) -> list[tuple[int, int, int]]:
    """Row, column and class of a point well inside each of the largest regions."""
    from scipy import ndimage

    found = []
    least = max(100, _LEAST_AREA * mask.size)
    for index in np.unique(mask).tolist():
        if index == left_over:
            continue
        regions, _ = ndimage.label(mask == index)
        areas = np.bincount(regions.ravel())
        for place, box in enumerate(ndimage.find_objects(regions), start=1):
            if areas[place] < least:
                continue
            inside = np.pad(regions[box] == place, 1)
            deepest = int(ndimage.distance_transform_cdt(inside).argmax())
            row, column = np.unravel_index(deepest, inside.shape)
            point = (box[0].start + int(row) - 1, box[1].start + int(column) - 1)
            found.append((int(areas[place]), *point, index))
    found.sort(reverse=True)
    return [(row, column, index) for _, row, column, index in found[:_NAMED]]


def _write(
    pen: ImageDraw.ImageDraw,
    at: tuple[int, int],
    text: str,
    font: ImageFont.FreeTypeFont,
    size: tuple[int, int],
) -> None:
    """White letters with a black edge around a point, moved inside the picture where they would leave it."""
    text = _short(text)
    left, top, right, bottom = pen.textbbox(at, text, font=font, anchor="mm", stroke_width=2)
    across = max(0, -left) - max(0, right - size[0])
    down = max(0, -top) - max(0, bottom - size[1])
    place = (at[0] + across, at[1] + down)
    pen.text(place, text, "white", font=font, anchor="mm", stroke_width=2, stroke_fill="black")


def _key(
    width: int, classes: Sequence[str], shares: Sequence[float], font: ImageFont.FreeTypeFont
) -> Image.Image:
    """The classes that occur, the commonest first: colour, name, share."""
    from PIL import Image, ImageDraw

    present = sorted((index for index, share in enumerate(shares) if share), key=lambda i: -shares[i])
    colours = palette.colours(classes)
    entries = [
        (tuple(colours[index].tolist()), f"{_short(classes[index])} {_percent(shares[index])}")
        for index in present[:_LISTED]
    ]
    if len(present) > _LISTED:
        entries.append(((255, 255, 255), f"and {len(present) - _LISTED} more"))
    widths = [_SWATCH + 8 + int(font.getlength(text)) + 18 for _, text in entries]
    width = max([width, *(entry + 12 for entry in widths)])
    places, left, line = [], 8, 0
    for entry in widths:
        if left > 8 and left + entry > width:
            left, line = 8, line + 1
        places.append((left, line))
        left += entry
    key = Image.new("RGB", (width, (line + 1) * _LINE + 8), "white")
    pen = ImageDraw.Draw(key)
    for (colour, text), (left, line) in zip(entries, places, strict=True):
        top = 4 + line * _LINE
        pen.rectangle((left, top + 4, left + _SWATCH, top + 4 + _SWATCH), fill=colour, outline="black")
        pen.text((left + _SWATCH + 8, top + _LINE // 2), text, "black", font=font, anchor="lm")
    return key


def _percent(share: float) -> str:
    # What occurs is never told as nothing.
    return f"{100 * share:.1f} %" if share >= 0.0005 else "< 0.1 %"


def _short(name: str) -> str:
    plain = " ".join(name.split())
    return plain if len(plain) <= 30 else f"{plain[:29]}…"


@functools.cache
def _font() -> ImageFont.FreeTypeFont:
    import matplotlib
    from PIL import ImageFont

    # DejaVu has the letters of most languages; the font inside Pillow has few.
    return ImageFont.truetype(
        str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), _TEXT
    )
