"""Predict the pictures of a folder into a run folder; what is done is not done again.

``masks/NAME.png``: class indices, with the classes' colours as palette. ``overlays/NAME.png``: for people.
``confidence/NAME.png``: the probability of the class that was taken, 0 ... 255. ``classes.csv``: which value is which
class, as ``layerlab segment check --classes`` reads it.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerlab.errors import UserError
from layerlab.lab.files import sha256_of, write_atomic
from layerlab.lab.records import RunFolder, create_run
from layerlab.segmentation import palette
from layerlab.segmentation.images import read_image
from layerlab.segmentation.pairs import pictures
from layerlab.segmentation.prediction.overlay import drawn
from layerlab.segmentation.prediction.predictor import Predictor

PREDICT_KIND = "segmentation-predict"
_LONGEST = 230  # of the 255 bytes that a name may have; writing adds to it for a moment


@dataclass(frozen=True)
class Outputs:
    """What is written beside the masks."""

    overlay: bool = True
    confidence: bool = False

    @property
    def folders(self) -> tuple[str, ...]:
        """The sub-folders that hold one file an image."""
        chosen = (("masks", True), ("overlays", self.overlay), ("confidence", self.confidence))
        return tuple(name for name, wanted in chosen if wanted)


def listed(source: Path) -> dict[str, Path]:
    """The pictures of a folder, sub-folders included, or one file: by name without suffix.

    Raises:
        UserError: nothing there, no picture, two of one name.
    """
    return pictures(source) if source.is_dir() or not source.exists() else {source.stem: source}


def predict_folder(
    predictor: Predictor,
    source: Path,
    out: Path,
    *,
    outputs: Outputs | None = None,
    force: bool = False,
    command: Sequence[str] = (),
    tell: Callable[[float, str], None] | None = None,
) -> RunFolder:
    """Predict every picture of a folder.

    A picture that cannot be read is listed in the results under ``failed``, and the others are predicted. A picture is
    done when its outputs are there and it has not changed since (its bytes, not its date). Several processes may work
    in one folder: every file appears whole.

    Args:
        predictor: the network.
        source: a folder, or one picture.
        out: the run folder, made if it is not there; not inside ``source``.
        outputs: what to write beside masks.
        force: predict anew what is done.
        command: what was typed, for the record.
        tell: called with the share of the work that is done and the name of the picture under way.

    Returns:
        The run, with ``images``, ``failed``, ``classes`` (share of all pixels, images in which they occur), ``kept``
        and ``predicted`` (how many) in its results.

    Raises:
        UserError: no picture; the folder holds another run; or a file cannot be written (a full disk).
    """
    outputs = outputs or Outputs()
    images = listed(source)
    if source.is_dir() and out.resolve().is_relative_to(source.resolve()):
        raise UserError(
            "expected an output folder outside the images, whose masks would be taken for images the next time; "
            "choose another --out",
            file=out,
        )
    trained = predictor.trained
    config = {
        "weights_sha256": trained.run.meta["results"]["weights_sha256"],
        "images": _printable(str(source.resolve())),
        "scale": predictor.scale,
        "tile": predictor.tiling.tile,
        "overlap": predictor.tiling.overlap,
    }
    run = create_run(out, PREDICT_KIND, command, config)
    _write_classes(run.path / "classes.csv", trained.classes)
    done: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    kept = 0
    for place, (name, path) in enumerate(images.items()):

        def share(part: float, place: int = place, name: str = name) -> None:
            if tell is not None:
                tell((place + part) / len(images), _printable(name))

        share(0.0)
        try:
            digest = sha256_of(path)
            cell = None if force else _finished(run, name, digest, outputs)
            if cell is not None:
                kept += 1
                done.append(cell)
                continue
            files, cell = _predicted(name, path, predictor, outputs, share)
        except UserError as error:
            failed.append({"name": _printable(name), "problem": _printable(str(error))})
            continue
        # Not inside: where one file cannot be written, the others cannot either.
        done.append(_keep(run, name, files, {**cell, "sha256": digest}))
    run.finish(
        {
            "model": str(trained.run.path),
            "images": done,
            "failed": failed,
            "classes": _pooled(trained.classes, done),
            "kept": kept,
            "predicted": len(done) - kept,
        }
    )
    return run


def _predicted(
    name: str, path: Path, predictor: Predictor, outputs: Outputs, share: Callable[[float], None]
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The files of one picture by their sub-folder, and its record."""
    if any(len(os.fsencode(part)) > _LONGEST for part in Path(name).parts):
        raise UserError(f"expected a name of at most {_LONGEST} bytes; rename it", file=path)
    classes = predictor.trained.classes
    picture = read_image(path)
    try:
        found = predictor(picture.pixels, share)
    except UserError as error:
        raise UserError(str(error), file=path) from error
    files = {"masks": _png(found.mask, palette.colours(classes))}
    if outputs.overlay:
        files["overlays"] = _png(drawn(picture.pixels, found.mask, classes, found.shares))
    if outputs.confidence:
        files["confidence"] = _png(found.confidence)
    height, width = found.mask.shape
    return files, {
        "name": _printable(name),
        "file": _printable(str(path)),
        "height": height,
        "width": width,
        "working": list(found.working),
        "shares": list(found.shares),
        "confidence": found.certainty,
        "notes": list(picture.notes),
    }


def _keep(run: RunFolder, name: str, files: Mapping[str, bytes], cell: dict[str, Any]) -> dict[str, Any]:
    """Write the files, and last the record that says that they are there."""
    for folder, content in files.items():
        target = _target(run, folder, name)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"cannot be made ({error.strerror}); choose another --out, or free space", file=target.parent
            ) from error
        write_atomic(target, content)
    run.write_cell(_key(name), cell)
    return cell


def _finished(run: RunFolder, name: str, digest: str, outputs: Outputs) -> dict[str, Any] | None:
    """The record of a picture that is done; looked up now, as another process may just have written it."""
    if not all(_target(run, folder, name).is_file() for folder in outputs.folders):
        return None
    try:
        cell = run.read_cell(_key(name))
    except UserError:
        # Not there, or damaged: the picture is predicted, and the record written again.
        return None
    return cell if cell["sha256"] == digest else None


def _pooled(classes: Sequence[str], cells: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    pixels = np.array([cell["height"] * cell["width"] for cell in cells], np.float64)
    shares = np.array([cell["shares"] for cell in cells], np.float64).reshape(len(cells), len(classes))
    pooled = pixels @ shares / pixels.sum() if len(cells) else np.zeros(len(classes))
    return [
        {"name": name, "share": float(share), "images": int(images)}
        for name, share, images in zip(classes, pooled, (shares > 0).sum(0), strict=True)
    ]


def _target(run: RunFolder, folder: str, name: str) -> Path:
    return run.path / folder / f"{name}.png"


def _key(name: str) -> str:
    # Names of files may hold anything.
    return hashlib.sha256(os.fsencode(name)).hexdigest()[:24]


def _png(pixels: NDArray[np.uint8], colours: NDArray[np.uint8] | None = None) -> bytes:
    from PIL import Image

    image = Image.fromarray(pixels)
    if colours is not None:
        image.putpalette(colours.tobytes())
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def _write_classes(path: Path, classes: Sequence[str]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["value", "name"])
    writer.writerows(enumerate(classes))
    write_atomic(path, text.getvalue().encode())


def _printable(text: str) -> str:
    # Names of files need not be text; records and pages are.
    return text.encode("utf-8", "replace").decode()
