"""Which image goes with which mask: by the name without its suffix."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import NoReturn

from layerlab.errors import UserError
from layerlab.segmentation.images import SUFFIXES

_MOST_TOLD = 10
_LOOKED_AT = 1000  # names of masks, for an ending that they have in common


@dataclass(frozen=True)
class Problem:
    """Something that keeps a file from being used.

    Attributes:
        kind: "unmatched", "unreadable", "size", "values", "lossy" or "name".
        file: which.
        words: what is wrong, and the mend.
    """

    kind: str
    file: str
    words: str

    def __str__(self) -> str:
        return f"{self.file}: {self.words}"


@dataclass(frozen=True)
class Pair:
    """An image and its mask, by the name that they share: relative to their folders, without suffix."""

    name: str
    image: Path
    mask: Path


@dataclass(frozen=True)
class Listing:
    """What the two folders hold.

    Attributes:
        pairs: in the order of their names.
        problems: images without mask, masks without image, names that are there twice.
        others: files that are no pictures by their name, by suffix.
        outside: pictures that are links to somewhere outside their folder.
    """

    pairs: tuple[Pair, ...]
    problems: tuple[Problem, ...]
    others: tuple[tuple[str, int], ...]
    outside: int


@dataclass
class _Folder:
    files: dict[str, Path]
    problems: list[Problem]
    others: Counter[str]
    outside: int = 0


def match(images: str | Path, masks: str | Path, *, mask_suffix: str = "") -> Listing:
    """Pair the pictures of two folders, sub-folders included, by their names.

    Hidden files are left aside. Upper and lower case are different; the two Unicode forms of an accent are not.

    Args:
        images, masks: the folders; one and the same if ``mask_suffix`` tells masks from images.
        mask_suffix: what masks have at the end of their names that images have not: ``_mask`` for ``a_mask.png``.

    Raises:
        UserError: a folder that is not there, cannot be listed, or holds no picture; the same folder twice.
    """
    if Path(images).resolve() == Path(masks).resolve() and not mask_suffix:
        raise UserError(
            "expected a folder of images and another of masks, got the same twice; if masks lie beside images, say "
            "what their names end in: --mask-suffix _mask",
            file=images,
        )
    found, labels = _walk(Path(images)), _walk(Path(masks))
    if mask_suffix:
        labels.files = {
            key.removesuffix(mask_suffix): path
            for key, path in labels.files.items()
            if key.endswith(mask_suffix)
        }
        if Path(images).resolve() == Path(masks).resolve():
            found.files = {key: path for key, path in found.files.items() if not key.endswith(mask_suffix)}
            labels.problems.clear()
    for files, folder in ((found.files, images), (labels.files, masks)):
        if not files:
            raise UserError(f"expected pictures ({', '.join(SUFFIXES[:6])}), found none", file=folder)
    without = sorted(set(found.files) - set(labels.files))
    hint = _hint(without, set(labels.files) - set(found.files)) if not mask_suffix else ""
    problems = [*found.problems, *labels.problems]
    problems += [Problem("unmatched", str(found.files[key]), f"has no mask{hint}") for key in without]
    problems += [
        Problem("unmatched", str(labels.files[key]), "is a mask without image")
        for key in sorted(set(labels.files) - set(found.files))
    ]
    pairs = tuple(
        Pair(key, found.files[key], labels.files[key]) for key in sorted(set(found.files) & set(labels.files))
    )
    others = tuple(sorted((found.others + labels.others).items()))
    return Listing(pairs, tuple(problems), others, found.outside + labels.outside)


def pictures(folder: str | Path) -> dict[str, Path]:
    """The pictures of one folder, sub-folders included, by name without suffix, in the order of their names.

    Raises:
        UserError: the folder is not there, cannot be listed or holds no picture; or two pictures of one name.
    """
    found = _walk(Path(folder))
    if found.problems:
        raise UserError(str(found.problems[0]))
    if not found.files:
        raise UserError(f"expected pictures ({', '.join(SUFFIXES[:6])}), found none", file=folder)
    return dict(sorted(found.files.items()))


def _walk(root: Path) -> _Folder:
    if not root.is_dir():
        what = "is a file" if root.exists() else "is not there"
        raise UserError(f"expected a folder of pictures, but it {what}; check the path", file=root)
    found = _Folder({}, [], Counter())
    true_root = os.path.realpath(root)
    seen: set[str] = set()
    waiting = [(str(root), "")]
    while waiting:
        folder, prefix = waiting.pop()
        # Links may lead in a circle.
        if (true := os.path.realpath(folder)) in seen:
            continue
        seen.add(true)
        try:
            with os.scandir(folder) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            if folder == str(root):
                raise UserError(
                    f"cannot be listed ({error.strerror}); check its permissions", file=root
                ) from error
            found.problems.append(Problem("unreadable", folder, f"cannot be listed ({error.strerror})"))
            continue
        for entry in listed:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                waiting.append((entry.path, f"{prefix}{entry.name}/"))
            else:
                _enter(found, entry, prefix, true_root)
    return found


def _enter(found: _Folder, entry: os.DirEntry[str], prefix: str, true_root: str) -> None:
    suffix = PurePath(entry.name).suffix
    if suffix.lower() not in SUFFIXES:
        found.others[suffix.lower() or "no suffix"] += 1
        return
    if entry.is_symlink() and not os.path.realpath(entry.path).startswith(true_root + os.sep):
        found.outside += 1
    key = unicodedata.normalize("NFC", prefix + entry.name.removesuffix(suffix))
    if key in found.files:
        found.problems.append(
            Problem(
                "name", entry.path, f"has the name of {found.files[key].name} beside it; keep one of them"
            )
        )
    else:
        found.files[key] = Path(entry.path)


def _hint(without: list[str], masks: set[str]) -> str:
    """The ending that would pair most of what is unpaired."""
    if not without or not masks:
        return ""
    images, ends = set(without), Counter[str]()
    for key in sorted(masks)[:_LOOKED_AT]:
        ends.update(key[cut:] for cut in range(1, len(key)) if key[:cut] in images)
    if not ends:
        return ""
    ending = ends.most_common(1)[0][0]
    pairs = sum(key.endswith(ending) and key.removesuffix(ending) in images for key in masks)
    return f"; --mask-suffix {ending} would pair {pairs:,} of them"


def refuse(problems: Sequence[Problem]) -> NoReturn:
    """All problems in one line, or as many as a person reads."""
    told = "; ".join(f"({place}) {problem}" for place, problem in enumerate(problems[:_MOST_TOLD], 1))
    if len(problems) == 1:
        raise UserError(f"{problems[0]}")
    beyond = len(problems) - _MOST_TOLD
    more = f"; and {beyond:,} more" if beyond > 0 else ""
    raise UserError(
        f"expected files that can be used, got {len(problems):,} problems: {told}{more}; `layerlab segment check` "
        "lists them all, --skip leaves such files out",
        # Ten problems, each with a long path.
        longest=6000,
    )
