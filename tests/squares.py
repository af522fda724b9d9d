"""A folder of images that anything segments: each has a bright square, which is its mask."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def written(folder: Path) -> tuple[Path, Path]:
    """Eight images of 16 x 16 pixels and their masks; the two folders."""
    generator = np.random.default_rng(0)
    images, masks = folder / "images", folder / "masks"
    for part in (images, masks):
        part.mkdir()
    for index in range(8):
        mask = np.zeros((16, 16), np.uint8)
        row, column = generator.integers(0, 8, 2)
        mask[row : row + 8, column : column + 8] = 255
        pixels = np.clip(mask * 0.6 + generator.integers(0, 60, (16, 16)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(images / f"{index}.png")
        Image.fromarray(mask).save(masks / f"{index}.png")
    return images, masks
