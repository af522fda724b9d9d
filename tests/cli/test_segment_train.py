"""`layerlab segment train` as a shell sees it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Cli = Callable[..., Any]
QUICK = ["--widths", "2,4", "--size", 16, "--epochs", 2, "--batch", 4, "--threads", 1]


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Images of several sizes with names that are no plain ASCII, and masks with a band of 255."""
    images, masks = tmp_path / "my photos", tmp_path / "masks"
    images.mkdir()
    masks.mkdir()
    rng = np.random.default_rng(0)
    for number in range(8):
        size = (20 + number, 30)
        mask = np.zeros(size, np.uint8)
        mask[5:15, 5 : 10 + number] = 1
        mask[15] = 255
        image = np.where(mask[..., None] == 1, 200, 60) + rng.integers(0, 20, (*size, 3))
        Image.fromarray(image.astype(np.uint8)).save(images / f"blüte {number}.png")
        Image.fromarray(mask).save(masks / f"blüte {number}.png")
    return images, masks


def test_a_folder_is_trained_measured_and_kept(
    cli: Cli, folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    chosen = [
        "--class",
        "rest=0",
        "--class",
        "flower=1",
        "--ignore",
        "255",
        "--validation",
        0.25,
        "--seed",
        2,
    ]
    shown = cli("segment", "train", *folders, *chosen, *QUICK, "--augment", "overhead")
    assert shown.status == 0, shown.err
    (out,) = (tmp_path / "runs").iterdir()
    meta = json.loads((out / "run.json").read_text(encoding="utf-8"))
    results, config = meta["results"], meta["config"]
    assert config["classes"] == ["rest", "flower"]
    assert len(config["images"]["validation"]) == 2
    assert config["settings"]["augment"] == "overhead"
    assert config["settings"]["widths"] == [2, 4]
    assert config["source"]["masks"] == str(folders[1])
    assert meta["command"].startswith(f"layerlab segment train {shlex.quote(str(folders[0]))} ")
    rows = [
        [cell.strip() for cell in line.split("│")[1:-1]] for line in shown.out.splitlines() if "│" in line
    ]
    measures = results["measures"]["validation"]
    names = ("iou", "iou_per_image", "dice", "boundary_iou")
    assert rows == [
        ["rest", *(f"{measures[name][0]:.3f}" for name in names), "2"],
        ["flower", *(f"{measures[name][1]:.3f}" for name in names), "2"],
        ["mean", *(f"{measures[f'mean_{name}']:.3f}" for name in names), ""],
    ]
    assert "validation" in shown.out
    assert f"layerlab segment predict '{out.relative_to(tmp_path)}' FOLDER --out OUT" in shown.err
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "blüte" in page
    assert "data:image/png;base64," in page


def test_the_built_in_set_needs_no_masks_and_is_not_trained_twice(cli: Cli, tmp_path: Path) -> None:
    command = [
        "segment",
        "train",
        "digits",
        *QUICK,
        "--skips",
        "off",
        "--patience",
        0,
        "--out",
        tmp_path / "run",
    ]
    shown = cli(*command, "--json")
    assert shown.status == 0, shown.err
    record = json.loads(shown.out)
    assert len(record["classes"]) == 11
    assert (record["settings"]["skips"], record["settings"]["patience"]) == ("off", None)
    assert record["settings"]["augment"] == "none"
    assert record["source"]["built_in"] == "digits"
    assert set(record["measures"]) == {"validation", "test"}
    assert json.loads(cli(*command, "--json").out) == record
    other = cli(*command, "--learning-rate", 0.01)
    assert other.status == 2
    assert "another run" in other.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["digits", "--widths", "8,x"], "--widths: expected whole numbers"),
        (["digits", "--widths", "8,0"], "setting widths"),
        (["digits", "--skips", "off,on", "--widths", "2,4,8"], "got 'on'"),
        (["digits", "--skips", "off,off", "--widths", "2,4"], "expected 1 skips for 2 widths"),
        (["digits", "--weights", "heavy"], "--weights: expected numbers"),
        (["digits", "--weights", "1,2"], "expected 11 class weights"),
        (["digits", "--augment", "wild"], "setting augment"),
        (["digits", "--norm", "layer"], "norm"),
        (["photos"], "expected a folder of masks"),
    ],
)
def test_wrong_options_are_refused_before_a_folder_is_made(
    cli: Cli, tmp_path: Path, arguments: list[str], message: str
) -> None:
    shown = cli("segment", "train", *arguments, "--out", tmp_path / "run")
    assert shown.status == 2
    (line,) = shown.err.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert not (tmp_path / "run").exists()


def test_one_image_cannot_be_validated(cli: Cli, folders: tuple[Path, Path], tmp_path: Path) -> None:
    for folder in folders:
        for file in sorted(folder.iterdir())[1:]:
            file.unlink()
    shown = cli("segment", "train", *folders, *QUICK, "--out", tmp_path / "run")
    assert shown.status == 2
    assert "one to train on and one to validate" in shown.err.splitlines()[-1]
    assert not (tmp_path / "run").exists()
