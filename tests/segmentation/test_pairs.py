"""Which image goes with which mask."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from layerlab.errors import UserError
from layerlab.segmentation.pairs import match, pictures


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "images", tmp_path / "masks"


def test_pairs_by_name_in_sub_folders_and_any_suffix(places: tuple[Path, Path]) -> None:
    images, masks = places
    touch(images / "b 1.JPG", images / "train" / "ä.tif", images / "v1.2.png")
    touch(masks / "b 1.png", masks / "train" / "ä.png", masks / "v1.2.png")
    touch(images / ".hidden.jpg", images / ".git" / "x.png", images / "Thumbs.db", images / "notes.txt")
    listing = match(images, masks)
    assert [pair.name for pair in listing.pairs] == ["b 1", "train/ä", "v1.2"]
    assert listing.pairs[0].image == images / "b 1.JPG"
    assert listing.pairs[0].mask == masks / "b 1.png"
    assert listing.problems == ()
    assert listing.others == ((".db", 1), (".txt", 1))


def test_both_forms_of_an_accent_are_one_name(places: tuple[Path, Path]) -> None:
    images, masks = places
    touch(
        images / f"{unicodedata.normalize('NFD', 'é')}.jpg",
        masks / f"{unicodedata.normalize('NFC', 'é')}.png",
    )
    assert len(match(images, masks).pairs) == 1


def test_all_that_is_unmatched_is_told_at_once(places: tuple[Path, Path]) -> None:
    images, masks = places
    touch(
        images / "a.jpg",
        images / "a.png",
        images / "b.jpg",
        images / "c.jpg",
        masks / "a.png",
        masks / "d.png",
    )
    listing = match(images, masks)
    assert [pair.name for pair in listing.pairs] == ["a"]
    assert [(problem.kind, Path(problem.file).name) for problem in listing.problems] == [
        ("name", "a.png"),
        ("unmatched", "b.jpg"),
        ("unmatched", "c.jpg"),
        ("unmatched", "d.png"),
    ]


def test_an_ending_of_masks_is_recognised_and_taken(places: tuple[Path, Path]) -> None:
    images, masks = places
    touch(*(images / f"{name}.jpg" for name in "ab"), *(masks / f"{name}_mask.png" for name in "ab"))
    listing = match(images, masks)
    assert len(listing.problems) == 4
    assert "--mask-suffix _mask would pair 2" in str(listing.problems[0])
    assert [pair.name for pair in match(images, masks, mask_suffix="_mask").pairs] == ["a", "b"]


def test_images_and_masks_side_by_side_need_the_ending(tmp_path: Path) -> None:
    touch(tmp_path / "a.jpg", tmp_path / "a_mask.png", tmp_path / "b.jpg")
    with pytest.raises(UserError, match=r"the same twice.*--mask-suffix"):
        match(tmp_path, tmp_path)
    listing = match(tmp_path, tmp_path, mask_suffix="_mask")
    assert [pair.mask.name for pair in listing.pairs] == ["a_mask.png"]
    assert [Path(problem.file).name for problem in listing.problems] == ["b.jpg"]


def test_links_are_followed_counted_and_do_not_lead_in_circles(places: tuple[Path, Path]) -> None:
    images, masks = places
    touch(images.parent / "elsewhere" / "x.jpg", images / "a.jpg", masks / "a.png", masks / "x.png")
    (images / "x.jpg").symlink_to(images.parent / "elsewhere" / "x.jpg")
    (images / "b.jpg").symlink_to(images / "a.jpg")
    (images / "again").symlink_to(images)
    touch(masks / "b.png")
    listing = match(images, masks)
    assert [pair.name for pair in listing.pairs] == ["a", "b", "x"]
    assert listing.outside == 1


def test_folders_that_are_none_are_told(places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    images, masks = places
    touch(images / "a.jpg", masks / "notes.txt")
    with pytest.raises(UserError, match=r"masks: expected pictures .* found none"):
        match(images, masks)
    with pytest.raises(UserError, match="is not there"):
        match(images, masks / "none")
    with pytest.raises(UserError, match="is a file"):
        match(images / "a.jpg", masks)
    with pytest.raises(UserError, match="found none"):
        match(images, images, mask_suffix="_mask")

    def refuse(_: str) -> None:
        raise PermissionError(13, "Permission denied")

    # The superuser, as whom tests may run, may list everything.
    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UserError, match=r"cannot be listed .Permission denied"):
        match(images, masks)


def test_a_sub_folder_that_cannot_be_listed_is_a_problem(
    places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    images, masks = places
    touch(images / "a.jpg", masks / "a.png", images / "closed" / "b.jpg")
    scandir = os.scandir

    def refuse(folder: str) -> object:
        if folder.endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    assert [problem.kind for problem in match(images, masks).problems] == ["unreadable"]


def test_a_hundred_thousand_names_are_paired_in_seconds(
    places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from layerlab.segmentation import pairs

    images, masks = places
    touch(images / "x.png", masks / "x.png")
    walk = pairs._walk

    def walked(root: Path) -> object:
        found = walk(root)
        end = "" if root == images else "_labels"
        found.files = {f"photograph_{number:06d}{end}": root / str(number) for number in range(100_000)}
        return found

    monkeypatch.setattr(pairs, "_walk", walked)
    assert "--mask-suffix _labels would pair 100,000" in match(images, masks).problems[0].words
    assert len(match(images, masks, mask_suffix="_labels").pairs) == 100_000


def test_pictures_of_one_folder(tmp_path: Path) -> None:
    touch(tmp_path / "b.png", tmp_path / "a" / "x.jpg")
    assert list(pictures(tmp_path)) == ["a/x", "b"]
    touch(tmp_path / "b.jpg")
    with pytest.raises(UserError, match="keep one of them"):
        pictures(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="found none"):
        pictures(tmp_path / "empty")
