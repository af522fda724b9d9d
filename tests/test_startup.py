"""What must stay light: a person who types `layerlab --help` does not wait for torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
HEAVY = {
    "torch",
    "numpy",
    "scipy",
    "matplotlib",
    "numba",
    "jinja2",
    "rich",
    "networkx",
    "torch_geometric",
    "safetensors",
    "pandas",
    "sklearn",
}

# All that the help of the root may load beside the standard library: typer and what typer stands on. Without the
# rest it takes about 0.35 s of a core; each of the heavy ones would double that at least.
LIGHT = {
    "layerlab",
    "typer",
    "rich",
    "pygments",
    "markdown_it",
    "mdurl",
    "shellingham",
    "annotated_doc",
    "attr",
}
# Of layerlab: the commands' signatures and the error that they raise; no room.
ROOTS = {"layerlab", "layerlab.cli", "layerlab.errors"}


def loaded_by(code: str) -> set[str]:
    """The top-level packages that a fresh interpreter has loaded after ``code``."""
    return {name.partition(".")[0] for name in modules_after(code)}


def modules_after(code: str) -> set[str]:
    report = "import sys, json; print(json.dumps(sorted(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )
    assert run.returncode == 0, run.stderr
    return set(json.loads(run.stdout.splitlines()[-1]))


def help_of(*arguments: str) -> str:
    return (
        f"import sys; sys.argv = {['layerlab', *arguments]!r}\n"
        "from layerlab.cli import main\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code\n"
    )


def test_the_measure_sees_a_heavy_import() -> None:
    assert "numpy" in loaded_by("import numpy")


@pytest.mark.parametrize("module", ["layerlab", "layerlab.errors", "layerlab.cli"])
def test_importing_stays_light(module: str) -> None:
    loaded = loaded_by(f"import {module}")
    assert "layerlab" in loaded
    assert loaded & HEAVY == set()


@pytest.mark.parametrize(
    "arguments", [("--version",), ("--help",), ("graph", "race", "--help"), ("model", "inspect", "--help")]
)
def test_help_stays_light(arguments: tuple[str, ...]) -> None:
    # typer draws its help with rich; nothing else may come along.
    assert loaded_by(help_of(*arguments)) & (HEAVY - {"rich"}) == set()


def test_the_help_of_the_root_loads_typer_and_the_commands_alone() -> None:
    before, after = modules_after("pass"), modules_after(help_of("--help"))
    loaded = {name.partition(".")[0] for name in after - before} - set(sys.stdlib_module_names)
    assert loaded <= LIGHT, "a new import at start-up: put it inside the function that uses it"
    ours = {name for name in after if name.partition(".")[0] == "layerlab"}
    assert {name for name in ours - ROOTS if not name.startswith("layerlab.cli.")} == set()
