"""Random graphs for the claims, and one measurement of a claim on one of them."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from layerlab.claims import Claim, Outcome
from layerlab.graph.structure import Graph


def measured(claim: Claim, graph: Graph, seed: int = 0, **replaced: object) -> Outcome:
    return Outcome(claim.relation, claim.measure(graph, np.random.default_rng(seed), **replaced), seed)


@st.composite
def graphs(draw: st.DrawFn, directed: bool = False, lowest: float = 1e-3) -> Graph:
    """Up to 12 nodes: isolated ones, self-loops, weights and disconnected parts included."""
    nodes = draw(st.integers(1, 12))
    ids = st.integers(0, nodes - 1)
    pairs = draw(st.lists(st.tuples(ids, ids), max_size=30, unique_by=lambda pair: tuple(sorted(pair))))
    weights = st.lists(st.floats(lowest, 1e3), min_size=len(pairs), max_size=len(pairs))
    return Graph.from_edges(
        [u for u, _ in pairs],
        [v for _, v in pairs],
        num_nodes=nodes,
        weight=draw(st.none() | weights) if pairs else None,
        directed=directed,
    )
