"""Results made ahead of their use, in background threads, in the order in which they are wanted."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def ahead(make: Callable[[int], T], count: int, *, depth: int, workers: int = 1) -> Generator[T, None, None]:
    """``make(0), ..., make(count - 1)``, of which up to ``depth`` are made while the caller uses an earlier one.

    Threads: what is made has to release the interpreter's lock, as kernels do, or nothing is gained. However the
    iteration ends (an error in ``make``, which is raised here; an error or Ctrl-C in the caller), no thread is left
    behind, and what was not begun is not made.

    Args:
        make: thread-safe where there are several workers; its result depends on nothing but its argument.
        count: how many.
        depth: at least 1; so many results are in memory beside the one in use.
        workers: threads.

    >>> list(ahead(lambda i: i * i, 4, depth=2))
    [0, 1, 4, 9]
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix="layerlab-ahead")
    waiting: deque[Future[T]] = deque()
    try:
        for position in range(count):
            waiting.append(pool.submit(make, position))
            if len(waiting) > depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
