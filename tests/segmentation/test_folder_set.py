"""A folder of images and masks as a set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from places import Place, mask, picture

from layerlab.errors import UserError
from layerlab.segmentation import scan
from layerlab.segmentation.folder_set import Asked
from layerlab.segmentation.masks import Classes
from layerlab.segmentation.samples import load_samples
from layerlab.segmentation.settings import Settings
from layerlab.segmentation.split import Split


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_set_of_images_of_different_sizes(place: Place) -> None:
    first, second = picture(), picture(3, 2, 1)
    place.put("a", first, mask(0, 255))
    place.put("sub/b", second, mask(255, height=3, width=2))
    found = place.open()
    assert (found.name, found.classes, found.channels) == ("my images", ("background", "foreground"), 3)
    assert (list(found.names), len(found)) == (["a", "sub/b"], 2)
    assert found.sizes.tolist() == [[4, 6], [3, 2]]
    assert found.counts.tolist() == [[12, 12, 0], [0, 6, 0]]
    image, labels = found.read(0)
    np.testing.assert_array_equal(image, first.astype(np.float32) * np.float32(1 / 255))
    assert labels.tolist() == [[0, 1] * 3] * 4
    image, _ = found.read(1)
    np.testing.assert_allclose(image, np.repeat(second[..., None] / 255, 3, axis=2), rtol=1e-6)


def test_grey_images_alone_have_one_channel(place: Place) -> None:
    for name in "ab":
        place.put(name, picture(channels=1), mask(0, 1))
    found = place.open()
    assert found.channels == 1
    assert found.read(0)[0].shape == (4, 6, 1)


def test_the_same_mask_as_grey_and_as_rgb(place: Place) -> None:
    place.put("a", picture(), mask(0, 255))
    place.put("b", picture(), np.repeat(mask(0, 255)[..., None], 3, axis=2))
    found = place.open()
    assert found.classes == ("background", "foreground")
    np.testing.assert_array_equal(found.read(0)[1], found.read(1)[1])


def test_colours_are_classes(place: Place) -> None:
    colours = np.array([[0, 0, 0], [255, 0, 0]], np.uint8)
    for name in "ab":
        place.put(name, picture(), colours[mask(0, 1)])
    found = place.open()
    assert found.classes == ("#000000", "#ff0000")
    assert found.read(0)[1].tolist() == [[0, 1] * 3] * 4


def test_flower_against_the_rest(place: Place) -> None:
    for name in "ab":
        place.put(name, picture(), mask(0, 1, 2, 3, 4, 5))
    found = place.open(Asked(Classes.parse(["flower=1", "rest=2-4"], "0,5")))
    assert found.read(0)[1][0].tolist() == [255, 0, 1, 1, 1, 255]
    assert found.counts.tolist() == [[4, 12, 8]] * 2


def test_ignored_values_are_left_out_of_what_is_inferred(place: Place) -> None:
    for name in "ab":
        place.put(name, picture(), mask(0, 1, 2, 5))
    assert place.open(Asked(ignore="0,5")).classes == ("1", "2")


def test_all_problems_are_told_at_once(place: Place) -> None:
    place.put("alone", picture(), None)
    place.put("orphan", None, mask(0))
    place.put("size", picture(), mask(0, height=6, width=4))
    place.put("cut", picture(), mask(0))
    place.put("jpeg", picture(), mask(0, 255), "jpg")
    place.put("good", picture(), mask(0, 1))
    place.put("good2", picture(), mask(0, 1))
    cut = place.images / "cut.png"
    cut.write_bytes(cut.read_bytes()[:40])
    with pytest.raises(UserError) as caught:
        place.open()
    text = str(caught.value)
    assert "got 5 problems: (1) " in text
    for words in (
        "alone.png: has no mask",
        "orphan.png: is a mask without image",
        "size.png: expected a mask as large as its image, 6 x 4, got 4 x 6",
        "cut.png: expected a picture, but the file is damaged",
        "jpeg.jpg: is a JPEG, which smears",
        "--skip leaves such files out",
    ):
        assert words in text
    assert text.count(str(cut)) == 1
    found = place.open(Asked(skip=True))
    assert list(found.names) == ["good", "good2"]
    assert len(found.left_out) == 5


def test_damage_behind_the_head_is_skipped_too(place: Place) -> None:
    for name in ("good", "good2", "cut"):
        place.put(name, picture(40, 60), mask(0, 255, height=40, width=60))
    cut = place.images / "cut.png"
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    found = place.open(Asked(skip=True))
    assert list(found.names) == ["good", "good2"]
    assert [problem.file for problem in found.left_out] == [str(cut)]


def test_damage_behind_the_head_is_told_with_what_else_is_wrong(place: Place) -> None:
    for name in ("good", "good2", "cut"):
        place.put(name, picture(40, 60), mask(0, 255, height=40, width=60))
    place.put("alone", picture(), None)
    cut = place.images / "cut.png"
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    with pytest.raises(UserError, match="got 2 problems") as caught:
        place.open()
    assert str(cut) in str(caught.value)


def test_many_problems_are_cut_to_what_a_person_reads(place: Place) -> None:
    for number in range(30):
        place.put(str(number), picture(), None)
    place.put("good", picture(), mask(0))
    with pytest.raises(UserError, match=r"got 30 problems.*\(10\).*and 20 more") as caught:
        place.open()
    assert "(11)" not in str(caught.value)


def test_values_without_class_are_told_with_their_share(place: Place) -> None:
    place.put("a", picture(), mask(0, 1, 7))
    place.put("b", picture(), mask(0, 1))
    with pytest.raises(UserError, match=r"a.png: 33 % of it is 7, which is no class"):
        place.open(Asked(Classes.parse(["rest=0", "flower=1"])))


def test_ranges_make_a_jpeg_a_mask(place: Place) -> None:
    for name in "ab":
        place.put(name, picture(), mask(0, 0, 0, 255, 255, 255), "jpg")
    found = place.open(Asked(Classes.parse(["out=0-127", "in=128-255"])))
    assert found.read(0)[1].shape == (4, 6)
    with pytest.raises(UserError, match="2 problems"):
        place.open()


def test_soft_masks_are_refused(place: Place) -> None:
    for name in "ab":
        place.put(
            name,
            picture(40, 40),
            np.clip(np.add.outer(np.arange(-900, 900, 45), range(0, 80, 2)), 0, 255).astype(np.uint8),
        )
    with pytest.raises(UserError, match=r"masks: expected masks of a few values"):
        place.open()


def test_one_image_is_a_set_that_cannot_be_split(place: Place) -> None:
    place.put("a", picture(), mask(0, 1))
    with pytest.raises(UserError, match="at least two images"):
        place.open().parts(0)


def test_images_of_one_pixel(place: Place) -> None:
    for name in "ab":
        place.put(name, picture(1, 1), mask(1, height=1, width=1))
    assert place.open().read(0)[0].shape == (1, 1, 3)


def test_masks_with_other_exif_orientation_than_the_image(place: Place) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    place.put("a", None, mask(0))
    place.images.mkdir()
    Image.fromarray(picture()).save(place.images / "a.jpg", exif=exif)
    with pytest.raises(UserError, match="EXIF orientation turns it"):
        place.open()


def test_no_pair_at_all(place: Place) -> None:
    place.put("a", picture(), None)
    place.put("b", None, mask(0))
    with pytest.raises(UserError, match="2 problems"):
        place.open()
    with pytest.raises(UserError, match="2 problems"):
        place.open(Asked(skip=True))


def test_folders_say_the_split_unless_told_otherwise(place: Place) -> None:
    for name in ("train/a", "train/b", "val/c"):
        place.put(name, picture(), mask(0, 1))
    assert place.open().parts(7).validation == (2,)
    seeds = {place.open(Asked(split=Split())).parts(seed).validation for seed in range(9)}
    assert len(seeds) > 1


def test_a_file_that_is_damaged_later_is_told(place: Place) -> None:
    for name in "ab":
        place.put(name, picture(), mask(0, 1))
    found = place.open()
    place.put("a", picture(), mask(0, 9))
    with pytest.raises(UserError, match=r"a.png: holds 9, which is no class"):
        found.read(0)
    place.put("a", picture(), mask(0, height=2))
    with pytest.raises(UserError, match="expected a mask of"):
        found.read(0)


def test_all_that_is_damaged_later_is_told_when_samples_are_loaded(place: Place) -> None:
    for name in "abcd":
        place.put(name, picture(), mask(0, 1))
    found = place.open()
    settings = Settings(size=4, widths=(4, 8))
    assert [sample.name for sample in load_samples(found, [2, 0, 1], settings)] == ["c", "a", "b"]
    for name in "ac":
        path = place.images / f"{name}.png"
        path.write_bytes(path.read_bytes()[:60])
    told: list[int] = []
    with pytest.raises(UserError, match=r"2 problems: .*a.png.*c.png"):
        load_samples(found, range(4), settings, lambda: told.append(1))
    assert len(told) == 4


def test_progress_ends_at_all_and_order_is_kept(place: Place) -> None:
    told: list[tuple[int, int]] = []
    found = list(
        scan.on_all_cores(
            lambda item: -item, range(1000), progress=lambda *done: told.append(done), workers=3
        )
    )
    assert found == [-item for item in range(1000)]
    assert told[-1] == (1000, 1000)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_images_that_are_there_twice_stay_together_where_that_is_asked_for(place: Place) -> None:
    for name in "abcdefgh":
        place.put(name, picture(20, 20), mask(0, 1, height=20, width=20))
    place.put("b2", np.asarray(Image.open(place.images / "b.png")), mask(0, 1, height=20, width=20))
    split = Split(validation=0.5)
    loose, bound = place.open(Asked(split=split)), place.open(Asked(split=split, no_leak=True))
    assert (loose.bound, bound.bound) == ((), ((1, 2),))
    apart = [
        ({1, 2} & set(found.parts(seed).train)) in ({1}, {2})
        for found in (loose, bound)
        for seed in range(12)
    ]
    assert any(apart[:12])
    assert not any(apart[12:])
