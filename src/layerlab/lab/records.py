"""A run on disk: what was asked, on which machine, and what came out, cell by cell.

A run is a folder::

    run.json          what was asked: kind, command, config, environment, time; when finished also the results
    cells/KEY.json    one finished piece of work each (one model and one seed, say)

Every file is written whole or not at all, so a run that was killed is resumed by asking for it again: the
cells that are there are kept. One process at a time works in a folder; any number may read it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from layerlab import __version__
from layerlab.errors import UserError
from layerlab.lab.files import is_temporary
from layerlab.lab.json_files import as_json, read_json, write_json
from layerlab.lab.locks import FolderLock, lock_folder
from layerlab.lab.machine import environment

FORMAT = "layerlab-run"
FORMAT_VERSION = 1

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,119}")
_FIELDS: dict[str, type] = {
    "kind": str,
    "layerlab": str,
    "command": str,
    "config": dict,
    "environment": dict,
    "created": str,
}


_CHECKSUM = "checksum"


def _checksum(content: Mapping[str, Any]) -> str:
    """Of a JSON object, however it is laid out."""
    text = json.dumps(content, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


@dataclass(frozen=True)
class RunFolder:
    """A run on disk, made by `create_run` or `open_run`.

    Args:
        path: the folder.
        meta: what ``run.json`` holds.
        lock: keeps other processes from working in the folder while this object lives; None for one that reads.
    """

    path: Path
    meta: dict[str, Any]
    lock: FolderLock | None = field(default=None, repr=False, compare=False)

    def write_cell(self, key: str, data: Mapping[str, Any]) -> None:
        """Write one finished piece of work to ``cells/KEY.json``, whole or not at all, with a checksum.

        Args:
            key: letters, digits, ``.``, ``_`` and ``-``, a letter or digit first, at most 120.
            data: what came out, see `layerlab.lab.json_files.write_json`; nothing of it is called ``checksum``.

        Raises:
            UserError: the key is not of that form, or the file cannot be written.
        """
        if not _KEY.fullmatch(key):
            raise UserError(
                f"expected a cell name of letters, digits, '.', '_' and '-', a letter or digit first, "
                f"at most 120 of them, got {key!r}; rename it"
            )
        cells = self.path / "cells"
        _make_folder(cells)
        content = as_json(dict(data))
        write_json(cells / f"{key}.json", {**content, _CHECKSUM: _checksum(content)})

    def read_cells(self) -> dict[str, dict[str, Any]]:
        """Every finished cell by its key, in the order of the keys.

        Raises:
            UserError: a cell file is damaged; it is named.
        """
        cells: dict[str, dict[str, Any]] = {}
        for file in sorted((self.path / "cells").glob("*.json")):
            if _KEY.fullmatch(file.stem):
                cells[file.stem] = self.read_cell(file.stem)
        return cells

    def read_cell(self, key: str) -> dict[str, Any]:
        """One finished cell.

        Raises:
            UserError: it is not there, or what is there is not what was written.
        """
        file = self.path / "cells" / f"{key}.json"
        mend = "remove that file and run the command again: only this cell is computed anew"
        try:
            data = read_json(file)
        except UserError as error:
            raise UserError(f"{error}; {mend}") from error
        if not isinstance(data, dict):
            raise UserError(f"expected a JSON object, got {type(data).__name__}; {mend}", file=file)
        # What reads a cell may then rely on its form: whoever wrote it, this package did.
        if data.pop(_CHECKSUM, None) != _checksum(data):
            raise UserError(f"the record was changed since it was written; {mend}", file=file)
        return data

    def finish(self, results: Mapping[str, Any]) -> None:
        """Put ``results`` into ``run.json`` (again, if they are there), whole or not at all.

        Raises:
            UserError: the file cannot be written.
        """
        meta = {**self.meta, "results": as_json(dict(results))}
        write_json(self.path / "run.json", meta)
        self.meta["results"] = meta["results"]


def create_run(
    path: str | Path, kind: str, command: Sequence[str] | str, config: Mapping[str, Any]
) -> RunFolder:
    """Begin a run in ``path``, or resume the one that is there.

    A folder that holds a run of the same kind and config is resumed: its cells are kept, and its command,
    environment and time stay those of the beginning. No other process can work in the folder until the run that is
    returned is gone, or the process is (see `layerlab.lab.locks`).

    Args:
        path: the folder; made if it is not there.
        kind: what sort of run it is (``"race"``, ``"train"``).
        command: the command line that started it, as a string or as its words.
        config: everything that the results depend on, as JSON can hold it.

    Returns:
        The run.

    Raises:
        UserError: the folder cannot be written, holds another run (what differs is named), or is not empty
            and no run, or another process is working in it; nothing in it was touched then.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run = create_run(Path(folder) / "run", "race", ["layerlab", "race"], {"seeds": 2})
    ...     run.write_cell("gcn-0", {"accuracy": 0.815})
    ...     again = create_run(Path(folder) / "run", "race", ["layerlab", "race"], {"seeds": 2})
    ...     again.read_cells()
    {'gcn-0': {'accuracy': 0.815}}
    """
    path = Path(path)
    wanted = as_json(dict(config))
    try:
        existed = path.exists()
        _make_folder(path)
        # Before the first look: two that begin at once must not both find it empty.
        lock = lock_folder(path)
        there = (path / "run.json").exists()
    except OSError as error:
        raise UserError(_cannot_read(error), file=path) from error
    if there:
        run = replace(open_run(path), lock=lock)
        differences = _differences({"kind": run.meta["kind"], "config": run.meta["config"]}, kind, wanted)
        if differences:
            raise UserError(
                f"the folder holds another run: {differences}; choose another --out, or remove the folder",
                file=path,
            )
        return run
    try:
        strangers = sorted(entry.name for entry in path.iterdir() if not is_temporary(entry))
    except OSError as error:
        raise UserError(_cannot_read(error), file=path) from error
    if strangers:
        raise UserError(
            f"expected an empty folder or a run of layerlab, found {strangers[0]!r} in it; "
            "choose another --out",
            file=path,
        )
    meta = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "kind": kind,
        "layerlab": __version__,
        "command": command if isinstance(command, str) else shlex.join(command),
        "config": wanted,
        "environment": environment(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    try:
        write_json(path / "run.json", meta)
    except UserError:
        if not existed:
            with contextlib.suppress(OSError):
                path.rmdir()
        raise
    return RunFolder(path, meta, lock)


def open_run(path: str | Path, kind: str | None = None) -> RunFolder:
    """Open a run that is on disk.

    Args:
        path: the folder.
        kind: the sort of run that is expected; None takes any.

    Returns:
        The run.

    Raises:
        UserError: there is no run, it is damaged, of another kind or of another format version.
    """
    path = Path(path)
    if not path.is_dir():
        came = "it is a file" if path.exists() else "there is no such folder"
        raise UserError(f"expected the folder of a run, but {came}; check the path", file=path)
    file = path / "run.json"
    if not file.is_file():
        raise UserError(
            "expected the folder of a run, but there is no run.json in it; check the path", file=path
        )
    meta = read_json(file)
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise UserError(f'expected a run of layerlab ("format": "{FORMAT}"); check the path', file=file)
    version = meta.get("format_version")
    if version != FORMAT_VERSION:
        raise UserError(
            f"expected a run of format version {FORMAT_VERSION}, got {version!r} (written by layerlab "
            f"{meta.get('layerlab', 'unknown')}); run its command again, into another folder",
            file=file,
        )
    for name, expected in _FIELDS.items():
        if not isinstance(meta.get(name), expected):
            raise UserError(f"the field {name!r} is missing or damaged; run the command again", file=file)
    if kind is not None and meta["kind"] != kind:
        raise UserError(f"expected a run of kind {kind!r}, got {meta['kind']!r}; check the path", file=path)
    return RunFolder(path, meta)


def _cannot_read(error: OSError) -> str:
    return f"cannot be read ({error.strerror or error}); choose another --out"


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise UserError("expected a folder, but it is a file; choose another --out", file=path) from error
    except OSError as error:
        raise UserError(
            f"the folder cannot be made ({error.strerror or error}); choose another --out", file=path
        ) from error


def _differences(there: Any, kind: str, config: Any) -> str:
    """What differs between the run on disk and the one that is asked for, in words; at most three points."""
    found: list[str] = []

    def compare(name: str, old: Any, new: Any) -> None:
        if isinstance(old, dict) and isinstance(new, dict):
            for key in sorted({*old, *new}):
                compare(f"{name}.{key}" if name else key, old.get(key), new.get(key))
        elif old != new:
            found.append(f"{name} is {_short(old)} there and {_short(new)} here")

    compare("", there, {"kind": kind, "config": config})
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return ", ".join(found[:3]) + more


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
