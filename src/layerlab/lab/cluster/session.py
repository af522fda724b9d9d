"""A connection to Ray: one of our own, started and stopped with the block, or a cluster that is there."""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import shutil
import signal
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from layerlab.errors import UserError
from layerlab.lab.cluster.address import check_reachable, cluster_address, mend

# Before the module is imported: it reads them once. No report of our use to Ray's makers; no Ray of this machine in the
# place of a cluster that was lost; and no word of a process that died on standard output, where tables and JSON go:
# every line that matches the expression is dropped.
_SETTINGS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_AUTO_CONNECT": "0", "RAY_DEDUP_LOGS_SKIP_REGEX": "."}
_LOGGED = 40  # errors only
# What stands between us and an answer: no such cluster, another version of Ray or Python, no right to join. Ray ends
# a process that cannot connect by a signal to itself.
_FAILURES = (OSError, RuntimeError, ValueError, AssertionError, SystemExit)


def ray_module() -> ModuleType:
    """The module ray.

    Raises:
        UserError: it is not installed.
    """
    try:
        import ray
    except ImportError:
        raise UserError(
            'a race on a cluster needs Ray, which is not installed; install it with: pip install "layerlab[ray]"'
        ) from None
    return ray


@contextlib.contextmanager
def connected(on: str, processes: int) -> Iterator[bool]:
    """Be connected to Ray within the block. Yields whether it is on this machine alone, started for this block.

    A process that is connected already stays so; nothing is started or stopped then.

    Args:
        on: "ray" or ``ray://HOST:PORT``, see `layerlab.lab.cluster.address.cluster_address`.
        processes: tasks at a time, of a Ray that is started.

    Raises:
        UserError: Ray is not installed, or there is no cluster at the address that would have us.
    """
    address = cluster_address(on)
    with _environment(_SETTINGS):
        ray = ray_module()
        if ray.is_initialized():
            yield False
            return
        with contextlib.ExitStack() as stack:
            stack.enter_context(_own_handlers())
            if address is None:
                _start(stack, ray, processes)
            else:
                _join(stack, ray, address)
            yield address is None


def _start(stack: contextlib.ExitStack, ray: ModuleType, processes: int) -> None:
    # A place of its own, so that neither logs nor the address stay behind, and a Ray that the person runs on this
    # machine stays the one that others find. Short, as sockets lie in it: their paths have 107 characters at most.
    short = "/tmp" if Path("/tmp").is_dir() else None
    place = tempfile.mkdtemp(prefix="layerlab-ray-", dir=short)
    stack.callback(_remove, Path(place))
    if not any(name.startswith("RAY_AUTH_") for name in os.environ):
        # Ray listens on the network, and runs what is sent to it: from us alone. It switches the check on by itself.
        stack.enter_context(_environment({"RAY_AUTH_TOKEN": _token(), "RAY_AUTH_MODE": None}))
    stack.callback(ray.shutdown)
    with _failing_as("Ray could not be started"):
        ray.init(
            address="local",
            num_cpus=processes,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=_LOGGED,
            _temp_dir=place,
        )


def _join(stack: contextlib.ExitStack, ray: ModuleType, address: str) -> None:
    check_reachable(address)
    stack.callback(ray.shutdown)
    otherwise = f"{mend(address)} (one that asks for a key needs RAY_AUTH_MODE=token)"
    with _failing_as(f"no Ray took us at {address}", otherwise), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ray.init(address=address, log_to_driver=False, logging_level=_LOGGED)


def _remove(place: Path) -> None:
    # The last of Ray's processes may still write a line into it.
    for _ in range(50):
        shutil.rmtree(place, ignore_errors=True)
        if not place.exists():
            return
        time.sleep(0.1)


@contextlib.contextmanager
def _failing_as(what: str, otherwise: str = "see what it says") -> Iterator[None]:
    try:
        yield
    except _FAILURES as error:
        lines = str(error).strip().splitlines()
        raise UserError(f"{what} ({' '.join(lines[:4]) or type(error).__name__}); {otherwise}") from None


@functools.cache
def _token() -> str:
    # One a process: Ray reads it once.
    return secrets.token_hex(32)


@contextlib.contextmanager
def _environment(wanted: dict[str, str | None] | dict[str, str]) -> Iterator[None]:
    """Variables that are set within the block where the person has not set them; None takes them away behind it."""
    ours = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update({name: value for name, value in ours.items() if value is not None})
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)


@contextlib.contextmanager
def _own_handlers() -> Iterator[None]:
    """Ray puts a handler of its own on SIGTERM, and leaves it there."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: Any = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
