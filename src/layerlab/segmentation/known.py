"""The published sets of images and masks that layerlab can fetch: where they are, what they must be, what they say.

Checksums are those that a well-known package states for the same address; where none does, there is none here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from layerlab.errors import UserError
from layerlab.lab.cache import cache_folder

_VGG = "https://www.robots.ox.ac.uk/~vgg/data"


@dataclass(frozen=True)
class Archive:
    """A file to fetch.

    Attributes:
        address: official; its last part is the name of the file.
        sha256: of the file; empty where nobody well known states it.
        stated_by: who states it.
    """

    address: str
    sha256: str = ""
    stated_by: str = ""

    @property
    def name(self) -> str:
        """Of the file."""
        return self.address.rpartition("/")[2]


@dataclass(frozen=True)
class KnownImages:
    """A published set.

    Attributes:
        name: for the command line.
        title: what it is.
        images, masks: the archives.
        size: to be fetched, in MB.
        terms: on which its publisher lets it be used.
    """

    name: str
    title: str
    images: Archive
    masks: Archive
    size: int
    terms: str

    @property
    def path(self) -> Path:
        """The folder in which it lies once fetched, with images/, masks/ and classes.json."""
        return cache_folder() / self.name

    @property
    def is_here(self) -> bool:
        """Whether it was fetched: the folder appears whole or not at all."""
        return (self.path / "classes.json").is_file()


KNOWN = {
    known.name: known
    for known in (
        KnownImages(
            "pets",
            "Oxford-IIIT Pet (Parkhi et al. 2012): 37 breeds of cats and dogs; background and pet",
            Archive(
                f"{_VGG}/pets/data/images.tar.gz",
                "67195c5e1c01f1ab5f9b6a5d22b8c27a580d896ece458917e61d459337fa318d",
                "TensorFlow Datasets",
            ),
            Archive(
                f"{_VGG}/pets/data/annotations.tar.gz",
                "52425fb6de5c424942b7626b428656fcbd798db970a937df61750c0f1d358e91",
                "TensorFlow Datasets",
            ),
            812,
            "CC BY-SA 4.0; the photographs belong to their owners",
        ),
        KnownImages(
            "flowers17",
            "Oxford 17 flowers (Nilsback and Zisserman 2006): those with a mask; background, flower, leaves, sky",
            Archive(
                f"{_VGG}/flowers/17/17flowers.tgz",
                "fe38a60f8b4a95e657551247d3e7d799a3fafcdbc595be504b12839967823d70",
                "DFFML",
            ),
            Archive(f"{_VGG}/flowers/17/trimaps.tgz"),
            60,
            "none stated; for research, as its page has it",
        ),
        KnownImages(
            "flowers102",
            "Oxford 102 flowers (Nilsback and Zisserman 2008): background and flower, as a program segmented them",
            Archive(
                f"{_VGG}/flowers/102/102flowers.tgz",
                "2d01ecc807db462958cfe3d92f57a8c252b4abd240eb955770201e45f783b246",
                "TensorFlow Datasets",
            ),
            Archive(f"{_VGG}/flowers/102/102segmentations.tgz"),
            540,
            "none stated; for research, as its page has it",
        ),
    )
}


def find(name: str) -> KnownImages:
    """The known set of that name.

    Raises:
        UserError: there is none.

    >>> find("pets").masks.name
    'annotations.tar.gz'
    """
    if name not in KNOWN:
        raise UserError(f"expected one of {', '.join(KNOWN)}; got '{name}'")
    return KNOWN[name]
