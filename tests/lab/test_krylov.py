"""The reach of Lanczos' method; that it holds is measured where the method is (tests/graph/test_spectrum.py)."""

from __future__ import annotations

from layerlab.lab.krylov import reach


def test_the_reach_is_not_exceeded() -> None:
    assert reach(100, 3) == 1.0
    assert reach(10**6, 200) < 0.01
    assert reach(10, 100) < reach(1000, 100) < reach(1000, 50)
