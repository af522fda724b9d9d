"""The source distribution and the wheel built from it hold all they need: installed and used elsewhere, offline."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import venv
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
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "sdist", "--directory", str(folder)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    (built,) = folder.glob("*.tar.gz")
    return built


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the source distribution, as a person who has nothing else would."""
    folder = tmp_path_factory.mktemp("wheel")
    # No isolation, no dependencies, no index: nothing can come from a network.
    pip(
        *("wheel", "--no-deps", "--no-build-isolation", "--no-index"),
        *("--wheel-dir", folder, sdist),
        cwd=folder,
    )
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel in it; the dependencies come from the environment of the tests."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    pip("--python", python, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    (site,) = folder.glob("lib/python*/site-packages")
    # Installed beforehand, so that pip does not see (and mend) the checkout's own installation. What stands in a
    # path file below these folders is not followed, so the checkout itself stays out of sight.
    here = [path for path in sys.path if path.endswith("site-packages")]
    (site / "dependencies.pth").write_text("\n".join(here), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def run(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Runs a program of the environment in a folder outside the checkout; its standard output."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}

    def run(program: str, *arguments: str) -> str:
        finished = subprocess.run(
            [environment / "bin" / program, *arguments],
            cwd=elsewhere,
            env={**clean, "PYTHONWARNINGS": "error", "LAYERLAB_DATA": str(elsewhere / "data")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert finished.returncode == 0, finished.stderr
        return finished.stdout

    where = Path(run("python", "-c", "import layerlab; print(layerlab.__file__)").strip())
    assert where.is_relative_to(environment), "the checkout was imported in place of the wheel"
    return run


def test_the_source_distribution_can_be_tested_and_holds_nothing_else(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    tracked = {path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("*.py")}
    assert (
        tracked | {"pyproject.toml", "constraints.txt", "Makefile", "LICENSE", "NOTICE", "README.md"} <= names
    )
    known = {"src", "tests", "scripts", "examples", "docs", "benchmarks"}
    assert {name.partition("/")[0] for name in names if "/" in name} == known


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


def test_the_command_runs_outside_the_checkout(run: Callable[..., str]) -> None:
    assert run("layerlab", "--version") == f"layerlab {layerlab.__version__}\n"


def test_cora_is_in_the_wheel(run: Callable[..., str]) -> None:
    code = "from layerlab.graph.datasets import load; d = load('cora'); print(d.num_nodes, d.graph.num_edges)"
    assert run("python", "-c", code) == "2708 5278\n"


def test_the_report_finds_its_templates(run: Callable[..., str]) -> None:
    code = (
        "from layerlab.lab.report.page import Page, Section, Text, render\n"
        "print(render(Page('A title', 'below', [], [Section('First', 'first', [Text('**words**')])])))"
    )
    page = run("python", "-c", code)
    assert "<strong>words</strong>" in page
    assert page.lstrip().lower().startswith("<!doctype html>")
