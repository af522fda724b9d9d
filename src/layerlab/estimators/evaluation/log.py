"""The log of every evaluation: JSON lines, appended and flushed one by one, and read back after a kill.

The first line says what was evaluated; every other line is one evaluation::

    {"format": "layerlab-evaluations", "format_version": 1, "function": "parity.py:f", "space": "12 bits", ...}
    {"n": 1, "sample": "010011010110", "value": 0.5, "seconds": 1.2e-05}
    {"n": 2, "sample": "110011010110", "value": null, "seconds": 2.0, "failed": "took longer than 2 s"}
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from layerlab.errors import UserError
from layerlab.lab.locks import try_lock

FORMAT = "layerlab-evaluations"
FORMAT_VERSION = 1


def rows_as_text(samples: NDArray[Any]) -> list[str]:
    """Each row of ``(n, d)`` numbers as JSON text, in as many digits as tell it from its neighbours.

    >>> rows_as_text(np.array([[0.1, 2.0], [1e-7, -0.0]]))
    ['[0.1,2.0]', '[1e-7,-0.0]']
    """
    if not samples.size:
        return ["[]"] * len(samples)
    # Of Python's own way of writing numbers, 1,280 of them take half a millisecond: more than all else of a batch.
    text = orjson.dumps(np.ascontiguousarray(samples), option=orjson.OPT_SERIALIZE_NUMPY).decode()
    return [f"[{row}]" for row in text[2:-2].split("],[")]


class Entry(NamedTuple):
    """One evaluation.

    Attributes:
        number: 1 for the first of a run; orders repeats of a sample.
        key: the sample, as JSON text.
        value: what f returned; None where it failed.
        seconds: what the evaluation took; of a batch, its share.
        failed: why there is no value; empty where there is one.
    """

    number: int
    key: str
    value: float | None
    seconds: float
    failed: str = ""

    def line(self) -> str:
        """The line of the log, without its end."""
        value = "null" if self.value is None else repr(self.value)
        failed = f', "failed": {json.dumps(self.failed)}' if self.failed else ""
        return f'{{"n": {self.number}, "sample": {self.key}, "value": {value}, "seconds": {self.seconds:.3g}{failed}}}'


class EvaluationLog:
    """An append-only file of evaluations; made if it is not there, else continued.

    A last line that was torn by a kill is taken off. While it is open, no other process can open it.

    Args:
        path: the file; its folder must exist.
        header: what the values depend on (the function, the space); the log of another one is refused. The entry
            ``code``, where there is one, may change: see `changed`.

    Raises:
        UserError: the file cannot be read or written, is no such log, is the log of something else, is in use, or has
            a damaged line before its last.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "evaluations.jsonl"
    ...     with EvaluationLog(path, {"function": "f"}) as log:
    ...         log.append([Entry(1, '"01"', 0.5, 0.001)])
    ...     with EvaluationLog(path, {"function": "f"}) as log:
    ...         log.take('"01"').value, log.take('"01"')
    (0.5, None)
    """

    def __init__(self, path: str | Path, header: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.header = {"format": FORMAT, "format_version": FORMAT_VERSION, **header}
        self.torn = False
        """Whether a torn last line was taken off."""
        self.changed = False
        """Whether ``code`` in the header differs from that of the log."""
        self.lines = 0
        """Evaluations that were in the log when it was opened."""
        self._waiting: dict[str, deque[Entry]] = {}
        try:
            # No "x" and no replacing: what was paid for is never overwritten.
            self._stream: BinaryIO = self.path.open("a+b")
        except OSError as error:
            raise UserError(
                f"the log of evaluations cannot be written ({error.strerror or error}); choose another --out",
                file=self.path,
            ) from error
        try:
            self._lock()
            self._load()
        except BaseException:
            self._stream.close()
            raise

    def __enter__(self) -> EvaluationLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; what was appended is in it already."""
        self._stream.close()

    def take(self, key: str) -> Entry | None:
        """The earliest evaluation of this sample that the log held when it was opened and that was not taken yet."""
        found = self._waiting.get(key)
        return found.popleft() if found else None

    def some(self) -> Entry | None:
        """An evaluation of the log that has a value, without taking it; None where there is none."""
        return next((e for entries in self._waiting.values() for e in entries if e.value is not None), None)

    @property
    def noisy(self) -> bool:
        """Whether some sample of the log has two different values."""
        return any(
            len({e.value for e in entries if e.value is not None}) > 1 for entries in self._waiting.values()
        )

    def forget_failures(self) -> None:
        """Take off the evaluations that failed, so that they are tried again."""
        for key, entries in self._waiting.items():
            self._waiting[key] = deque(entry for entry in entries if not entry.failed)

    def append(self, entries: Iterable[Entry]) -> None:
        """Write evaluations and hand them to the operating system: from then on a kill does not lose them.

        Raises:
            UserError: the disk is full, or the file went away.
        """
        text = "".join(f"{entry.line()}\n" for entry in entries)
        try:
            self._stream.write(text.encode())
            self._stream.flush()
        except OSError as error:
            raise UserError(
                f"the log of evaluations cannot be written ({error.strerror or error}); free space, then --resume",
                file=self.path,
            ) from error

    def _lock(self) -> None:
        if try_lock(self._stream.fileno()) is False:
            raise UserError(
                "another run is writing this log of evaluations; wait for it, or choose another --out",
                file=self.path,
            )

    def _load(self) -> None:
        self._stream.seek(0)
        content = self._stream.read()
        whole, end, rest = content.rpartition(b"\n")
        if rest:
            # The kill came in the middle of a line: its evaluation is lost, and will be made again.
            self.torn = True
            self._stream.truncate(len(whole) + len(end))
        if not whole:
            self._stream.write(json.dumps(self.header).encode() + b"\n")
            self._stream.flush()
            return
        first, *lines = whole.split(b"\n")
        self._check(_decoded(first, self.path, 1))
        entries = [self._entry(line, number) for number, line in enumerate(lines, 2)]
        self.lines = len(entries)
        for entry in sorted(entries, key=lambda entry: entry.number):
            self._waiting.setdefault(entry.key, deque()).append(entry)

    def _check(self, header: dict[str, Any]) -> None:
        if header.get("format") != FORMAT or header.get("format_version") != FORMAT_VERSION:
            raise UserError(
                f"expected a log of evaluations of format version {FORMAT_VERSION}; choose another --out",
                file=self.path,
                line=1,
            )
        # Through JSON, as the one that was read: tuples are lists there.
        for name, wanted in json.loads(json.dumps(self.header)).items():
            if name == "code":
                self.changed = header.get(name) != wanted
            elif header.get(name) != wanted:
                raise UserError(
                    f"the log holds evaluations of another {name}: {header.get(name)!r}, not {wanted!r}; "
                    "choose another --out",
                    file=self.path,
                    line=1,
                )

    def _entry(self, line: bytes, number: int) -> Entry:
        found = _decoded(line, self.path, number)
        n, sample, value = found.get("n"), found.get("sample"), found.get("value")
        seconds, failed = found.get("seconds"), found.get("failed", "")
        if (
            not isinstance(n, int)
            or not isinstance(sample, str | list)
            or not isinstance(seconds, int | float)
            or not isinstance(failed, str)
            or (value is None) != bool(failed)
            or not (value is None or (isinstance(value, int | float) and math.isfinite(value)))
        ):
            raise self._no_evaluation(number)
        try:
            key = orjson.dumps(sample).decode()
        except orjson.JSONEncodeError:  # integers beyond 64 bits, lists in hundreds of lists
            raise self._no_evaluation(number) from None
        return Entry(n, key, None if value is None else float(value), float(seconds), failed)

    def _no_evaluation(self, number: int) -> UserError:
        return UserError(
            "this line of the log is no evaluation; remove it to go on", file=self.path, line=number
        )


def _decoded(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise UserError(
            "expected a line of JSON; the file is damaged here: remove the line to go on, or choose another --out",
            file=path,
            line=number,
        )
    return found
