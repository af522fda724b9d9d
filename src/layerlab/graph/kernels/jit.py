"""How kernels are compiled, and how the compiled code is kept so that every edit is noticed.

numba keeps compiled code in files that bear the function's name, and compiles again when the file that defines the
function changes. But a kernel consists mostly of functions that other files define, and numba does not look at those.
So the name under which a kernel is kept ends in a hash of all files that its own file imports from this package.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any

import numba

_settings: Any = numba.config
# NUMBA_BOUNDSCHECK=1: a kernel that leaves an array raises IndexError, which costs most of its speed.
CHECKED = bool(_settings.BOUNDSCHECK)

inline = numba.njit(nogil=True, error_model="numpy", forceinline=True)

_IMPORT = re.compile(r"^from (layerlab[\w.]*) import ", re.MULTILINE)


@cache
def _source(module: str) -> str:
    spec = find_spec(module)
    read = getattr(spec and spec.loader, "get_source", None)
    # An installation without sources cannot be edited.
    return (read(module) if read else None) or ""


@cache
def stamp(module: str) -> str:
    """A short hash of the sources of a module and of all of this package that it imports, directly or not.

    >>> len(stamp("layerlab.graph.kernels.vector"))
    12
    """
    sources: dict[str, str] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in sources:
            sources[name] = _source(name)
            waiting += _IMPORT.findall(sources[name])
    return hashlib.sha256(repr((sorted(sources.items()), CHECKED)).encode()).hexdigest()[:12]


def kernel(function: Callable[..., None]) -> Any:
    """Compile at the first call with each combination of types, and keep the result between processes."""
    function.__qualname__ = f"{function.__qualname__}_{stamp(function.__module__)}"
    return numba.njit(nogil=True, error_model="numpy", cache=True)(function)
