"""What a spoiled file is tried on: a reader and its files."""

from __future__ import annotations

import contextlib
import io
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Subject:
    """One reader and its files.

    Attributes:
        make: writes the sound files into an empty folder.
        read: the words of a command, run in that folder; or a function of it.
        files: patterns of the files that are spoiled.
        statuses: exit statuses that are answers, besides 2 with its line.
        words: places in the command that are spoiled too.
    """

    make: Callable[[Path], None]
    read: Sequence[str] | Callable[[Path], object]
    files: Sequence[str]
    statuses: Sequence[int] = (0,)
    words: Sequence[int] = ()


def layerlab(folder: Path, *words: str) -> None:
    """Run a command in a folder; it must succeed."""
    from layerlab.cli import app

    with (
        contextlib.chdir(folder),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        app([*words], standalone_mode=False)


def stop(epoch: int, *_: object) -> None:
    if epoch == 2:
        signal.raise_signal(signal.SIGINT)
