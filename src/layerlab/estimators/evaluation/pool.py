"""Worker processes with a time limit: one that hangs or dies is replaced, and what it was doing is told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from layerlab.errors import UserError
from layerlab.estimators.evaluation.worker import Function, function, start, values_of, work

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Part:
    """What came of one call of f: values, or why there are none."""

    rows: Sequence[int]
    values: list[float]
    seconds: float
    failure: UserError | None = None


class Workers:
    """Where f is called: in this process, or in ``count`` others.

    Args:
        f: ``FILE.py:FUNC``, or a function; other processes can be sent only one that stands at the top of a module.
        single: f takes one sample.
        count: processes; 0 calls f here.
        timeout: seconds for one evaluation; needs a process, so that 0 processes become 1.
    """

    def __init__(self, f: str | Function, single: bool, count: int = 0, timeout: float | None = None) -> None:
        self.single = single
        self.timeout = timeout
        self.count = max(count, 1) if timeout is not None else count
        self._f = f
        self._pool: Any = None
        self._function: Function | None = None
        if self.count == 0:
            self._function = function(f)
        elif not isinstance(f, str):
            _sendable(f)

    def close(self) -> None:
        """End the processes, also those that hang."""
        if self._pool is not None:
            self._pool.stop()
            self._pool.join()
            self._pool = None

    def parts(self, rows: Sequence[int]) -> list[Sequence[int]]:
        """The samples that go into one call each."""
        if self.single:
            return [[row] for row in rows]
        calls = min(max(self.count, 1), len(rows))
        bounds = [len(rows) * call // calls for call in range(calls + 1)]
        return [rows[low:high] for low, high in pairwise(bounds)]

    def run(self, samples: Tensor, parts: Sequence[Sequence[int]], stop: bool) -> Iterator[Part]:
        """Call f once for each part, and yield what came as it comes.

        Args:
            samples: ``(n, ...)``; the parts hold indices of its rows.
            parts: see `parts`.
            stop: begin no other call after one that failed.
        """
        if self.count == 0:
            yield from self._here(samples, parts, stop)
        else:
            yield from self._there(samples, parts, stop)

    def _here(self, samples: Tensor, parts: Sequence[Sequence[int]], stop: bool) -> Iterator[Part]:
        assert self._function is not None
        for rows in parts:
            try:
                values, seconds = values_of(self._function, samples[list(rows)], self.single)
            except UserError as failure:
                yield Part(rows, [], 0.0, failure)
                if stop:
                    return
            else:
                yield Part(rows, values, seconds)

    def _there(self, samples: Tensor, parts: Sequence[Sequence[int]], stop: bool) -> Iterator[Part]:
        from pebble import ProcessExpired

        pool = self._started()
        numbers = samples.numpy()
        futures = {}
        for rows in parts:
            limit = None if self.timeout is None else self.timeout * len(rows)
            futures[pool.schedule(work, args=(numbers[list(rows)], self.single), timeout=limit)] = rows
        for future in as_completed(futures):
            rows = futures[future]
            if future.cancelled():
                continue
            limit = None if self.timeout is None else self.timeout * len(rows)
            try:
                values, seconds = future.result()
            except TimeoutError:
                many = f", of {self.timeout:g} s for each of {len(rows)} samples" if len(rows) > 1 else ""
                yield self._failed(rows, f"took longer than {limit:g} s (--timeout{many})", limit or 0.0)
            except ProcessExpired as error:
                yield self._failed(rows, f"ended its process (exit code {error.exitcode})", 0.0)
            except UserError as failure:
                yield Part(rows, [], 0.0, failure)
            else:
                yield Part(rows, values, seconds)
                continue
            if stop:
                # What runs already is waited for and kept: it is paid for.
                for other in futures:
                    if not other.running():
                        other.cancel()

    def _failed(self, rows: Sequence[int], what: str, seconds: float) -> Part:
        name = self._f if isinstance(self._f, str) else getattr(self._f, "__qualname__", repr(self._f))
        return Part(rows, [], seconds, UserError(f"{name} {what}"))

    def _started(self) -> Any:
        if self._pool is None:
            from pebble import ProcessPool

            self._pool = ProcessPool(self.count, initializer=start, initargs=(self._f,), context=_context())
        return self._pool


def _context() -> Any:
    """How processes begin: never by a fork of this one, whose threads of torch would not survive it."""
    import multiprocessing

    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    # One process loads torch, once; the workers are forked from it, so that one that hung is replaced in no time.
    context.set_forkserver_preload([f"{__package__}.ground"])
    return context


def _sendable(f: Function) -> None:
    import pickle

    try:
        pickle.dumps(f)
    except (AttributeError, TypeError, pickle.PicklingError) as error:
        raise UserError(
            f"other processes cannot be sent {getattr(f, '__qualname__', f)!r}; name it as FILE.py:FUNC, "
            "or define it at the top of a module"
        ) from error
