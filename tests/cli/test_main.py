"""The shell around the commands: version, help, wrong input, Ctrl-C, a reader that goes away."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
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


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    command = [sys.executable, "-m", "layerlab", "claims", "list", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode in (0, 1)


def test_help_shows_the_extras_of_the_package(cli: Callable[..., Any]) -> None:
    for command, extra in (
        ("estimator policy", "rl"),
        ("segment train", "images"),
        ("segment race", "images"),
    ):
        shown = cli(*command.split(), "--help")
        assert f"'layerlab[{extra}]'" in shown.out
