"""Overlays: regions outlined, tinted and named, the key below; readable at any size of the image."""

from __future__ import annotations

import numpy as np
import pytest

from layerlab.segmentation.palette import colours
from layerlab.segmentation.prediction.overlay import _regions, _sized, drawn

CLASSES = ("background", "leaf", "fruit")


def _scene(height: int, width: int) -> tuple[np.ndarray, np.ndarray, list[float]]:
    pixels = np.full((height, width, 3), 100, np.uint8)
    mask = np.zeros((height, width), np.uint8)
    mask[height // 4 : height // 2, width // 4 : width // 2] = 2
    return pixels, mask, (np.bincount(mask.ravel(), minlength=3) / mask.size).tolist()


def _holds(picture: np.ndarray, colour: np.ndarray) -> bool:
    return bool((picture == colour).all(axis=-1).any())


def test_a_region_has_its_colour_and_the_background_stays_clear() -> None:
    picture = drawn(*_scene(512, 600)[:2], CLASSES, _scene(512, 600)[2])
    over = picture[:512]
    assert _holds(over, colours(CLASSES)[2])  # its outline
    assert not _holds(over, colours(CLASSES)[1])
    assert (over[400:, 400:] == 100).all()
    assert (over[140, 160] != 100).any()  # its tint


def test_the_key_tells_the_classes_that_occur() -> None:
    pixels, mask, shares = _scene(512, 600)
    key = drawn(pixels, mask, CLASSES, shares)[512:]
    table = colours(CLASSES)
    assert _holds(key, table[0])
    assert _holds(key, table[2])
    assert not _holds(key, table[1])


def test_many_classes_wrap_and_end() -> None:
    names = tuple(f"a class with a long name {k}" for k in range(60))
    mask = np.arange(600 * 600, dtype=np.int64).reshape(600, 600) % 60
    picture = drawn(np.zeros((600, 600, 3), np.uint8), mask.astype(np.uint8), names, [1 / 60] * 60)
    assert 700 < picture.shape[0] < 1600
    assert picture.shape[1] == 600


@pytest.mark.parametrize(
    ("height", "width"), [(1, 1), (1, 5000), (5000, 1), (64, 64), (1700, 900), (4001, 3333)]
)
def test_any_size_becomes_one_that_can_be_looked_at(height: int, width: int) -> None:
    pixels, mask, shares = _scene(height, width)
    picture = drawn(pixels, mask, CLASSES, shares)
    assert picture.dtype == np.uint8
    assert max(picture.shape[:2]) <= 1700


def test_large_images_are_averaged_and_masks_are_not() -> None:
    pixels = np.zeros((3200, 3200, 1), np.uint16)
    pixels[::2] = 65535
    mask = np.zeros((3200, 3200), np.uint8)
    mask[1600:] = 2
    image, labels = _sized(pixels, mask)
    assert image.shape == (1600, 1600, 1)
    assert np.allclose(image, 0.5)
    assert set(np.unique(labels)) == {0, 2}
    assert (labels[800:] == 2).all()


def test_small_images_grow_by_whole_factors() -> None:
    image, labels = _sized(np.zeros((60, 40, 3), np.uint8), np.zeros((60, 40), np.uint8))
    assert labels.shape == (480, 320)
    assert image.shape == (480, 320, 3)


def test_names_stand_inside_their_regions() -> None:
    mask = np.zeros((200, 200), np.uint8)
    mask[10:60, 10:190] = 1
    mask[60:190, 10:40] = 1  # an L: its middle lies outside
    mask[100:160, 100:160] = 2
    mask[0:3, 0:3] = 2  # too small to name
    named = _regions(mask, left_over=0)
    assert [index for _, _, index in named] == [1, 2]
    for row, column, index in named:
        assert mask[row, column] == index
        assert mask[row - 8 : row + 9, column - 8 : column + 9].min() == index
