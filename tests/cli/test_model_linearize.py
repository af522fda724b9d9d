"""`layerlab model linearize` as a shell sees it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from layerlab.attention.linearize.candidates import Clock, Speed

GIVEN = Path(__file__).parents[1] / "attention" / "linearize" / "given.py"
EXAMPLE = Path(__file__).parents[2] / "examples" / "transformer.py"
Cli = Callable[..., Any]


@pytest.fixture
def faster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Clock, "speed", lambda self, name, call: Speed(name, 2.0, 4, 64))


@pytest.mark.usefixtures("faster")
def test_it_writes_the_folder_and_says_how_to_use_it(cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "new"
    given = (f"{GIVEN}:model", "--max-error", "0.05", "--mechanism", "linear", "--out", out)
    done = cli("model", "linearize", *given)
    assert done.status == 0, done.err
    assert done.err.splitlines()[0].startswith("runs the code of") and f"written: {out}" in done.err
    assert done.out.count("▸") == 2, "one row and the legend"
    assert "1 of 2 attentions exchanged: error of the output predicted" in done.out
    assert "0 hardly matters on these inputs" in done.out
    assert "from given import model\nfrom attention import load\n\nmodel = load(model()).eval()" in done.out
    assert (out / "attention.py").is_file()
    again = cli("model", "linearize", *given)
    assert again.status == 2 and f"{out}: is there already" in again.err and again.out == ""


@pytest.mark.usefixtures("faster")
def test_a_refusal_has_status_1_and_writes_nothing(cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "new"
    given = (f"{GIVEN}:model", "--max-error", "1e-7", "--mechanism", "linear-relu", "--out", out)
    done = cli("model", "linearize", *given)
    assert done.status == 1 and not out.exists() and list(tmp_path.iterdir()) == []
    assert "refused: no swap is predicted to change the output by at most 1e-07" in done.err
    as_json = cli("model", "linearize", *given, "--json")
    record = json.loads(as_json.out)
    assert as_json.status == 1 and record["whole"] is None and "no swap is predicted" in record["refused"]
    assert "written" not in record and record["sites"][0]["zeroed"] > 0


def test_below_the_crossover_it_refuses(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("layerlab.attention.linearize.candidates._SECONDS", 0.2)
    given = (
        f"{EXAMPLE}:model",
        "--input-shape",
        "2,8:int32",
        "--mechanism",
        "linear",
        "--out",
        tmp_path / "new",
    )
    done = cli("model", "linearize", *given)
    assert done.status == 1 and "linear attention is not faster at its 8 tokens on this machine" in done.err
    assert "encoder.layers.0.self_attn is kept" in done.out
    assert not (tmp_path / "new").exists()


@pytest.mark.usefixtures("faster")
def test_json_of_the_example(cli: Cli, tmp_path: Path) -> None:
    done = cli(
        "model",
        "linearize",
        f"{EXAMPLE}:model",
        "--input-shape",
        "2,128:int32",
        "--max-error",
        "0.9",
        "--mechanism",
        "linear",
        "--out",
        tmp_path / "new",
        "--json",
    )
    record = json.loads(done.out)
    assert done.status == 0 and record["written"] == str(tmp_path / "new")
    assert [site["site"] for site in record["sites"]] == [f"encoder.layers.{i}.self_attn" for i in range(2)]
    assert record["whole"]["zeroed"] > 0.1


def test_bad_options_are_told_before_the_model_is_built(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    done = cli("model", "linearize", f"{GIVEN}:model", "--out", tmp_path / "file")
    assert done.status == 2 and "is there already" in done.err
    done = cli("model", "linearize", f"{GIVEN}:model", "--out", tmp_path / "new", "--mechanism", "nystrom")
    assert done.status == 2 and "expected a mechanism of linear, linear-relu" in done.err
    done = cli("model", "linearize", f"{GIVEN}:without", "--out", tmp_path / "new")
    assert done.status == 2 and "computes no attention that can be seen" in done.err
    assert not (tmp_path / "new").exists()
