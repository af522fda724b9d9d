"""``layerlab segment check`` from outside."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from layerlab.cli import main


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    rng = np.random.default_rng(0)
    for part in ("my images", "masks"):
        (tmp_path / part).mkdir()
    for number in range(6):
        pixels = rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "my images" / f"p*`{number}.png")
        labels = np.resize(np.arange(3, dtype=np.uint8), (20, 24))
        Image.fromarray(labels).save(tmp_path / "masks" / f"p*`{number}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["layerlab", "segment", "check", "my images", "masks", *arguments])
        main()
    return int(ended.value.code or 0)


def test_json_and_the_page(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        run(
            "--class", "a=0", "--class", "b=*", "--ignore", "2", "--stratify", "block:3", "--report", "--json"
        )
        == 0
    )
    record = json.loads(capsys.readouterr().out)
    assert record["classes"] == {"classes": {"a": ["0"], "b": ["*"]}, "ignore": ["2"], "inferred": ""}
    assert record["parts"] == {"train": 4, "validation": 2, "test": 0}
    page = Path(record["report"]).read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 6 * 3
    assert "p∗ʼ0" in page
    assert json.loads(Path(record["run"], "run.json").read_text())["results"]["usable"] == 6


def test_the_table(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    out = capsys.readouterr().out
    assert "6 usable of 6 pairs; 5 train, 1 validation" in out
    assert "classes were inferred: every value is a class" in out
    assert "only 1 image to validate on" in out


def test_problems_end_with_status_1_and_are_on_the_page(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = next((place / "masks").iterdir())
    first.unlink()
    Image.new("L", (3, 3)).save(place / "masks" / "p*`5.png")
    twice = np.asarray(Image.open(place / "my images" / "p*`2.png"))
    Image.fromarray(twice).save(place / "my images" / "p*`3.png")
    assert run("--out", "checked") == 1
    out = capsys.readouterr().out
    assert "files with problems" in out
    assert "has no mask" in out
    page = Path("checked/report.html").read_text(encoding="utf-8")
    assert "There twice" in page
    assert "Files with problems" in page


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--class", "a=0", "--classes", "c.json"], "one of --class and --classes"),
        (["--stratify", "folder", "--group", "folder"], "one of --stratify and --group"),
        (["--class", "a"], "NAME=VALUES"),
        (["--validation", "2"], "leave something to train on"),
        (["--stratify", "("], "regular expression"),
        (["--classes", "none.csv"], "no such file"),
    ],
)
def test_bad_options_are_told(
    place: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert run(*arguments) == 2
    assert words in capsys.readouterr().err


def test_other_ways_to_say_it(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("classes.csv").write_text("value,name\n0,a\n1,b\n2,ignore\n")
    assert run("--classes", "classes.csv", "--group", "block:2", "--test", "0.3", "--no-leak", "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert list(record["classes"]["classes"]) == ["a", "b"]
    assert record["parts"] == {"train": 2, "validation": 2, "test": 2}
