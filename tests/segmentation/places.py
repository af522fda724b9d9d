"""Folders of images and masks for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from layerlab.segmentation.folder_set import Asked, FolderSet, folder

RNG = np.random.default_rng(0)


class Place:
    """Two folders to fill."""

    def __init__(self, root: Path) -> None:
        self.images, self.masks = root / "my images", root / "masks"

    def put(
        self,
        name: str,
        image: NDArray[np.generic] | None,
        mask: NDArray[np.generic] | None,
        suffix: str = "png",
    ) -> None:
        for place, pixels, end in ((self.images, image, "png"), (self.masks, mask, suffix)):
            if pixels is not None:
                path = place / f"{name}.{end}"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)

    def open(self, asked: Asked | None = None) -> FolderSet:
        return folder(self.images, self.masks, asked)


def picture(height: int = 4, width: int = 6, channels: int = 3) -> NDArray[np.uint8]:
    return RNG.integers(0, 256, (height, width, channels)[: 2 + (channels > 1)], dtype=np.uint8)


def mask(*values: int, height: int = 4, width: int = 6) -> NDArray[np.uint8]:
    return np.resize(np.array(values, np.uint8), (height, width))
