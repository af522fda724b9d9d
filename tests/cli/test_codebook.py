from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Cli = Callable[..., Any]


def test_what_no_vectors_have_is_one_line_and_status_1(cli: Cli) -> None:
    result = cli("codebook", "make", "--dim", 100, "--count", 10000, "--coherence", 0.1)
    assert result.status == 1
    assert result.out == ""
    assert result.err.startswith("impossible: Levenshtein floor 0.140 for 10,000 vectors in dimension 100")
    assert result.err.count("\n") == 1


def test_what_is_out_of_reach_is_one_line_and_status_1(cli: Cli) -> None:
    result = cli("codebook", "make", "--dim", 100, "--count", 3000, "--coherence", 0.2, "--json")
    assert result.status == 1
    assert result.out == ""
    assert result.err.startswith("not excluded by any bound known here")


def test_make_and_inspect(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = cli("codebook", "make", "--dim", 16, "--coherence", 0.25, "--out", "codes.npz")
    assert made.status == 0
    assert "144 vectors of dimension 16: coherence 0.25" in made.out
    assert "written: codes.npz" in made.err
    with np.load("codes.npz") as archive:
        assert archive["vectors"].shape == (144, 16)
    seen = cli("codebook", "inspect", "codes.npz", "--json")
    record = json.loads(seen.out)
    assert record["coherence"] == pytest.approx(0.25)
    assert record["made_as"]["construction"] == "kerdock"
    shown = cli("codebook", "inspect", "codes.npz", "--nearest", 2)
    assert "no 144 vectors have less coherence" in " ".join(shown.out.split())
    assert "nearest pairs" in shown.out


def test_made_vectors_are_json_too_and_nothing_is_written_unasked(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    record = json.loads(
        cli("codebook", "make", "--dim", 1000, "--coherence", 0.5, "--construction", "document", "--json").out
    )
    assert record["count"] == record["document_promised"] == 31
    said = cli("codebook", "make", "--dim", 3, "--count", 4)
    assert "nothing is written" in said.err
    assert list(tmp_path.iterdir()) == []


def test_a_report_with_figures(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.savetxt("few.csv", np.random.default_rng(0).standard_normal((12, 5)), delimiter=",")
    result = cli("codebook", "inspect", "few.csv", "--report")
    assert result.status == 0
    assert result.err.endswith("report: runs/codebook-few/report.html\n")
    html = (tmp_path / "runs" / "codebook-few" / "report.html").read_text("utf-8")
    assert html.count("<figure") == 2
    assert (
        json.loads((tmp_path / "runs" / "codebook-few" / "run.json").read_text("utf-8"))["results"]["count"]
        == 12
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("make", "--dim", 10), "got neither"),
        (("make", "--dim", 1, "--count", 3), "in dimension 1 any two vectors lie on one line"),
        (("make", "--dim", 10, "--count", 1), "at least 2 vectors, got count 1"),
        (("make", "--dim", 10, "--coherence", 1), "between 0 and 1, got 1"),
        (("make", "--dim", 10, "--count", 3, "--out", "codes.csv"), "written as .npz"),
        (("make", "--dim", 10, "--count", 3, "--field", "p-adic"), "'p-adic'"),
        (("inspect", "nan.npy"), "nan.npy: expected finite numbers, got nan in row 1, column 2"),
        (("inspect", "zero.npy"), "zero.npy: expected vectors with a direction, got a zero vector in row 1"),
        (("inspect", "absent.npz"), "absent.npz: there is no such file"),
        (("inspect", "nan.npy", "--rows", 1), "at least 2 vectors to measure"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    cli: Cli, arguments: tuple[Any, ...], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    x = np.ones((3, 4))
    x[1, 2] = np.nan
    np.save("nan.npy", x)
    x[1] = 0
    np.save("zero.npy", x)
    before = sorted(tmp_path.iterdir())
    result = cli("codebook", *arguments)
    assert result.status == 2
    assert result.err.startswith("error: ")
    assert words in result.err
    assert result.err.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


def test_a_report_that_fails_leaves_no_folder(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli("codebook", "inspect", "absent.npz", "--report").status == 2
    assert not (tmp_path / "runs" / "codebook-absent").exists()
