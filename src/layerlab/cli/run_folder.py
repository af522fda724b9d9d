"""The folder that a command with --out or --report writes: begun before the work, finished with a page."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from layerlab.lab.records import RunFolder
    from layerlab.lab.report.page import Page


@contextlib.contextmanager
def begun(folder: Path | None, kind: str, config: Mapping[str, Any]) -> Iterator[RunFolder | None]:
    """The folder of the run, made before the work, so that a place that cannot be written is told at once; taken back
    if the work fails or is interrupted."""
    from layerlab.lab.records import create_run

    if folder is None:
        yield None
        return
    there = folder.exists()
    run = create_run(folder, kind, ["layerlab", *sys.argv[1:]], dict(config))
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
