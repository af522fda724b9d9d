"""Sets of connected nodes, and whether each is bipartite, in one pass over the edges. This module imports numba."""

from __future__ import annotations

from typing import Any

from layerlab.lab.kernels.jit import inline, kernel


@inline
def _root(parent: Any, colour: Any, node: Any) -> Any:
    """The root of a node's set; paths are halved on the way, colours stay relative to the parents."""
    while parent[node] != node:
        above = parent[node]
        if parent[above] != above:
            colour[node] ^= colour[above]
            parent[node] = parent[above]
        node = parent[node]
    return node


@inline
def _distance(parent: Any, colour: Any, node: Any) -> Any:
    """The colour of a node relative to the root of its set."""
    found = colour[node] & 0
    while parent[node] != node:
        found ^= colour[node]
        node = parent[node]
    return found


@kernel
def unite(source: Any, target: Any, parent: Any, colour: Any, odd: Any) -> None:
    """Join the sets of each edge's ends. Roots are smallest nodes; ``odd`` is 1 at a root whose set has an odd cycle.

    Args:
        source, target: the edges.
        parent: (n) the forest, at first each node its own.
        colour: (n) int8, 0 or 1, of each node relative to its parent.
        odd: (n) int8.
    """
    for i in range(source.size):
        u, v = source[i], target[i]
        one, other = _root(parent, colour, u), _root(parent, colour, v)
        differ = _distance(parent, colour, u) ^ _distance(parent, colour, v)
        if one == other:
            if differ == 0:
                odd[one] = 1
        else:
            if one > other:
                one, other = other, one
            parent[other] = one
            colour[other] = differ ^ 1
            odd[one] |= odd[other]


@kernel
def flatten(parent: Any, colour: Any, odd: Any) -> None:
    """Let every node's parent be its root, and its colour relative to that."""
    for node in range(parent.size):
        # A parent is smaller than its child, so it is flat already.
        above = parent[node]
        if above != node:
            colour[node] ^= colour[above]
            parent[node] = parent[above]
            odd[node] = 0
