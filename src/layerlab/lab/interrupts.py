"""Ctrl-C that waits until what was done can be kept."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interruptible(*, enabled: bool) -> Iterator[threading.Event]:
    """Let the first Ctrl-C wait for the block's end, so that a whole state can be saved; the second stops at once.

    The block looks at the event and ends itself; KeyboardInterrupt is raised then. Python delivers signals to the
    main thread only; elsewhere, where nothing would be saved, and where somebody has switched Ctrl-C off, it keeps
    its meaning.
    """
    interrupted = threading.Event()
    previous = signal.getsignal(signal.SIGINT)
    main = threading.current_thread() is threading.main_thread()
    if not enabled or not main or previous in (signal.SIG_IGN, None):
        yield interrupted
        return

    def remember(number: int, frame: FrameType | None) -> None:
        interrupted.set()
        signal.signal(signal.SIGINT, previous)

    signal.signal(signal.SIGINT, remember)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, previous)
    if interrupted.is_set():
        raise KeyboardInterrupt
