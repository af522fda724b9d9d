"""The OpenMP library that torch runs its own operations on.

Its threads wait for work without sleeping for some milliseconds after each operation. Threads of ours beside them would
share the cores with them: on two cores a U-Net trained at 20 images a second that way, and at 28 on torch's own.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch

_forked = False


def parallel() -> int:
    """Address of ``GOMP_parallel`` in the library that torch is linked with; 0 where it cannot be used.

    GCC's libgomp has that function, and so have LLVM's and Intel's on Linux. A forked child has none of the library's
    threads, and would wait for them forever.
    """
    return 0 if _forked else _address()


@contextmanager
def alone() -> Iterator[None]:
    """Let torch's operations of this thread use no other, for the block: for work too small for two.

    What is small takes longer on two threads where one has all the numbers in its cache, and many times longer while
    the other's core is busy, since each operation waits for the last thread. ``torch.set_num_threads`` does the same
    and more, some of which costs: it throws away what oneDNN has prepared.
    """
    threads, limit = torch.get_num_threads(), _limit()
    if threads == 1 or limit is None:
        yield
        return
    limit(1)
    try:
        yield
    finally:
        limit(threads)


@cache
def _address() -> int:
    function = _found("GOMP_parallel")
    return 0 if function is None else ctypes.cast(function, ctypes.c_void_p).value or 0


@cache
def _limit() -> Callable[[int], object] | None:
    return _found("omp_set_num_threads")


def _found(name: str) -> Any:
    """A function of the library that torch is linked with."""
    for file in sorted((Path(torch.__file__).parent / "lib").glob("libtorch_cpu.*")):
        try:
            return ctypes.CDLL(str(file))[name]
        except (OSError, AttributeError):
            continue
    return None


def _forget() -> None:
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
