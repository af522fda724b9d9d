"""What mask values mean."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from layerlab.errors import UserError
from layerlab.segmentation.class_files import read_classes
from layerlab.segmentation.masks import COLOUR, Classes, codes, counted, infer

FLOWERS = np.array([[0, 1, 2, 3, 4, 5]], np.uint8)
RED, BLUE = COLOUR + 0xFF0000, COLOUR + 0x0000FF


def test_flower_against_the_rest() -> None:
    classes = Classes.parse(["rest=2-4", "flower=1"], "0,5")
    assert classes.names == ("rest", "flower")
    assert classes.apply(FLOWERS).tolist() == [[255, 1, 0, 0, 0, 255]]
    assert classes.counts({0: 5, 1: 7, 2: 1, 4: 2}).tolist() == [3, 7, 5]


@pytest.mark.parametrize("ignore", ["", "3"])
def test_a_star_is_every_other_value(ignore: str) -> None:
    classes = Classes.parse(["flower=1", "rest=*"], ignore)
    assert classes.apply(FLOWERS).tolist() == [[1, 0, 1, 255 if ignore else 1, 1, 1]]
    assert Classes.parse(["flower=1"], "*").apply(FLOWERS).tolist() == [[255, 0, 255, 255, 255, 255]]
    assert classes.counts({9: 4}).tolist() == [0, 4, 0]


def test_values_without_a_class_are_told() -> None:
    classes = Classes.parse(["flower=1", "rest=2"], "0")
    with pytest.raises(UserError, match="3, 4, 5, which is no class; name it with --class"):
        classes.apply(FLOWERS)
    assert classes.unknown([0, 1, 9]) == [9]


def test_colours_are_codes_and_greys_are_values() -> None:
    pixels = np.array([[[255, 0, 0], [9, 9, 9], [0, 0, 255]]], np.uint8)
    found = codes(pixels)
    assert found.tolist() == [[RED, 9, BLUE]]
    classes = Classes.parse(["roof=#ff0000", "rest=#090909"], "#0000FF")
    assert classes.apply(found).tolist() == [[0, 1, 255]]
    with pytest.raises(UserError, match="#0000ff, which is no class"):
        Classes.parse(["roof=#ff0000", "rest=9"]).apply(found)
    assert counted(found) == {9: 1, BLUE: 1, RED: 1}
    assert counted(FLOWERS) == dict.fromkeys(range(6), 1)


def test_values_of_16_and_32_bits() -> None:
    assert codes(np.array([[[40_000]]], np.uint16)).tolist() == [[40_000]]
    assert Classes.parse(["a=40000"]).apply(np.array([[40_000]], np.uint16)).tolist() == [[0]]
    assert codes(np.array([[[7]]], np.int32)).tolist() == [[7]]
    for bad in (-1, 65_536):
        with pytest.raises(UserError, match="from 0 to 65,535"):
            codes(np.array([[[bad]]], np.int32))
    with pytest.raises(UserError, match="colours of 8 bits"):
        codes(np.zeros((1, 1, 3), np.uint16))


@pytest.mark.parametrize(
    ("texts", "ignore", "words"),
    [
        (["flower"], "", "NAME=VALUES"),
        (["=1"], "", "NAME=VALUES"),
        (["a=1", "a=2"], "", "'a' twice"),
        (["a=1", "b=1-3"], "", "1 twice"),
        (["a=1"], "1", "1 twice"),
        (["a=x"], "", "got 'x'"),
        (["a="], "", "got ''"),
        (["a=3-1"], "", "smaller first"),
        (["a=70000"], "", "65,535"),
        (["a=*", "b=*"], "", "in one place"),
        (["a=#f00"], "", "got '#f00'"),
    ],
)
def test_bad_classes_are_told(texts: list[str], ignore: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        Classes.parse(texts, ignore)


def test_more_than_255_classes_are_refused() -> None:
    with pytest.raises(UserError, match="1 to 255 classes, got 256"):
        Classes.parse([f"c{value}={value}" for value in range(256)])


@pytest.mark.parametrize(
    ("found", "names", "ignored"),
    [
        ([0, 255], ("background", "foreground"), ()),
        ([0, 1], ("0", "1"), ()),
        ([255], ("255",), ()),
        ([0, 1, 2, 255], ("0", "1", "2"), (255,)),
        ([0, 128, 255], ("0", "128", "255"), ()),
        ([0, RED], ("#000000", "#ff0000"), ()),
    ],
)
def test_classes_are_inferred(found: list[int], names: tuple[str, ...], ignored: tuple[int, ...]) -> None:
    classes = infer(dict.fromkeys(found, 10))
    assert classes.names == names
    assert classes.ignored == ignored
    assert classes.inferred
    assert classes.unknown(found) == []


def test_what_is_ignored_is_not_inferred() -> None:
    classes = infer(dict.fromkeys(range(6), 10), ignore=[0, 5])
    assert classes.names == ("1", "2", "3", "4")
    assert classes.apply(FLOWERS).tolist() == [[255, 0, 1, 2, 3, 255]]
    with pytest.raises(UserError, match="only ignored"):
        infer({0: 9}, ignore=[0])


def test_soft_masks_are_not_taken_for_many_classes() -> None:
    soft = {0: 5000, 255: 4000} | dict.fromkeys(range(5, 250, 10), 4)
    with pytest.raises(UserError, match=r"lossy or soft masks .* background=0-127"):
        infer(soft)
    with pytest.raises(UserError, match="250 different ones"):
        infer(dict.fromkeys(range(250), 4))
    assert len(infer(dict.fromkeys(range(150), 4)).names) == 150


@pytest.mark.parametrize("texts", [["a=1,3-5", "b=#00ff00"], ["a=1", "b=*"]])
def test_a_record_gives_the_same_classes_back(texts: list[str]) -> None:
    for ignore in ("0", "" if "*" in texts[1] else "*"):
        classes = Classes.parse(texts, ignore)
        assert Classes.from_dict(classes.to_dict()) == classes


def test_class_files(tmp_path: Path) -> None:
    wanted = Classes.parse(["flower=1", "rest=2-4"], "0,5")
    (tmp_path / "a.json").write_text('{"classes": {"flower": 1, "rest": [2, "3-4"]}, "ignore": [0, 5]}')
    (tmp_path / "b.json").write_text('{"flower": [1], "rest": "2-4"}')
    (tmp_path / "c.csv").write_text(
        "value,name\n1,flower\n2,rest\n3,rest\n4,rest\n\n0,ignore\n5,ignore\n", encoding="utf-8-sig"
    )
    assert read_classes(tmp_path / "a.json") == wanted
    assert read_classes(tmp_path / "b.json", "0,5") == wanted
    assert read_classes(tmp_path / "c.csv") == wanted


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.json", "[1]", "expected"),
        ("a.json", '{"a": [true]}', "got True"),
        ("a.json", '{"a": [1], "b": [1]}', "a.json: .*1 twice"),
        ("a.json", '{"classes": [1]}', "expected"),
        ("a.json", "{", "damaged"),
        ("a.csv", "x,y\n1,2\n", "a.csv:1: expected the heading"),
        ("a.csv", "\n\nx,y\n1,2\n", "a.csv:3: expected the heading"),
        ("a.csv", "value,name\n1\n", "a.csv:2: expected 2 cells"),
        ("a.csv", "value,name\n1,\n", "a.csv:2: expected a name"),
        ("a.csv", "r,g,b,name\n1,2,300,x\n", "a.csv:2: expected r, g and b"),
        pytest.param(
            "a.csv", f"r,g,b,name\n1,2,{'7' * 5000},x\n", "a.csv:2: expected r, g and b", id="many digits"
        ),
        pytest.param(
            "a.csv", "value,name\n0,a\n" + "1,b\n" * 2**18, "at most 1,048,576 bytes", id="more than is read"
        ),
        ("a.csv", "value,name\n", "a row for every class"),
        ("a.txt", "", "rename"),
    ],
)
def test_bad_class_files_are_told(tmp_path: Path, name: str, text: str, words: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=words):
        read_classes(tmp_path / name)


def test_class_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_classes(tmp_path / "none.csv")
    (tmp_path / "a.csv").write_bytes(b"value,name\n1,\xff\n")
    with pytest.raises(UserError, match="UTF-8"):
        read_classes(tmp_path / "a.csv")
