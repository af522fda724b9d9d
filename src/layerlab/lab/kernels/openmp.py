"""The OpenMP library that torch runs its own operations on.

Its threads wait for work without sleeping for some milliseconds after each operation. Threads of ours beside them would
share the cores with them: on two cores a U-Net trained at 20 images a second that way, and at 28 on torch's own.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache
from pathlib import Path

import torch

_forked = False


def parallel() -> int:
    """Address of ``GOMP_parallel`` in the library that torch is linked with; 0 where it cannot be used.

    GCC's libgomp has that function, and so have LLVM's and Intel's on Linux. A forked child has none of the library's
    threads, and would wait for them forever.
    """
    return 0 if _forked else _address()


@cache
def _address() -> int:
    for file in sorted((Path(torch.__file__).parent / "lib").glob("libtorch_cpu.*")):
        try:
            function = ctypes.CDLL(str(file)).GOMP_parallel
        except (OSError, AttributeError):
            continue
        return ctypes.cast(function, ctypes.c_void_p).value or 0
    return 0


def _forget() -> None:
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
