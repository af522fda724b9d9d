"""Looking at every pair of image and mask once, on all cores: what is there, and everything that is wrong.

Threads serve: Pillow decodes outside the interpreter's lock.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from layerlab.errors import UserError
from layerlab.lab.machine import available_cores
from layerlab.segmentation import masks
from layerlab.segmentation.images import Header, Picture, read_header, read_image, read_labels
from layerlab.segmentation.pairs import Pair, Problem

THUMBNAIL = 16

Progress = Callable[[int, int], None]
"""Called with how many are done, of how many."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True, eq=False)
class Content:
    """What a decoded image holds, in a few hundred bytes.

    Attributes:
        digest: of its pixels: equal for equal pictures, however they are stored.
        thumbnail: ``(16, 16)`` uint8 grey.
        low, high: smallest and largest value.
        values: how many different grey levels of 8 bits, at most 256.
    """

    digest: bytes
    thumbnail: NDArray[np.uint8]
    low: int
    high: int
    values: int


@dataclass(frozen=True, eq=False)
class Look:
    """What was found of one pair.

    Attributes:
        pair: which.
        image, mask: their headers; None where they cannot be read.
        counted: pixels of every code of the mask.
        palette: colours of the mask's palette, if it has one.
        notes: what is done to image or mask that their owner may not expect.
        problems: why the pair cannot be used; empty if it can.
        content: of the image, where it was decoded.
    """

    pair: Pair
    image: Header | None
    mask: Header | None
    counted: dict[int, int]
    palette: NDArray[np.uint8] | None
    notes: tuple[str, ...]
    problems: tuple[Problem, ...]
    content: Content | None = None


def look(pair: Pair, *, decode: bool) -> Look:
    """Look at one pair: the mask is decoded, the image only if ``decode``; no error of a file gets out."""
    problems: list[Problem] = []

    def attempt(read: Callable[[], _Result]) -> _Result | None:
        try:
            return read()
        except UserError as error:
            # The file stands in front of the sentence already.
            where = error.file or ""
            problems.append(Problem("unreadable", where, str(error).removeprefix(f"{where}: ")))
            return None

    content = None
    notes: list[str] = []
    if decode:
        picture = attempt(lambda: read_image(pair.image))
        image = None if picture is None else picture.header
        if picture is not None:
            content = describe(picture)
            notes += [f"image: {note}" for note in picture.notes]
    else:
        image = attempt(lambda: read_header(pair.image))
    labels = attempt(lambda: read_labels(pair.mask))
    mask = None if labels is None else labels.header
    found: dict[int, int] = {}
    if labels is not None:
        notes += [f"mask: {note}" for note in labels.notes]
        try:
            found = masks.counted(masks.codes(labels.pixels))
        except UserError as error:
            problems.append(Problem("values", str(pair.mask), str(error)))
    if image is not None and mask is not None and (image.height, image.width) != (mask.height, mask.width):
        problems.append(Problem("size", str(pair.mask), _sizes(image, mask)))
    palette = None if labels is None else labels.palette
    return Look(pair, image, mask, found, palette, tuple(notes), tuple(problems), content)


def look_all(
    pairs: Sequence[Pair],
    *,
    decode: bool = False,
    progress: Progress | None = None,
    workers: int | None = None,
) -> list[Look]:
    """`look` at all pairs, on all cores; ``progress`` is called now and then."""
    return list(
        on_all_cores(lambda pair: look(pair, decode=decode), pairs, progress=progress, workers=workers)
    )


def on_all_cores(
    work: Callable[[_Item], _Result],
    items: Sequence[_Item],
    *,
    progress: Progress | None = None,
    workers: int | None = None,
) -> Generator[_Result, None, None]:
    """``work`` on every item, in threads, in the order of the items; a few batches are under way at a time."""
    workers = workers or available_cores()
    size = max(1, min(16, len(items) // (4 * workers)))
    done = 0
    with ThreadPoolExecutor(workers) as pool:
        # Not all at once: whatever is done waits in memory, and an interruption waits for what is submitted.
        for start in range(0, len(items), size * workers * 4):
            stop = min(start + size * workers * 4, len(items))
            pieces = [items[first : min(first + size, stop)] for first in range(start, stop, size)]
            for result in chain.from_iterable(pool.map(lambda piece: [work(item) for item in piece], pieces)):
                done += 1
                if progress is not None and (done % 8 == 0 or done == len(items)):
                    progress(done, len(items))
                yield result


def describe(picture: Picture) -> Content:
    """What `Content` holds of a decoded image."""
    pixels = picture.pixels
    digest = hashlib.blake2b(f"{pixels.shape} {pixels.dtype}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels).data)
    grey = _grey(pixels)
    small = Image.fromarray(grey).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    levels = int(np.count_nonzero(np.bincount(grey.ravel(), minlength=256)))
    return Content(digest.digest(), np.asarray(small), int(pixels.min()), int(pixels.max()), levels)


def _grey(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    if pixels.shape[2] == 1:
        return np.ascontiguousarray(pixels[..., 0])
    return np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).convert("L"))


def _sizes(image: Header, mask: Header) -> str:
    said = f"expected a mask as large as its image, {image.width} x {image.height}, got {mask.width} x {mask.height}"
    if image.turned and (image.width, image.height) == (mask.height, mask.width):
        return f"{said}; the image's EXIF orientation turns it, the mask was made of the unturned one: save it turned"
    return f"{said}; resize it without smoothing, or export it again"
