"""Images that are there twice, to the pixel or nearly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from layerlab.segmentation.scan import Content

ALIKE = 0.995
"""Correlation of two thumbnails from which on they are told as nearly the same picture."""
_CELLS = 2**24
_ENOUGH = 10


@dataclass(frozen=True)
class Twins:
    """Two images by their positions, the smaller first; ``alike`` is 1 where they are equal to the pixel."""

    first: int
    second: int
    alike: float

    @property
    def exact(self) -> bool:
        """Equal to the pixel."""
        return self.alike == 1.0


def twins(contents: Sequence[Content | None], *, most: int = 10_000) -> list[Twins]:
    """Pairs of images that are equal or nearly so, the most alike first.

    Equal: the same pixels, however they are stored. Nearly: 16 x 16 grey thumbnails correlate by `ALIKE` or more, as
    they do after another compression, another size or another brightness, and not after mirroring or cropping.

    Args:
        contents: of the images; None where one could not be read.
        most: how many pairs are told at most.

    >>> from layerlab.segmentation.images import Header, Picture
    >>> from layerlab.segmentation.scan import describe
    >>> pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 1), np.uint8)
    >>> header = Header(32, 32, "PNG", "grey", 8)
    >>> twins([describe(Picture(pixels, header)), describe(Picture(pixels, header))])
    [Twins(first=0, second=1, alike=1.0)]
    """
    found: list[Twins] = []
    seen: dict[bytes, int] = {}
    different: list[int] = []
    for index, content in enumerate(contents):
        if content is None:
            continue
        first = seen.setdefault(content.digest, index)
        if first != index:
            found.append(Twins(first, index, 1.0))
        elif content.thumbnail.min() < content.thumbnail.max():
            different.append(index)
    found = found[:most]
    if len(different) > 1 and len(found) < most:
        found += _alike(contents, different, most - len(found))
    return found


def families(found: Sequence[Twins]) -> tuple[tuple[int, ...], ...]:
    """Images that hang together by being alike, each in one family.

    >>> families([Twins(0, 4, 1.0), Twins(2, 4, 0.999), Twins(1, 3, 0.999)])
    ((0, 2, 4), (1, 3))
    """
    family: dict[int, set[int]] = {}
    for twin in found:
        joined = family.get(twin.first, {twin.first}) | family.get(twin.second, {twin.second})
        family |= dict.fromkeys(joined, joined)
    return tuple(sorted({tuple(sorted(members)) for members in family.values()}))


def _alike(contents: Sequence[Content | None], places: list[int], most: int) -> list[Twins]:
    thumbnails = [content.thumbnail.ravel() for place in places if (content := contents[place]) is not None]
    vectors = np.stack(thumbnails).astype(np.float32)
    vectors -= vectors.mean(1, keepdims=True)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found: list[Twins] = []
    rows, enough = max(1, _CELLS // len(vectors)), _ENOUGH * most
    for start in range(0, len(vectors), rows):
        alike = vectors[start : start + rows] @ vectors[start:].T
        # Above the diagonal, and no more than are of use: a folder of one picture has them by the million.
        first, second = np.nonzero(np.triu(alike >= ALIKE, 1))
        for one, other in zip(first[:enough].tolist(), second[:enough].tolist(), strict=True):
            # The last digits are the machine's, and must neither order the pairs nor make them equal to the pixel.
            measure = min(round(float(alike[one, other]), 5), 0.9999)
            found.append(Twins(places[start + one], places[start + other], measure))
        if len(found) >= enough:
            break
    found.sort(key=lambda twin: -twin.alike)
    return found[:most]
