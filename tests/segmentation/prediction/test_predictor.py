"""One image: the right size for the network, the right size back, and the same mask however it is cut."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from layerlab.errors import UserError
from layerlab.segmentation.prediction.predictor import Predictor
from layerlab.segmentation.runs import Trained
from layerlab.segmentation.tiles import Tiling


def _pixels(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels)).astype(np.uint8)


def _slowly(trained: Trained, pixels: np.ndarray, working: tuple[int, int]) -> torch.Tensor:
    image = torch.from_numpy(pixels.astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max))
    image = image.permute(2, 0, 1)[None]
    if working != pixels.shape[:2]:
        image = functional.interpolate(image, working, mode="bilinear", antialias=True)
    with torch.inference_mode():
        values = torch.softmax(trained.model(image), 1)
    return functional.interpolate(values, pixels.shape[:2], mode="bilinear")[0]


def test_an_image_is_seen_at_the_size_of_training_and_its_mask_is_its_own_size(trained: Trained) -> None:
    pixels = _pixels(50, 70)
    found = Predictor(trained)(pixels)
    assert found.working == trained.settings.working_size(50, 70) == (16, 22)
    values = _slowly(trained, pixels, (16, 22))
    assert found.mask.shape == found.confidence.shape == (50, 70)
    # A tie to rounding may fall either way.
    assert np.mean(found.mask != values.argmax(0).numpy()) < 0.001
    assert np.abs(found.confidence / 255 - values.max(0).values.numpy()).max() < 0.6 / 255
    assert found.certainty == pytest.approx(float(values.max(0).values.mean()), abs=1e-5)
    assert found.shares == pytest.approx(np.bincount(found.mask.ravel(), minlength=11) / 3500)


def test_scale_one_takes_the_image_as_it_is(trained: Trained) -> None:
    pixels = _pixels(50, 70)
    found = Predictor(trained, scale=1)(pixels)
    assert found.working == (50, 70)
    assert np.mean(found.mask != _slowly(trained, pixels, (50, 70)).argmax(0).numpy()) < 0.001
    assert Predictor(trained, scale=0.5)(pixels).working == (25, 35)
    assert Predictor(trained, scale=0.001)(pixels).working == (1, 1)


def test_tiles_are_passed_on(trained: Trained) -> None:
    pixels = _pixels(60, 70)
    whole = Predictor(trained, scale=1)(pixels)
    cut = Predictor(trained, scale=1, tiling=Tiling(32))(pixels)
    # The borders of tiles see less of their surroundings: not the same, but nearly.
    assert np.mean(whole.confidence != cut.confidence) > 0
    assert np.mean(whole.mask != cut.mask) < 0.2


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 40), (40, 1), (3, 5)])
def test_the_smallest_images(trained: Trained, height: int, width: int) -> None:
    for scale in (None, 1.0):
        assert Predictor(trained, scale=scale)(_pixels(height, width)).mask.shape == (height, width)


def test_grey_is_three_equal_channels_and_sixteen_bits_are_fractions(trained: Trained) -> None:
    grey = _pixels(30, 30, 1)
    predictor = Predictor(trained)
    assert np.array_equal(predictor(grey).mask, predictor(grey.repeat(3, axis=2)).mask)
    deep = grey.astype(np.uint16) * 257
    assert np.array_equal(predictor(grey).mask, predictor(deep).mask)


def test_progress_rises_to_one(trained: Trained) -> None:
    told: list[float] = []
    Predictor(trained, scale=1, tiling=Tiling(16))(_pixels(50, 20), told.append)
    assert told == sorted(told)
    assert told[-1] == 1
    assert len(told) > 2


def test_other_channels_and_impossible_scales_are_refused(trained: Trained) -> None:
    with pytest.raises(UserError, match=r"expected 3 channel\(s\).*got 2"):
        Predictor(trained)(_pixels(9, 9, 2))
    for scale in (0.0, -1.0, 9.0, float("nan")):
        with pytest.raises(UserError, match="expected a scale"):
            Predictor(trained, scale=scale)


def test_an_image_too_large_for_its_scale_is_refused_before_it_is_made(trained: Trained) -> None:
    huge = np.broadcast_to(np.zeros((1, 1, 3), np.uint8), (9000, 9000, 3))
    with pytest.raises(UserError, match="smaller --scale"):
        Predictor(trained, scale=2)(huge)
