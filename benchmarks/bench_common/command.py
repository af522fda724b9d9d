"""The command line of a benchmark: parts that are measured and stored one by one, and a page made of them."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bench_common import store
from layerlab.errors import UserError

ROOT = Path(__file__).parents[2]


class GateError(Exception):
    """What would be timed is wrong."""


def say(text: str) -> None:
    """A line of progress on standard error."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Benchmark:
    """What a benchmark measures.

    Attributes:
        subject: the name of its script and of its results.
        description: for ``--help``.
        parts: by name; given whether this is a smoke run and the number of threads, they return what is stored. They
            may raise `GateError`, which ends the run.
        page: writes the page of what `store.read` returns into a folder.
        goals: a table of the goals of the parts that were measured.
        first: parts that are always run, before all others.
        named: parts that a smoke run leaves out unless they are named.
        optional: parts that need what may not be there; a `UserError` leaves them out.
        asked: parts that take so long that they are run only where they are named.
        options: adds options of its own to the command line.
        begin: given all options before the first part.
    """

    subject: str
    description: str
    parts: Mapping[str, Callable[[bool, int], dict[str, Any]]]
    page: Callable[[dict[str, Any], Path], None]
    goals: Callable[[dict[str, Any]], str]
    first: tuple[str, ...] = ()
    named: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()
    options: Callable[[argparse.ArgumentParser], None] | None = None
    begin: Callable[[argparse.Namespace], None] | None = None

    @property
    def results(self) -> Path:
        return ROOT / "benchmarks" / "results" / f"{self.subject}.json"


def main(benchmark: Benchmark) -> int:
    """Run the script of a benchmark; returns the exit status."""
    given = _arguments(benchmark)
    try:
        if not given.docs and (status := _measure(benchmark, given)):
            return status
        stored = store.read(given.results, benchmark.subject)
        benchmark.page(stored, ROOT / "docs" if given.results == benchmark.results else given.results.parent)
        say("the page is written")
        print(benchmark.goals(stored["parts"]))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: finished parts are kept", file=sys.stderr)
        return 130
    return 0


def _arguments(benchmark: Benchmark) -> argparse.Namespace:
    parts = ",".join(benchmark.parts)
    parser = argparse.ArgumentParser(
        description=benchmark.description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a smoke run at small sizes")
    parser.add_argument("--only", default=None, metavar="PARTS", help=f"some of {parts}")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="for both sides")
    parser.add_argument("--docs", action="store_true", help="write the page from the stored results")
    parser.add_argument("--results", type=Path, default=None, metavar="FILE")
    if benchmark.options is not None:
        benchmark.options(parser)
    given = parser.parse_args()
    left_out = (*benchmark.asked, *(benchmark.named if given.quick else ()))
    wanted = given.only.split(",") if given.only else [p for p in benchmark.parts if p not in left_out]
    if unknown := [name for name in wanted if name not in benchmark.parts]:
        parser.error(f"unknown part {unknown[0]!r}; expected some of {', '.join(benchmark.parts)}")
    if given.threads < 1:
        parser.error(f"expected --threads >= 1, got {given.threads}")
    given.only = [*benchmark.first, *(name for name in wanted if name not in benchmark.first)]
    smoke = ROOT / "build" / "benchmarks" / f"{benchmark.subject}.json"
    given.results = given.results or (smoke if given.quick else benchmark.results)
    return given


def _measure(benchmark: Benchmark, given: argparse.Namespace) -> int:
    command = shlex.join(["python", f"benchmarks/{benchmark.subject}.py", *sys.argv[1:]])
    written = store.Store(given.results, command, given.quick, benchmark.subject)
    torch.set_num_threads(given.threads)
    if benchmark.begin is not None:
        benchmark.begin(given)
    for name in given.only:
        around = store.circumstances(given.threads)
        started = time.perf_counter()
        try:
            part = benchmark.parts[name](given.quick, given.threads)
        except GateError as error:
            print(f"error: {error}: nothing is timed", file=sys.stderr)
            return 1
        except UserError as error:
            if name not in benchmark.optional:
                raise
            say(f"{name} left out: {error}")
            continue
        written.put(name, {**around, "took_seconds": time.perf_counter() - started, **part})
        say(f"{name}: done in {time.perf_counter() - started:.0f} s")
    return 0
