"""Where a curve passes a threshold."""

from __future__ import annotations

import numpy as np

from layerlab.gradflow.recurrent.horizon import Horizon, above, below


def test_horizons_and_verdicts() -> None:
    assert below(np.array([0.0, -1.0, -2.0]), 0.01) == Horizon(None, None)  # two points are no line
    assert below(np.log([1, 0.9, 0.8, 0.9, 1.0, 1.1]), 0.01) == Horizon(None, None)
    assert below(-1e-6 * np.arange(50), 0.01) == Horizon(None, None)
    assert below(np.array([0.0, -5.0, -np.inf, np.nan]), 0.01) == Horizon(1, 1)
    assert above(0.1 * np.arange(20), 100.0) == Horizon(47, 47, extrapolated=True)
    assert above(np.log([1.0, 200.0, 0.1]), 100.0) == Horizon(1, None)
