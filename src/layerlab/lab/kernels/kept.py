"""Under which name compiled kernels are kept on disk, and whether they are there already. Does not import numba.

numba keeps compiled code in files that bear the function's name, and compiles again when the file that defines the
function changes. But a kernel consists mostly of functions that other files define, and numba does not look at those.
So the name under which a kernel is kept ends in a hash of all files that its own file imports from this package.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

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

    >>> len(stamp("layerlab.lab.kernels.vector"))
    12
    """
    sources: dict[str, str] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in sources:
            sources[name] = _source(name)
            waiting += _IMPORT.findall(sources[name])
    return hashlib.sha256(repr(sorted(sources.items())).encode()).hexdigest()[:12]


def are_kept(modules: Iterable[str]) -> bool:
    """Whether each module has a compiled kernel on disk: if so, first calls take milliseconds, not seconds."""
    return all(_is_kept(module) for module in modules)


def _is_kept(module: str) -> bool:
    spec = find_spec(module)
    # Where numba keeps code if it can write there: known without importing numba.
    beside = None if spec is None or spec.origin is None else Path(spec.origin).parent / "__pycache__"
    if beside is not None and "NUMBA_CACHE_DIR" not in os.environ and _holds(beside, module):
        return True
    places = {
        value.stats.cache_path for value in vars(import_module(module)).values() if hasattr(value, "stats")
    }
    return any(_holds(Path(place), module) for place in places if place is not None)


def _holds(folder: Path, module: str) -> bool:
    return any(folder.glob(f"*_{stamp(module)}-*.nbi"))
