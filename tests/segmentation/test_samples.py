"""Images at working size and squares cut from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from shapes import Shapes

from layerlab.errors import UserError
from layerlab.segmentation.dataset import IGNORE
from layerlab.segmentation.samples import Sample, fingerprint, load_sample, load_samples, square
from layerlab.segmentation.settings import Settings


def test_images_at_their_own_size_are_what_was_read() -> None:
    data = Shapes(height=20, width=30)
    pixels, mask = data.read(3)
    sample = load_sample(data, 3, Settings(size=8, resize=False))
    assert sample.name == "shape 3"
    assert (sample.mask.numpy() == mask).all()
    assert np.abs(sample.image.float().permute(1, 2, 0).numpy() - pixels).max() < 5e-4


def test_scaled_masks_hold_classes_only_and_lie_on_their_image() -> None:
    data = Shapes(height=64, width=96)
    sample = load_sample(data, 0, Settings(size=16))
    assert sample.image.shape == (1, 16, 24)
    assert set(sample.mask.unique().tolist()) <= {0, 1, IGNORE}
    known = sample.mask != IGNORE
    assert ((sample.image[0] > 0.55) == (sample.mask == 1))[known].float().mean() > 0.93
    # Antialiased: the noise of 4 x 4 pixels is averaged.
    ground = sample.image[0].float()[:3]
    assert ground.std() < 0.025


def test_squares_are_cut_at_random_and_filled_beyond_the_border() -> None:
    mask = torch.arange(48, dtype=torch.uint8).reshape(6, 8)
    sample = Sample("grid", mask.half()[None], mask)
    torch.manual_seed(0)
    corners = set()
    for _ in range(300):
        image, cut = square(sample, 4)
        assert image.shape == (1, 4, 4)
        assert (image[0].byte() == cut).all()
        corners.add(int(cut[0, 0]))
        assert (cut == mask[cut[0, 0] // 8 :, cut[0, 0] % 8 :][:4, :4]).all()
    assert corners == {8 * row + column for row in range(3) for column in range(5)}
    image, cut = square(sample, 8)
    assert (cut[:6] == mask).all()
    assert (cut[6:] == IGNORE).all()
    assert (image[0, 6:] == 0).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (3, 2)])
def test_tiny_images_are_brought_to_size(shape: tuple[int, int]) -> None:
    data = Shapes(height=shape[0], width=shape[1])
    settings = Settings(size=8)
    sample = load_sample(data, 1, settings)
    assert tuple(sample.mask.shape) == settings.working_size(*shape)
    assert square(sample, 8)[1].shape == (8, 8)


@dataclass(frozen=True)
class Odd(Shapes):
    """What no set should return."""

    what: str = ""

    def read(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        image, mask = super().read(index)
        return {
            "size": (image[1:], mask),
            "channels": (image[..., [0, 0]], mask),
            "class": (image, np.where(mask == 0, 7, mask).astype(np.uint8)),
            "nothing": (image[:0], mask[:0]),
        }[self.what]


@pytest.mark.parametrize(
    ("what", "message"),
    [("size", "mask"), ("channels", "an image"), ("class", "got 7"), ("nothing", "got")],
)
def test_sets_that_break_their_promise_are_refused(what: str, message: str) -> None:
    with pytest.raises(UserError, match=f"'shape 2'.*{message}|{message}.*'shape 2'"):
        load_sample(Odd(what=what), 2, Settings(size=8))


def test_the_fingerprint_knows_pixels_order_and_parts() -> None:
    settings = Settings(size=8)
    seen: list[None] = []
    a = load_samples(Shapes(), [0, 1], settings, lambda: seen.append(None))
    assert len(seen) == 2
    again = load_samples(Shapes(), [0, 1], settings)
    assert fingerprint([a, []]) == fingerprint([again, []])
    again[1].mask[0, 0] = 2
    others = [[again, []], [a[::-1], []], [[], a], [a[:1], a[1:]]]
    assert len({fingerprint([a, []]), *(fingerprint(parts) for parts in others)}) == 5
