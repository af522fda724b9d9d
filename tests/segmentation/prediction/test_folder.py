"""A folder of images: what is written, what is not done again, what happens to bad files and on a full disk."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from layerlab.errors import UserError
from layerlab.lab import files
from layerlab.lab.records import RunFolder
from layerlab.segmentation.class_files import read_classes
from layerlab.segmentation.prediction import folder as module
from layerlab.segmentation.prediction.folder import Outputs, predict_folder
from layerlab.segmentation.prediction.page import prediction_page
from layerlab.segmentation.prediction.predictor import Predictor
from layerlab.segmentation.runs import Trained


def _save(path: Path, height: int = 20, width: int = 30, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    _save(tmp_path / "photos" / "a.png", 20, 30, 1)
    _save(tmp_path / "photos" / "sub" / "ein Bäum 木.png", 16, 16, 2)
    _save(tmp_path / "photos" / "z.jpg", 33, 21, 3)
    return tmp_path / "photos"


@pytest.fixture
def predictor(trained: Trained) -> Predictor:
    return Predictor(trained)


def _files(run: RunFolder) -> dict[str, int]:
    return {
        str(path.relative_to(run.path)): path.stat().st_mtime_ns
        for path in sorted(run.path.rglob("*"))
        if path.is_file()
    }


def test_masks_overlays_and_classes_are_written(predictor: Predictor, images: Path, tmp_path: Path) -> None:
    run = predict_folder(predictor, images, tmp_path / "out")
    names = ["a", "sub/ein Bäum 木", "z"]
    assert [image["name"] for image in run.meta["results"]["images"]] == names
    for name in names:
        with Image.open(tmp_path / "out" / "masks" / f"{name}.png") as mask:
            assert mask.mode == "P"
            indices = np.asarray(mask)
        assert (tmp_path / "out" / "overlays" / f"{name}.png").is_file()
        source = images / (f"{name}.jpg" if name == "z" else f"{name}.png")
        with Image.open(source) as image:
            assert np.array_equal(indices, predictor(np.asarray(image)).mask)
    assert not (tmp_path / "out" / "confidence").exists()
    assert list(read_classes(tmp_path / "out" / "classes.csv").to_dict()["classes"]) == list(
        predictor.trained.classes
    )


def test_shares_are_pooled_over_pixels(predictor: Predictor, images: Path, tmp_path: Path) -> None:
    results = predict_folder(predictor, images, tmp_path / "out").meta["results"]
    masks = []
    for image in results["images"]:
        with Image.open(tmp_path / "out" / "masks" / f"{image['name']}.png") as mask:
            masks.append(np.asarray(mask).ravel())
    pooled = np.bincount(np.concatenate(masks), minlength=11) / sum(map(len, masks))
    assert [entry["share"] for entry in results["classes"]] == pytest.approx(pooled.tolist())
    occurs = [sum(k in mask for mask in masks) for k in range(11)]
    assert [entry["images"] for entry in results["classes"]] == occurs


def test_confidence_maps_on_request(predictor: Predictor, images: Path, tmp_path: Path) -> None:
    run = predict_folder(predictor, images, tmp_path / "out", outputs=Outputs(overlay=False, confidence=True))
    with Image.open(run.path / "confidence" / "a.png") as stored, Image.open(images / "a.png") as image:
        assert np.array_equal(np.asarray(stored), predictor(np.asarray(image)).confidence)
    assert not (run.path / "overlays").exists()


def test_what_is_done_is_not_done_again(predictor: Predictor, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = _files(predict_folder(predictor, images, out))
    _save(images / "new.png")
    _save(images / "a.png", seed=9)
    (out / "masks" / "z.png").unlink()
    os.utime(images / "sub" / "ein Bäum 木.png", (1, 1))
    run = predict_folder(predictor, images, out)
    changed = {name for name, when in _files(run).items() if first.get(name) != when}
    pictures = {name for name in changed if name.startswith("masks")}
    assert pictures == {"masks/a.png", "masks/new.png", "masks/z.png"}
    assert (run.meta["results"]["kept"], run.meta["results"]["predicted"]) == (1, 3)
    assert len(run.meta["results"]["images"]) == 4


def test_a_further_output_is_added_and_force_does_all_again(
    predictor: Predictor, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    predict_folder(predictor, images, out)
    with_maps = Outputs(confidence=True)
    assert predict_folder(predictor, images, out, outputs=with_maps).meta["results"]["kept"] == 0
    assert predict_folder(predictor, images, out).meta["results"]["kept"] == 3
    assert predict_folder(predictor, images, out, force=True).meta["results"]["kept"] == 0


def test_a_damaged_record_is_made_again(predictor: Predictor, images: Path, tmp_path: Path) -> None:
    run = predict_folder(predictor, images, tmp_path / "out")
    first, second, _ = (run.path / "cells").iterdir()
    first.write_text("{")
    lacking = json.loads(second.read_text())
    del lacking["shares"]
    second.write_text(json.dumps(lacking))
    assert predict_folder(predictor, images, tmp_path / "out").meta["results"]["kept"] == 1


def test_another_model_or_other_images_need_another_folder(
    predictor: Predictor, images: Path, tmp_path: Path
) -> None:
    predict_folder(predictor, images, tmp_path / "out")
    with pytest.raises(UserError, match=r"another run.*scale"):
        predict_folder(Predictor(predictor.trained, scale=1), images, tmp_path / "out")
    with pytest.raises(UserError, match=r"another run.*images"):
        predict_folder(predictor, images / "a.png", tmp_path / "out")


def test_bad_files_are_listed_and_the_others_predicted(
    predictor: Predictor, images: Path, tmp_path: Path
) -> None:
    (images / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    (images / "cut.jpg").write_bytes((images / "z.jpg").read_bytes()[:300])
    Image.new("CMYK", (4, 4)).save(images / "ink.tif")
    _save(images / f"{'n' * 240}.png")
    results = predict_folder(predictor, images, tmp_path / "out").meta["results"]
    assert [image["name"] for image in results["images"]] == ["a", "sub/ein Bäum 木", "z"]
    assert [entry["name"] for entry in results["failed"]] == ["broken", "cut", "ink", "n" * 240]
    assert all(str(images) in entry["problem"] for entry in results["failed"])
    assert "rename" in results["failed"][3]["problem"]
    assert not (tmp_path / "out" / "masks" / "cut.png").exists()


def test_a_full_disk_stops_the_work_and_leaves_nothing_half(
    predictor: Predictor, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    whole = files.stream_atomic

    def until_full(path: Path, content: object) -> None:
        if "masks" in Path(path).parts and written:
            monkeypatch.setattr(os, "fsync", full)
        written.append(str(path)) if "masks" in Path(path).parts else None
        whole(path, content)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "stream_atomic", until_full)
    with pytest.raises(UserError, match=r"No space left.*free space"):
        predict_folder(predictor, images, tmp_path / "out")
    monkeypatch.undo()
    left = [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert not [name for name in left if files.is_temporary(Path(name))]
    assert (tmp_path / "out" / "masks" / "a.png").is_file()
    assert not (tmp_path / "out" / "masks" / "sub" / "ein Bäum 木.png").exists()
    again = predict_folder(predictor, images, tmp_path / "out")
    assert (again.meta["results"]["kept"], again.meta["results"]["predicted"]) == (1, 2)


def test_a_kill_between_files_and_record_costs_one_picture(
    predictor: Predictor, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(self: RunFolder, key: str, data: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(RunFolder, "write_cell", killed)
    with pytest.raises(KeyboardInterrupt):
        predict_folder(predictor, images, tmp_path / "out")
    monkeypatch.undo()
    run = predict_folder(predictor, images, tmp_path / "out")
    assert (run.meta["results"]["kept"], run.meta["results"]["predicted"]) == (0, 3)


def test_two_processes_in_one_folder_share_the_work(
    predictor: Predictor, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The other one does everything while we are at our first picture.
    done: list[RunFolder] = []
    really = module._predicted

    def meanwhile(*arguments: object) -> object:
        if not done:
            done.append(RunFolder(tmp_path, {}))
            done[0] = predict_folder(predictor, images, tmp_path / "out")
        return really(*arguments)

    monkeypatch.setattr(module, "_predicted", meanwhile)
    run = predict_folder(predictor, images, tmp_path / "out")
    assert run.meta["results"]["images"] == done[0].meta["results"]["images"]
    assert (run.meta["results"]["kept"], run.meta["results"]["predicted"]) == (2, 1)


def test_one_file_is_enough_and_the_output_must_not_lie_among_the_images(
    predictor: Predictor, images: Path, tmp_path: Path
) -> None:
    run = predict_folder(predictor, images / "a.png", tmp_path / "one")
    assert [image["name"] for image in run.meta["results"]["images"]] == ["a"]
    with pytest.raises(UserError, match="outside the images"):
        predict_folder(predictor, images, images / "out")
    assert not (images / "out").exists()


def test_nothing_to_predict_is_told(predictor: Predictor, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="found none"):
        predict_folder(predictor, tmp_path / "empty", tmp_path / "out")
    with pytest.raises(UserError, match="is not there"):
        predict_folder(predictor, tmp_path / "nowhere", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_progress_names_the_picture(predictor: Predictor, images: Path, tmp_path: Path) -> None:
    told: list[tuple[float, str]] = []
    predict_folder(predictor, images, tmp_path / "out", tell=lambda part, name: told.append((part, name)))
    assert [part for part, _ in told] == sorted(part for part, _ in told)
    assert told[0] == (0, "a")
    assert told[-1] == (1, "z")


def test_the_page_shows_the_least_confident_first(predictor: Predictor, images: Path, tmp_path: Path) -> None:
    (images / "broken.png").write_bytes(b"")
    run = predict_folder(predictor, images, tmp_path / "out", outputs=Outputs(confidence=True))
    page = prediction_page(run)
    sheet = next(block for section in page.sections for block in section.blocks if block.block == "sheet")
    order = sorted(run.meta["results"]["images"], key=lambda image: image["confidence"])
    assert [name.rsplit(",", 1)[0] for name, _ in sheet.rows] == [image["name"] for image in order]
    assert all(picture is not None for _, pictures in sheet.rows for picture in pictures)
    assert any(section.anchor == "failures" for section in page.sections)
    shutil.rmtree(run.path / "overlays")
    without = prediction_page(run)
    assert not [b for section in without.sections for b in section.blocks if b.block == "sheet"]
