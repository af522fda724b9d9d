"""The data check: everything read once, and what a person should know of it before training, the worst first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from layerlab.errors import UserError
from layerlab.segmentation import findings
from layerlab.segmentation.dataset import Parts
from layerlab.segmentation.duplicates import Twins, twins
from layerlab.segmentation.findings import Finding, by_code, part_of
from layerlab.segmentation.folder_set import Asked, FolderSet, assemble, understood
from layerlab.segmentation.masks import shown
from layerlab.segmentation.pairs import match
from layerlab.segmentation.scan import Look, Progress, look_all

_MOST_VALUES = 64


@dataclass(frozen=True, eq=False)
class Checked:
    """A checked folder.

    Attributes:
        record: all that was found, for JSON and for the page.
        found: the set of what can be used, or None where nothing can.
        looks: of the pairs of ``found``, in its order.
        twins: equal and nearly equal images of ``found``.
        findings: the worst first.
        parts: the split whose leaks were looked for, or None where there can be none.
    """

    record: dict[str, Any]
    found: FolderSet | None
    looks: tuple[Look, ...]
    twins: tuple[Twins, ...]
    findings: tuple[Finding, ...]
    parts: Parts | None


def check(
    images: str | Path,
    masks: str | Path,
    asked: Asked | None = None,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> Checked:
    """Read all images and masks once and tell what is there, what is wrong, and what looks wrong.

    Args:
        images, masks: the folders.
        asked: as for `layerlab.segmentation.folder_set.folder`; nothing is refused, whatever ``skip`` says.
        seed: of the split whose leaks are looked for.
        progress: called with how many pairs are done, of how many.

    Raises:
        UserError: a folder that is not there or holds no picture.
    """
    asked = asked or Asked()
    listing = match(images, masks, mask_suffix=asked.mask_suffix)
    looks = look_all(listing.pairs, decode=True, progress=progress)
    mapping, problems = understood(listing, looks, asked)
    bad = {problem.file for problem in problems}
    good = [look for look in looks if not {str(look.pair.image), str(look.pair.mask)} & bad]
    told = [*findings.of_exchanged(looks), *findings.of_problems(problems)]
    found = None
    if mapping is not None and good:
        wish = Asked(mapping, "", asked.split, asked.mask_suffix, skip=True, no_leak=asked.no_leak)
        found = assemble(Path(images), listing, looks, wish)
    parts = None
    if found is not None:
        try:
            parts = found.parts(seed)
        except UserError as error:
            told.append(Finding("error", "split", str(error)))
    alike = tuple(twins([look.content for look in good]))
    if found is not None:
        told += findings.of_split(parts)
        told += findings.of_classes(found, parts)
        told += findings.of_values(good, found, told=asked.classes is not None)
        told += findings.of_twins(found, good, alike, parts)
        told += [*findings.of_pictures(good), *findings.of_masks(found, good)]
    told += findings.of_files(listing, good)
    told.sort(key=lambda finding: findings.SEVERITIES.index(finding.severity))
    record = {
        "name": Path(images).resolve().name,
        "pairs": len(listing.pairs),
        "usable": len(good),
        "classes": None if mapping is None else mapping.to_dict(),
        "shares": [] if found is None else _shares(found, parts),
        "ignored": 0.0 if found is None else _ignored(found),
        "values": _value_table(good, found),
        "sizes": _sizes(good),
        "parts": None if parts is None else {name: len(part) for name, part in asdict(parts).items()},
        "seed": seed,
        "twins": [] if found is None else _twin_table(found, alike, parts),
        "findings": [asdict(finding) for finding in told],
        "problems": [asdict(problem) for problem in problems],
    }
    return Checked(record, found, tuple(good), alike, tuple(told), parts)


def _shares(found: FolderSet, parts: Parts | None) -> list[dict[str, Any]]:
    """A row a class: its share of the labelled pixels and the images it occurs in, as a whole and by parts."""
    rows = []
    places: dict[str, list[int]] = {"all": list(range(len(found)))}
    if parts is not None:
        places |= {part: list(members) for part, members in asdict(parts).items() if members}
    for place, name in enumerate(found.classes):
        row: dict[str, Any] = {"class": name}
        for part, indices in places.items():
            counts = found.counts[indices]
            labelled = int(counts[:, :-1].sum())
            row[part] = {
                "pixels": int(counts[:, place].sum()),
                "share": float(counts[:, place].sum() / labelled) if labelled else 0.0,
                "images": int(np.count_nonzero(counts[:, place])),
            }
        rows.append(row)
    return rows


def _ignored(found: FolderSet) -> float:
    return float(found.counts[:, -1].sum() / max(int(found.counts.sum()), 1))


def _value_table(looks: Sequence[Look], found: FolderSet | None) -> list[dict[str, Any]]:
    palette = next((look.palette for look in looks if look.palette is not None), None)
    rows = []
    for code, (pixels, names) in list(by_code(looks).items())[:_MOST_VALUES]:
        row: dict[str, Any] = {"value": shown(code), "pixels": pixels, "masks": len(names)}
        row["class"] = None if found is None else found.mapping.name_of(code)
        if palette is not None and code < len(palette):
            row["colour"] = "#" + bytes(palette[code].tolist()).hex()
        rows.append(row)
    return rows


def _sizes(looks: Sequence[Look]) -> dict[str, Any]:
    sizes = Counter((look.image.height, look.image.width) for look in looks if look.image is not None)
    if not sizes:
        return {}
    return {
        "different": len(sizes),
        "smallest": min(sizes, key=_area),
        "largest": max(sizes, key=_area),
        "common": [
            {"height": height, "width": width, "images": count}
            for (height, width), count in sizes.most_common(10)
        ],
    }


def _area(size: tuple[int, int]) -> tuple[int, int]:
    return size[0] * size[1], size[0]


def _twin_table(found: FolderSet, alike: Sequence[Twins], parts: Parts | None) -> list[dict[str, Any]]:
    names, place_of = found.names, part_of(parts)
    return [
        {
            "first": names[twin.first],
            "second": names[twin.second],
            "alike": twin.alike,
            "parts": [place_of.get(twin.first), place_of.get(twin.second)],
        }
        for twin in alike
    ]
