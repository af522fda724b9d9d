"""Images that are there twice."""

from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from layerlab.segmentation import duplicates
from layerlab.segmentation.duplicates import Twins, families, twins
from layerlab.segmentation.images import Header, Picture
from layerlab.segmentation.scan import Content, describe


def content(pixels: NDArray[np.uint8]) -> Content:
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    return describe(Picture(pixels, Header(*pixels.shape[:2], "PNG", "RGB", 8)))


def scene(seed: int, size: int = 96) -> NDArray[np.uint8]:
    """Smooth blobs, as photographs are at a distance."""
    small = np.random.default_rng(seed).integers(0, 256, (7, 7, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((size, size), Image.Resampling.BICUBIC))


def test_equal_pixels_are_twins_however_often() -> None:
    found = twins([content(scene(0)), content(scene(1)), None, content(scene(0)), content(scene(0))])
    assert found == [Twins(0, 3, 1.0), Twins(0, 4, 1.0)]
    assert all(twin.exact for twin in found)


def test_the_same_bytes_of_another_shape_are_no_twins() -> None:
    pixels = np.arange(200, dtype=np.uint8)
    assert twins([content(pixels.reshape(10, 20)), content(pixels.reshape(20, 10))]) == []


def test_compression_size_and_brightness_do_not_hide_a_twin() -> None:
    first = scene(0)
    file = io.BytesIO()
    Image.fromarray(first).save(file, "JPEG", quality=40)
    changed = [
        np.asarray(Image.open(file)),
        np.asarray(Image.fromarray(first).resize((50, 61))),
        (first * 0.8 + 10).astype(np.uint8),
    ]
    others = [scene(seed) for seed in range(1, 40)]
    found = twins([content(pixels) for pixels in (first, *changed, *others)])
    assert {(twin.first, twin.second) for twin in found} == {(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)}
    assert not any(twin.exact for twin in found)
    assert found == sorted(found, key=lambda twin: -twin.alike)


def test_images_of_one_colour_are_twins_only_to_the_pixel() -> None:
    grey = [np.full((8, 8, 3), value, np.uint8) for value in (10, 10, 11)]
    assert twins([content(pixels) for pixels in grey]) == [Twins(0, 1, 1.0)]


def test_blocks_find_what_the_whole_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    contents = [content(scene(seed % 9 if seed < 18 else seed)) for seed in range(30)]
    near = [content(scene(seed)[:-1]) for seed in range(4)]
    whole = twins(contents + near)
    assert len(whole) == 9 + 4
    monkeypatch.setattr(duplicates, "_CELLS", 60)
    blocks = twins(contents + near)
    assert [(twin.first, twin.second) for twin in blocks] == [(twin.first, twin.second) for twin in whole]
    assert [twin.alike for twin in blocks] == pytest.approx([twin.alike for twin in whole], abs=2e-5)
    assert twins(contents + near, most=10) == blocks[:10]


def test_a_folder_of_one_picture_is_bounded() -> None:
    rng = np.random.default_rng(0)
    first = scene(0, 16)
    many = [
        content(np.clip(first.astype(int) + rng.integers(-1, 2, first.shape), 0, 255).astype(np.uint8))
        for _ in range(300)
    ]
    assert len(twins(many, most=50)) == 50


def test_families_hang_together() -> None:
    chain = [Twins(0, 1, 1.0), Twins(2, 3, 1.0), Twins(1, 2, 0.999), Twins(5, 6, 0.999)]
    assert families(chain) == ((0, 1, 2, 3), (5, 6))
    assert families([]) == ()
