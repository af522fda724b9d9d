"""Spoil every kind of file that layerlab reads, and see that it says so in one line.

    python scripts/fuzz.py                          a round of everything, until Ctrl-C or --seconds
    python scripts/fuzz.py --seconds 900 --jobs 2
    python scripts/fuzz.py --only codebook --first 41 --count 1 --show     one case again

A case is a sound file, spoiled in a way that follows from the name of the subject and the number of the case, and the
command that reads it. A finding is anything but an answer (exit status 0, or 1 where the command has one) or status 2
with one line `error: ...`: an exception, a warning, a crash, a hang, gigabytes of memory, control characters
on the terminal. Findings of one place in the code are told once. Exit status 1 if there is one.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import time
import traceback
import unicodedata
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random

from fuzz_mutations import spoil
from fuzz_subjects import SUBJECTS, Subject
from fuzz_text import spoiled_word

TIMEOUT = 60.0
MEMORY = 6 << 30
LONGEST = 1_000


@dataclass(frozen=True)
class Finding:
    """What went wrong in a case; equal places are one finding."""

    subject: str
    number: int
    done: str
    what: str
    place: str


def case(subject: Subject, name: str, number: int, sound: Path, show: bool = False) -> Finding | None:
    """Spoil a copy of the sound files and read it."""
    rng = Random(f"{name} {number}")
    with tempfile.TemporaryDirectory() as top:
        folder = Path(top) / "case"
        shutil.copytree(sound, folder, symlinks=True)
        files = sorted(path for pattern in subject.files for path in folder.glob(pattern) if path.is_file())
        words = [] if callable(subject.read) else list(subject.read)
        if files and (not subject.words or rng.random() < 0.7):
            done = spoil(rng.choice(files), rng)
        else:
            place = rng.choice(subject.words)
            words[place] = spoiled_word(words[place], rng)
            done = f"{words[place - 1]} {words[place][:60]!a}"
        what, place_ = _read(subject, words, folder, show)
    return None if what is None else Finding(name, number, done, what, place_)


def _read(subject: Subject, words: list[str], folder: Path, show: bool) -> tuple[str | None, str]:
    """What is wrong with the answer, and the place in the code; None where nothing is."""
    out = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True)
    err = io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace", write_through=True)
    status: object = 0
    os.environ["LAYERLAB_DATA"] = str(folder / "cache")
    with warnings.catch_warnings(record=True) as warned, contextlib.chdir(folder):
        # As Python shows them to a user.
        warnings.simplefilter("default")
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta state")
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                status = _run(subject, words, folder)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 (it is what is looked for)
            place = _place(error)
            if show:
                traceback.print_exc()
            return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}", place
    told = err.buffer.getvalue().decode()  # type: ignore[attr-defined]
    shown = out.buffer.getvalue().decode()  # type: ignore[attr-defined]
    if show:
        print(f"status {status}\n--- out\n{shown[:2000]}\n--- err\n{told}")
    if warned:
        first = warned[0]
        return (
            f"{first.category.__name__}: {str(first.message)[:150]}",
            f"{Path(first.filename).name}:{first.lineno}",
        )
    return _judged(subject, status, shown, told)


def _run(subject: Subject, words: list[str], folder: Path) -> object:
    from layerlab.cli import main
    from layerlab.errors import UserError

    if callable(subject.read):
        try:
            subject.read(folder)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        return 0
    sys.argv = ["layerlab", *words]
    try:
        main()
    except SystemExit as stop:
        return stop.code or 0
    return 0


def _judged(subject: Subject, status: object, shown: str, told: str) -> tuple[str | None, str]:
    odd = [
        letter
        for letter in shown + told
        if unicodedata.category(letter) in ("Cc", "Cf") and letter not in "\n\t"
    ]
    if odd:
        return f"control character {odd[0]!a} on the terminal", ""
    lines = told.splitlines()
    if max(map(len, lines), default=0) > LONGEST:
        return "a line of over 1,000 characters", ""
    errors = [line for line in lines if line.startswith("error: ")]
    if status in subject.statuses:
        return ("an error, but status 0", "") if errors and status == 0 else (None, "")
    usage = status == 2 and told.lstrip().startswith("Usage:")
    if usage or (status == 2 and len(errors) == 1 and lines[-1] == errors[0] and len(errors[0]) > 20):
        return None, ""
    return f"status {status} and {len(errors)} lines 'error: ...'", ""


def _place(error: BaseException) -> str:
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if f"{os.sep}layerlab{os.sep}" in frame.filename
    ]
    if not frames:
        return "?"
    name = frames[-1].filename.rpartition(f"layerlab{os.sep}")[2]
    return f"{name}:{frames[-1].lineno}"


# ---------------------------------------------------------------- a process that may die


def _work(connection: Connection, sound: Path) -> None:
    os.environ |= {"COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"}
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    limited = False
    while True:
        name, number = connection.recv()
        subject = SUBJECTS[name]
        folder = sound / name
        if number is None:
            folder.mkdir()
            subject.make(folder)
            connection.send(None)
            continue
        if not limited:
            used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
            resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.RLIM_INFINITY))
            limited = True
        connection.send(case(subject, name, number, folder))


class Worker:
    """A process that reads spoiled files; a new one where it died or hung."""

    def __init__(self, sound: Path) -> None:
        self.sound = sound
        self.made: set[str] = set()
        self._begin()

    def _begin(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, self.sound), daemon=True)
        self.process.start()
        theirs.close()

    def ask(self, name: str, number: int) -> Finding | None:
        if name not in self.made:
            self.connection.send((name, None))
            self.connection.recv()
            self.made.add(name)
        self.connection.send((name, number))
        try:
            if self.connection.poll(TIMEOUT):
                return self.connection.recv()  # type: ignore[no-any-return]
            what = f"took more than {TIMEOUT:g} s"
        except EOFError:
            self.process.join()
            what = f"the process died ({self.process.exitcode})"
        self.end()
        self._begin()
        return Finding(name, number, "?", what, "")

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


def _cases(
    names: list[str], first: int, count: int | None, seconds: float | None
) -> Iterator[tuple[str, int]]:
    ends = None if seconds is None else time.monotonic() + seconds
    number = first
    while count is None or number < first + count:
        for name in names:
            if ends is not None and time.monotonic() > ends:
                return
            yield name, number
        number += 1


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", default=[], help="subjects whose names begin so")
    parser.add_argument("--first", type=int, default=0, help="number of the first case of each subject")
    parser.add_argument("--count", type=int, help="cases of each subject")
    parser.add_argument("--seconds", type=float, help="begin no case after so many seconds")
    parser.add_argument("--show", action="store_true", help="in this process, with what was printed")
    asked = parser.parse_args()
    names = [name for name in SUBJECTS if not asked.only or name.startswith(tuple(asked.only))]
    if not names:
        parser.error(f"no such subject; there are {', '.join(SUBJECTS)}")
    found: dict[tuple[str, str], list[Finding]] = {}
    cases = 0
    spent: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as top:
        worker = None if asked.show else Worker(Path(top))
        try:
            for name, number in _cases(names, asked.first, asked.count, asked.seconds):
                began = time.monotonic()
                if worker is None:
                    sound = Path(top) / name / str(number)
                    sound.mkdir(parents=True)
                    SUBJECTS[name].make(sound)
                    finding = case(SUBJECTS[name], name, number, sound, show=True)
                else:
                    finding = worker.ask(name, number)
                cases += 1
                spent[name] = spent.get(name, 0.0) + time.monotonic() - began
                if finding is None:
                    continue
                key = (finding.place or finding.subject, finding.what[:60])
                if key not in found:
                    print(
                        f"{finding.subject} {finding.number}: {finding.done}\n    {finding.what} [{finding.place}]",
                        flush=True,
                    )
                found.setdefault(key, []).append(finding)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
        finally:
            if worker is not None:
                worker.end()
    slowest = sorted(spent, key=lambda name: -spent[name])[:8]
    print(f"most seconds: {', '.join(f'{name} {spent[name]:.0f}' for name in slowest)}")
    print(f"{cases} cases of {len(names)} subjects, {len(found)} findings")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
