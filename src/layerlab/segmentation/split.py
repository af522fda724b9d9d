"""Which images train and which validate: by chance, within groups, by whole groups, or as the folders say."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

from layerlab.errors import UserError
from layerlab.segmentation.dataset import Parts

FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
"""Name of a top folder -> the part that its images are."""

_BLOCKS = re.compile(r"blocks?:([1-9]\d{0,8})")
_NUMBER = re.compile(r"\d+")

_WAYS = ("stratify", "group", "folders")
_FEW = 10


def few_to_validate(parts: Parts) -> str | None:
    """What to say of a validation part of less than ten images; None of a larger one.

    >>> few_to_validate(Parts((0, 1), (2,)))
    'only 1 image to validate on: what is measured there is rough, and which epoch is best is left to chance'
    """
    count = len(parts.validation)
    if count >= _FEW:
        return None
    images = "image" if count == 1 else "images"
    return (
        f"only {count} {images} to validate on: what is measured there is rough, and which epoch is best is left to "
        "chance"
    )


@dataclass(frozen=True)
class Split:
    """How images are split.

    Attributes:
        by: "stratify" (every group gives its share to every part; without groups: all images are one group), "group"
            (a group is never cut: whole groups validate) or "folders" (train/, val/ and test/ at the top).
        groups: how a name tells its group: ``block:80`` (the last number in the name, in blocks of 80), ``folder``, or
            a regular expression, whose first group in brackets (else whole match) it is. Empty: no groups.
        validation, test: shares of the images.

    Raises:
        UserError: another way to split, shares that leave nothing to train on, or groups that names cannot tell.
    """

    by: Literal["stratify", "group", "folders"] = "stratify"
    groups: str = ""
    validation: float = 0.2
    test: float = 0.0

    def __post_init__(self) -> None:
        if self.by not in _WAYS:
            raise UserError(f"expected a split by {', '.join(_WAYS)}, got {self.by!r}")
        if not (0 < self.validation < 1 and 0 <= self.test < 1 and self.validation + self.test < 1):
            raise UserError(
                "expected shares of validation and test that leave something to train on, got "
                f"{self.validation:g} and {self.test:g}"
            )
        if self.by == "group" and not self.groups:
            raise UserError("expected how names tell their group (block:80, folder, or a regular expression)")
        if self.groups and self.groups != "folder" and not _BLOCKS.fullmatch(self.groups):
            _pattern(self.groups)

    def parts(self, names: Sequence[str], seed: int) -> Parts:
        """The split of images with these names.

        Raises:
            UserError: too few images or groups, or names that tell no group.

        >>> Split(groups="block:2").parts(["a1", "a2", "a3", "a4"], seed=0).validation
        (0, 2)
        """
        if self.by == "folders":
            return _by_folders(names)
        if len(names) < 2:
            raise UserError(
                f"expected at least two images, one to train on and one to validate, got {len(names)}"
            )
        members: dict[str, list[int]] = {}
        for index, group in enumerate(self.groups_of(names)):
            members.setdefault(group, []).append(index)
        generator = np.random.default_rng(seed)
        if self.by == "group":
            return self._whole(members, len(names), generator)
        return self._within(members, len(names), generator)

    def groups_of(self, names: Sequence[str]) -> list[str]:
        """The group of every name.

        Raises:
            UserError: names that tell none, with examples.

        >>> Split(groups="block:80").groups_of(["image_0001", "image_0080", "image_0081"])
        ['0', '0', '1']
        """
        found = [(name, tell(name)) for tell in [self._teller(names)] for name in names]
        if missing := [name for name, group in found if group is None]:
            raise UserError(
                f"expected every name to tell its group by {self.groups!r}, but {len(missing):,} do not, such as "
                f"{missing[0]!r}"
            )
        return [group or "" for _, group in found]

    def _teller(self, names: Sequence[str]) -> Callable[[str], str | None]:
        if not self.groups:
            return lambda _: ""
        if self.groups == "folder":
            return lambda name: name.rpartition("/")[0]
        if blocks := _BLOCKS.fullmatch(self.groups):
            size = int(blocks[1])
            numbers = [_number(name) for name in names]
            # Files are numbered from 1, unless there is a file 0.
            first = 0 if 0 in numbers else 1

            def block(name: str) -> str | None:
                number = _number(name)
                return None if number is None else str((number - first) // size)

            return block
        pattern = _pattern(self.groups)

        def match(name: str) -> str | None:
            found = pattern.search(name)
            return None if found is None else found[1] if pattern.groups else found[0]

        return match

    def _within(self, members: dict[str, list[int]], images: int, generator: np.random.Generator) -> Parts:
        validation: list[int] = []
        test: list[int] = []
        for group in sorted(members):
            order = generator.permutation(members[group]).tolist()
            # Each group of two or more is in the validation part, and keeps an image to train on.
            here = min(max(round(self.validation * len(order)), 1), len(order) - 1)
            there = min(round(self.test * len(order)), len(order) - 1 - here)
            validation += order[:here]
            test += order[here : here + there]
        if not validation:
            raise UserError(
                f"expected groups of two images or more by {self.groups!r}, got {len(members):,} groups of one; give "
                "another pattern"
            )
        return _parts(images, validation, test)

    def _whole(self, members: dict[str, list[int]], images: int, generator: np.random.Generator) -> Parts:
        names = sorted(members)
        needed = 2 + (self.test > 0)
        if len(names) < needed:
            raise UserError(
                f"expected at least {needed} groups, so that whole ones can be held out, got {len(names)} by "
                f"{self.groups!r}"
            )
        order = [names[place] for place in generator.permutation(len(names)).tolist()]
        held: list[list[int]] = []
        for share, later in ((self.validation, self.test > 0), (self.test, False)):
            part: list[int] = []
            # As near to the share as whole groups come, and never the last group that another part needs.
            while share and len(order) > 1 + later:
                size = len(members[order[0]])
                if part and abs(len(part) + size - share * images) > abs(len(part) - share * images):
                    break
                part += members[order.pop(0)]
            held.append(part)
        return _parts(images, *held)


def together(parts: Parts, bound: Sequence[Sequence[int]]) -> Parts:
    """The split with every group of ``bound`` in one part: that of its first image.

    Raises:
        UserError: nothing is left to validate on.

    >>> together(Parts((0, 1, 2), (3, 4)), [(1, 3)])
    Parts(train=(0, 1, 2, 3), validation=(4,), test=())
    """
    places = {index: part for part, members in asdict(parts).items() for index in members}
    for first, *others in bound:
        places |= dict.fromkeys(others, places[first])
    found = {
        part: tuple(sorted(index for index in places if places[index] == part)) for part in asdict(parts)
    }
    if parts.validation and not found["validation"]:
        raise UserError(
            "expected images to validate on that are not in the training part too, got none; get others"
        )
    return Parts(**found)


def has_folders(names: Sequence[str]) -> bool:
    """Whether names begin with train/ and val/ (or test/) and with nothing else.

    >>> has_folders(["train/a", "val/b"]), has_folders(["train/a", "b"])
    (True, False)
    """
    tops = {name.partition("/")[0].lower() if "/" in name else "" for name in names}
    return len(tops) > 1 and tops <= set(FOLDERS)


def _by_folders(names: Sequence[str]) -> Parts:
    places: dict[str, list[int]] = {"train": [], "validation": [], "test": []}
    for index, name in enumerate(names):
        top, slash, _ = name.partition("/")
        part = FOLDERS.get(top.lower()) if slash else None
        if part is None:
            raise UserError(f"expected every image in a folder train/, val/ or test/, got {name!r}")
        places[part].append(index)
    if not places["train"] or not places["validation"]:
        raise UserError("expected images in both train/ and val/ to split by folders")
    return Parts(*(tuple(found) for found in places.values()))


def _parts(images: int, validation: list[int], test: list[int]) -> Parts:
    held = {*validation, *test}
    train = tuple(index for index in range(images) if index not in held)
    return Parts(train, tuple(sorted(validation)), tuple(sorted(test)))


def _number(name: str) -> int | None:
    found = _NUMBER.findall(name)
    return int(found[-1]) if found and len(found[-1]) <= 18 else None


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise UserError(
            f"expected block:N, folder, or a regular expression, got {text!r} ({error})"
        ) from error
