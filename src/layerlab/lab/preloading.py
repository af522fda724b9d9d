"""Imports of worker processes, done once and while this process does its own. Light to import."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import threading
from collections.abc import Sequence
from multiprocessing import forkserver

_begun = False


def import_ahead(modules: Sequence[str]) -> None:
    """Begin to import modules in a process from which those of `layerlab.lab.race.Workers` are then forked.

    That process computes nothing, so that it has no threads which a fork would lose; it ends with this one. Where it
    cannot be had, nothing happens, and every worker imports for itself.

    Args:
        modules: names; what cannot be imported is left out.
    """
    global _begun
    main = threading.current_thread() is threading.main_thread()
    if _begun or not main or sys.platform != "linux":
        return
    forkserver.set_forkserver_preload(list(modules))
    # Ctrl-C reaches the whole process group, and would end it with a traceback.
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        forkserver.ensure_running()
    finally:
        signal.signal(signal.SIGINT, previous)
    _begun = True


def start_method() -> str:
    """How worker processes are started: forked from what `import_ahead` began, or from nothing.

    Never forked from this process: a fork of one that has used torch's threads can hang.
    """
    return "forkserver" if _begun and "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
