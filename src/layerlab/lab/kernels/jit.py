"""How kernels are compiled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, update_wrapper
from inspect import signature
from types import FunctionType
from typing import Any

import numba
import numpy as np
from numba.core.options import DefaultOptions
from numpy.typing import NDArray

from layerlab.lab.kernels.dealing import deal
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
# Called by compiled code only.
_UNCALLED = if_known("no_cpython_wrapper", True)
_KERNEL: dict[str, Any] = {"nogil": True, "error_model": "numpy"}


def inline(function: Callable[..., Any]) -> Any:
    """Compile into every caller, without counting references to arrays.

    Each array that a function is given would otherwise cost two atomic operations a call, in the innermost loop. Its
    caller holds them; but an inlined function cannot make any.
    """
    return _njit(nogil=True, error_model="numpy", forceinline=True, **_UNCOUNTED)(function)


def allocating(function: Callable[..., Any]) -> Any:
    """Compile a function of kernels that makes arrays."""
    return _njit(nogil=True, error_model="numpy")(function)


class Kernel:
    """A compiled kernel: a function whose last two arguments say from where to where it works.

    Args:
        function: what to compile. It returns nothing, and raises nothing but when indices are checked.
    """

    def __init__(self, function: Callable[..., None]) -> None:
        dealer = _dealer(function, _njit(**_KERNEL, **_UNCALLED)(function))
        self._dealt = _kept(dealer)
        update_wrapper(self, dealer)

    def __call__(self, *arguments: Any) -> None:
        """``function(*arguments)``."""
        *given, first, last = arguments
        self.deal(given, (first, last), 0)

    def deal(self, arguments: Sequence[Any], cuts: Sequence[int], parallel: int) -> None:
        """``function(*arguments, first, last)`` for all neighbours in ``cuts``; ``parallel`` as in `dealing.deal`."""
        self._dealt(_array(tuple(cuts)), parallel, *arguments)

    @property
    def stats(self) -> Any:
        """Where compiled code is kept, and how often it was found; as numba has it."""
        return self._dealt.stats


@lru_cache(maxsize=1024)
def _array(cuts: tuple[int, ...]) -> NDArray[np.int64]:
    # A training deals the same few over and over, and making an array takes as long as a small kernel's call.
    return np.array(cuts, np.int64)


def kernel(function: Callable[..., None]) -> Any:
    """Compile at the first call with each combination of types, and keep the result between processes.

    A function whose last arguments are ``first`` and ``last`` becomes a `Kernel`.
    """
    if tuple(signature(function).parameters)[-2:] == ("first", "last"):
        return Kernel(function)
    return _kept(function)


def _kept(function: Callable[..., None]) -> Any:
    kept_as = f"{function.__qualname__}_{'checked_' if CHECKED else ''}{stamp(function.__module__)}"
    function.__qualname__ = kept_as
    return _njit(**_KERNEL, cache=True)(function)


def _dealer(function: Callable[..., None], compiled: Any) -> Callable[..., None]:
    """The caller of a kernel: to numba a function of the kernel's file, beside which it is kept."""
    given, code = function.__code__, (_in_turn if CHECKED else _in_parallel).__code__
    code = code.replace(co_filename=given.co_filename, co_firstlineno=given.co_firstlineno)
    made = FunctionType(code, {"deal": deal, "_compiled": compiled})
    update_wrapper(made, function)
    del vars(made)["__wrapped__"]  # its arguments are not those of the kernel
    return made


_compiled: Any = None  # of each dealer its own


def _in_parallel(cuts: Any, parallel: int, *arguments: Any) -> None:
    deal(_compiled, arguments, cuts, parallel)


def _in_turn(cuts: Any, parallel: int, *arguments: Any) -> None:
    # An IndexError tells where; `deal` only that there was one.
    for part in range(len(cuts) - 1):
        _compiled(*arguments, cuts[part], cuts[part + 1])
