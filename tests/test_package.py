"""The built wheel holds all it needs: it is installed elsewhere and used outside the checkout, offline."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from email.parser import Parser
from pathlib import Path

import pytest

import layerlab

ROOT = Path(__file__).parents[1]


def pip(*arguments: str | Path, cwd: Path) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *map(str, arguments)]
    run = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    # No isolation, no dependencies, no index: nothing can come from a network.
    pip(
        *("wheel", "--no-deps", "--no-build-isolation", "--no-index"),
        *("--wheel-dir", folder, ROOT),
        cwd=folder,
    )
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Runs Python in a folder outside the checkout, with the wheel before everything else on its path."""
    site = tmp_path_factory.mktemp("site")
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    pip("install", "--no-deps", "--no-index", "--target", site, wheel, cwd=elsewhere)

    def run(*arguments: str) -> str:
        finished = subprocess.run(
            [sys.executable, "-W", "error", *arguments],
            cwd=elsewhere,
            env={**os.environ, "PYTHONPATH": str(site), "LAYERLAB_DATA": str(elsewhere / "data")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert finished.returncode == 0, finished.stderr
        return finished.stdout

    where = Path(run("-c", "import layerlab; print(layerlab.__file__)").strip())
    assert where.is_relative_to(site), "the checkout was imported in place of the wheel"
    return run


def test_every_file_of_the_package_is_in_the_wheel(wheel: Path) -> None:
    package = ROOT / "src" / "layerlab"
    wanted = {
        path.relative_to(package.parent).as_posix()
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert wanted <= names
    assert {name for name in names if not name.startswith("layerlab/") and ".dist-info/" not in name} == set()


def test_the_metadata_name_version_licence_and_script(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (info,) = {name.split("/")[0] for name in archive.namelist() if ".dist-info/" in name}
        metadata = Parser().parsestr(archive.read(f"{info}/METADATA").decode())
        names = archive.namelist()
        scripts = archive.read(f"{info}/entry_points.txt").decode()
    assert metadata["Version"] == layerlab.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert {f"{info}/licenses/LICENSE", f"{info}/licenses/NOTICE"} <= set(names)
    assert re.search(r"^layerlab = layerlab\.cli:main$", scripts, re.MULTILINE)


def test_the_command_runs_outside_the_checkout(python: Callable[..., str]) -> None:
    assert python("-m", "layerlab", "--version") == f"layerlab {layerlab.__version__}\n"


def test_cora_is_in_the_wheel(python: Callable[..., str]) -> None:
    code = "from layerlab.graph.datasets import load; d = load('cora'); print(d.num_nodes, d.graph.num_edges)"
    assert python("-c", code) == "2708 5278\n"


def test_the_report_finds_its_templates(python: Callable[..., str]) -> None:
    code = (
        "from layerlab.lab.report.page import Page, Section, Text, render\n"
        "print(render(Page('A title', 'below', [], [Section('First', 'first', [Text('**words**')])])))"
    )
    page = python("-c", code)
    assert "<strong>words</strong>" in page
    assert page.lstrip().lower().startswith("<!doctype html>")
