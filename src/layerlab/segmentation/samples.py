"""Images and masks in memory at the size they are trained on, and squares cut from them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from layerlab.errors import UserError
from layerlab.segmentation.dataset import IGNORE, ImageSet
from layerlab.segmentation.pairs import Problem, refuse
from layerlab.segmentation.scan import on_all_cores
from layerlab.segmentation.settings import Settings


@dataclass(frozen=True, eq=False)
class Sample:
    """An image and its mask at working size (see `Settings.working_size`).

    Attributes:
        name: of the image.
        image: ``(channels, h, w)`` float16 in [0, 1]: half the memory, and exact to 11 bits however dark it is.
        mask: ``(h, w)`` uint8: classes and `IGNORE`.
    """

    name: str
    image: Tensor
    mask: Tensor


def load_sample(data: ImageSet, index: int, settings: Settings) -> Sample:
    """One image of a set at its working size: scaled bilinearly with antialiasing, its mask by nearest pixels.

    Raises:
        UserError: the set cannot read it, its mask has another size, or holds what is no class.
    """
    pixels, classes = data.read(index)
    if pixels.shape[:2] != classes.shape or pixels.shape[2:] != (data.channels,) or not classes.size:
        raise UserError(
            f"expected an image (h, w, {data.channels}) and a mask (h, w) of {data.names[index]!r}, "
            f"got {pixels.shape} and {classes.shape}"
        )
    image, mask = torch.from_numpy(pixels).permute(2, 0, 1), torch.from_numpy(classes)
    wrong = mask[(mask >= len(data.classes)) & (mask != IGNORE)]
    if len(wrong):
        raise UserError(
            f"expected classes 0 to {len(data.classes) - 1} or {IGNORE} in the mask of {data.names[index]!r}, "
            f"got {int(wrong.max())}"
        )
    size = settings.working_size(*mask.shape)
    if size != tuple(mask.shape):
        image = functional.interpolate(image[None].float(), size, mode="bilinear", antialias=True)[0]
        mask = functional.interpolate(mask[None, None], size, mode="nearest-exact")[0, 0]
    return Sample(data.names[index], image.half().contiguous(), mask.contiguous())


def load_samples(
    data: ImageSet,
    indices: Sequence[int],
    settings: Settings,
    on_sample: Callable[[], None] | None = None,
) -> list[Sample]:
    """Several images of a set, read on all cores; ``on_sample`` is called after each.

    In memory: 2 bytes a channel and 1 a pixel.

    Raises:
        UserError: images that cannot be read, all of them at once.
    """

    def load(index: int) -> Sample | Problem:
        try:
            return load_sample(data, index, settings)
        except UserError as error:
            return Problem(
                "unreadable", error.file or data.names[index], str(error).removeprefix(f"{error.file}: ")
            )

    samples, problems = [], []
    for found in on_all_cores(load, indices):
        if isinstance(found, Problem):
            problems.append(found)
        else:
            samples.append(found)
        if on_sample is not None:
            on_sample()
    if problems:
        refuse(problems)
    return samples


def square(sample: Sample, size: int) -> tuple[Tensor, Tensor]:
    """A square at a random place of an image; beyond its border the image is 0 and the mask `IGNORE`.

    Args:
        sample: image and mask.
        size: pixels a side.

    Returns:
        Image ``(channels, size, size)`` float16 and mask ``(size, size)`` uint8; views where nothing is added.

    >>> small = Sample("dot", torch.ones(1, 1, 1).half(), torch.zeros(1, 1, dtype=torch.uint8))
    >>> square(small, 2)[1].tolist()
    [[0, 255], [255, 255]]
    """
    height, width = sample.mask.shape
    top, left = (int(torch.randint(side - size + 1, ())) if side > size else 0 for side in (height, width))
    image = sample.image[:, top : top + size, left : left + size]
    mask = sample.mask[top : top + size, left : left + size]
    missing = (0, size - mask.shape[1], 0, size - mask.shape[0])
    if any(missing):
        image, mask = functional.pad(image, missing), functional.pad(mask, missing, value=IGNORE)
    return image, mask


def fingerprint(parts: Sequence[Sequence[Sample]]) -> str:
    """A digest of every pixel, in order and part by part: the same data, the same split, the same working size.

    Args:
        parts: the samples of each part.
    """
    digest = hashlib.sha256()
    for samples in parts:
        digest.update(f"part of {len(samples)}\n".encode())
        for sample in samples:
            digest.update(f"{sample.name} {tuple(sample.image.shape)}\n".encode("utf-8", "surrogateescape"))
            digest.update(sample.image.numpy().tobytes())
            digest.update(sample.mask.numpy().tobytes())
    return digest.hexdigest()
