"""The built-in set: the same bits for ever, parts that share nothing, masks that lie under what one sees."""

from __future__ import annotations

import numpy as np
import pytest

from layerlab.errors import UserError
from layerlab.segmentation import digits as module
from layerlab.segmentation.digits import Digits


def test_reading_an_image_twice_in_any_order_gives_the_same_bits() -> None:
    first, again = Digits(10, 48, seed=3), Digits(10, 48, seed=3)
    backwards = {index: again.read(index) for index in reversed(range(10))}
    for index in range(10):
        image, mask = first.read(index)
        assert np.array_equal(image, backwards[index][0])
        assert np.array_equal(mask, backwards[index][1])


def test_images_and_seeds_differ() -> None:
    images = [Digits(10, 32, seed).read(index)[0] for seed in (0, 1) for index in range(10)]
    assert len({image.tobytes() for image in images}) == 20


def test_images_and_masks_are_what_a_set_promises() -> None:
    digits = Digits(40, 64, seed=0)
    assert len(digits) == 40
    assert len(digits.classes) == 11
    assert len(set(digits.names)) == 40
    for index in range(40):
        image, mask = digits.read(index)
        assert image.shape == (64, 64, 3)
        assert image.dtype == np.float32
        assert image.flags.c_contiguous
        assert image.min() >= 0
        assert image.max() <= 1
        assert mask.shape == (64, 64)
        assert mask.dtype == np.uint8
        assert mask.max() <= 10
        assert 0.05 < (mask > 0).mean() < 0.5


def test_every_class_occurs_in_every_part() -> None:
    digits = Digits(150, 32, seed=0)
    parts = digits.parts(0)
    for indices in (parts.train, parts.validation, parts.test):
        seen = set().union(*(np.unique(digits.read(index)[1]).tolist() for index in indices))
        assert seen == set(range(11))


def test_parts_cover_every_image_and_are_named_after_it() -> None:
    digits = Digits(23, 32)
    parts = digits.parts(0)
    assert parts == digits.parts(7)
    assert (*parts.train, *parts.validation, *parts.test) == tuple(range(23))
    assert digits.names[parts.validation[0]] == "validation-0000"
    assert digits.names[parts.test[-1]] == "test-0003"


def test_parts_share_no_digit_and_no_piece_of_a_photograph(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[str, set[int]] = {}
    part = ""
    coefficients, targets, rows = module._glyphs()

    class Watched:
        def __getitem__(self, which: int) -> object:
            drawn.setdefault(part, set()).add(which)
            return coefficients[which]

    monkeypatch.setattr(module, "_glyphs", lambda: (Watched(), targets, rows))
    set_of_images = Digits(60, 32, seed=1)
    for index, name in enumerate(set_of_images.names):
        part = name.split("-")[0]
        set_of_images.read(index)
    assert set(drawn) == {"train", "validation", "test"}
    assert not drawn["train"] & drawn["validation"]
    assert not drawn["train"] & drawn["test"]
    assert not drawn["validation"] & drawn["test"]
    widths = [[photo.width for photo in photos] for photos in module._photographs()]
    assert np.sum(widths, axis=0).tolist() == [640, 640]


def test_the_mask_lies_where_the_image_was_inked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_texture", lambda rng, part, size: np.full((size, size, 3), 0.2, np.float32))
    monkeypatch.setattr(module, "_HUE", 0.0)
    for index in range(5):
        image, mask = Digits(5, 64, seed=2).read(index)
        inked = np.abs(image - np.float32(0.2)).max(axis=2)
        for digit in np.unique(mask[mask > 0]):
            assert inked[mask == digit].min() > 0.5 * 0.45  # half of the least contrast
        # Outside, at most the border is inked, and less than half.
        assert inked[mask == 0].max() <= 0.5 * 0.7 + 1e-6
        assert np.mean((inked > 0) & (mask == 0)) < 2 * np.mean(mask > 0)


def test_a_larger_size_shows_the_same_kind_of_scene_more_finely() -> None:
    shares = [np.mean([(Digits(40, size).read(i)[1] > 0).mean() for i in range(24)]) for size in (64, 160)]
    assert abs(shares[0] - shares[1]) < 0.03


@pytest.mark.parametrize("angle", [-0.3, 0.0, 0.3])
def test_a_digit_covers_the_area_of_its_pixels(angle: float) -> None:
    coefficients, _, _ = module._glyphs()
    still = module._cover(coefficients[0], 40.0, 0.0, np.array([0.5, 0.5])).sum()
    turned = module._cover(coefficients[0], 80.0, angle, np.array([0.1, 0.7])).sum()
    assert turned == pytest.approx(4 * still, rel=0.03)


def test_turning_a_glyph_by_a_right_angle_is_turning_its_picture() -> None:
    coefficients, _, _ = module._glyphs()
    middle = np.array([0.5, 0.5])
    upright = module._cover(coefficients[5], 16.0, 0.0, middle)
    lying = module._cover(coefficients[5], 16.0, np.pi / 2, middle)
    assert any(
        np.allclose(np.rot90(upright, turns), lying, atol=1e-5)
        for turns in (1, 3)
        if np.rot90(upright, turns).shape == lying.shape
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 4}, "at least 5 images"),
        ({"size": 15}, "16 ... 1024"),
        ({"size": 2000}, "16 ... 1024"),
        ({"seed": -1}, "seed >= 0"),
    ],
)
def test_impossible_sets_are_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Digits(**arguments)


@pytest.mark.parametrize("index", [-1, 5])
def test_an_image_that_is_not_there_is_refused(index: int) -> None:
    with pytest.raises(UserError, match="from 0 to 4"):
        Digits(5).read(index)


@pytest.mark.parametrize("size", [16, 17, 1024])
def test_the_least_and_the_greatest_size_work(size: int) -> None:
    image, mask = Digits(5, size).read(0)
    assert image.shape == (size, size, 3)
    assert mask.any()
