"""Small archives in the form of the published ones."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

RNG = np.random.default_rng(0)


def encoded(pixels: NDArray[np.uint8], form: str, **how: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, **how)
    return file.getvalue()


def photograph(form: str = "JPEG", height: int = 24, width: int = 32) -> bytes:
    return encoded(RNG.integers(0, 256, (height, width, 3), dtype=np.uint8), form)


def trimap(*values: int, height: int = 24, width: int = 32) -> bytes:
    return encoded(np.resize(np.array(values, np.uint8), (height, width)), "PNG")


def archive(path: Path, members: Mapping[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as stored:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            stored.addfile(entry, io.BytesIO(content))
    return path


def pets(folder: Path) -> tuple[Path, Path]:
    """Three pets with masks, one of them a GIF by another name; what else the published archives hold."""
    images = {
        "images/Abyssinian_1.jpg": photograph(),
        "images/Bengal_2.jpg": photograph("GIF"),
        "images/beagle_3.jpg": photograph(height=30),
        "images/boxer_4.jpg": photograph(),
        "images/damaged_5.jpg": b"\xff\xd8\xff nothing",
        "images/Abyssinian_101.mat": b"MATLAB",
    }
    masks = {
        f"annotations/trimaps/{name}.png": trimap(1, 2, 3)
        for name in ("Abyssinian_1", "Bengal_2", "beagle_3", "damaged_5")
    }
    masks |= {"annotations/trimaps/._Abyssinian_1.png": b"resource", "annotations/list.txt": b"# list"}
    masks["annotations/trimaps/boxer_4.png"] = trimap(1, 2, 9)
    return archive(folder / "images.tar.gz", images), archive(folder / "annotations.tar.gz", masks)
