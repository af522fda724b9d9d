"""The folder that a command with --out or --report writes: its name, what it was begun with, and its page."""

from __future__ import annotations

import contextlib
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from layerlab.lab.records import RunFolder
    from layerlab.lab.report.page import Page


def typed() -> list[str]:
    """The command line, for the record of a run."""
    return ["layerlab", *sys.argv[1:]]


def slug(subject: str) -> str:
    """``examples/deep_sigmoid.py:model`` as part of a folder's name: ``deep_sigmoid-model``."""
    where, _, name = subject.rpartition(":")
    return re.sub(r"[^A-Za-z0-9._-]+", "-", f"{Path(where).name.removesuffix('.py')}-{name}")


@contextlib.contextmanager
def begun(folder: Path | None, kind: str, config: Mapping[str, Any]) -> Iterator[RunFolder | None]:
    """The folder of the run, made before the work, so that a place that cannot be written is told at once; taken back
    if the work fails or is interrupted."""
    from layerlab.lab.records import create_run

    if folder is None:
        yield None
        return
    there = folder.exists()
    run = create_run(folder, kind, typed(), dict(config))
    try:
        yield run
    except BaseException:
        if not there:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def finished(run: RunFolder, record: Mapping[str, Any], page: Callable[[RunFolder], Page]) -> dict[str, str]:
    """The record and the page drawn from it, written into the folder; where they are."""
    from layerlab.lab.report.page import write

    run.finish(record)
    return {"run": str(run.path), "report": str(write(page(run), run.path / "report.html"))}
