"""`layerlab segment predict` as a shell sees it: tables, JSON, files, and the status after a bad image."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from layerlab.segmentation.digits import Digits
from layerlab.segmentation.runs import train_run
from layerlab.segmentation.settings import Settings

Cli = Callable[..., Any]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = Settings(widths=(4, 6), size=16, epochs=1, batch=3)
    return train_run(Digits(5, 16), settings, out=tmp_path_factory.mktemp("trained") / "run").path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "my photos"
    folder.mkdir()
    for place, name in enumerate(("a", "b [x]")):
        image, _ = Digits(5, 32).read(place)
        Image.fromarray((image * 255).astype(np.uint8)).save(folder / f"{name}.png")
    return folder


def test_a_folder_is_predicted_and_told(cli: Cli, run: Path, images: Path, tmp_path: Path) -> None:
    shown = cli("segment", "predict", run, images, "--out", tmp_path / "out", "--confidence")
    assert shown.status == 0
    assert "2 images: 2 predicted now, 0 done before" in shown.out
    assert "background" in shown.out
    assert "b [x]" in shown.out
    assert "16 x 16" in shown.out
    for kind in ("masks", "overlays", "confidence"):
        assert sorted(path.name for path in (tmp_path / "out" / kind).iterdir()) == ["a.png", "b [x].png"]
    assert f"report: {tmp_path / 'out' / 'report.html'}" in shown.err
    assert "<img" in (tmp_path / "out" / "report.html").read_text()
    again = cli("segment", "predict", run, images, "--out", tmp_path / "out", "--confidence")
    assert "0 predicted now, 2 done before" in again.out


def test_json_is_the_record(cli: Cli, run: Path, images: Path, tmp_path: Path) -> None:
    arguments = ("--out", tmp_path / "out", "--no-overlay", "--scale", 1, "--tile", 16, "--json")
    shown = cli("segment", "predict", run, images, *arguments)
    record = json.loads(shown.out)
    assert shown.status == 0
    assert [image["working"] for image in record["images"]] == [[32, 32], [32, 32]]
    assert sum(entry["share"] for entry in record["classes"]) == pytest.approx(1)
    assert "report" not in record
    assert not (tmp_path / "out" / "overlays").exists()
    config = json.loads((tmp_path / "out" / "run.json").read_text())["config"]
    assert (config["scale"], config["tile"], config["overlap"]) == (1, 16, 0.25)


def test_bad_images_come_last_and_make_the_status_one(
    cli: Cli, run: Path, images: Path, tmp_path: Path
) -> None:
    (images / "aa broken.png").write_bytes(b"no picture")
    shown = cli("segment", "predict", run, images, "--out", tmp_path / "out")
    assert shown.status == 1
    assert "2 images: 2 predicted now" in shown.out
    assert "aa broken.png: expected a PNG" in shown.err
    assert shown.err.splitlines()[-1] == "1 of the images could not be predicted"


def test_refusals_are_one_line(cli: Cli, run: Path, images: Path, tmp_path: Path) -> None:
    for arguments, words in (
        ((tmp_path, images, "--out", tmp_path / "out"), "expected the folder of a run"),
        ((run, tmp_path / "no", "--out", tmp_path / "out"), "is not there"),
        ((run, images, "--out", images / "out"), "outside the images"),
        ((run, images, "--out", tmp_path / "out", "--scale", 0), "expected a scale"),
        ((run, images, "--out", tmp_path / "out", "--tile", 3), "expected a tile"),
    ):
        shown = cli("segment", "predict", *arguments)
        assert shown.status == 2
        assert shown.out == ""
        assert words in shown.err
        assert len(shown.err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()
