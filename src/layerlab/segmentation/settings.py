"""What decides a training run of this room, apart from the data and the seed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from layerlab.errors import UserError
from layerlab.lab.settings import Between, check_real, check_whole, is_number

AUGMENTATIONS = ("none", "photo", "overhead")
WEIGHTS = ("equal", "balanced")
LONGEST = 4
"""A scaled image is at most this many times as long as `Settings.size`."""

# Far beyond anything useful; a run folder from elsewhere cannot ask for a model that fills the memory.
_WHOLE = {
    "size": (1, 8_192),
    "batch": (1, 4_096),
    "epochs": (1, 1_000_000),
    "patience": (1, 1_000_000),
    "threads": (1, 1_024),
}
_REAL = {
    "dropout": Between(0, 1, without=1),
    "learning_rate": Between(0, 1_000, without=0),
    "weight_decay": Between(0, 1_000),
    "dice_share": Between(0, 1),
}
_MOST_LEVELS, _WIDEST = 10, 4_096


@dataclass(frozen=True)
class Settings:
    """Everything that decides a training run, apart from data and seed. All of it is recorded.

    Args:
        widths: channels of each level of the U-Net, the finest first.
        skips: one name for all levels, or one a level, see `layerlab.segmentation.unet.UNet`.
        norm: as for `UNet`.
        up: as for `UNet`.
        dropout: as for `UNet`.
        size: pixels a side of the squares that are trained on.
        resize: whether images are scaled first, so that their shorter side has ``size`` pixels (see `working_size`);
            else they keep their own pixels, and squares are cut from them.
        batch: squares a step.
        epochs: at most this many; each sees every training image once.
        learning_rate: the highest of AdamW's, reached after 5 % of the steps; it falls along a half cosine to 1 % of
            it at the last step.
        weight_decay: of AdamW, on the convolutions' weights only.
        dice_share: share of Dice in the loss, see `layerlab.segmentation.losses.segmentation_loss`.
        weights: of the classes in the loss: "equal", "balanced" (by median frequency in the training part), or one
            number a class.
        augment: "none"; "photo" for pictures with an up and a down (mirrored, turned by up to 15 degrees, 0.8 to 1.25
            times as large, brightness and contrast); "overhead" for those without (mirrored, turned by any angle).
        patience: epochs without a better mean validation IoU or a lower validation loss after which training stops;
            None: never.
        threads: of torch in every step. The bits of the result depend on it, see `layerlab.lab.training.fit`.

    Raises:
        UserError: a value of the wrong type or size.

    >>> Settings(size=64, widths=[8, 16]).widths
    (8, 16)
    """

    widths: tuple[int, ...] = (16, 32, 64, 128)
    skips: str | tuple[str, ...] = "concatenate"
    norm: str = "batch"
    up: str = "transpose"
    dropout: float = 0.0
    size: int = 128
    resize: bool = True
    batch: int = 8
    epochs: int = 30
    learning_rate: float = 3e-3
    weight_decay: float = 0.01
    dice_share: float = 0.5
    weights: str | tuple[float, ...] = "equal"
    augment: str = "none"
    patience: int | None = 10
    threads: int = 1

    def __post_init__(self) -> None:
        # Settings also come back from a run folder, as lists, and it may be anybody's: nothing is taken on trust.
        for name in ("widths", "skips", "weights"):
            if isinstance(getattr(self, name), list):
                object.__setattr__(self, name, tuple(getattr(self, name)))
        self._check_network()
        check_whole(self, _WHOLE, may_be_none=("patience",))
        check_real(self, _REAL)
        if not isinstance(self.resize, bool):
            raise UserError(f"setting resize: expected true or false, got {self.resize!r}")
        if self.augment not in AUGMENTATIONS:
            raise UserError(
                f"setting augment: expected one of {', '.join(AUGMENTATIONS)}, got {self.augment!r}"
            )
        self._check_weights()

    def working_size(self, height: int, width: int) -> tuple[int, int]:
        """The pixels at which an image is trained on, measured and predicted.

        With ``resize``, its shorter side has ``size`` pixels, but its longer one at most 4 ``size``; else its own.

        >>> Settings(size=64).working_size(300, 450), Settings(size=64).working_size(1, 1000)
        ((64, 96), (1, 256))
        """
        if not self.resize:
            return height, width
        scale = min(self.size / min(height, width), LONGEST * self.size / max(height, width))
        return max(1, round(height * scale)), max(1, round(width * scale))

    def rate(self, progress: float) -> float:
        """The learning rate after that share of all steps: a linear rise, then a half cosine.

        Loshchilov and Hutter: SGDR (ICLR 2017), without restarts; the rise: Goyal et al. (2017).

        >>> settings = Settings(learning_rate=1.0)
        >>> [round(settings.rate(progress), 3) for progress in (0.0, 0.025, 0.05, 0.525, 1.0)]
        [0.02, 0.51, 1.0, 0.505, 0.01]
        """
        rise = 0.05
        if progress < rise:
            return self.learning_rate * (0.02 + 0.98 * progress / rise)
        cosine = 0.5 * (1 + math.cos(math.pi * (progress - rise) / (1 - rise)))
        return self.learning_rate * (0.01 + 0.99 * cosine)

    def _check_network(self) -> None:
        fits = isinstance(self.widths, tuple) and 1 <= len(self.widths) <= _MOST_LEVELS
        if not fits or not all(
            is_number(width, whole=True) and 1 <= width <= _WIDEST for width in self.widths
        ):
            raise UserError(
                f"setting widths: expected 1 to {_MOST_LEVELS} whole numbers from 1 to {_WIDEST:,}, "
                f"got {self.widths!r}"
            )
        names = (self.skips,) if isinstance(self.skips, str) else self.skips
        if not isinstance(names, tuple) or not all(isinstance(name, str) for name in names):
            raise UserError(f"setting skips: expected a name, or one a level, got {self.skips!r}")

    def _check_weights(self) -> None:
        weights: Any = self.weights
        if isinstance(weights, str):
            if weights not in WEIGHTS:
                raise UserError(
                    f"setting weights: expected {', '.join(WEIGHTS)} or one number a class, got {weights!r}"
                )
            return
        whole = isinstance(weights, tuple) and len(weights) > 0
        if not whole or not all(is_number(w) and 0 <= w <= 1e6 for w in weights) or not sum(weights):
            raise UserError(
                f"setting weights: expected numbers from 0 to a million, not all 0, got {weights!r}"
            )
