"""Draw photos/ and masks/: leaves on the ground between stones. Invented pictures, small enough to be kept here.

python examples/image_folder/draw.py [FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

COUNT, HEIGHT, WIDTH = 24, 48, 64
GROUND, STONE, LEAF = (120, 92, 64), (128, 126, 120), (72, 118, 48)


def ellipse(rng: np.random.Generator, longest: float, ratio: float) -> np.ndarray:
    """Where an ellipse of random place and direction covers the picture: bool (HEIGHT, WIDTH)."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    angle = rng.uniform(0, np.pi)
    down, right = rows - rng.uniform(8, HEIGHT - 8), columns - rng.uniform(8, WIDTH - 8)
    along = np.cos(angle) * right + np.sin(angle) * down
    across = np.cos(angle) * down - np.sin(angle) * right
    return (along / longest) ** 2 + (across / (ratio * longest)) ** 2 < 1


def picture(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A photo, uint8 (HEIGHT, WIDTH, 3), and its mask, uint8 (HEIGHT, WIDTH): 1 where a leaf is."""
    photo = np.full((HEIGHT, WIDTH, 3), GROUND, dtype=np.float64)
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    for _ in range(4):
        photo[ellipse(rng, rng.uniform(4, 8), 0.9)] = STONE
    for _ in range(rng.integers(1, 4)):
        leaf = ellipse(rng, rng.uniform(9, 15), 0.4)
        photo[leaf], mask[leaf] = LEAF, 1
    photo += rng.normal(0, 22, photo.shape) + rng.normal(0, 12)
    return np.clip(photo, 0, 255).astype(np.uint8), mask


def main(folder: Path) -> None:
    for name in ("photos", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for number in range(COUNT):
        photo, mask = picture(rng)
        Image.fromarray(photo).save(folder / "photos" / f"{number:02}.jpg", quality=85)
        Image.fromarray(mask).save(folder / "masks" / f"{number:02}.png", optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
