"""``layerlab codebook project``, as a person calls it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from layerlab.cli import app
from layerlab.errors import UserError


def run(*arguments: str):
    return CliRunner().invoke(app, ["codebook", "project", *arguments])


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    np.save(tmp_path / "points.npy", np.random.default_rng(0).standard_normal((40, 600)))
    return "points.npy"


def test_json_output_file_and_report(data: str, tmp_path: Path) -> None:
    result = run(data, "--eps", "0.5", "--json", "--out", "small.npz", "--report", "--map", "rademacher")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert (record["points"], record["dim_in"], record["dim"]) == (40, 600, 135)
    assert record["distortion"]["within"] is True
    assert np.load(tmp_path / "small.npz")["vectors"].shape == (40, 135)
    page = Path(record["report"]).read_text(encoding="utf-8")
    assert "exact density of χ²/n" in page
    assert "Dasgupta and Gupta" in page
    kept = json.loads((Path(record["run"]) / "run.json").read_text(encoding="utf-8"))
    assert kept["results"]["dim"] == 135
    assert str(tmp_path) not in json.dumps(kept["config"])


def test_the_table_and_the_exit_status_of_a_failure() -> None:
    result = run("digits", "--eps", "0.5", "--dim", "32")
    assert result.exit_code == 1
    assert "verdict: the map drawn is beyond 0.5" in " ".join(result.stdout.split())
    assert "scikit-learn" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("digits",), "projecting does not pay"),
        (("points.npy", "--dim", "600"), "does not pay"),
        (("points.npy", "--map", "fourier"), "--map"),
        (("points.npy", "--density", "0"), "--density"),
        (("points.npy", "--density", "1/0"), "--density"),
        (("points.npy", "--eps", "1"), "between 0 and 1"),
        (("points.npy", "--eps", "0.5", "--out", "small.txt"), ".npy or .npz"),
        (("nowhere.npy",), "no such file"),
    ],
)
def test_refusals_leave_nothing_behind(
    data: str, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    result = run(*arguments, "--report")
    assert isinstance(result.exception, UserError)
    assert words in str(result.exception)
    assert not list((tmp_path / "runs").glob("*"))


def test_li_and_a_fraction_are_densities(data: str) -> None:
    for density in ("li", "1/3", "0.2"):
        assert run(data, "--eps", "0.6", "--map", "sparse", "--density", density).exit_code == 0
