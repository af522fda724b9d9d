"""What all tests share: the command line, run here as the console script runs it; a cache; a Ctrl-C that works."""

from __future__ import annotations

import contextlib
import gc
import io
import signal
import sys
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

# Begun in this order, before all others. First those that compile kernels, of one room and of another by turns, so
# that no two workers compile the same ones at once; then what takes longest, so that no worker is left with it alone.
FIRST = (
    "graph/kernels/test_bad_input.py",
    "attention/kernels/test_operators.py",
    "graph/kernels/test_bounds.py",
    "graph/kernels/test_attention.py",
    "graph/test_kernels.py",
    "cli/test_claims.py",
    "graph/test_attention_report.py",
    "projection/test_hadamard.py",
    "graph/test_convolution.py",
    "attention/inspection/test_measure.py",
    "attention/test_linear.py",
    "projection/test_certificate.py",
    "gradflow/remedies/test_trial.py",
    "cli/test_model.py",
    "reproduce/test_run.py",
    "pages/test_every_page.py",
    "cli/test_graph.py",
    "gradflow/recurrent/test_curves.py",
    "cli/test_estimator.py",
    "gradflow/test_jacobians.py",
    "graph/test_inspection.py",
    "attention/test_tracing.py",
    "lab/test_checkpoint.py",
    "gradflow/bounds/test_combination.py",
    "test_package.py",
    "test_examples.py",
)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What collecting makes lives to the end: the garbage collector looks at it neither now nor during the tests."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files of `FIRST` first; with --no-loadscope-reorder workers take files in this order."""
    rank = {Path(__file__).parent / name: place for place, name in enumerate(FIRST)}
    missing = [str(path) for path in rank if not path.exists()]
    if missing:
        raise pytest.UsageError(f"tests/conftest.py: FIRST names files that are not there: {missing}")
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


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
