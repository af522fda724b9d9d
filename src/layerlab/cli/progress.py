"""Progress on standard error: a live display where a person is looking, nothing where a program is."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress

    from layerlab.reproduce import Step

T = TypeVar("T")


def _bar(*columns: str) -> Progress:
    """A display of bars, with these columns behind each.

    Args:
        columns: "share", "count", "elapsed", "remaining", or the name of a field of the tasks that holds words.
    """
    from rich import progress

    from layerlab.cli.output import console

    kinds = {
        "share": progress.TaskProgressColumn,
        "count": progress.MofNCompleteColumn,
        "elapsed": progress.TimeElapsedColumn,
        "remaining": progress.TimeRemainingColumn,
    }
    return progress.Progress(
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        *(
            kinds[name]() if name in kinds else progress.TextColumn(f"{{task.fields[{name}]}}", markup=False)
            for name in columns
        ),
        console=console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )


def compiling() -> None:
    """Say what the first use on a machine waits for."""
    from layerlab.cli.output import say

    say("compiling the kernels for this machine, once: about 20 s")


@contextmanager
def epochs(description: str) -> Iterator[Callable[[int, int, dict[str, float]], None]]:
    """A bar over epochs with the latest metrics; yields ``report(epoch, epochs, metrics)``."""
    with _bar("count", "elapsed", "remaining", "metrics") as progress:
        task = progress.add_task(description, total=None, metrics="")

        def report(epoch: int, total: int, metrics: dict[str, float]) -> None:
            shown = "  ".join(
                f"{name.replace('_', ' ')} {metrics[name]:.3f}"
                for name in ("loss", "validation_accuracy", "validation_iou")
                if name in metrics
            )
            progress.update(task, completed=epoch, total=total, metrics=shown)

        yield report


@contextmanager
def share(description: str) -> Iterator[Callable[[float, str], None]]:
    """A bar over a piece of work of unknown parts; yields ``report(fraction, words)``."""
    with _bar("share", "elapsed", "words") as progress:
        task = progress.add_task(description, total=1.0, words="")

        def report(fraction: float, words: str) -> None:
            progress.update(task, completed=fraction, words=words)

        yield report


@contextmanager
def race(title: str, contestants: Sequence[str], seeds: int) -> Iterator[Callable[[dict[str, Any]], None]]:
    """One bar a contestant with its mean so far; yields ``report(cell)``."""
    with _bar("count", "elapsed", "remaining", "mean") as progress:
        tasks = {name: progress.add_task(f"{title}: {name}", total=seeds, mean="") for name in contestants}
        scores: dict[str, list[float]] = {name: [] for name in contestants}

        def report(cell: dict[str, Any]) -> None:
            name, metrics = cell["contestant"], cell["metrics"]
            scores[name].append(metrics.get("test_accuracy", metrics["validation_accuracy"]))
            mean = 100 * sum(scores[name]) / len(scores[name])
            progress.update(tasks[name], advance=1, mean=f"mean accuracy {mean:.1f} %")

        yield report


@contextmanager
def plan(steps: Sequence[Step], jobs: int) -> Iterator[Callable[[str, dict[str, Any]], None]]:
    """One bar over all steps of a reproduction with the time left; yields ``report(title, cell)``.

    Cells count by the seconds they are known to take; how far this machine is from those shows as it goes.
    """
    seconds = {step.title: step.seconds for step in steps}
    cells = {step.title: step.seeds * len(step.seconds) for step in steps}
    done = dict.fromkeys(cells, 0)
    total = sum(step.total for step in steps)
    with _bar("share", "elapsed", "left", "last") as progress:
        task = progress.add_task("reproducing", total=total, left=time_left(total, 0, 0, jobs), last="")

        def report(title: str, cell: dict[str, Any]) -> None:
            name = cell["contestant"]
            done[title] += 1
            progress.advance(task, seconds[title][name])
            state = progress.tasks[0]
            progress.update(
                task,
                description=f"{title} {done[title]}/{cells[title]}",
                left=time_left(total, state.completed, state.elapsed or 0.0, jobs),
                last=name,
            )

        yield report


_PRIOR = 10.0


def time_left(total: float, done: float, elapsed: float, jobs: int) -> str:
    """In words, from seconds of work on one core; the first seconds believe in ``jobs`` cores as fast as that.

    >>> time_left(600, 0, 0, 2), time_left(600, 300, 300, 2), time_left(600, 595, 295, 2)
    ('5 min left', '5 min left', '2 s left')
    """
    speed = (done + jobs * _PRIOR) / (elapsed + _PRIOR)
    left = (total - done) / speed
    return f"{left / 60:.0f} min left" if left >= 90 else f"{left:.0f} s left"


@contextmanager
def parts(
    description: str, keys: Sequence[str], look: Callable[[str], tuple[float, str]]
) -> Iterator[Callable[[str], None]]:
    """One bar over pieces of work that other processes do; yields ``done(key)``.

    Args:
        description: what is under way.
        keys: the pieces.
        look: ``look(key)`` tells the share of a piece that is done and a few words, read from what it leaves behind.
    """
    import threading

    finished: set[str] = set()
    ended = threading.Event()
    live = sys.stderr.isatty()
    with _bar("share", "elapsed", "remaining", "words") as progress:
        task = progress.add_task(description, total=float(len(keys)), words="")

        def watch() -> None:
            while not ended.wait(1.0):
                found = [look(key) for key in keys if key not in finished]
                shown = [words for _, words in found if words]
                progress.update(
                    task,
                    completed=len(finished) + sum(share for share, _ in found),
                    words="  ".join(shown[:4]),
                )

        watcher = threading.Thread(target=watch, daemon=True)
        if live:
            watcher.start()
        try:
            yield finished.add
        finally:
            ended.set()
            if live:
                watcher.join()


def each(pieces: Sequence[T], name: Callable[[T], str]) -> Iterator[T]:
    """The pieces of some work, one after the other, with a bar that names the one under way."""
    with _bar("count", "elapsed") as progress:
        task = progress.add_task("", total=len(pieces))
        for piece in pieces:
            progress.update(task, description=name(piece))
            yield piece
            progress.advance(task)
