"""A set of small images that anything learns in seconds: bright discs and squares on a dark ground."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from layerlab.segmentation.dataset import IGNORE, Parts


@dataclass(frozen=True)
class Shapes:
    """Image i: a disc (class 1) or a square (class 2), with a corner of ignored pixels."""

    count: int = 12
    height: int = 16
    width: int = 16
    channels: int = 1
    validation: int = 4
    test: int = 0

    @property
    def name(self) -> str:
        return "shapes"

    @property
    def classes(self) -> tuple[str, ...]:
        return ("background", "disc", "square")

    @property
    def names(self) -> Sequence[str]:
        return tuple(f"shape {index}" for index in range(self.count))

    def __len__(self) -> int:
        return self.count

    def read(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        rng = np.random.default_rng(index)
        rows, columns = np.mgrid[: self.height, : self.width]
        y, x = rng.uniform(0.3, 0.7, 2) * (self.height, self.width)
        away = np.stack([abs(rows - y), abs(columns - x)])
        radius = 0.25 * min(self.height, self.width)
        inside = np.hypot(*away) < radius if index % 2 == 0 else away.max(0) < radius
        mask = np.where(inside, 1 + index % 2, 0).astype(np.uint8)
        if mask.size > 1:
            mask[-1, -1] = IGNORE
        image = np.where(inside, 0.9, 0.2) + rng.normal(0, 0.05, inside.shape)
        pixels = np.repeat(image.clip(0, 1).astype(np.float32)[..., None], self.channels, axis=2)
        return pixels, mask

    def parts(self, seed: int) -> Parts:
        order = tuple(int(index) for index in np.random.default_rng(seed).permutation(self.count))
        ends = self.validation, self.validation + self.test
        return Parts(order[ends[1] :], order[: ends[0]], order[ends[0] : ends[1]])
