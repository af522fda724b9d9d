"""Images beside their targets and predictions, as small pictures of a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from layerlab.errors import UserError
from layerlab.lab.report.pictures import Picture, Sheet, picture
from layerlab.segmentation.dataset import IGNORE
from layerlab.segmentation.palette import background, colours, overlay

LARGEST = 160
"""Pixels of a picture's longer side: fifty of a photograph then take less than 4 MB of a page."""

MOST_COLOURS = 24
"""Classes that the key names; more cannot be told apart by their colours."""


@dataclass(frozen=True, eq=False)
class Row:
    """What one line of a sheet shows.

    Attributes:
        name: of the image.
        image: uint8 ``(h, w, 3)``.
        target: uint8 ``(h, w)``, classes and `IGNORE`.
        predictions: masks like the target, one a contestant.
        notes: a few words below each of them, such as its IoU.
    """

    name: str
    image: NDArray[np.uint8]
    target: NDArray[np.uint8]
    predictions: Sequence[NDArray[np.uint8]]
    notes: Sequence[str] = ()


def sheet(
    rows: Sequence[Row],
    classes: Sequence[str],
    *,
    contestants: Sequence[str] = ("prediction",),
    caption: str = "Image, target and prediction",
) -> Sheet:
    """A block of a page: image, target and predictions, drawn over the image.

    Args:
        rows: what to show, from above.
        classes: their names; the background (see `palette.background`) is left clear.
        contestants: headings of the predictions.
        caption: what to see in it.

    Raises:
        UserError: no row, or one with another number of predictions or with masks of another size.

    >>> dark = np.zeros((2, 2, 3), np.uint8)
    >>> mask = np.array([[0, 1], [1, 255]], np.uint8)
    >>> block = sheet([Row("a", dark, mask, [mask])], ("background", "flower"))
    >>> block.columns, block.key
    (('image', 'target', 'prediction'), [('#e69f00', 'flower'), ('#808080', 'ignored')])
    """
    if not rows:
        raise UserError("expected at least one image to show, got none; leave the sheet out")
    lines: list[tuple[str, list[Picture | None]]] = []
    for row in rows:
        if len(row.predictions) != len(contestants):
            raise UserError(
                f"expected {len(contestants)} predictions of {row.name!r}, got {len(row.predictions)}"
            )
        notes = [*row.notes, *[""] * (len(contestants) - len(row.notes))]
        drawn: list[Picture | None] = [
            picture(row.image, f"image {row.name}", largest=LARGEST),
            _drawn(row, row.target, classes, "target", ""),
        ]
        drawn += [
            _drawn(row, mask, classes, name, note)
            for mask, name, note in zip(row.predictions, contestants, notes, strict=True)
        ]
        lines.append((row.name, drawn))
    return Sheet(caption, ("image", "target", *contestants), lines, _key(rows, classes))


def _drawn(row: Row, mask: NDArray[np.uint8], classes: Sequence[str], what: str, note: str) -> Picture:
    image = row.image.astype(np.float32) / np.float32(255)
    sizes = np.bincount(mask.ravel(), minlength=256)[: len(classes)]
    seen = ", ".join(
        f"{classes[index]} {100 * sizes[index] / mask.size:.0f} %"
        for index in np.argsort(-sizes)[:4].tolist()
        if sizes[index]
    )
    return picture(overlay(image, mask, classes), f"{what} of {row.name}: {seen}", note, largest=LARGEST)


def _key(rows: Sequence[Row], classes: Sequence[str]) -> list[tuple[str, str]]:
    """Colours of the classes that are there to see; the background has none."""
    occurs = np.zeros(256, bool)
    for row in rows:
        for mask in (row.target, *row.predictions):
            occurs |= np.bincount(mask.ravel(), minlength=256) > 0
    table = colours(classes)
    left = background(classes)
    shown = [index for index in np.flatnonzero(occurs[: len(classes)]).tolist() if index != left][
        :MOST_COLOURS
    ]
    key = [(_hex(table[index]), classes[index]) for index in shown]
    return [*key, (_hex(table[IGNORE]), "ignored")] if occurs[IGNORE] else key


def _hex(colour: NDArray[np.uint8]) -> str:
    return "#" + bytes(colour.tolist()).hex()
