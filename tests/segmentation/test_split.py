"""How images are split."""

from __future__ import annotations

from collections import Counter

import pytest

from layerlab.errors import UserError
from layerlab.segmentation.dataset import Parts
from layerlab.segmentation.split import Split, has_folders, together

NAMES = [f"image_{number:04d}" for number in range(1, 241)]


def all_of(parts: object) -> list[int]:
    return sorted([*parts.train, *parts.validation, *parts.test])  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "split",
    [
        Split(validation=0.25, test=0.1),
        Split(groups="block:80", validation=0.25, test=0.1),
        Split("group", "block:20", 0.25, 0.1),
    ],
)
def test_every_image_is_in_one_part_and_seeds_differ(split: Split) -> None:
    first, second = split.parts(NAMES, 0), split.parts(NAMES, 1)
    assert all_of(first) == all_of(second) == list(range(240))
    assert first != second
    assert first == split.parts(NAMES, 0)
    assert (len(first.validation), len(first.test)) == (60, 24 if split.by == "stratify" else 20)


def test_stratify_gives_every_group_its_share() -> None:
    parts = Split(groups="block:80", validation=0.2).parts(NAMES, 3)
    assert Counter(index // 80 for index in parts.validation) == {0: 16, 1: 16, 2: 16}


def test_small_groups_keep_an_image_in_both_parts() -> None:
    names = [f"{species}{number}" for species in "abcdef" for number in (1, 2)] + ["z1"]
    parts = Split(groups="([a-z])", validation=0.2).parts(names, 0)
    assert sorted(names[index][0] for index in parts.validation) == list("abcdef")
    assert {names[index][0] for index in parts.train} == set("abcdefz")


def test_whole_groups_are_held_out() -> None:
    parts = Split("group", "block:20", 0.25, 0.25).parts(NAMES, 0)
    places = [{index // 20 for index in part} for part in (parts.train, parts.validation, parts.test)]
    assert [len(place) for place in places] == [6, 3, 3]
    assert not (places[0] & places[1] or places[0] & places[2] or places[1] & places[2])


def test_two_groups_are_one_each() -> None:
    parts = Split("group", "^(.)", 0.2).parts(["a1", "a2", "a3", "b1"], 0)
    assert {parts.train, parts.validation} == {(0, 1, 2), (3,)}


def test_blocks_count_from_one_unless_there_is_a_zero() -> None:
    blocks = Split(groups="block:2")
    assert blocks.groups_of(["a1", "a2", "a3"]) == ["0", "0", "1"]
    assert blocks.groups_of(["a0", "a1", "a2"]) == ["0", "0", "1"]
    assert blocks.groups_of(["set7/a1", "set7/a2", "set8/a3"]) == ["0", "0", "1"]


def test_groups_by_pattern_and_folder() -> None:
    assert Split(groups=r"_([a-z]+)").groups_of(["1_cat", "2_dog"]) == ["cat", "dog"]
    assert Split(groups=r"[a-z]+").groups_of(["1_cat", "2_dog"]) == ["cat", "dog"]
    assert Split(groups="folder").groups_of(["x/y/1", "x/2", "3"]) == ["x/y", "x", ""]


def test_names_that_tell_no_group_are_told() -> None:
    with pytest.raises(UserError, match=r"1 do not, such as 'none'"):
        Split(groups="block:3").groups_of(["a1", "none"])


def test_folders_say_the_split() -> None:
    names = ["train/a", "train/b", "valid/c", "test/d"]
    parts = Split("folders").parts(names, 0)
    assert (parts.train, parts.validation, parts.test) == ((0, 1), (2,), (3,))
    assert parts == Split("folders").parts(names, 5)
    assert has_folders(names)
    assert not has_folders(["train/a"])
    assert not has_folders(["train", "val"])
    with pytest.raises(UserError, match="got 'e'"):
        Split("folders").parts([*names, "e"], 0)
    with pytest.raises(UserError, match="both train/ and val/"):
        Split("folders").parts(["train/a", "test/b"], 0)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Split(validation=0.0), "leave something to train on"),
        (lambda: Split(validation=0.6, test=0.4), "leave something to train on"),
        (lambda: Split("group"), "how names tell"),
        (lambda: Split(groups="("), "regular expression"),
        (lambda: Split("folder"), "stratify, group, folders, got 'folder'"),  # type: ignore[arg-type]
        (lambda: Split().parts(["a"], 0), "at least two images, .* got 1"),
        (lambda: Split().parts([], 0), "at least two images, .* got 0"),
        (lambda: Split("group", "block:80").parts(NAMES[:80], 0), "at least 2 groups"),
        (lambda: Split("group", "block:80", 0.2, 0.2).parts(NAMES[:160], 0), "at least 3 groups"),
        (lambda: Split(groups="block:1").parts(NAMES, 0), "240 groups of one"),
    ],
)
def test_splits_that_cannot_be_are_told(make: object, words: str) -> None:
    with pytest.raises(UserError, match=words):
        make()  # type: ignore[operator]


def test_what_is_bound_goes_where_its_first_is() -> None:
    parts = Parts((0, 1, 2), (3, 4), (5,))
    assert together(parts, [(0, 3, 5), (2, 1)]) == Parts((0, 1, 2, 3, 5), (4,))
    assert together(parts, []) == parts
    with pytest.raises(UserError, match="to validate on"):
        together(parts, [(0, 3, 4)])
