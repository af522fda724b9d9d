"""Files written so that a reader sees the old content or the new, never half of it; and their digests."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Iterable
from pathlib import Path

from layerlab.errors import UserError

_TEMPORARY = ".tmp~"


def write_atomic(path: str | Path, content: bytes) -> None:
    """Write ``content`` to ``path``, whole or not at all.

    The bytes go to a hidden file in the same folder, are flushed to the disk, and then take the name in one
    step. A process killed at any moment leaves the old file (and at worst the hidden one) behind.

    Args:
        path: the file to write; its folder must exist. An existing file is replaced.
        content: what it shall hold.

    Raises:
        UserError: the file cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_atomic(Path(folder) / "note.txt", b"done")
    ...     (Path(folder) / "note.txt").read_bytes()
    b'done'
    """
    stream_atomic(path, [content])


def stream_atomic(path: str | Path, content: Iterable[bytes]) -> None:
    """As `write_atomic`, from pieces that need not be in memory together.

    Args:
        path: the file to write; its folder must exist. An existing file is replaced.
        content: what it shall hold, piece by piece; an error that making a piece raises leaves the old file.

    Raises:
        UserError: the file cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     stream_atomic(Path(folder) / "note.txt", (word.encode() for word in ("do", "ne")))
    ...     (Path(folder) / "note.txt").read_bytes()
    b'done'
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{_TEMPORARY}")
    try:
        try:
            # "x" follows no link and reuses no file; the mode is the user's usual one, unlike mkstemp's.
            with temporary.open("xb") as stream:
                for piece in content:
                    stream.write(piece)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        flush_folder(path.parent)
    except OSError as error:
        raise UserError(
            f"cannot be written ({error.strerror or error}); choose a writable place, or free space",
            file=path,
        ) from error


def sha256_of(path: str | Path) -> str:
    """The SHA-256 of a file, as hexadecimal digits; the file need not fit into memory.

    Raises:
        UserError: the file cannot be read.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_atomic(Path(folder) / "empty", b"")
    ...     sha256_of(Path(folder) / "empty")[:16]
    'e3b0c44298fc1c14'
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise UserError(
            f"cannot be read ({error.strerror or error}); check its permissions", file=path
        ) from error


def is_temporary(path: Path) -> bool:
    """Whether ``path`` is named like a file that an interrupted `write_atomic` left behind.

    >>> is_temporary(Path(".run.json.0a1b2c3d.tmp~")), is_temporary(Path("run.json"))
    (True, False)
    """
    return path.name.startswith(".") and path.name.endswith(_TEMPORARY)


def flush_folder(folder: Path) -> None:
    """Let the names in a folder survive a power cut."""
    # Windows cannot open folders, and does not need it.
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
