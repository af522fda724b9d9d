"""The data check on a page: findings, masks over their images, classes, values, images there twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from layerlab.errors import UserError
from layerlab.lab.records import RunFolder
from layerlab.lab.report.page import (
    Block,
    Cell,
    Column,
    KeyFigure,
    KeyFigures,
    Page,
    Section,
    Table,
    Text,
    Verdict,
)
from layerlab.lab.report.pictures import Picture, Sheet, picture
from layerlab.lab.report.race import environment_section
from layerlab.lab.report.words import plain
from layerlab.segmentation import palette
from layerlab.segmentation.check import Checked
from layerlab.segmentation.folder_set import FolderSet
from layerlab.segmentation.images import fractions, read_image

Record = Mapping[str, Any]

_MOST_ROWS = 500
_SHEET, _TWINS = 16, 8
_SIDE = 200
_KINDS: dict[str, Verdict] = {"error": "violated", "warning": "measured", "note": "note"}
_WORDS = {"error": "Error", "warning": "Warning", "note": "Note"}


def check_page(run: RunFolder, checked: Checked) -> Page:
    """The page of one check; pictures are read once more, those that are shown."""
    record: Record = run.meta["results"]
    sections = [
        Section("Findings", "findings", _findings(record)),
        Section("Masks over their images", "sheet", _sheet(checked)),
        Section("Classes", "classes", _classes(record)),
        Section("Mask values and sizes", "values", [*_values(record), *_sizes(record)]),
        Section("There twice", "twins", _twins(checked)),
        Section("Files with problems", "problems", _problems(record)),
        environment_section(run.meta),
    ]
    worst = record["findings"][0] if record["findings"] else None
    lead: list[Block] = [KeyFigures(_key_figures(record))]
    if worst is not None:
        lead.append(Text(f"**{_WORDS[worst['severity']]}:** {plain(worst['words'])}."))
    return Page(
        f"The folder {plain(record['name'])}",
        f"{record['usable']:,} images with masks that can be used, of {record['pairs']:,} pairs.",
        lead,
        [section for section in sections if section.blocks],
    )


def _key_figures(record: Record) -> list[KeyFigure]:
    counted = {severity: sum(f["severity"] == severity for f in record["findings"]) for severity in _WORDS}
    told = ", ".join(
        f"{count} {word.lower()}{'' if count == 1 else 's'}"
        for (_, word), count in zip(_WORDS.items(), counted.values(), strict=True)
    )
    classes = [] if record["classes"] is None else list(record["classes"]["classes"])
    parts = record["parts"]
    split = "" if parts is None else ", ".join(f"{count:,} {part}" for part, count in parts.items() if count)
    return [
        KeyFigure(f"{record['usable']:,}", "images", split),
        KeyFigure(
            str(len(classes)),
            "classes",
            plain(", ".join(classes[:4]) + (" ..." if len(classes) > 4 else "")),
        ),
        KeyFigure(f"{100 * record['ignored']:.1f} %", "of the pixels ignored"),
        KeyFigure(str(len(record["findings"])), "findings", told),
    ]


def _findings(record: Record) -> list[Block]:
    rows: list[list[str | Cell]] = [
        [
            Cell(_WORDS[finding["severity"]], float(place), _KINDS[finding["severity"]]),
            plain(finding["words"]),
            plain(", ".join(finding["files"][:6]) + (" ..." if finding["count"] > 6 else "")),
        ]
        for place, finding in enumerate(record["findings"])
    ]
    if not rows:
        return [Text("Nothing was found that would stop or mislead a training.")]
    return [
        Table(
            "What to know before training, the worst first.",
            [Column("", "left"), Column("finding"), Column("files")],
            rows,
        )
    ]


def _sheet(checked: Checked) -> list[Block]:
    found = checked.found
    if found is None:
        return []
    rows = []
    for index, why in _chosen(checked):
        try:
            pixels, mask = found.decode(index)
        except UserError:
            # It was readable a moment ago; the check's own answer stands.
            continue
        image = fractions(pixels)
        counts = found.counts[index]
        labelled = max(int(counts[:-1].sum()), 1)
        shares = ", ".join(
            f"{name} {100 * count / labelled:.0f} %"
            for name, count in zip(found.classes, counts[:-1].tolist(), strict=True)
            if count
        )
        height, width = mask.shape
        name = found.names[index]
        rows.append(
            (
                plain(name),
                [
                    picture(palette.shown(image), f"Image {name}", f"{width} x {height}", largest=_SIDE),
                    picture(
                        palette.overlay(image, mask, found.classes),
                        f"Its mask over it: {shares}",
                        why,
                        largest=_SIDE,
                    ),
                    picture(
                        palette.painted(mask, found.classes),
                        f"The mask of {name}",
                        shares[:80],
                        largest=_SIDE,
                    ),
                ],
            )
        )
    caption = (
        "The masks, drawn over their images. Images that findings name come first; then, for each class, the one with "
        "most of it; then some by chance."
    )
    return [Sheet(caption, ["image", "mask over image", "mask"], rows, _key(found))] if rows else []


def _key(found: FolderSet) -> list[tuple[str, str]]:
    colours = palette.colours(found.classes)
    key = [
        ("#" + bytes(colours[place].tolist()).hex(), name) for place, name in enumerate(found.classes[:24])
    ]
    if found.counts[:, -1].any():
        key.append(("#" + bytes(colours[255].tolist()).hex(), "ignored"))
    return key


def _chosen(checked: Checked) -> list[tuple[int, str]]:
    """Which images are shown, and why."""
    found = checked.found
    if found is None:
        return []
    places = {name: index for index, name in enumerate(found.names)}
    chosen: dict[int, str] = {}
    for finding in checked.findings:
        for name in finding.files[:3] if finding.kind != "twins" else ():
            if name in places and len(chosen) < _SHEET // 2:
                chosen.setdefault(places[name], f"{_WORDS[finding.severity].lower()}: {finding.kind}")
    shares = found.counts[:, :-1] / np.maximum(found.counts[:, :-1].sum(1, keepdims=True), 1)
    for place, name in enumerate(found.classes):
        if shares[:, place].any() and len(chosen) < _SHEET - 4:
            chosen.setdefault(int(shares[:, place].argmax()), f"most of {name}"[:60])
    rng = np.random.default_rng(checked.record["seed"])
    for index in rng.permutation(len(found)).tolist():
        if len(chosen) < _SHEET:
            chosen.setdefault(index, "by chance")
    return list(chosen.items())


def _classes(record: Record) -> list[Block]:
    if not record["shares"]:
        return []
    parts = [part for part in ("all", "train", "validation", "test") if part in record["shares"][0]]
    columns = [Column("class")]
    for part in parts:
        columns += [Column(f"{part}: % of pixels", "right"), Column("in images", "right")]
    rows: list[list[str | Cell]] = []
    for share in record["shares"]:
        row: list[str | Cell] = [plain(share["class"])]
        for part in parts:
            here = share[part]
            row.append(Cell(f"{100 * here['share']:.2f}", here["share"]))
            row.append(Cell(f"{here['images']:,}", here["images"]))
        rows.append(row)
    inferred = record["classes"]["inferred"]
    notes = [
        f"Shares are of the pixels that are not ignored; {100 * record['ignored']:.2f} % of all pixels are."
    ]
    if inferred:
        notes.append(f"The classes were inferred: {inferred}. `--class` and `--ignore` say otherwise.")
    return [Table("The classes, in all images and in the parts of the split.", columns, rows, notes)]


def _values(record: Record) -> list[Block]:
    if not record["values"]:
        return []
    coloured = any("colour" in row for row in record["values"])
    columns = [Column("value", "right"), Column("class"), Column("pixels", "right"), Column("masks", "right")]
    if coloured:
        columns.append(Column("palette"))
    rows = []
    for place, row in enumerate(record["values"]):
        cells: list[str | Cell] = [
            Cell(row["value"], float(place)),
            plain(row["class"] or "–"),
            Cell(f"{row['pixels']:,}", row["pixels"]),
            Cell(f"{row['masks']:,}", row["masks"]),
        ]
        rows.append([*cells, row.get("colour", "")] if coloured else cells)
    return [Table("What the masks hold, and what it is taken for.", columns, rows)]


def _sizes(record: Record) -> list[Block]:
    if not record["sizes"]:
        return []
    rows = [
        [
            Cell(f"{size['width']} x {size['height']}", size["width"] * size["height"]),
            Cell(f"{size['images']:,}", size["images"]),
        ]
        for size in record["sizes"]["common"]
    ]
    beyond = record["sizes"]["different"] - len(rows)
    notes = [f"{beyond:,} further sizes."] if beyond > 0 else []
    return [
        Table(
            "The most frequent sizes, width x height.",
            [Column("size"), Column("images", "right")],
            rows,
            notes,
        )
    ]


def _twins(checked: Checked) -> list[Block]:
    rows = checked.record["twins"]
    found = checked.found
    if not rows or found is None:
        return []
    sheet: list[tuple[str, Sequence[Picture | None]]] = []
    for twin in checked.twins[:_TWINS]:
        names = found.names[twin.first], found.names[twin.second]
        shown = [
            _thumbnail(found.pairs[index].image, found.names[index]) for index in (twin.first, twin.second)
        ]
        sheet.append((plain(" = ".join(names)), shown))
    table = Table(
        "Images that are equal to the pixel (1), or whose 16 x 16 thumbnails correlate by 0.995 and more.",
        [Column("one"), Column("other"), Column("alike", "right"), Column("parts")],
        [
            [
                plain(row["first"]),
                plain(row["second"]),
                Cell(f"{row['alike']:.4f}", row["alike"]),
                " / ".join(part or "–" for part in row["parts"]),
            ]
            for row in rows[:_MOST_ROWS]
        ],
        _cut(len(rows)),
    )
    return [Sheet("Images that are there twice.", ["one", "other"], sheet), table]


def _thumbnail(path: Path, name: str) -> Picture | None:
    try:
        return picture(palette.shown(fractions(read_image(path).pixels)), f"Image {name}", largest=_SIDE)
    except UserError:
        return None


def _problems(record: Record) -> list[Block]:
    rows = [
        [problem["kind"], plain(Path(problem["file"]).name), plain(problem["words"])]
        for problem in record["problems"][:_MOST_ROWS]
    ]
    if not rows:
        return []
    columns = [Column("kind"), Column("file"), Column("what is wrong")]
    return [Table("Files that cannot be used as they are.", columns, rows, _cut(len(record["problems"])))]


def _cut(rows: int) -> list[str]:
    return (
        [f"The first {_MOST_ROWS} of {rows:,}; the run's `run.json` has them all."]
        if rows > _MOST_ROWS
        else []
    )
