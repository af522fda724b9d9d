"""How kernels are compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
from numba.core.options import DefaultOptions

from layerlab.lab.kernels.kept import stamp

_settings: Any = numba.config
# NUMBA_BOUNDSCHECK=1: a kernel that leaves an array raises IndexError, which costs most of its speed.
CHECKED = bool(_settings.BOUNDSCHECK)

_njit: Any = numba.njit


def if_known(option: str, value: Any) -> dict[str, Any]:
    """An option of numba's that is not public, where this numba has it: without it code is slower, and right.

    >>> if_known("of_another_version", False)
    {}
    """
    return {option: value} if hasattr(DefaultOptions, option) else {}


_UNCOUNTED = if_known("_nrt", False)


def inline(function: Callable[..., Any]) -> Any:
    """Compile into every caller, without counting references to arrays.

    Each array that a function is given would otherwise cost two atomic operations a call, in the innermost loop. Its
    caller holds them; but an inlined function cannot make any.
    """
    return _njit(nogil=True, error_model="numpy", forceinline=True, **_UNCOUNTED)(function)


def allocating(function: Callable[..., Any]) -> Any:
    """Compile a function of kernels that makes arrays."""
    return _njit(nogil=True, error_model="numpy")(function)


def kernel(function: Callable[..., None]) -> Any:
    """Compile at the first call with each combination of types, and keep the result between processes."""
    kept_as = f"{function.__qualname__}_{'checked_' if CHECKED else ''}{stamp(function.__module__)}"
    function.__qualname__ = kept_as
    return numba.njit(nogil=True, error_model="numpy", cache=True)(function)
