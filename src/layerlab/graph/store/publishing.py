"""The hidden folder in which a store grows, and the one step that gives it its name."""

from __future__ import annotations

from pathlib import Path

from layerlab.errors import UserError
from layerlab.lab.files import flush_folder


def work_folder(path: Path) -> Path:
    """The hidden sibling in which the store ``path`` is made; it stays behind when that is interrupted."""
    path = path.resolve()
    return path.with_name(f".{path.name}.converting")


def publish(work: Path, path: Path) -> None:
    """Flush the folders and give the finished store its name; nobody sees half of one.

    Raises:
        UserError: the name has been taken meanwhile, or cannot be given.
    """
    try:
        for folder in (work / "features", work):
            if folder.is_dir():
                flush_folder(folder)
        if path.exists():
            raise UserError("is there already; choose another place for the store", file=path)
        work.rename(path)
        flush_folder(path.resolve().parent)
    except OSError as error:
        raise UserError(f"cannot be written ({error.strerror or error})", file=path) from error
