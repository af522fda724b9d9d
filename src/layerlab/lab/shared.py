"""A run folder into which several machines write: that they all see it."""

from __future__ import annotations

import secrets
from functools import partial
from pathlib import Path

from layerlab.errors import UserError
from layerlab.lab.race import Executor


def check_shared(workers: Executor, folder: Path) -> None:
    """That the place of a run folder is one place for all machines that run a race's cells.

    A file is put there for as long as they look for it, or beside where the folder will be made.

    Args:
        workers: who runs the cells.
        folder: the run folder, made already or not.

    Raises:
        UserError: a machine does not see it.
    """
    whole = folder.absolute()
    place = next(there for there in (whole, *whole.parents) if there.is_dir())
    word = secrets.token_hex(8)
    mark = place / f".layerlab-{word}"
    try:
        mark.write_text(word, encoding="utf-8")
    except OSError:
        # Whoever makes the folder says why it cannot be made.
        return
    try:
        workers.check(partial(_see, str(mark), word))
    finally:
        mark.unlink(missing_ok=True)


def _see(mark: str, word: str) -> None:
    try:
        found = Path(mark).read_text(encoding="utf-8")
    except OSError:
        found = ""
    if found != word:
        raise UserError(
            f"{Path(mark).parent} is another folder here; give an --out in a folder that all machines share"
        )
