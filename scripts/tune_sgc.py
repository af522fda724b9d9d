"""How SGC's weight decay was chosen: the best validation accuracy on the public split. Test labels are not read.

Usage: python scripts/tune_sgc.py cora citeseer pubmed
"""

from __future__ import annotations

import sys
from dataclasses import replace

from layerlab.graph.datasets import load
from layerlab.graph.experiments import train
from layerlab.graph.settings import settings_for

GRID = (5e-6, 1.3e-5, 3e-5, 1e-4, 2e-4)

for name in sys.argv[1:]:
    dataset = load(name)
    scores = {}
    for decay in GRID:
        settings = replace(settings_for("sgc", "public", name), weight_decay=decay)
        scores[decay] = train(dataset, settings, "public", seed=0).metrics["validation_accuracy"]
    best = max(GRID, key=lambda decay: scores[decay])
    print(name, {f"{decay:g}": score for decay, score in scores.items()}, f"chosen {best:g}")
