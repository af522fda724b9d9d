"""A folder of images and a folder of masks as an `ImageSet`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerlab.errors import UserError
from layerlab.segmentation import masks
from layerlab.segmentation.dataset import Parts
from layerlab.segmentation.duplicates import families, twins
from layerlab.segmentation.images import fractions, read_image, read_labels
from layerlab.segmentation.masks import Classes
from layerlab.segmentation.pairs import Listing, Pair, Problem, match, refuse
from layerlab.segmentation.scan import Look, Progress, look_all
from layerlab.segmentation.split import Split, has_folders, together


@dataclass(frozen=True)
class Asked:
    """How a folder is to be read.

    Attributes:
        classes: what mask values mean; None infers it from the masks.
        ignore: where ``classes`` is None: mask values to leave out of the inference, as `Classes.parse` takes them.
        split: which images train; None takes the folders train/, val/ and test/ if there are such, else chance.
        mask_suffix: what masks have at the end of their names that images have not.
        skip: leave out what has problems instead of refusing the folder; costs decoding all images.
        no_leak: keep images that are there twice, to the pixel or nearly, in one part; costs decoding all of them.
    """

    classes: Classes | None = None
    ignore: str = ""
    split: Split | None = None
    mask_suffix: str = ""
    skip: bool = False
    no_leak: bool = False


@dataclass(eq=False)
class FolderSet:
    """Images and masks of two folders; an `ImageSet`.

    Attributes:
        name: of the folder of images.
        pairs: the files.
        mapping: what mask values mean.
        channels: 1 if all images are grey, else 3.
        sizes: ``(n, 2)`` height and width.
        counts: ``(n, classes + 1)`` pixels of every class in every mask, last those ignored.
        split: how `parts` splits.
        bound: groups of images that are in one part, because they are nearly the same.
        left_out: problems of pairs that were left out, where that was asked for.
    """

    name: str
    pairs: tuple[Pair, ...]
    mapping: Classes
    channels: int
    sizes: NDArray[np.int64]
    counts: NDArray[np.int64]
    split: Split
    bound: tuple[tuple[int, ...], ...] = ()
    left_out: tuple[Problem, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.mapping.names

    @property
    def names(self) -> Sequence[str]:
        """Path of every image within its folder, without suffix."""
        return tuple(pair.name for pair in self.pairs)

    def __len__(self) -> int:
        return len(self.pairs)

    def read(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Image ``(height, width, channels)`` float32 in [0, 1] and mask ``(height, width)`` uint8.

        Raises:
            UserError: a file that changed for the worse since it was looked at.
        """
        pixels, mask = self.decode(index)
        return fractions(pixels), mask

    def decode(self, index: int) -> tuple[NDArray[Any], NDArray[np.uint8]]:
        """As `read`, with the image's own 8 or 16 bits."""
        pair = self.pairs[index]
        pixels = read_image(pair.image).pixels
        labels = read_labels(pair.mask).pixels
        try:
            mask = self.mapping.apply(masks.codes(labels))
        except UserError as error:
            raise UserError(str(error), file=pair.mask) from None
        if mask.shape != pixels.shape[:2]:
            raise UserError(f"expected a mask of {pixels.shape[:2]} pixels, got {mask.shape}", file=pair.mask)
        if pixels.shape[2] != self.channels:
            pixels = np.repeat(pixels, 3, axis=2)
        return pixels, mask

    def parts(self, seed: int) -> Parts:
        """The split; every seed gives its own, unless folders say it.

        Raises:
            UserError: too few images for a split.
        """
        return together(self.split.parts(self.names, seed), self.bound)


def folder(
    images: str | Path,
    masks: str | Path,
    asked: Asked | None = None,
    *,
    progress: Progress | None = None,
) -> FolderSet:
    """A set of images from a folder of images and one of masks, paired by name.

    Reads every mask and the head of every image (all of it where ``asked`` needs that), on all cores; tells all
    problems at once.

    Args:
        images: the folder of images: PNG, JPEG, TIFF or BMP, of any sizes, sub-folders included.
        masks: the folder of masks, each as large as its image: class indices, palettes, colours, or 0 and 255.
        asked: what masks mean, how to split, what to do with problems.
        progress: called with how many pairs are done, of how many.

    Raises:
        UserError: problems, or nothing to train on.

    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as place:
    ...     for name in ("a", "b"):
    ...         for part, mode in (("images", "RGB"), ("masks", "L")):
    ...             Path(place, part).mkdir(exist_ok=True)
    ...             Image.new(mode, (4, 3)).save(Path(place, part, f"{name}.png"))
    ...     found = folder(Path(place, "images"), Path(place, "masks"))
    >>> found.names, found.classes, found.mapping.inferred
    (('a', 'b'), ('0',), 'every value is a class')
    """
    asked = asked or Asked()
    listing = match(images, masks, mask_suffix=asked.mask_suffix)
    # Damage behind an image's head shows only when it is decoded: what is to be skipped must be found now.
    decode = asked.no_leak or asked.skip
    looks = look_all(listing.pairs, decode=decode, progress=progress)
    if not decode and understood(listing, looks, asked)[1]:
        # The folder is refused: then with all that is wrong, damaged images included.
        looks = look_all(listing.pairs, decode=True, progress=progress)
    return assemble(Path(images), listing, looks, asked)


def assemble(images: Path, listing: Listing, looks: Sequence[Look], asked: Asked) -> FolderSet:
    """The set, from what was found of its files.

    Raises:
        UserError: problems, unless they are to be skipped; or nothing left.
    """
    mapping, problems = understood(listing, looks, asked)
    if problems and not asked.skip:
        refuse(problems)
    bad = {problem.file for problem in problems}
    good = [look for look in looks if str(look.pair.image) not in bad and str(look.pair.mask) not in bad]
    headers = [look.image for look in good if look.image is not None]
    if mapping is None or not good or len(headers) < len(good):
        refuse(problems or [Problem("unmatched", str(images), "no image has a mask")])
    names = [look.pair.name for look in good]
    split = asked.split or Split(by="folders" if has_folders(names) else "stratify")
    return FolderSet(
        name=images.resolve().name,
        pairs=tuple(look.pair for look in good),
        mapping=mapping,
        channels=1 if all(header.kind == "grey" for header in headers) else 3,
        sizes=np.array([(header.height, header.width) for header in headers], np.int64),
        counts=np.stack([mapping.counts(look.counted) for look in good]),
        split=split,
        bound=families(twins([look.content for look in good])) if asked.no_leak else (),
        left_out=tuple(problems),
    )


def understood(listing: Listing, looks: Sequence[Look], asked: Asked) -> tuple[Classes | None, list[Problem]]:
    """What the masks mean (None if that cannot be told), and every problem of the folder."""
    problems = [*listing.problems, *(problem for look in looks for problem in look.problems)]
    mapping = asked.classes
    told = {id(look) for look in looks if look.problems}
    if mapping is None:
        # JPEG smears values; whoever says which ranges are which class has seen to that.
        lossy = [look for look in looks if look.mask is not None and look.mask.format == "JPEG"]
        problems += [Problem("lossy", str(look.pair.mask), _JPEG) for look in lossy]
        told |= {id(look) for look in lossy}
    good = [look for look in looks if id(look) not in told]
    if mapping is None:
        if not good:
            return None, problems
        try:
            mapping = masks.infer(_total(good), ignore=Classes.parse(["_=*"], asked.ignore).ignored)
        except UserError as error:
            return None, [*problems, Problem("values", str(good[0].pair.mask.parent), str(error))]
    for look in good:
        if unknown := mapping.unknown(look.counted):
            share = sum(look.counted[code] for code in unknown) / sum(look.counted.values())
            words = (
                f"{100 * share:.2g} % of it is {masks.listed(unknown)}, which is no class; name it with --class "
                "NAME=VALUES or --ignore VALUES"
            )
            problems.append(Problem("values", str(look.pair.mask), words))
    return mapping, problems


def _total(looks: Sequence[Look]) -> dict[int, int]:
    """Pixels of every code in all masks together."""
    total: dict[int, int] = {}
    for look in looks:
        for code, pixels in look.counted.items():
            total[code] = total.get(code, 0) + pixels
    return total


_JPEG = (
    "is a JPEG, which smears the values of a mask; save masks as PNG, or say which ranges are which class: --class "
    "background=0-127 --class foreground=128-255"
)
