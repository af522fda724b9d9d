"""JSON on disk: strict, atomic, and damage is told in a line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from layerlab.errors import UserError
from layerlab.lab import files
from layerlab.lab.json_files import read_json, write_json


def test_json_round_trip_nulls_what_is_not_finite_and_plains_numpy(tmp_path: Path) -> None:
    value = {
        "a": [1.5, float("nan"), float("-inf")],
        "b": (np.float32("inf"), np.int64(3), np.arange(2)),
        "ü": "∑",
    }
    write_json(tmp_path / "x.json", value)
    assert read_json(tmp_path / "x.json") == {
        "a": [1.5, None, None],
        "b": [None, 3, [0, 1]],
        "ü": "∑",
    }
    assert [file.name for file in tmp_path.iterdir()] == ["x.json"]


@pytest.mark.parametrize("value", [{1: "a"}, {"a": object()}, {"a": {1, 2}}])
def test_what_json_cannot_hold_is_refused_and_the_old_file_stays(tmp_path: Path, value: object) -> None:
    write_json(tmp_path / "x.json", [1])
    with pytest.raises(TypeError):
        write_json(tmp_path / "x.json", value)
    assert read_json(tmp_path / "x.json") == [1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", ":1: expected JSON"),
        (b'{"a": 1,\n "b": }', ":2: expected JSON"),
        (b'{"a": NaN}', "NaN is not JSON"),
        (b"\xff\xfe", "expected JSON"),
        (b"[" * 200_000, "expected JSON"),
        (b"9" * 5000, "expected JSON"),
    ],
)
def test_damaged_json_is_one_line_with_the_file(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read_json(tmp_path / "x.json")
    assert "x.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_in_place_of_the_file_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_json(tmp_path)
    with pytest.raises(UserError, match="cannot be written"):
        write_json(tmp_path, 1)
    with pytest.raises(UserError, match="cannot be written"):
        write_json(tmp_path / "missing" / "x.json", 1)


def test_a_write_that_fails_midway_keeps_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "x.json"
    write_json(target, "old")

    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full_disk)
    with pytest.raises(UserError, match="No space left"):
        write_json(target, "new")
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {"x.json": b'"old"\n'}
