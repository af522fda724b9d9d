"""What the commands that train take for data: the name of the built-in set, or two folders."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from layerlab.cli import segment_options as options

if TYPE_CHECKING:
    from layerlab.segmentation.dataset import ImageSet
    from layerlab.segmentation.folder_set import Asked

BUILT_IN = "digits"


def is_built_in(images: str, masks: Path | None) -> bool:
    """Whether the built-in set is meant, and no folder."""
    return images == BUILT_IN and masks is None


def name_of(images: str, masks: Path | None) -> str:
    """What the set is called, known before it is read."""
    return BUILT_IN if is_built_in(images, masks) else Path(images).resolve().name


def opened(
    images: str, masks: Path | None, wish: Asked, size: int, count: int = 500
) -> tuple[ImageSet, dict[str, Any]]:
    """The set of images, and where it is from, for a run's record.

    Args:
        images: a folder, or `BUILT_IN`.
        masks: a folder; None for the built-in set.
        wish: how the folders are to be read.
        size: of the images of the built-in set.
        count: how many images the built-in set has.
    """
    from layerlab.errors import UserError
    from layerlab.segmentation.digits import Digits

    if is_built_in(images, masks):
        found = Digits(count, size)
        return found, {"built_in": BUILT_IN, "count": count, "size": size, "seed": found.seed}
    if masks is None:
        raise UserError(
            f"expected a folder of masks after {images!r}: IMAGES MASKS (or {BUILT_IN}, the built-in set, alone)"
        )
    folder = options.opened(Path(images), masks, wish)
    return folder, {"images": images, "masks": str(masks), "classes": folder.mapping.to_dict()}


def warn(data: ImageSet, seed: int) -> None:
    """Tell before the training when there is little to validate on."""
    from layerlab.cli.output import say
    from layerlab.segmentation.split import few_to_validate

    if words := few_to_validate(data.parts(seed)):
        say(f"warning: {words}")


def numbers(text: str, option: str, kind: type) -> list[Any]:
    """``text`` as numbers, separated by commas."""
    from layerlab.errors import UserError

    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        wanted = "whole numbers" if kind is int else "numbers"
        raise UserError(f"{option}: expected {wanted} separated by commas, got {text!r}") from None
