"""Rows dealt to threads: parts of equal work, run by the caller and by threads that wait for work.

There are as many parts as torch has threads (``torch.set_num_threads``). Compiled kernels run on the threads of torch's
own OpenMP library (see `openmp`). Where that cannot be used, and for plain functions, there are ordinary threads, since
kernels release the interpreter's lock. A part that none of those has begun when the caller is done with its own, the
caller does itself: a busy machine, or a part that deals out parts in turn, costs time and never a standstill.

Measured on two cores of a virtual machine (AMD EPYC 7003): handing out a part and hearing of its end takes 35 to 50
microseconds between ordinary threads, 200 when the other core sleeps; one or two between those of OpenMP, until they
sleep too. Time on one thread and on two ordinary ones, in microseconds, by multiply-adds:

======================  ==========  ===========  ===========  ===========
kernel                  2^19        2^20         2^21         2^22
======================  ==========  ===========  ===========  ===========
product, 16 columns     60, 130     120, 180     250, 390     750, 670
ReLU, 4 an element      65, 100     60, 105      85, 130      215, 190
dropout, 4 an element   210, 260    360, 270     700, 420     1470, 770
attention, 2 heads of 8 470, 640    1370, 1090   2000, 1230   4950, 2390
======================  ==========  ===========  ===========  ===========

So a second thread pays from about 300 microseconds on. With OpenMP it could pay earlier, but what one core has written
comes slowly to the other: a step of GAT on Cora, whose kernels take less, takes 1.5 ms on one thread, and 1.8 ms with
all kernels dealt out that take 20, 50 or 100 microseconds. Callers say how long a kernel takes on one thread, from what
was measured here, within a factor of two.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable, Sequence
from itertools import pairwise
from queue import SimpleQueue
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from layerlab.lab.kernels import openmp

# Nanoseconds of work below which a second thread does not pay.
SMALL = 300_000
# Parts end on multiples of this many rows, which are whole cache lines at any width: 16 numbers have 64 bytes or 128.
_ALIGNED = 16


class _Task:
    """A call that another thread makes, unless the one that waits for it comes first."""

    def __init__(self, function: Callable[..., None], arguments: Sequence[Any]) -> None:
        self.function, self.arguments = function, arguments
        self.begun, self.done = threading.Lock(), threading.Lock()
        self.done.acquire()
        self.finished = False
        self.error: BaseException | None = None

    def run(self) -> None:
        if not self.begun.acquire(blocking=False):
            return
        try:
            self.function(*self.arguments)
        except BaseException as error:  # noqa: BLE001 (it is raised again in the thread that waits)
            self.error = error
        finally:
            self.finished = True
            self.done.release()

    def wait(self) -> BaseException | None:
        """Return when the call has ended, whatever interrupts: it writes to memory that is used again."""
        interruption: BaseException | None = None
        while not self.finished:
            try:
                self.done.acquire()
            except BaseException as error:  # noqa: BLE001 (Ctrl-C, or what a signal's handler raised)
                interruption = error
        return self.error or interruption


# None ends the worker that takes it.
_tasks: SimpleQueue[_Task | None] = SimpleQueue()
_workers: list[threading.Thread] = []
_starting = threading.Lock()


def _forget() -> None:
    """A forked child has none of its parent's threads."""
    global _tasks, _starting
    _tasks, _starting = SimpleQueue(), threading.Lock()
    _workers.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _work(tasks: SimpleQueue[_Task | None]) -> None:
    while (task := tasks.get()) is not None:
        task.run()


@atexit.register
def _end() -> None:
    """An interpreter that ends while a thread waits inside it cuts that thread off wherever it is."""
    ended, _workers[:] = list(_workers), []
    for _ in ended:
        _tasks.put(None)
    for worker in ended:
        worker.join()


def _need(count: int) -> None:
    with _starting:
        while len(_workers) < count:
            worker = threading.Thread(target=_work, args=(_tasks,), name="layerlab-kernels", daemon=True)
            worker.start()
            _workers.append(worker)


def parts_of(crow: NDArray[Any], work: int) -> list[int]:
    """Where to cut rows so that parts hold about as many entries (and rows): ``[0, ..., rows]``.

    Args:
        crow: ``(rows + 1,)`` row offsets.
        work: nanoseconds on one thread, roughly.
    """
    rows = len(crow) - 1
    if work < SMALL or (threads := torch.get_num_threads()) == 1:
        return [0, rows]
    # An empty row costs something, too: count each row as one entry more.
    shares = (int(crow[-1]) + rows) * np.arange(1, threads) / threads
    cuts = np.searchsorted(crow[:-1] + np.arange(rows), shares)
    cuts = np.minimum((cuts + _ALIGNED // 2) // _ALIGNED * _ALIGNED, rows)
    return [0, *cuts.tolist(), rows]


def even_parts(count: int, work: int, multiple: int = 1) -> list[int]:
    """``0 ... count`` cut evenly, on multiples of ``multiple``; ``work`` as in `parts_of`."""
    if work < SMALL:
        return [0, count]
    threads = torch.get_num_threads()
    pieces = -(-count // multiple)
    return [min(count, pieces * part // threads * multiple) for part in range(threads)] + [count]


def run(kernel: Callable[..., None], arguments: Sequence[Any], cuts: Sequence[int]) -> None:
    """``kernel(*arguments, first, last)`` for every part; returns when all are done."""
    if (deal := getattr(kernel, "deal", None)) is not None and (address := openmp.parallel()):
        deal(arguments, cuts, address)
        return
    if len(cuts) == 2:
        if cuts[1] > cuts[0]:
            kernel(*arguments, cuts[0], cuts[1])
        return
    parts = [(a, b) for a, b in pairwise(cuts) if b > a]
    _need(len(parts) - 1)
    tasks = [_Task(kernel, (*arguments, *part)) for part in parts]
    for task in tasks[1:]:
        _tasks.put(task)
    for task in tasks:
        task.run()
    errors = [task.wait() for task in tasks]
    for error in errors:
        if error is not None:
            raise error
