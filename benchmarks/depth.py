"""How well is SGC's best K predicted before training? Ten graphs, fixed before any of them was looked at.

The list, the measure and what counts as a hit were committed before the first run; the predictor was chosen on
other graphs (other seeds and other parameters). Nothing is tuned on the ten.
"""

from __future__ import annotations

from collections.abc import Callable

from layerlab.graph.datasets import NodeDataset, load
from layerlab.graph.generate import bipartite_model, block_model, cycle_model, disjoint_union

# Split 0 is the data set's own, from which K is predicted; splits 1 … 4 are `resampled_split` of it at that seed. K is
# measured over all five, each with the initial weights of its number.
SPLITS = 5
DEPTHS = range(1, 33)


def _union() -> NodeDataset:
    return disjoint_union(
        [
            block_model(800, homophily=0.9, degree=5.0, signal=1.0, seed=107),
            cycle_model(600, signal=1.0, seed=108),
            bipartite_model(600, homophily=0.7, degree=4.0, signal=1.0, seed=109),
        ],
        name="union",
    )


# A hit: the predicted K is within 1 of a depth whose mean validation accuracy over the splits is at least the best
# depth's minus that one's standard error.
TEN: dict[str, Callable[[], NodeDataset]] = {
    "cora": lambda: load("cora"),
    "citeseer": lambda: load("citeseer"),
    "pubmed": lambda: load("pubmed"),
    "homophilous": lambda: block_model(2000, homophily=0.8, degree=6.0, signal=2.0, seed=101),
    "homophilous-noisy": lambda: block_model(2000, homophily=0.8, degree=6.0, signal=0.5, seed=102),
    "heterophilous": lambda: block_model(2000, homophily=0.05, degree=10.0, signal=1.5, seed=103),
    "bipartite": lambda: bipartite_model(2000, homophily=0.75, degree=6.0, signal=1.0, seed=104),
    "cycle": lambda: cycle_model(2000, signal=1.0, seed=105),
    "union": _union,
    "no-signal": lambda: block_model(2000, homophily=0.25, degree=6.0, signal=1.5, seed=106),
}
