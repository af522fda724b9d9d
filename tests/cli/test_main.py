"""The shell around the commands: version, help, wrong input, Ctrl-C, a reader that goes away."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

import layerlab
import layerlab.catalogue
from layerlab.errors import UserError


def raiser(error: BaseException) -> Callable[[], NoReturn]:
    def fail() -> NoReturn:
        raise error

    return fail


def test_version(cli: Callable[..., Any]) -> None:
    result = cli("--version")
    assert (result.status, result.out) == (0, f"layerlab {layerlab.__version__}\n")


@pytest.mark.parametrize("arguments", [("--help",), ("-h",)])
def test_help_names_every_noun_and_an_example(cli: Callable[..., Any], arguments: tuple[str, ...]) -> None:
    result = cli(*arguments)
    assert result.status == 0
    for word in ("graph", "data", "claims", "reproduce", "Example: layerlab"):
        assert word in result.out


def test_a_user_error_is_one_line_and_status_2(
    cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    error = UserError("expected this,\n  got that", file="nodes.csv", line=3)
    monkeypatch.setattr(layerlab.catalogue, "catalogue", raiser(error))
    result = cli("claims", "list")
    assert (result.status, result.out) == (2, "")
    assert result.err == "error: nodes.csv:3: expected this, got that\n"


def test_another_error_is_a_defect_and_rises(
    cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layerlab.catalogue, "catalogue", raiser(ValueError("ours")))
    with pytest.raises(ValueError, match="ours"):
        cli("claims", "list")


def test_ctrl_c_is_status_130_without_a_traceback(
    cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layerlab.catalogue, "catalogue", raiser(KeyboardInterrupt()))
    result = cli("claims", "list")
    assert (result.status, result.out) == (130, "")
    assert "Traceback" not in result.err


@pytest.mark.parametrize("arguments", [("claims", "nothing"), ("data", "list", "--nothing"), ("data", "get")])
def test_a_wrong_command_line_is_status_2(cli: Callable[..., Any], arguments: tuple[str, ...]) -> None:
    result = cli(*arguments)
    assert (result.status, result.out) == (2, "")
    assert "Usage: layerlab" in result.err


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGPIPE on Windows")
@pytest.mark.parametrize("words", ["data list --json", "data list", "--help"])
def test_a_reader_that_goes_away_ends_a_command_quietly(words: str) -> None:
    command = [sys.executable, "-m", "layerlab", *words.split()]
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing) as stdout:
        done = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False)
    assert "error" not in done.stderr.lower()
    assert "Traceback" not in done.stderr
    # As a shell reports of a tool that SIGPIPE has ended.
    assert done.returncode == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("words", ["data list --json", "data list", "data --help"])
def test_standard_output_on_a_full_disk_is_told(words: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "layerlab", *words.split()],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.stderr.startswith("error: standard output cannot be written (No space left on device); ")
    assert len(done.stderr.splitlines()) == 1
    assert done.returncode == 2


def test_help_shows_the_extras_of_the_package(cli: Callable[..., Any]) -> None:
    for command, extra in (
        ("estimator policy", "rl"),
        ("segment train", "images"),
        ("segment race", "images"),
    ):
        shown = cli(*command.split(), "--help")
        assert f"'layerlab[{extra}]'" in shown.out
