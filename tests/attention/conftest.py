"""What the tests of attention share: the modules beside them, and the two paths of linear attention."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerlab.lab import kernels

# pytest's importlib mode leaves sys.path alone.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(params=["kernels", "plain torch"])
def either_path(request: pytest.FixtureRequest) -> Iterator[None]:
    """The test runs on the kernels, and on plain torch, which serves other devices."""
    if request.param == "kernels":
        yield
    else:
        with kernels.disabled():
            yield
