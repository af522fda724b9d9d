"""From the archives of a published set to folders of images and masks.

Nothing is extracted by its name in the archive: members are read one by one, and written under a name of their own.
Masks become PNGs of class indices, 255 for pixels that count nowhere.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from layerlab.errors import UserError
from layerlab.segmentation.dataset import IGNORE
from layerlab.segmentation.images import read_image, read_labels
from layerlab.segmentation.masks import Classes, codes

_LARGEST_MEMBER = 64 * 2**20
_STEM = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
# Around the blue that fills what is cut out of a JPEG, its values are smeared over a few pixels.
_BAND = 3

Progress = Callable[[float, str], None]
"""Called with the share that is done and a few words."""


@dataclass(frozen=True)
class Recipe:
    """How the archives of one set are read.

    Attributes:
        image, mask: patterns of the members that are wanted; the group ``stem`` is what pairs them.
        classes: names, in the order of the masks' indices.
        label: from the file of one mask to class indices and `IGNORE`.
    """

    image: str
    mask: str
    classes: tuple[str, ...]
    label: Callable[[Path], NDArray[np.uint8]]


@dataclass
class Converted:
    """What became of a set: pairs written, images without a mask, and files left out with the reason."""

    pairs: int = 0
    without_mask: int = 0
    left_out: list[str] = field(default_factory=list)


def _pet(path: Path) -> NDArray[np.uint8]:
    """1 pet, 2 background, 3 the uncertain border."""
    return Classes.parse(["background=2", "pet=1"], "3").apply(codes(read_labels(path).pixels))


# As indices or, where a tool has resolved the palette, as its colours.
_FLOWER = Classes.parse(
    ["background=3,#808000", "flower=1,#800000", "leaves=2,#008000", "sky=4,#000080"], "0,5,#800080"
)


def _flower(path: Path) -> NDArray[np.uint8]:
    """0 the uncertain band, 1 flower, 2 leaves, 3 background, 4 sky; a few stray 5s."""
    return _FLOWER.apply(codes(read_labels(path).pixels))


def _cut_out(path: Path) -> NDArray[np.uint8]:
    """A photograph whose background is filled with blue, (0, 0, 254), and saved as JPEG."""
    from scipy import ndimage

    pixels = read_image(path).pixels.astype(np.int16)
    if pixels.shape[2] != 3:
        raise UserError("expected a photograph on blue, got a grey one", file=path)
    background = (pixels[..., 0] < 60) & (pixels[..., 1] < 60) & (pixels[..., 2] > 190)
    mask = np.where(background, 0, 1).astype(np.uint8)
    square = np.ones((2 * _BAND + 1, 2 * _BAND + 1), bool)
    near = ndimage.binary_dilation(background, square) & ndimage.binary_dilation(~background, square)
    mask[near] = IGNORE
    return mask


RECIPES = {
    "pets": Recipe(
        r"images/(?P<stem>[^/.]+)\.jpg",
        r"annotations/trimaps/(?P<stem>[^/.]+)\.png",
        ("background", "pet"),
        _pet,
    ),
    "flowers17": Recipe(
        r"jpg/(?P<stem>image_\d+)\.jpg", r"trimaps/(?P<stem>image_\d+)\.png", _FLOWER.names, _flower
    ),
    "flowers102": Recipe(
        r"jpg/image_(?P<stem>\d+)\.jpg",
        r"segmim/segmim_(?P<stem>\d+)\.jpg",
        ("background", "flower"),
        _cut_out,
    ),
}


def convert(
    recipe: Recipe, images: Path, masks: Path, target: Path, *, progress: Progress | None = None
) -> Converted:
    """Write ``images/``, ``masks/`` and ``classes.json`` into an existing folder.

    An image whose bytes are a JPEG or PNG as they should be is kept as it is; one that only another reader takes (a GIF
    named .jpg, say) is written anew as PNG.

    Args:
        recipe: how the archives are read.
        images, masks: the archives.
        target: an empty folder.
        progress: told now and then.

    Raises:
        UserError: archives that are none, or that hold nothing of what is expected.
    """
    found = Converted()
    (target / "images").mkdir()
    (target / "masks").mkdir()
    labelled: dict[str, tuple[int, int]] = {}
    tell = progress or (lambda *_: None)
    for stem, content, share in _members(masks, recipe.mask):
        path = target / "masks" / f"{stem}.png"
        path.write_bytes(content)
        try:
            mask = recipe.label(path)
        except UserError as error:
            found.left_out.append(f"the mask of {stem}: {str(error).removeprefix(f'{path}: ')}")
            path.unlink()
            continue
        Image.fromarray(mask).save(path, optimize=True)
        labelled[stem] = (mask.shape[0], mask.shape[1])
        tell(0.5 * share, f"{len(labelled):,} masks")
    if not labelled:
        raise UserError("expected masks of the published set in it, found none; fetch it again", file=masks)
    for stem, content, share in _members(images, recipe.image):
        if stem not in labelled:
            found.without_mask += 1
            continue
        if reason := _keep(content, target / "images", stem, labelled[stem]):
            found.left_out.append(f"{stem}: {reason}")
            continue
        labelled.pop(stem)
        found.pairs += 1
        tell(0.5 + 0.5 * share, f"{found.pairs:,} images")
    for stem in labelled:
        (target / "masks" / f"{stem}.png").unlink()
    if not found.pairs:
        raise UserError("expected images of the published set in it, found none; fetch it again", file=images)
    classes = {"classes": {name: [index] for index, name in enumerate(recipe.classes)}, "ignore": [IGNORE]}
    (target / "classes.json").write_text(json.dumps(classes, indent=1), encoding="utf-8")
    return found


def _keep(content: bytes, folder: Path, stem: str, size: tuple[int, int]) -> str:
    """Write an image; why not, in words, or nothing."""
    path = folder / f"{stem}.jpg"
    path.write_bytes(content)
    try:
        shape = read_image(path).pixels.shape[:2]
    except UserError as error:
        path.unlink()
        # Some images of the pets are GIFs and PNGs by another name, and one or two are in CMYK.
        try:
            with Image.open(io.BytesIO(content), formats=("GIF", "PNG", "JPEG", "BMP")) as opened:
                picture = opened.convert("RGB")
        except (OSError, ValueError, SyntaxError, EOFError):
            return str(error).removeprefix(f"{path}: ")
        path = folder / f"{stem}.png"
        picture.save(path)
        shape = (picture.height, picture.width)
    if shape != size:
        path.unlink()
        return f"is {shape[1]} x {shape[0]} and its mask {size[1]} x {size[0]}"
    return ""


def _members(archive: Path, pattern: str) -> Iterator[tuple[str, bytes, float]]:
    """Stem, bytes and the share of the archive that is read, of every member whose path is of that pattern."""
    wanted = re.compile(pattern)
    seen: set[str] = set()
    try:
        whole = max(archive.stat().st_size, 1)
        with archive.open("rb") as stream, tarfile.open(fileobj=stream, mode="r|*") as stored:
            for member in stored:
                name = str(PurePosixPath(member.name))
                match = wanted.fullmatch(name)
                if match is None or not member.isfile() or not _STEM.fullmatch(match["stem"]):
                    continue
                if member.size > _LARGEST_MEMBER or match["stem"] in seen:
                    raise UserError(
                        f"expected the published archive, but {name!r} is too large or twice in it",
                        file=archive,
                    )
                seen.add(match["stem"])
                opened = stored.extractfile(member)
                if opened is not None:
                    yield match["stem"], opened.read(), min(stream.tell() / whole, 1.0)
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise UserError(
            f"expected a tar archive, but it is damaged ({error}); fetch it again", file=archive
        ) from error
