"""Colours of classes: distinct, stable, and where the overlay puts them."""

from __future__ import annotations

import numpy as np
import pytest

from layerlab.errors import UserError
from layerlab.segmentation.dataset import IGNORE
from layerlab.segmentation.palette import colours, overlay, painted, shown


def test_colours_are_distinct_and_do_not_depend_on_those_that_follow() -> None:
    names = [f"class {index}" for index in range(24)]
    table = colours(names).astype(int)
    distances = np.abs(table[:24, None] - table[None, :24]).sum(-1) + 999 * np.eye(24, dtype=int)
    assert distances.min() >= 20
    assert distances[:12, :12].min() >= 60
    assert (colours(names[:5])[:5] == table[:5]).all()
    assert (np.abs(table[:24] - table[IGNORE]).sum(-1) > 30).all()


def test_the_background_is_black_wherever_it_stands() -> None:
    assert colours(("leaf", "Background", "sky"))[[1]].tolist() == [[0, 0, 0]]
    assert (colours(("leaf", "rest", "sky"))[[0, 2]] == colours(("leaf", "sky"))[[0, 1]]).all()


def test_too_many_classes_are_refused() -> None:
    with pytest.raises(UserError, match="at most 255"):
        colours([str(index) for index in range(256)])


def test_an_overlay_tints_outlines_and_leaves_the_background() -> None:
    image = np.full((5, 6, 3), 0.5, np.float32)
    mask = np.zeros((5, 6), np.uint8)
    mask[:, 3:] = 1
    mask[0, 5] = IGNORE
    picture = overlay(image, mask, ("background", "flower"), opacity=0.5)
    assert (picture[:, :3] == 128).all()
    assert picture[2, 3].tolist() == [230, 159, 0]  # its left neighbour is background
    assert picture[2, 5].tolist() == [179, 144, 64]  # inside: half image, half colour
    assert picture[0, 5].tolist() == [128, 128, 128]
    assert painted(mask, ("background", "flower"))[2, 5].tolist() == [230, 159, 0]
    with pytest.raises(UserError, match="like its image"):
        overlay(image, mask[:4], ("a", "b"))


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_images_of_any_channels_are_shown(channels: int) -> None:
    image = np.linspace(-0.5, 2, 4 * 3 * channels, dtype=np.float32).reshape(4, 3, channels)
    image[0, 0, 0] = np.nan
    pixels = shown(image)
    assert pixels.shape == (4, 3, 3)
    assert pixels[-1, -1].max() == 255
    assert pixels[0, 0].max() == 0
