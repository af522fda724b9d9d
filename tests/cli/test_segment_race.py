"""``layerlab segment race``: what it prints, writes and refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from layerlab.cli import app
from layerlab.errors import UserError

from ..squares import written

TINY = [
    "--widths",
    "2,4",
    "--size",
    "16",
    "--epochs",
    "1",
    "--batch",
    "2",
    "--augment",
    "none",
    "--jobs",
    "1",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    written(root)
    return root


def race(folder: Path, out: Path, *more: str) -> str:
    words = [
        "segment",
        "race",
        str(folder / "images"),
        str(folder / "masks"),
        *TINY,
        "--out",
        str(out),
        *more,
    ]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_race_prints_arms_differences_classes_and_the_verdict(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "race"
    text = race(folder, out, "--arms", "on,off", "--seeds", "2")
    assert "Paired differences" in text and "on - off" in text and "IoU by class" in text
    assert "the document has about 0.78 and 0.68" in " ".join(text.split())
    assert (out / "report.html").stat().st_size > 10_000
    # Widened by an arm, as JSON: the cells that are there are kept.
    before = (out / "cells" / "on-0000.json").stat().st_mtime_ns
    record = json.loads(race(folder, out, "--arms", "on,off,zero", "--seeds", "2", "--json"))
    assert list(record["arms"]) == ["on", "off", "zero"] and record["seeds"] == [0, 1]
    assert {(pair["left"], pair["right"]) for pair in record["differences"]} >= {
        ("on", "off"),
        ("zero", "off"),
    }
    assert (out / "cells" / "on-0000.json").stat().st_mtime_ns == before


def test_what_cannot_be_raced_is_refused_before_anything_is_written(folder: Path, tmp_path: Path) -> None:
    for words, message in (
        (["--arms", "on,upside"], "upside"),
        (["--widths", "2"], "one level"),
        (["--widths", "2,x"], "--widths"),
    ):
        with pytest.raises(UserError, match=message):
            race(folder, tmp_path / "race", *words)
    with pytest.raises(UserError, match="expected a folder of masks"):
        CliRunner().invoke(app, ["segment", "race", str(folder / "images")], catch_exceptions=False)
    assert not (tmp_path / "race").exists()
