"""Pictures, masks, classes and what is trained on them, to spoil."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
from fuzz_subject import Subject, layerlab, stop
from PIL import Image


def _pictures(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for place in ("images", "masks"):
        (folder / place).mkdir()
    for number, suffix in enumerate(("png", "png", "jpg", "tif", "bmp", "png")):
        mask = np.zeros((20, 24), np.uint8)
        mask[4 : 10 + number, 5:15] = 1
        pixels = (rng.random((20, 24, 3)) * 80 + 150 * mask[:, :, None]).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"p{number}.{suffix}")
        Image.fromarray(mask).save(folder / "masks" / f"p{number}.png")
    (folder / "classes.json").write_text(
        json.dumps({"classes": {"back": [0], "thing": ["1-3", 7]}, "ignore": [9]})
    )
    (folder / "classes.csv").write_text("value,name\n0,back\n1,thing\n9,ignore\n")


_SMALL = ["--size", "16", "--widths", "2,2", "--batch", "2", "--augment", "none"]
_SEGMENT = ["segment", "train", "images", "masks", *_SMALL, "--epochs", "2", "--threads", "1", "--out", "run"]
_SEGMENT_RACE = [
    "segment",
    "race",
    "images",
    "masks",
    *_SMALL,
    "--epochs",
    "2",
    "--arms",
    "on,off",
    "--jobs",
    "1",
]
_SEGMENT_RACE += ["--out", "race", "--seeds"]


def _segmented(folder: Path) -> None:
    _pictures(folder)
    layerlab(folder, *_SEGMENT)


def _segment_begun(folder: Path) -> None:
    from layerlab.segmentation import runs

    _pictures(folder)
    fit = runs.fit
    runs.fit = lambda *a, on_epoch=None, **k: fit(*a, on_epoch=lambda e, _: stop(e + 1), **k)  # type: ignore[assignment]
    with contextlib.suppress(KeyboardInterrupt):
        layerlab(folder, *_SEGMENT)
    runs.fit = fit


def _predicted(folder: Path) -> None:
    _segmented(folder)
    layerlab(folder, *_PREDICT)


_PREDICT = ["segment", "predict", "run", "images", "--out", "out", "--confidence"]


def _segment_race(folder: Path) -> None:
    _pictures(folder)
    layerlab(folder, *_SEGMENT_RACE, "1")


def _archives(folder: Path) -> None:
    rng = np.random.default_rng(0)
    images, masks = {}, {}
    for name in ("Abyssinian_1", "beagle_3"):
        for members, form, pixels in (
            (images, "JPEG", rng.integers(0, 255, (20, 24, 3), dtype=np.uint8)),
            (masks, "PNG", np.resize(np.array([1, 2, 3], np.uint8), (20, 24))),
        ):
            stream = io.BytesIO()
            Image.fromarray(pixels).save(stream, form)
            members[f"images/{name}.jpg" if form == "JPEG" else f"annotations/trimaps/{name}.png"] = (
                stream.getvalue()
            )
    for file, members in (("images.tar", images), ("masks.tar", masks)):
        with tarfile.open(folder / file, "w") as archive:
            for name, content in members.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))


def _converted(folder: Path) -> object:
    from layerlab.segmentation.conversion import RECIPES, convert

    shutil.rmtree(folder / "target", ignore_errors=True)
    (folder / "target").mkdir()
    return convert(RECIPES["pets"], folder / "images.tar", folder / "masks.tar", folder / "target")


_CHECK = ["segment", "check", "images", "masks", "--json"]

PICTURES: dict[str, Subject] = {
    "pictures": Subject(_pictures, _CHECK, ["images/*", "masks/*"], (0, 1)),
    "pictures-report": Subject(
        _pictures, [*_CHECK[:-1], "--report", "--out", "page"], ["images/*", "masks/*"], (0, 1)
    ),
    "classes-json": Subject(_pictures, [*_CHECK, "--classes", "classes.json"], ["classes.json"], (0, 1)),
    "classes-csv": Subject(_pictures, [*_CHECK, "--classes", "classes.csv"], ["classes.csv"], (0, 1)),
    "classes-words": Subject(
        _pictures,
        [
            *_CHECK,
            "--class",
            "thing=1,#87ceeb",
            "--class",
            "rest=0,2-4",
            "--ignore",
            "9",
            "--stratify",
            "block:2",
        ],
        [],
        (0, 1),
        [6, 8, 10, 12],
    ),
    "segment-train": Subject(_pictures, [*_SEGMENT, "--skip"], ["images/*", "masks/*"]),
    "segment-resumed": Subject(_segment_begun, _SEGMENT, ["run/*"]),
    "segment-run": Subject(_segmented, _PREDICT, ["run/run.json", "run/*.safetensors", "images/*"], (0, 1)),
    "segment-page": Subject(_segmented, _SEGMENT, ["run/run.json", "run/*.safetensors"]),
    "segment-predicted": Subject(
        _predicted, _PREDICT, ["out/run.json", "out/cells/*", "out/*/*.png"], (0, 1)
    ),
    "segment-race": Subject(
        _segment_race, [*_SEGMENT_RACE, "2"], ["race/run.json", "race/cells/*", "race/*/*", "race/*/*/*"]
    ),
    "archives": Subject(_archives, _converted, ["*.tar"]),
}
