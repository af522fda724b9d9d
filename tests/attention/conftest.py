"""Fixtures for tests of attention."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from layerlab.lab import kernels


@pytest.fixture(params=["kernels", "plain torch"])
def path(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each test once on either path of linear attention."""
    if request.param == "kernels":
        yield request.param
        return
    with kernels.disabled():
        yield request.param
