"""What a person should know of a folder before training: sentences from what was found in its files."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from layerlab.segmentation import masks
from layerlab.segmentation.dataset import Parts
from layerlab.segmentation.duplicates import Twins
from layerlab.segmentation.folder_set import FolderSet
from layerlab.segmentation.pairs import Listing, Problem
from layerlab.segmentation.scan import Look
from layerlab.segmentation.split import few_to_validate

SEVERITIES = ("error", "warning", "note")
_NAMED = 20
_FEW_LEVELS = 16
_TINY = 16
_RARE_PIXELS, _RARE_MASKS = 1e-4, 0.01
_RARE_CLASS = 0.01


@dataclass(frozen=True)
class Finding:
    """Something to know.

    Attributes:
        severity: "error" (training refuses), "warning" (its result may mislead) or "note".
        kind: what it is about, in a word.
        words: the finding in a sentence.
        count: of files.
        files: some of them by name.
    """

    severity: Literal["error", "warning", "note"]
    kind: str
    words: str
    count: int = 0
    files: tuple[str, ...] = ()


def _finding(
    severity: Literal["error", "warning", "note"], kind: str, words: str, files: Iterable[str] = ()
) -> Finding:
    every = tuple(files)
    return Finding(severity, kind, words, len(every), every[:_NAMED])


def of_problems(problems: Sequence[Problem]) -> list[Finding]:
    """One finding a kind of problem, of unreadable files one a reason, with the sentence of the first."""
    kinds: dict[tuple[str, str], list[Problem]] = {}
    for problem in problems:
        # Numbers are a file's own: sizes, places, counts of bytes.
        reason = re.sub(r"\d+", "0", problem.words) if problem.kind == "unreadable" else ""
        kinds.setdefault((problem.kind, reason), []).append(problem)
    found = []
    for (kind, _), members in kinds.items():
        first = (
            f"{Path(members[0].file).name} {members[0].words}"
            if kind == "unmatched"
            else str(members[0].words)
        )
        more = "" if len(members) == 1 else f" ({len(members):,} files; the first one's reason)"
        found.append(
            _finding("error", kind, f"{first}{more}", [Path(problem.file).name for problem in members])
        )
    return found


def of_exchanged(looks: Sequence[Look]) -> list[Finding]:
    """Images that look like masks, and masks that look like photographs."""
    levels = [look.content.values for look in looks if look.content is not None]
    values = [len(look.counted) for look in looks if look.counted]
    if not levels or not values or np.median(levels) > _FEW_LEVELS:
        return []
    if np.median(values) > 4 * _FEW_LEVELS:
        words = "the images hold few values and the masks many: the two folders seem to be exchanged"
        return [Finding("error", "exchanged", words)]
    words = f"most images hold at most {_FEW_LEVELS} grey levels: is this a folder of masks given as images?"
    return [Finding("warning", "exchanged", words)]


def of_classes(found: FolderSet, parts: Parts | None) -> list[Finding]:
    """Classes that are rare, or never there, as a whole or in a part."""
    findings = []
    total = found.counts[:, :-1].sum(0)
    if len(found.classes) < 2:
        words = f"the masks hold {found.classes[0]!r} alone: nothing is to be told apart"
        findings.append(Finding("error", "classes", words))
    if not total.any():
        findings.append(
            Finding("error", "classes", "every pixel of every mask is ignored: nothing can be learnt")
        )
    for place, name in enumerate(found.classes):
        if not total[place]:
            findings.append(
                Finding("warning", "classes", f"class {name!r} never occurs; it cannot be learnt or measured")
            )
            continue
        for part in () if parts is None else ("train", "validation", "test"):
            indices = list(getattr(parts, part))
            if indices and not found.counts[indices, place].any():
                loss = "it is not learnt" if part == "train" else "it is not measured"
                words = f"class {name!r} does not occur in the {part} part: {loss}; split by --stratify or another seed"
                findings.append(Finding("warning", "classes", words))
        if total[place] < _RARE_CLASS * total.sum():
            share = 100 * total[place] / total.sum()
            words = f"class {name!r} is {share:.2g} % of the labelled pixels; consider class weights"
            findings.append(Finding("note", "classes", words))
    return findings


def of_split(parts: Parts | None) -> list[Finding]:
    """A validation part that is too small to trust what is measured on it."""
    words = None if parts is None else few_to_validate(parts)
    return [] if words is None else [Finding("warning", "split", words)]


def of_values(looks: Sequence[Look], found: FolderSet, *, told: bool) -> list[Finding]:
    """Values in so few pixels and masks that they may be a slip of the pen; those that the user named are meant."""
    if told:
        return []
    total = sum(sum(look.counted.values()) for look in looks)
    findings = []
    for code, (pixels, where) in by_code(looks).items():
        if code in found.mapping.ignored or pixels > _RARE_PIXELS * total:
            continue
        if len(where) <= max(1, _RARE_MASKS * len(looks)) and len(where) < len(looks):
            words = (
                f"mask value {masks.shown(code)} occurs in {pixels:,} pixels of {len(where):,} masks only: if it is a "
                f"slip, say --ignore {masks.shown(code)}"
            )
            findings.append(_finding("warning", "values", words, where))
    return findings


def of_masks(found: FolderSet, looks: Sequence[Look]) -> list[Finding]:
    findings = []
    names = found.names
    if empty := [names[place] for place in np.flatnonzero(~found.counts[:, :-1].any(1)).tolist()]:
        words = f"{len(empty):,} masks are ignored as a whole: nothing is learnt from their images"
        findings.append(_finding("warning", "masks", words, empty))
    if lossy := [look.pair.name for look in looks if look.mask is not None and look.mask.format == "JPEG"]:
        words = f"{len(lossy):,} masks are JPEGs, whose edges are smeared; export them as PNG if you can"
        findings.append(_finding("warning", "masks", words, lossy))
    return findings


def of_twins(
    found: FolderSet, looks: Sequence[Look], alike: Sequence[Twins], parts: Parts | None
) -> list[Finding]:
    findings = []
    names = found.names
    place_of = part_of(parts)
    across = [twin for twin in alike if place_of.get(twin.first) != place_of.get(twin.second)]
    for exact, how in ((True, "equal to the pixel"), (False, "nearly equal")):
        leaks = [f"{names[twin.first]} = {names[twin.second]}" for twin in across if twin.exact == exact]
        if leaks and parts is not None:
            words = (
                f"{len(leaks):,} pairs of images are {how} and lie in different parts: what is measured on them "
                "was seen in training; --no-leak keeps them together"
            )
            findings.append(_finding("warning", "twins", words, leaks))
    within = len(alike) - (len(across) if parts is not None else 0)
    if within:
        findings.append(
            Finding("note", "twins", f"{within:,} pairs of equal or nearly equal images lie in one part")
        )
    shares = found.counts / np.maximum(found.counts.sum(1, keepdims=True), 1)
    other = [
        f"{names[twin.first]} = {names[twin.second]}"
        for twin in alike
        if np.abs(shares[twin.first] - shares[twin.second]).sum() > 0.02
    ]
    if other:
        words = f"{len(other):,} pairs of equal or nearly equal images have masks whose shares differ by more than 1 %"
        findings.append(_finding("warning", "twins", words, other))
    return findings


def of_pictures(looks: Sequence[Look]) -> list[Finding]:
    findings = []
    named = [(look.pair.name, look.image, look.content) for look in looks if look.image and look.content]
    if flat := [name for name, _, content in named if content.low == content.high]:
        words = f"{len(flat):,} images are of one colour throughout"
        findings.append(_finding("warning", "images", words, flat))
    if tiny := [name for name, header, _ in named if min(header.height, header.width) < _TINY]:
        words = f"{len(tiny):,} images are less than {_TINY} pixels wide or high: there is little to segment"
        findings.append(_finding("warning", "images", words, tiny))
    deep = [(name, content) for name, header, content in named if header.bits == 16]
    if deep and (most := max(content.high for _, content in deep)) < 2**14:
        words = f"the images of 16 bits reach {most:,} of 65,535 only and are read as dark ones; stretch them first"
        findings.append(_finding("warning", "images", words, [name for name, _ in deep]))
    for what, values in (
        (
            "grey and RGB images",
            Counter("grey" if header.kind == "grey" else "RGB" for _, header, _ in named),
        ),
        ("images of 8 and 16 bits", Counter(f"of {header.bits} bits" for _, header, _ in named)),
    ):
        if len(values) > 1:
            counts = ", ".join(f"{count:,} {value}" for value, count in values.most_common())
            findings.append(Finding("note", "images", f"{what} are mixed: {counts}"))
    for note, count in Counter(note for look in looks for note in look.notes).most_common():
        findings.append(Finding("note", "images", f"{note} ({count:,} files)", count))
    return findings


def of_files(listing: Listing, looks: Sequence[Look]) -> list[Finding]:
    findings = []
    sizes = {(look.image.height, look.image.width) for look in looks if look.image is not None}
    if len(sizes) > 1:
        findings.append(
            Finding(
                "note", "sizes", f"the images have {len(sizes):,} different sizes; training scales and cuts"
            )
        )
    if listing.others:
        kinds = ", ".join(f"{count:,} {suffix}" for suffix, count in listing.others[:8])
        findings.append(Finding("note", "files", f"left aside, as no pictures by their name: {kinds}"))
    if listing.outside:
        words = (
            f"{listing.outside:,} files are links to places outside their folder; they are read from there"
        )
        findings.append(Finding("note", "files", words, listing.outside))
    return findings


def part_of(parts: Parts | None) -> dict[int, str]:
    return (
        {} if parts is None else {index: part for part, members in asdict(parts).items() for index in members}
    )


def by_code(looks: Sequence[Look]) -> dict[int, tuple[int, list[str]]]:
    """Every code, its pixels, and the names of the masks in which it occurs."""
    found: dict[int, tuple[int, list[str]]] = {}
    for look in looks:
        for code, pixels in look.counted.items():
            before, names = found.get(code, (0, []))
            names.append(look.pair.name)
            found[code] = (before + pixels, names)
    return dict(sorted(found.items()))
