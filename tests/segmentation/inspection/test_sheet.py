"""The sheet of images, targets and predictions: what stands where, its key, and what is refused."""

from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from layerlab.errors import UserError
from layerlab.segmentation.inspection.sheet import LARGEST, Row, sheet
from layerlab.segmentation.palette import overlay

CLASSES = ("background", "flower", "leaf")


def decoded(png: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(png)))


def row(name: str = "a b/ü", size: tuple[int, int] = (6, 8)) -> Row:
    rng = np.random.default_rng(0)
    masks = [rng.integers(0, 2, size).astype(np.uint8) for _ in range(3)]
    return Row(name, rng.integers(0, 256, (*size, 3)).astype(np.uint8), masks[0], masks[1:], ["IoU 0.5"])


def test_a_row_shows_image_target_and_every_prediction() -> None:
    shown = row()
    block = sheet([shown], CLASSES, contestants=("with skips", "without"), caption="Worst first")
    assert block.columns == ("image", "target", "with skips", "without")
    ((name, pictures),) = block.rows
    assert name == "a b/ü"
    image, *drawn = [decoded(picture.png) for picture in pictures if picture is not None]
    assert (image == shown.image).all()
    for pixels, mask in zip(drawn, (shown.target, *shown.predictions), strict=True):
        assert (pixels == overlay(shown.image.astype(np.float32) / np.float32(255), mask, CLASSES)).all()
    assert [picture.note for picture in pictures if picture is not None] == ["", "", "IoU 0.5", ""]
    assert block.key == [("#e69f00", "flower")]


def test_the_key_names_what_is_there_to_see() -> None:
    shown = row()
    shown.predictions[1][0, 0] = 2
    shown.target[0, 1] = 255
    block = sheet([shown], CLASSES, contestants=("one", "two"))
    assert [name for _, name in block.key] == ["flower", "leaf", "ignored"]


def test_large_images_are_made_small() -> None:
    block = sheet([row(size=(300, 900))], CLASSES, contestants=("one", "two"))
    sizes = {decoded(picture.png).shape for _, line in block.rows for picture in line if picture is not None}
    assert {max(size) for size in sizes} == {LARGEST}


def test_wrong_rows_are_refused() -> None:
    with pytest.raises(UserError, match="at least one image"):
        sheet([], CLASSES)
    with pytest.raises(UserError, match="expected 1 predictions of 'a b/ü', got 2"):
        sheet([row()], CLASSES)
