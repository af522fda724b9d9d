"""How kernels are compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba

from layerlab.graph.kernels.kept import stamp

_settings: Any = numba.config
# NUMBA_BOUNDSCHECK=1: a kernel that leaves an array raises IndexError, which costs most of its speed.
CHECKED = bool(_settings.BOUNDSCHECK)

inline = numba.njit(nogil=True, error_model="numpy", forceinline=True)


def kernel(function: Callable[..., None]) -> Any:
    """Compile at the first call with each combination of types, and keep the result between processes."""
    kept_as = f"{function.__qualname__}_{'checked_' if CHECKED else ''}{stamp(function.__module__)}"
    function.__qualname__ = kept_as
    return numba.njit(nogil=True, error_model="numpy", cache=True)(function)
