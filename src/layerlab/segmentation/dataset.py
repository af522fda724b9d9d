"""What every source of images and masks looks like to the rest of the room."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from layerlab.errors import UserError

IGNORE = 255
"""The mask value of a pixel that belongs to no class: it counts in no loss and in no measure."""


@dataclass(frozen=True)
class Parts:
    """Which images are trained on, which decide when to stop, and which are only measured at the end.

    >>> Parts((0, 1), (2,))
    Parts(train=(0, 1), validation=(2,), test=())

    Raises:
        UserError: an image in two parts, or no image to train on.
    """

    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        every = [*self.train, *self.validation, *self.test]
        if not self.train:
            raise UserError("expected at least one image to train on, got none")
        if len(set(every)) < len(every):
            twice = next(index for index in every if every.count(index) > 1)
            raise UserError(f"expected every image in one part, got image {twice} in two of them")


class ImageSet(Protocol):
    """Images with a mask each.

    Attributes:
        name: of the set, for tables and pages.
        classes: their names; class k of the masks is ``classes[k]``; at most 255.
        channels: of every image.
        names: one an image, unique: what a table calls it and what its predicted mask is named after.
    """

    @property
    def name(self) -> str: ...
    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def channels(self) -> int: ...
    @property
    def names(self) -> Sequence[str]: ...

    def __len__(self) -> int: ...

    def read(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Image ``(height, width, channels)`` float32 in [0, 1] and mask ``(height, width)`` uint8.

        The mask holds classes ``0 ... len(classes) - 1`` and `IGNORE`.
        """

    def parts(self, seed: int) -> Parts:
        """The split; a set whose split is given returns the same one for every seed."""
