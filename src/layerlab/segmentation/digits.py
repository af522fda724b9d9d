"""A segmentation set that needs no download: handwritten digits on photographs, composed as they are read.

The digits are the 1797 of scikit-learn (8 x 8, 17 grey levels; Alpaydin and Kaynak, Optical Recognition of Handwritten
Digits, UCI 1998), the photographs its two sample images. Every image is a crop of a photograph, zoomed, mirrored and
dimmed, with a few brighter digits at random sizes, rotations and contrasts. The mask
marks the strokes alone, so that a right answer needs both: the whole digit to name it, and the pixel to trace it.

Training, validation and test share nothing: each has digits of its own (consecutive ones, hence mostly of other
writers) and a part of the photographs of its own.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from layerlab.errors import UserError
from layerlab.segmentation.dataset import Parts

if TYPE_CHECKING:
    from PIL import Image

_ENDS = (0.6, 0.8, 1.0)  # of training, validation and test, in the digits and in the photographs' columns

# In shares of the image's side, so that a larger image shows the same scene more finely.
_HEIGHT = (0.25, 0.36)
_CROP = (40.0, 115.0)  # the photograph's pixels that one image shows, a side
_DIGITS = (6, 8)
_ATTEMPTS = 12  # to find a free place
_TURN = 0.15  # radians
_CONTRAST = (0.45, 0.7)
_TINT = (0.3, 0.55)
_HUE = 0.15
_INK = 0.4  # of the strokes' greatest value: where their border runs
_GLYPH = 8
_MARGIN = 2  # zeros around a digit, in its own pixels: splines ring a little


@dataclass(frozen=True)
class Digits:
    """``count`` images of ``size x size`` pixels with digits on textures; image i is the same bits for ever.

    A digit is the set where the cubic spline through its 8 x 8 pixels, turned and scaled, exceeds a level. With a in
    [0, 1] the share of a pixel that the set covers, and c the mean of the texture t under it moved by the contrast, the
    image is ``(1 - a) t + a c``, and the mask holds the digit where a > 1/2.

    Args:
        count: of all images: 60 % to train on, 20 % validation, 20 % test.
        size: pixels a side, 16 ... 1024.
        seed: of the scenes, >= 0.

    Raises:
        UserError: fewer than five images, a size outside, or a seed below 0.

    >>> digits = Digits(count=10, size=32, seed=1)
    >>> image, mask = digits.read(0)
    >>> image.shape, image.dtype, mask.shape, mask.dtype
    ((32, 32, 3), dtype('float32'), (32, 32), dtype('uint8'))
    >>> digits.names[0], digits.parts(0).validation
    ('train-0000', (6, 7))
    """

    count: int = 500
    size: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        if self.count < 5:
            raise UserError(f"expected at least 5 images (one to validate, one to test), got {self.count}")
        if not 16 <= self.size <= 1024:
            raise UserError(f"expected a size of 16 ... 1024 pixels, got {self.size}")
        if self.seed < 0:
            raise UserError(f"expected a seed >= 0, got {self.seed}")

    @property
    def name(self) -> str:
        return "digits"

    @property
    def classes(self) -> tuple[str, ...]:
        return ("background", *map(str, range(10)))

    @property
    def channels(self) -> int:
        return 3

    @functools.cached_property
    def names(self) -> Sequence[str]:
        first, second = self._ends
        counts = {"train": first, "validation": second - first, "test": self.count - second}
        return tuple(f"{part}-{place:04d}" for part, count in counts.items() for place in range(count))

    def parts(self, seed: int) -> Parts:
        """The same for every seed: what an image may be composed of depends on its part."""
        first, second = self._ends
        return Parts(tuple(range(first)), tuple(range(first, second)), tuple(range(second, self.count)))

    @property
    def _ends(self) -> tuple[int, int]:
        """Where the images to train on end, and those of the validation."""
        others = self.count // 5
        return self.count - 2 * others, self.count - others

    def __len__(self) -> int:
        return self.count

    def read(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Image ``(size, size, 3)`` float32 in [0, 1] and mask ``(size, size)`` uint8: 0, or 1 + the digit.

        Raises:
            UserError: no such image.
        """
        if not 0 <= index < self.count:
            raise UserError(f"expected an image from 0 to {self.count - 1}, got {index}")
        part = sum(index >= end for end in self._ends)
        rng = np.random.default_rng((self.seed, index))
        image = _texture(rng, part, self.size)
        mask = np.zeros((self.size, self.size), np.uint8)
        for _ in range(int(rng.integers(_DIGITS[0], _DIGITS[1] + 1))):
            _place_digit(rng, part, image, mask)
        return image, mask


@functools.cache
def _glyphs() -> tuple[NDArray[np.float64], NDArray[np.uint8], tuple[slice, ...]]:
    """Spline coefficients ``(1797, 12, 12)`` of the digits, which digits they are, and the rows of each part."""
    from scipy.ndimage import spline_filter
    from sklearn.datasets import load_digits

    bunch = load_digits()
    padded = np.pad(bunch.images / 16.0, ((0, 0), (_MARGIN, _MARGIN), (_MARGIN, _MARGIN)))
    coefficients = np.stack([spline_filter(glyph, order=3, mode="mirror") for glyph in padded])
    return coefficients, bunch.target.astype(np.uint8), _ranges(len(coefficients))


@functools.cache
def _photographs() -> tuple[tuple[Image.Image, ...], ...]:
    """For each part, its columns of the two photographs."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    whole = load_sample_images().images
    columns = _ranges(whole[0].shape[1])
    return tuple(
        tuple(Image.fromarray(np.ascontiguousarray(photo[:, span])) for photo in whole) for span in columns
    )


def _ranges(total: int) -> tuple[slice, ...]:
    """0 ... total - 1 in consecutive ranges, one a part."""
    ends = [round(total * end) for end in _ENDS]
    return tuple(slice(start, stop) for start, stop in itertools.pairwise([0, *ends]))


def _texture(rng: np.random.Generator, part: int, size: int) -> NDArray[np.float32]:
    from PIL import Image

    photos = _photographs()[part]
    photo = photos[int(rng.integers(len(photos)))]
    side = rng.uniform(*_CROP)
    left, top = rng.uniform(0, photo.width - side), rng.uniform(0, photo.height - side)
    crop = photo.resize((size, size), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))
    tint = rng.uniform(*_TINT, size=3).astype(np.float32)
    texture = np.minimum(np.asarray(crop) * (tint / np.float32(255)), np.float32(1))
    return np.ascontiguousarray(texture[:, ::-1]) if rng.random() < 0.5 else texture


def _place_digit(
    rng: np.random.Generator, part: int, image: NDArray[np.float32], mask: NDArray[np.uint8]
) -> None:
    """Draw one digit where no other stands; after a few attempts in vain, none."""
    coefficients, digits, rows = _glyphs()
    which = int(rng.integers(rows[part].start, rows[part].stop))
    height = len(mask) * rng.uniform(*_HEIGHT)
    cover = _cover(coefficients[which], height, rng.uniform(-_TURN, _TURN), rng.random(2))
    room = np.array(mask.shape) - cover.shape
    for row, column in rng.integers(0, room + 1, (_ATTEMPTS, 2)):
        window = (slice(row, row + cover.shape[0]), slice(column, column + cover.shape[1]))
        if not np.any(mask[window][cover > 0]):
            break
    else:
        return
    inked = cover > 0.5
    ground = image[window][inked].mean(axis=0)
    ink = np.clip(ground + rng.uniform(*_CONTRAST) + rng.uniform(-_HUE, _HUE, size=3), 0, 1)
    image[window] += cover[..., None] * (ink.astype(np.float32) - image[window])
    mask[window][inked] = 1 + digits[which]


def _cover(
    coefficients: NDArray[np.float64], height: float, turn: float, shift: NDArray[np.float64]
) -> NDArray[np.float32]:
    """How much of each pixel the digit's strokes cover, on the smallest window that holds them.

    Args:
        coefficients: of the digit's spline.
        height: of the whole 8 x 8 glyph, in pixels of the image.
        turn: radians.
        shift: of the glyph's middle, in pixels.
    """
    from scipy.ndimage import affine_transform

    scale = _GLYPH / height
    cosine, sine = scale * np.cos(turn), scale * np.sin(turn)
    matrix = np.array([[cosine, -sine], [sine, cosine]])
    side = math.ceil(height * (math.cos(turn) + abs(math.sin(turn)))) + 1
    offset = _MARGIN + (_GLYPH - 1) / 2 - matrix @ ((side - 1) / 2 + shift - 0.5)
    stroke = affine_transform(
        coefficients, matrix, offset, (side, side), order=3, mode="constant", prefilter=False
    )
    # A border one pixel wide, whatever the size: strokes rise by about 1 over one of the glyph's pixels.
    cover = np.clip((stroke - _INK) / scale + 0.5, 0, 1).astype(np.float32)
    rows, columns = np.flatnonzero(cover.any(axis=1)), np.flatnonzero(cover.any(axis=0))
    return cover[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
