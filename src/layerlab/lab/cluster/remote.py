"""What is sent to a cluster: functions that bring themselves along, as layerlab may be missing there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Versions = dict[str, str | None]

COMPARED = ("layerlab", "torch", "numpy")
"""The packages whose versions must be the same on every machine, or a race would compare unlike things."""


def functions() -> tuple[Callable[[], Versions], Callable[..., tuple[bool, Any]]]:
    """Two functions that import nothing of this package, so that Ray sends their code and not their names.

    The first gives the versions there are, None for what is missing. The second takes the versions wanted, a working
    folder (which it leaves aside where there is none), a pickled function and its arguments: ``(True, result)``, or
    ``(False, versions)`` where the versions are others.
    """
    names = COMPARED

    def versions() -> dict[str, str | None]:
        from importlib import import_module, metadata

        found: dict[str, str | None] = {}
        for name in names:
            try:
                # Ours may be run from a checkout, which has no metadata; to import the others would take seconds.
                found[name] = import_module(name).__version__ if name == names[0] else metadata.version(name)
            except (ImportError, metadata.PackageNotFoundError):
                found[name] = None
        # "2.13.0+cpu" and "2.13.0" are builds of one version.
        return {name: version and version.partition("+")[0] for name, version in found.items()}

    def call(wanted: dict[str, str | None], folder: str, payload: bytes, *arguments: Any) -> tuple[bool, Any]:
        import contextlib
        import os
        import pickle

        found = versions()
        if found != wanted:
            return False, found
        with contextlib.suppress(OSError):
            os.chdir(folder)
        return True, pickle.loads(payload)(*arguments)

    return versions, call


def differences(found: Mapping[str, str | None], here: Mapping[str, str | None]) -> str:
    """What differs, in words; empty where nothing does.

    >>> differences({"layerlab": None, "torch": "2.12.0"}, {"layerlab": "0.1.0", "torch": "2.13.0"})
    'no layerlab (here 0.1.0), torch 2.12.0 (here 2.13.0)'
    """
    return ", ".join(
        f"{f'{name} {found[name]}' if found.get(name) else f'no {name}'} (here {version})"
        for name, version in here.items()
        if found.get(name) != version
    )
