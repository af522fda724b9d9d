"""The page of a prediction: overlays to judge, those first of which the network is least sure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from layerlab.lab.records import RunFolder
from layerlab.lab.report.page import (
    Block,
    Callout,
    Cell,
    Column,
    KeyFigure,
    KeyFigures,
    Page,
    Section,
    Table,
    Text,
)
from layerlab.lab.report.pictures import Picture, Sheet, picture
from layerlab.lab.report.race import environment_section

SHOWN = 24
"""Images on the sheet."""

_LISTED = 1000  # rows of a table
_DECODED = 2**26  # pixels of a confidence map; overlays are small
_WIDE = 640  # pixels of a picture's longer side


def prediction_page(run: RunFolder) -> Page:
    """The page of a run of `layerlab.segmentation.prediction.folder.predict_folder`."""
    results = run.meta["results"]
    images, failed = unsure_first(results["images"]), results["failed"]
    lead: list[Block] = [
        KeyFigures(
            [
                KeyFigure(f"{len(images):,}", "images predicted"),
                KeyFigure(f"{len(failed):,}", "could not be read"),
                *([KeyFigure(f"{100 * images[0]['confidence']:.1f} %", "least sure")] if images else []),
            ]
        ),
        Text(
            "The confidence of an image is the mean over its pixels of the probability of the class that was taken. "
            "It orders the images below; how often such a probability is right, the training run's report tells."
        ),
    ]
    if failed:
        lead.append(Callout("note", f"{len(failed):,} of the files could not be predicted; see the end."))
    sections = [Section("Classes", "classes", [_classes(results["classes"], len(images))])]
    rows = [row for image in images[:SHOWN] if (row := _row(run, image)) is not None]
    if rows:
        caption = "Masks over their images, the least confident first."
        sheet = Sheet(caption, ["image with mask", "confidence, white is sure"], rows)
        if all(pictures[1] is None for _, pictures in rows):
            sheet = Sheet(caption, ["image with mask"], [(name, pictures[:1]) for name, pictures in rows])
        sections.insert(0, Section("Overlays", "overlays", [sheet]))
    sections.append(Section("Images", "images", [_images(images)]))
    if failed:
        table = Table(
            "What could not be predicted",
            [Column("image"), Column("why")],
            [[entry["name"], entry["problem"]] for entry in failed[:_LISTED]],
        )
        sections.append(Section("Failures", "failures", [table]))
    sections.append(environment_section(run.meta))
    return Page("Predicted masks", f"By {results['model']}.", lead, sections)


def unsure_first(images: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The images in the order in which a person should look at them."""
    return sorted(images, key=lambda image: image["confidence"])


def _row(run: RunFolder, image: Mapping[str, Any]) -> tuple[str, list[Picture | None]] | None:
    overlay = _picture(run.path / "overlays" / f"{image['name']}.png", f"{image['name']} with its mask")
    if overlay is None:
        return None
    confidence = None
    if image["height"] * image["width"] <= _DECODED:
        confidence = _picture(
            run.path / "confidence" / f"{image['name']}.png", f"confidence in {image['name']}"
        )
    return f"{image['name']}, {100 * image['confidence']:.1f} %", [overlay, confidence]


def _picture(path: Path, alt: str) -> Picture | None:
    """A picture that we wrote, unless it was not asked for (or somebody took it away since)."""
    from PIL import Image

    try:
        with Image.open(path) as stored:
            stored.thumbnail((_WIDE, _WIDE))
            return picture(np.asarray(stored), alt, largest=_WIDE)
    except OSError:
        return None


def _classes(classes: Sequence[Mapping[str, Any]], images: int) -> Table:
    rows = [
        [
            entry["name"],
            Cell(f"{100 * entry['share']:.2f} %", entry["share"]),
            Cell(f"{entry['images']:,} of {images:,}", entry["images"]),
        ]
        for entry in classes
    ]
    return Table(
        "How much of the pixels each class takes, and in how many images it occurs",
        [Column("class"), Column("of all pixels", "right"), Column("images", "right")],
        rows,
    )


def _images(images: Sequence[Mapping[str, Any]]) -> Table:
    rows = [
        [
            image["name"],
            Cell(f"{100 * image['confidence']:.1f} %", image["confidence"]),
            Cell(f"{image['width']:,} x {image['height']:,}", image["width"] * image["height"]),
            Cell(
                f"{image['working'][1]:,} x {image['working'][0]:,}",
                image["working"][0] * image["working"][1],
            ),
            "; ".join(image["notes"]),
        ]
        for image in images[:_LISTED]
    ]
    notes = [f"The first {_LISTED:,} of {len(images):,}."] if len(images) > _LISTED else []
    columns = [
        Column("image"),
        Column("confidence", "right"),
        Column("pixels", "right"),
        Column("seen at", "right"),
        Column("notes"),
    ]
    return Table("Every image", columns, rows, notes)
