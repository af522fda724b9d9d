"""Fetching a published set: download with resume, checksum, conversion; the folder appears whole or not at all."""

from __future__ import annotations

import contextlib
import http.client
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from layerlab.errors import UserError
from layerlab.lab.files import sha256_of
from layerlab.lab.locks import FolderLock, lock_folder
from layerlab.segmentation.conversion import RECIPES, Converted, Progress, convert
from layerlab.segmentation.known import Archive, KnownImages

_PIECE = 2**20
_TIMEOUT = 30.0
_LARGEST = 4 * 2**30


@dataclass(frozen=True)
class Got:
    """What `get` did."""

    name: str
    path: Path
    fetched: bool
    converted: Converted | None = None


def get(
    known: KnownImages,
    *,
    source: Path | None = None,
    say: Callable[[str], None] | None = None,
    progress: Progress | None = None,
) -> Got:
    """Fetch a published set into the cache folder, once, as ``images/``, ``masks/`` and ``classes.json``.

    Args:
        known: which.
        source: take the archives from this folder instead of the network.
        say: told what is about to happen.
        progress: told the share of each step.

    Raises:
        UserError: no network, an archive that is not the published one, no space, or another process is fetching
            the set. What was downloaded of an archive stays, and the next call goes on from there; nothing else does.
    """
    say = say or (lambda _: None)
    target = known.path
    if known.is_here:
        return Got(known.name, target, fetched=False)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            raise UserError("is in the way and not a fetched set; move it away", file=target)
        free = shutil.disk_usage(target.parent).free
        if source is None and free < 3 * known.size * 10**6:
            raise UserError(
                f"expected {3 * known.size:,} MB of free space to fetch and convert {known.name}, got "
                f"{free // 10**6:,} MB; free some, or set LAYERLAB_DATA to another folder",
                file=target.parent,
            )
        lock = _lock(known) if source is None else None
        if lock is not None and known.is_here:
            # Another process was just then finishing.
            return Got(known.name, target, fetched=False)
        archives = [
            _archive(archive, known, source, say, progress) for archive in (known.images, known.masks)
        ]
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{known.name}-") as place:
            whole = Path(place) / "whole"
            whole.mkdir()
            say(f"converting {known.name}")
            converted = convert(RECIPES[known.name], archives[0], archives[1], whole, progress=progress)
            try:
                whole.rename(target)
            except OSError:
                # Two may convert at once; what is there already is the same.
                if not known.is_here:
                    raise
        if source is None:
            for path in archives:
                path.unlink()
            with contextlib.suppress(OSError):
                archives[0].parent.rmdir()
    except OSError as error:
        raise UserError(
            f"cannot keep data here ({error.strerror or error}); free space, or set LAYERLAB_DATA to another folder",
            file=target.parent,
        ) from error
    return Got(known.name, target, True, converted)


def _folder_of_archives(known: KnownImages) -> Path:
    return known.path.parent / f"{known.name}-archives"


def _lock(known: KnownImages) -> FolderLock | None:
    """Hold the folder of archives: two processes would write into the same unfinished ones."""
    folder = _folder_of_archives(known)
    folder.mkdir(exist_ok=True)
    return lock_folder(folder, mend="set LAYERLAB_DATA to another folder")


def _archive(
    archive: Archive,
    known: KnownImages,
    source: Path | None,
    say: Callable[[str], None],
    progress: Progress | None,
) -> Path:
    """The archive on this disk, checked."""
    if source is not None:
        path = source / archive.name
        if not path.is_file():
            raise UserError(
                f"expected the published archive here; download it from {archive.address}", file=path
            )
    else:
        path = _folder_of_archives(known) / archive.name
        if not path.is_file():
            say(f"fetching {archive.address}")
            download(archive.address, path, progress=progress)
    if not archive.sha256:
        say(f"nobody well known states a checksum of {archive.name}; it is taken as it comes")
        return path
    found = sha256_of(path)
    if found != archive.sha256:
        kept = "" if source is not None else " it was removed,"
        if source is None:
            path.unlink()
        raise UserError(
            f"expected the published archive (SHA-256 {archive.sha256[:12]}..., as {archive.stated_by} states it), got "
            f"{found[:12]}...;{kept} fetch it again",
            file=path,
        )
    return path


def download(address: str, path: Path, *, progress: Progress | None = None) -> None:
    """Download to ``path``, which appears when all is there; what an interrupted call has left is gone on with.

    Args:
        address: http or https.
        path: the file; its folder must exist.
        progress: told the share, where the server says how much there is.

    Raises:
        UserError: no connection, an answer that is not the file, or one that ends early.
        OSError: the file cannot be written.
    """
    part = path.with_name(f"{path.name}.part")
    have = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(address, headers={"User-Agent": "layerlab", "Range": f"bytes={have}-"})
    if not have:
        request.remove_header("Range")
    mend = "check the network, or download it by hand and pass its folder with --source"
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
            if answer.status != 206:
                have = 0  # The server sends all of it again.
            length = answer.headers.get("Content-Length", "")
            total = have + int(length) if length.isdigit() else 0
            with part.open("ab" if have else "wb") as stream:
                while piece := _read(answer, address, mend):
                    stream.write(piece)
                    have += len(piece)
                    if have > _LARGEST:
                        raise UserError(f"expected at most {_LARGEST // 2**30} GiB from {address}, got more")
                    if progress is not None and total:
                        progress(have / total, f"{have / 10**6:,.0f} of {total / 10**6:,.0f} MB")
    except urllib.error.HTTPError as error:
        if error.code == 416:
            # The part is as long as the file, or longer: begin anew.
            part.unlink(missing_ok=True)
            raise UserError(
                f"what was downloaded of {address} does not fit any more; run this again"
            ) from error
        raise UserError(f"{address} answers {error.code} ({error.reason}); {mend}") from error
    except urllib.error.URLError as error:
        raise UserError(f"could not reach {address} ({error.reason}); {mend}") from error
    except (TimeoutError, ConnectionError, http.client.HTTPException) as error:
        raise UserError(
            f"the connection to {address} broke ({error}); run this again to go on; {mend}"
        ) from error
    if total and have < total:
        raise UserError(f"{address} ended after {have:,} of {total:,} bytes; run this again to go on")
    part.replace(path)


def _read(answer: http.client.HTTPResponse, address: str, mend: str) -> bytes:
    # Its own errors apart from those of writing the file, which are OSErrors as well.
    try:
        return answer.read(_PIECE)
    except http.client.IncompleteRead as error:
        return error.partial
    except OSError as error:
        raise UserError(
            f"the connection to {address} broke ({error}); run this again to go on; {mend}"
        ) from error
