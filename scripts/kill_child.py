"""`layerlab` for kill.py: the same command line, but checkpoints are written at every epoch or update.

Otherwise runs that are short enough to be repeated would hardly ever have one. The workers of a race import this file
too.
"""

from __future__ import annotations

import layerlab.estimators.policy.training
import layerlab.lab.training

for _fit in (layerlab.lab.training.fit, layerlab.estimators.policy.training.train):
    assert _fit.__kwdefaults__ is not None
    assert "every_seconds" in _fit.__kwdefaults__
    _fit.__kwdefaults__["every_seconds"] = 0.0

if __name__ == "__main__":
    from layerlab.cli import main

    main()
