"""What the tests of the lab share: the modules beside them, and a Ctrl-C that works."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

# pytest's importlib mode leaves sys.path alone; worker processes get a copy of it.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def ctrl_c() -> Iterable[None]:
    """Ctrl-C raises KeyboardInterrupt, also where the tests were started in the background and ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
