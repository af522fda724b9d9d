"""Memory for large results in huge pages, where Linux gives them to those who ask.

Memory fresh from the system is mapped page by page as it is first written, which takes about 2 microseconds for 4 KiB
on the virtual machine of `layerlab.lab.kernels.threads`: to fill 33 MB takes 18 to 20 ms, and 4 in pages of 2 MiB.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from functools import cache

from torch import Tensor

_ADVICE = 14  # MADV_HUGEPAGE
_PAGE = 4096
# Bytes from which on it is worth a call: huge pages are aligned, so that a smaller piece may hold none.
_LARGE = 1 << 22


@cache
def _advise() -> Callable[[int, int], object] | None:
    if sys.platform != "linux":
        return None
    try:
        function = ctypes.CDLL(None).madvise
    except (OSError, AttributeError):
        return None
    function.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return lambda start, length: function(start, length, _ADVICE)


def empty(like: Tensor, *sizes: int) -> Tensor:
    """As ``like.new_empty(sizes)`` on a CPU. A system that refuses huge pages gives small ones.

    >>> import torch
    >>> empty(torch.ones(1), 2, 3).shape
    torch.Size([2, 3])
    """
    out = like.new_empty(sizes)
    size = out.nbytes
    if size >= _LARGE and (advise := _advise()) is not None:
        start = -(-out.data_ptr() // _PAGE) * _PAGE
        advise(start, (out.data_ptr() + size - start) // _PAGE * _PAGE)
    return out
