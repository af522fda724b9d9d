"""The page of a training run: drawn from its folder, with every part, and small."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from layerlab.errors import UserError
from layerlab.lab.records import create_run
from layerlab.lab.report.page import Sheet, Table, render
from layerlab.segmentation.inspection import training_page
from layerlab.segmentation.runs import TRAIN_KIND, open_trained, train_run
from layerlab.segmentation.settings import Settings
from layerlab.segmentation.worst import CASES

sys.path.insert(0, str(Path(__file__).parents[1]))
from shapes import Shapes


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    settings = Settings(widths=(2, 4), size=16, batch=4, epochs=3, learning_rate=0.02)
    return train_run(Shapes(count=14, test=2), settings, out=out).path


def test_the_page_shows_the_record(path: Path) -> None:
    run = open_trained(path).run
    page = training_page(run)
    assert [section.anchor for section in page.sections] == [
        "worst",
        "classes",
        "confusion",
        "training",
        "calibration",
        "settings",
        "environment",
    ]
    blocks = [block for section in page.sections for block in section.blocks]
    (shown,) = [block for block in blocks if isinstance(block, Sheet)]
    assert [name for name, _ in shown.rows] == [image["name"] for image in run.meta["results"]["images"]]
    assert [name for _, name in shown.key][-1] == "ignored"
    validation, test = [block for block in blocks if isinstance(block, Table)][:2]
    assert "validation" in validation.caption
    assert "test" in test.caption
    iou = run.meta["results"]["measures"]["validation"]["iou"]
    assert [getattr(row[1], "sort", None) for row in validation.rows[:3]] == iou
    html = render(page)
    assert "8 train images, 4 validation images, 2 test images" in html
    assert html.count("<figure") == 5
    assert len(html) < 1_000_000


@pytest.mark.parametrize(
    ("field", "value"),
    [("calibration_error", [0.2]), ("images", []), ("iou", None), ("confusion", [[1]]), ("calibration", 7)],
)
def test_a_record_that_somebody_changed_is_told(path: Path, field: str, value: object) -> None:
    run = open_trained(path).run
    measures = run.meta["results"]["measures"]["validation"]
    assert field in measures
    measures[field] = value
    with pytest.raises(UserError, match=r"run\.json: a record is damaged \(.*\); remove it and train again"):
        training_page(run)


def test_a_page_without_pictures_and_with_an_absent_class(path: Path, tmp_path: Path) -> None:
    run = create_run(tmp_path / "run", TRAIN_KIND, "", open_trained(path).run.meta["config"])
    with pytest.raises(UserError, match="not finished"):
        training_page(run)
    results = open_trained(path).run.meta["results"]
    measures = results["measures"]["validation"]
    measures["confusion"][2] = [0, 0, 0]
    for name in ("iou", "iou_per_image", "dice", "boundary_iou", "boundary_iou_per_image"):
        measures[name][2] = None
    run.finish(results)
    assert not (run.path / CASES).exists()
    html = render(training_page(run))
    assert "No validation pixel is of the class square" in html
    assert "Worst cases" not in html
