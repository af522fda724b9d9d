"""The notebooks run from top to bottom, and give what is stored in them."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from .printed import difference

FOLDER = Path(__file__).parents[1] / "examples" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def texts(cell: Any) -> str:
    """What a cell printed or returned, as text; a stream may have come in pieces."""
    found = []
    for output in cell.get("outputs", []):
        assert output.output_type != "error", output
        found.append(output.get("text") or output.get("data", {}).get("text/plain", ""))
    return "".join(found)


def pictures(cell: Any) -> list[bytes]:
    return [
        base64.b64decode(output.data["image/png"])
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]


def test_there_are_three_and_they_are_listed() -> None:
    listed = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert len(NOTEBOOKS) == 3
    assert all(f"({path.name})" in listed for path in NOTEBOOKS)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_and_gives_what_it_shows(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = str(Path(__file__).parents[1] / "src")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")])))
    monkeypatch.setenv("IPYTHONDIR", os.devnull + "-none")  # nobody's own settings
    shown = nbformat.read(path, as_version=4)
    run = nbformat.from_dict(shown)
    NotebookClient(run, timeout=300, resources={"metadata": {"path": str(FOLDER)}}).execute()
    for ours, theirs in zip(shown.cells, run.cells, strict=True):
        assert difference(texts(ours), texts(theirs)) == "", ours.source
        assert len(pictures(ours)) == len(pictures(theirs))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_its_outputs_are_small_and_belong_to_no_machine(path: Path) -> None:
    assert path.stat().st_size < 60_000
    notebook = nbformat.read(path, as_version=4)
    assert any(texts(cell) for cell in notebook.cells)
    assert all("execution" not in cell.metadata for cell in notebook.cells)  # times
