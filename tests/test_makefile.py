"""How the Makefile installs: once, again after a change, anew after a failure. A script plays Python."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STAND_IN = """\
#!/bin/sh
echo "$*" >> calls
case "$*" in
    '-m venv --clear .venv') rm -rf .venv; mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
    '-m pip install'*) [ ! -e network-is-down ] ;;
esac
"""

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


class Checkout:
    """The Makefile with its two lists of packages, in a folder whose name has a space."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "a checkout"
        self.folder.mkdir()
        for name in ("Makefile", "pyproject.toml", "constraints.txt"):
            shutil.copy(ROOT / name, self.folder)
        (self.folder / "stand-in").write_text(STAND_IN, encoding="utf-8")
        (self.folder / "stand-in").chmod(0o755)

    def make(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        # The make that runs these tests must not hand its own options and variables down.
        ours = {"PYTHON", "ARGS", "PYTEST_ARGS", "MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS", "MAKELEVEL"}
        environment = {name: value for name, value in os.environ.items() if name not in ours}
        return subprocess.run(
            ["make", "--no-print-directory", *arguments],
            cwd=self.folder,
            env={**environment, "LC_ALL": "C"},
            capture_output=True,
            text=True,
            check=False,
        )

    def calls(self) -> list[str]:
        """What Python was asked since the last look, apart from whether it is there at all."""
        log = self.folder / "calls"
        lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return [line for line in lines if not line.startswith("-c ")]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


VENV = "-m venv --clear .venv"
SITE = "-m sphinx -q -E -W --keep-going -d build/site-doctrees -c docs/site -b html . build/site"
TESTS = "-m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder"


def pip_install(extras: str) -> str:
    return f"-m pip install -qq -c constraints.txt -e .{extras}"


def test_install_installs_and_no_more(checkout: Checkout) -> None:
    done = checkout.make("install", "PYTHON=./stand-in")
    assert done.returncode == 0 and ".venv/bin/layerlab" in done.stderr
    assert checkout.calls() == [VENV, pip_install("")]


def test_make_alone_names_every_target(checkout: Checkout) -> None:
    phony = re.search(r"^\.PHONY:(.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert phony is not None
    done = checkout.make()
    assert done.returncode == 0
    assert {f"make {target}" for target in phony.group(1).split() if target != "help"} == set(
        re.findall(r"^make \w+", done.stdout, re.MULTILINE)
    )


def test_the_second_run_installs_nothing(checkout: Checkout) -> None:
    assert checkout.make("test", "PYTHON=./stand-in").returncode == 0
    assert checkout.calls() == [VENV, pip_install("[test]"), TESTS]
    assert checkout.make("test", "PYTEST_ARGS=-x").returncode == 0
    assert checkout.calls() == [f"{TESTS} -x"]


def test_kernels_are_compiled_once_after_the_installation(checkout: Checkout) -> None:
    run, compiled = "reproduce --out reproduce ", "scripts/compile_kernels.py"
    layerlab = '#!/bin/sh\necho "$*" >> calls\n'
    assert checkout.make(".venv/installed", "PYTHON=./stand-in").returncode == 0
    (checkout.folder / ".venv" / "bin" / "layerlab").write_text(layerlab, encoding="utf-8")
    (checkout.folder / ".venv" / "bin" / "layerlab").chmod(0o755)
    checkout.calls()
    assert checkout.make("reproduce").returncode == 0
    assert checkout.calls() == [compiled, run.strip()]
    assert checkout.make("reproduce", "ARGS=--quick").returncode == 0
    assert checkout.calls() == [f"{run}--quick"]


def test_a_larger_installation_holds_the_smaller_ones(checkout: Checkout) -> None:
    assert checkout.make("docs", "PYTHON=./stand-in").returncode == 0
    made = [
        VENV,
        pip_install("[test,docs]"),
        "scripts/build_cli_docs.py",
        "scripts/draw_architecture.py",
        SITE,
    ]
    assert checkout.calls() == made
    assert checkout.make("test").returncode == 0
    assert checkout.calls() == [TESTS]


def test_changed_pins_are_installed_into_the_same_venv(checkout: Checkout) -> None:
    checkout.make("test", "PYTHON=./stand-in")
    checkout.calls()
    stamp = (checkout.folder / ".venv" / "installed-test").stat().st_mtime
    os.utime(checkout.folder / "constraints.txt", (stamp + 10, stamp + 10))
    assert checkout.make("test").returncode == 0
    assert checkout.calls() == [pip_install("[test]"), TESTS]


def test_a_broken_off_installation_is_begun_anew(checkout: Checkout) -> None:
    (checkout.folder / "network-is-down").touch()
    assert checkout.make("test", "PYTHON=./stand-in").returncode != 0
    assert checkout.calls() == [VENV, pip_install("[test]")]
    (checkout.folder / "network-is-down").unlink()
    assert checkout.make("test", "PYTHON=./stand-in").returncode == 0
    assert checkout.calls() == [VENV, pip_install("[test]"), TESTS]
    assert not (checkout.folder / ".venv-unfinished").exists()


def test_an_unusable_python_is_named_and_nothing_is_made(checkout: Checkout) -> None:
    done = checkout.make("test", "PYTHON=./no-such-python")
    assert done.returncode != 0
    assert "error: PYTHON=./no-such-python is not a working Python 3.11" in done.stderr
    assert not (checkout.folder / ".venv").exists()
    assert not (checkout.folder / ".venv-unfinished").exists()
