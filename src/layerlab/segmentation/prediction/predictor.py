"""The mask of one image by a trained network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from layerlab.errors import UserError
from layerlab.segmentation.fast import prepared
from layerlab.segmentation.images import fractions
from layerlab.segmentation.runs import Trained
from layerlab.segmentation.tiles import Tiling, blended, enlarged

_LARGEST_BYTES = 3 * 2**29
"""What an image may take once it is scaled: 1.5 GiB as float32."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a network says of an image, at the image's own size.

    Attributes:
        mask: uint8 ``(h, w)``, the likeliest class of each pixel.
        confidence: uint8 ``(h, w)``, its probability p as round(255 p).
        shares: of the pixels, one a class.
        certainty: the mean of p over the pixels.
        working: height and width at which the network saw the image.
    """

    mask: NDArray[np.uint8]
    confidence: NDArray[np.uint8]
    shares: tuple[float, ...]
    certainty: float
    working: tuple[int, int]


class Predictor:
    """A trained network, ready for images of any size.

    A network knows things at the size at which it has seen them, so an image is first brought to the size that its
    training images had (`Settings.working_size`), and the probabilities are interpolated back before the likeliest
    class is taken.

    Args:
        trained: the run.
        scale: instead, so many pixels for the network along each pixel of the image: 1 takes images as they are.
        tiling: how large images are cut.

    Raises:
        UserError: a scale that is not above 0 and at most 8.
    """

    def __init__(self, trained: Trained, *, scale: float | None = None, tiling: Tiling | None = None) -> None:
        if scale is not None and not 0 < scale <= 8:
            raise UserError(f"expected a scale above 0 and at most 8, got {scale}")
        self.trained, self.scale, self.tiling = trained, scale, tiling or Tiling()
        self._model = prepared(trained.model)

    def working_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width at which the network sees such an image."""
        if self.scale is None:
            return self.trained.settings.working_size(height, width)
        return max(1, round(height * self.scale)), max(1, round(width * self.scale))

    def __call__(self, pixels: NDArray[Any], tell: Callable[[float], None] | None = None) -> Prediction:
        """Predict an image.

        Args:
            pixels: uint8 or uint16 ``(h, w, channels)``; grey is taken by a network of three channels too.
            tell: called with the share of the rows that is done.

        Raises:
            UserError: other channels than the network's, an image too large for the scale, or one that must be cut
                while MONAI is not installed.
        """
        size = (pixels.shape[0], pixels.shape[1])
        classes = len(self.trained.classes)
        working = self.working_size(*size)
        rows = self._rows(pixels, working)
        mask, confidence = np.empty(size, np.uint8), np.empty(size, np.uint8)
        counts, certainty = np.zeros(classes, np.int64), 0.0
        for band in enlarged(blended(self._model, rows, working, self.tiling), working, size):
            best = band.values.max(0)
            bottom = band.top + len(best.values)
            mask[band.top : bottom] = best.indices.to(torch.uint8).numpy()
            # Rounding and blending may leave a probability a little above 1.
            confidence[band.top : bottom] = (
                (best.values * 255).round_().clamp_(0, 255).to(torch.uint8).numpy()
            )
            counts += np.bincount(mask[band.top : bottom].ravel(), minlength=classes)
            certainty += float(best.values.sum(dtype=torch.float64))
            if tell is not None:
                tell(bottom / size[0])
        pixel_count = size[0] * size[1]
        return Prediction(
            mask,
            confidence,
            tuple((counts / pixel_count).tolist()),
            min(1.0, certainty / pixel_count),
            working,
        )

    def _rows(self, pixels: NDArray[Any], working: tuple[int, int]) -> Callable[[int, int], Tensor]:
        """Any rows of the image at its working size, float32 ``(channels, rows, width)`` in [0, 1]."""
        wanted, got = self.trained.channels, pixels.shape[2]
        if got not in (wanted, 1):
            raise UserError(
                f"expected {wanted} channel(s), as the network was trained on, got {got}; "
                f"{'convert the image to grey' if wanted == 1 else 'convert the image'}"
            )
        if working == pixels.shape[:2]:
            return lambda top, bottom: (
                torch.from_numpy(fractions(pixels[top:bottom])).permute(2, 0, 1).expand(wanted, -1, -1)
            )
        needed = 4 * got * working[0] * working[1]
        if needed > _LARGEST_BYTES:
            raise UserError(
                f"expected an image of at most {_LARGEST_BYTES / 2**30:.1f} GiB once scaled, got {working[1]:,} x "
                f"{working[0]:,} pixels, {needed / 2**30:.1f} GiB; take a smaller --scale"
            )
        # Channel by channel: the whole in float32 would be four times the image.
        scaled = torch.cat([_scaled(pixels[..., channel], working) for channel in range(got)])
        return lambda top, bottom: scaled[:, top:bottom].expand(wanted, -1, -1)


def _scaled(channel: NDArray[Any], working: tuple[int, int]) -> Tensor:
    whole = torch.from_numpy(fractions(channel))[None, None]
    # As training images are scaled, see `layerlab.segmentation.samples`.
    return functional.interpolate(whole, working, mode="bilinear", antialias=True)[0]
