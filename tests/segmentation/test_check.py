"""What the data check finds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from places import Place, mask, picture

from layerlab.segmentation.check import Checked, check
from layerlab.segmentation.folder_set import Asked
from layerlab.segmentation.masks import Classes
from layerlab.segmentation.split import Split


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def look(place: Place, asked: Asked | None = None, seed: int = 0) -> Checked:
    return check(place.images, place.masks, asked, seed=seed)


def told(checked: Checked, kind: str, severity: str = "warning") -> list[str]:
    return [
        finding.words for finding in checked.findings if (finding.kind, finding.severity) == (kind, severity)
    ]


def fill(place: Place, count: int = 6, *values: int) -> None:
    for number in range(count):
        place.put(f"p{number}", picture(20, 24), mask(*(values or (0, 1)), height=20, width=24))


def test_a_good_folder_has_no_findings(place: Place) -> None:
    fill(place)
    checked = look(place)
    # Nothing but that there is little to validate on.
    assert [(finding.severity, finding.kind) for finding in checked.findings] == [("warning", "split")]
    assert "only 1 image to validate on" in checked.findings[0].words
    record = checked.record
    assert (record["pairs"], record["usable"], record["parts"]) == (
        6,
        6,
        {"train": 5, "validation": 1, "test": 0},
    )
    assert record["shares"][1]["class"] == "1"
    assert record["shares"][1]["train"] == {"pixels": 5 * 240, "share": 0.5, "images": 5}
    assert record["sizes"]["common"] == [{"height": 20, "width": 24, "images": 6}]
    assert record["values"][0] == {"value": "0", "pixels": 6 * 240, "masks": 6, "class": "0"}


def test_everything_wrong_is_told_at_once_and_the_rest_is_looked_at(place: Place) -> None:
    fill(place)
    place.put("alone", picture(), None)
    place.put("size", picture(), mask(0, height=2))
    place.put("cut", picture(20, 20), mask(0, height=20, width=20))
    path = place.images / "cut.png"
    path.write_bytes(path.read_bytes()[:-200])
    checked = look(place)
    assert [finding.severity for finding in checked.findings[:3]] == ["error"] * 3
    assert {finding.kind for finding in checked.findings[:3]} == {"unmatched", "size", "unreadable"}
    assert len(checked.record["problems"]) == 3
    assert checked.record["usable"] == 6
    assert checked.record["shares"][0]["all"]["images"] == 6


def test_findings_stand_the_worst_first(place: Place) -> None:
    fill(place, 5)
    place.put("tiny", picture(3, 3), mask(0, 1, height=3, width=3))
    place.put("alone", picture(), None)
    order = [finding.severity for finding in look(place).findings]
    assert order == ["error", "warning", "warning", "note"]


def test_files_that_cannot_be_read_are_told_by_their_reasons(place: Place) -> None:
    fill(place, 12)
    for name, size in (("p0", 100), ("p1", 200)):
        path = place.images / f"{name}.png"
        path.write_bytes(path.read_bytes()[:-size])
    for name in ("p2", "p3"):
        (place.images / f"{name}.png").write_bytes(b"<html>")
    found = [finding for finding in look(place).findings if finding.kind == "unreadable"]
    assert [(finding.count, finding.files) for finding in found] == [
        (2, ("p0.png", "p1.png")),
        (2, ("p2.png", "p3.png")),
    ]
    assert found[0].words != found[1].words


def test_little_to_validate_on_is_a_warning(place: Place) -> None:
    fill(place, 20)
    assert told(look(place), "split")[0].startswith("only 4 images to validate on")
    assert told(look(place, Asked(split=Split(validation=0.5))), "split") == []


def test_classes_that_never_occur(place: Place) -> None:
    fill(place)
    checked = look(place, Asked(Classes.parse(["a=0", "b=1", "unicorn=7"])))
    assert told(checked, "classes") == ["class 'unicorn' never occurs; it cannot be learnt or measured"]


def test_classes_that_do_not_occur_in_a_part(place: Place) -> None:
    fill(place, 5)
    place.put("val/x", picture(20, 20), mask(0, 2, height=20, width=20))
    for number in range(5):
        for folder, end in ((place.images, "png"), (place.masks, "png")):
            (folder / "train").mkdir(exist_ok=True)
            (folder / f"p{number}.{end}").rename(folder / "train" / f"p{number}.{end}")
    words = told(look(place), "classes")
    assert [sentence.partition(":")[0] for sentence in words] == [
        "class '1' does not occur in the validation part",
        "class '2' does not occur in the train part",
    ]


def test_a_slip_of_the_pen_is_suspicious_unless_it_was_named(place: Place) -> None:
    for number in range(6):
        labels = mask(0, 1, height=200, width=200)
        labels[0, : 2 * (number == 3)] = 5
        place.put(f"p{number}", picture(200, 200), labels)
    checked = look(place)
    assert told(checked, "values") == [
        "mask value 5 occurs in 2 pixels of 1 masks only: if it is a slip, say --ignore 5"
    ]
    assert next(finding.files for finding in checked.findings if finding.kind == "values") == ("p3",)
    assert not told(look(place, Asked(ignore="5")), "values")
    assert not told(look(place, Asked(Classes.parse(["a=0", "b=1", "c=5"]))), "values")


def test_twins_across_the_parts_are_a_leak(place: Place) -> None:
    fill(place, 4)
    first = np.asarray(Image.open(place.images / "p0.png"))
    for name, pixels in (
        ("train/a", first),
        ("val/a", first),
        ("train/b", picture(20, 20)),
        ("val/b", picture(20, 20)),
    ):
        place.put(name, pixels, mask(0, 1, height=20, width=pixels.shape[1]))
    for name in range(4):
        (place.images / f"p{name}.png").unlink()
        (place.masks / f"p{name}.png").unlink()
    checked = look(place)
    assert told(checked, "twins")[0].startswith(
        "1 pairs of images are equal to the pixel and lie in different parts"
    )
    assert not told(checked, "twins", "note")
    assert checked.record["twins"] == [
        {"first": "train/a", "second": "val/a", "alike": 1.0, "parts": ["train", "validation"]}
    ]


def test_no_leak_leaves_twins_in_one_part(place: Place) -> None:
    fill(place, 8)
    place.put("p0x", np.asarray(Image.open(place.images / "p0.png")), mask(0, 1, height=20, width=24))
    split = Split(validation=0.5)
    leaks = [bool(told(look(place, Asked(split=split), seed), "twins")) for seed in range(6)]
    assert any(leaks)
    checked = [look(place, Asked(split=split, no_leak=True), seed) for seed in range(6)]
    assert not any(told(each, "twins") for each in checked)
    assert all(told(each, "twins", "note") for each in checked)


def test_twins_with_other_masks(place: Place) -> None:
    fill(place, 4)
    place.put("p0x", np.asarray(Image.open(place.images / "p0.png")), mask(0, 0, 0, 1, height=20, width=24))
    assert any("masks whose shares differ" in words for words in told(look(place), "twins"))


def test_images_that_hold_little(place: Place) -> None:
    fill(place)
    place.put("flat", np.full((20, 24, 3), 9, np.uint8), mask(0, 1, height=20, width=24))
    place.put("dot", picture(1, 1), mask(1, height=1, width=1))
    words = told(look(place), "images")
    assert words[0].startswith("2 images are of one colour") or words[0].startswith(
        "1 images are of one colour"
    )
    assert words[1].startswith("1 images are less than 16 pixels")


def test_dark_images_of_16_bits(place: Place) -> None:
    rng = np.random.default_rng(0)
    for number in range(4):
        place.put(
            f"p{number}", rng.integers(0, 4096, (20, 24), dtype=np.uint16), mask(0, 1, height=20, width=24)
        )
    assert "of 65,535 only" in told(look(place), "images")[0]


def test_mixed_kinds_alpha_and_sizes_are_noted(place: Place) -> None:
    fill(place)
    place.put("grey", picture(20, 24, 1), mask(0, 1, height=20, width=24))
    place.put("alpha", picture(30, 24, 4), mask(0, 1, height=30, width=24))
    (place.images / "readme.txt").touch()
    checked = look(place)
    words = " ".join(told(checked, "images", "note"))
    assert "7 RGB, 1 grey" in words
    assert "its alpha channel is left out (1 files)" in words
    assert told(checked, "sizes", "note") == ["the images have 2 different sizes; training scales and cuts"]
    assert told(checked, "files", "note") == ["left aside, as no pictures by their name: 1 .txt"]


def test_masks_that_are_ignored_as_a_whole_and_jpegs(place: Place) -> None:
    fill(place)
    place.put("void", picture(20, 24), mask(9, height=20, width=24))
    place.put("soft", picture(20, 24), mask(0, 1, height=20, width=24), "jpg")
    words = told(look(place, Asked(Classes.parse(["a=0", "b=1-8"], "9"))), "masks")
    assert words[0].startswith("1 masks are ignored as a whole")
    assert words[1].startswith("1 masks are JPEGs")


def test_rare_classes_are_noted(place: Place) -> None:
    for number in range(4):
        labels = mask(0, height=20, width=24)
        labels[0, 0] = 1
        place.put(f"p{number}", picture(20, 24), labels)
    assert told(look(place), "classes", "note")[0].startswith("class '1' is 0.21 % of the labelled pixels")


def test_exchanged_folders_are_recognised(place: Place) -> None:
    for number in range(4):
        place.put(f"p{number}", mask(0, 1, height=40, width=40), picture(40, 40))
    checked = look(place)
    assert checked.findings[0].words.endswith("the two folders seem to be exchanged")
    assert checked.found is None


def test_masks_given_as_images(place: Place) -> None:
    for number in range(4):
        place.put(f"p{number}", mask(0, 1, number, height=40, width=40), mask(0, 1, height=40, width=40))
    assert "masks given as images" in told(look(place), "exchanged")[0]


def test_one_image_cannot_be_split(place: Place) -> None:
    fill(place, 1)
    checked = look(place)
    assert "at least two images" in told(checked, "split", "error")[0]
    assert checked.record["parts"] is None


def test_nothing_usable(place: Place) -> None:
    place.put("a", picture(), None)
    place.put("b", None, mask(0))
    checked = look(place)
    assert checked.found is None
    assert checked.record["usable"] == 0
    assert checked.record["shares"] == []


def test_links_out_of_the_folder_are_noted(place: Place) -> None:
    fill(place)
    outside = place.images.parent / "elsewhere.png"
    (place.images / "p0.png").rename(outside)
    (place.images / "p0.png").symlink_to(outside)
    assert told(look(place), "files", "note") == [
        "1 files are links to places outside their folder; they are read from there"
    ]


def test_masks_that_teach_nothing_are_errors(tmp_path: Path) -> None:
    for classes, words in ((None, "'3' alone"), (["a=1", "b=2"], "every pixel of every mask is ignored")):
        place = Place(tmp_path / words[:3].strip("'"))
        for name in ("a", "b", "c"):
            place.put(name, picture(), mask(3))
        asked = Asked() if classes is None else Asked(Classes.parse(classes, "3"))
        told = check(place.images, place.masks, asked).findings
        assert any(found.severity == "error" and words in found.words for found in told)
