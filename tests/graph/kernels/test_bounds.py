"""No kernel leaves an array, and one that did would be caught."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from layerlab.graph.kernels import products_cpu
from layerlab.lab.kernels import jit


def test_no_kernel_leaves_an_array() -> None:
    # Compiled with checks, and kept: half a minute the first time, a few seconds after. Indices are the same however
    # much the compiler optimises.
    run = subprocess.run(
        [sys.executable, "-W", "error", Path(__file__).with_name("bounds.py")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "NUMBA_BOUNDSCHECK": "1", "NUMBA_OPT": "1"},
    )
    assert run.returncode == 0, run.stderr


def test_nothing_is_checked_by_default() -> None:
    assert not jit.CHECKED


def test_an_array_with_gaps_is_refused_when_a_kernel_is_compiled() -> None:
    x = np.ones((4, 6), np.float32)[:, ::2]
    with pytest.raises(TypeError, match="contiguous"):
        products_cpu.column_sums(x, np.empty((1, 3), np.float32), 4, 0, 1)
