"""What all tests share: the command line, run here as the console script runs it; a cache; a Ctrl-C that works."""

from __future__ import annotations

import contextlib
import io
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True)
class CliResult:
    """What a shell would see: exit status, standard output, standard error."""

    status: int
    out: str
    err: str


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch) -> Callable[..., CliResult]:
    """``cli("claims", "list", "--json")`` runs that command line; arguments are turned into strings.

    It goes through `layerlab.cli.main`, so a `UserError` gives status 2 and one line on ``err``. Any other
    exception rises into the test: it is a defect.
    """
    # A wide terminal without colour: tables do not wrap, and texts can be compared.
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("NO_COLOR", "1")

    def run(*arguments: Any) -> CliResult:
        from layerlab.cli import main

        out, err = io.StringIO(), io.StringIO()
        status = 0
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["layerlab", *map(str, arguments)])
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                try:
                    main()
                except SystemExit as stop:
                    if isinstance(stop.code, str):
                        err.write(f"{stop.code}\n")
                    status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        return CliResult(status, out.getvalue(), err.getvalue())

    return run


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where fetched data sets are kept; not made yet."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("LAYERLAB_DATA", str(folder))
    return folder


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt, also where the tests were started in the background and ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
