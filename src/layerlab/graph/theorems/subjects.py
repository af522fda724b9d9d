"""The graphs on which claims are checked by default, and the hypotheses that most claims share."""

from __future__ import annotations

import numpy as np

from layerlab.graph.structure import Graph

# Beyond these, products of weights and of inverse square roots of degrees leave float64.
_SMALLEST, _LARGEST = 1e-140, 1e140


def unmet(graph: Graph, *, negative: bool = False) -> str | None:
    """The hypothesis of an undirected graph with ordinary weights that ``graph`` does not satisfy, if any.

    Args:
        graph: any graph.
        negative: whether negative weights are allowed.
    """
    if graph.num_nodes == 0:
        return "the graph has no node"
    if graph.directed:
        return "the graph is directed"
    if graph.weights is None:
        return None
    sizes = np.abs(graph.weights[graph.weights != 0])
    if sizes.size and not (sizes.min() >= _SMALLEST and sizes.max() <= _LARGEST):
        return f"a weight has a magnitude outside {_SMALLEST:g} to {_LARGEST:g}"
    if not negative and (graph.weights < 0).any():
        return "a weight is negative"
    return None


def path(nodes: int) -> Graph:
    return Graph.from_edges(np.arange(nodes - 1), np.arange(1, nodes), num_nodes=nodes)


def cycle(nodes: int) -> Graph:
    return Graph.from_edges(np.arange(nodes), (np.arange(nodes) + 1) % nodes)


def complete(nodes: int) -> Graph:
    return Graph.from_edges(*np.triu_indices(nodes, k=1))


def star(leaves: int) -> Graph:
    return Graph.from_edges(np.zeros(leaves, dtype=np.int64), np.arange(1, leaves + 1))


def bare(nodes: int) -> Graph:
    """Nodes without edges."""
    return Graph.from_edges([], [], num_nodes=nodes)


def complete_bipartite(left: int, right: int) -> Graph:
    source, target = np.indices((left, right)).reshape(2, -1)
    return Graph.from_edges(source, target + left)


def near_bipartite(left: int, right: int) -> Graph:
    """A complete bipartite graph and one edge inside a part: an eigenvalue close to −1, but none at it."""
    source, target, _ = complete_bipartite(left, right).edges()
    return Graph.from_edges(np.append(source, 0), np.append(target, 1))


def union(*graphs: Graph) -> Graph:
    """The graphs side by side, unweighted."""
    offsets = np.cumsum([0, *(graph.num_nodes for graph in graphs)])
    ends = [graph.edges()[:2] for graph in graphs]
    source, target = (
        np.concatenate([end[side] + offset for end, offset in zip(ends, offsets[:-1], strict=True)])
        for side in (0, 1)
    )
    return Graph.from_edges(source, target, num_nodes=int(offsets[-1]))


def erdos_renyi(nodes: int, probability: float) -> Graph:
    """G(n, p) with a seed of its own: one fixed graph."""
    source, target = np.triu_indices(nodes, k=1)
    kept = np.random.default_rng(20260101).random(source.size) < probability
    return Graph.from_edges(source[kept], target[kept], num_nodes=nodes)


def mixed() -> Graph:
    """A weighted triangle, an edge with a self-loop at one end, and three isolated nodes."""
    return Graph.from_edges([0, 1, 2, 3, 3], [1, 2, 0, 4, 3], num_nodes=8, weight=[0.5, 2.0, 1e-3, 7.0, 1.0])


def directed() -> Graph:
    return Graph.from_edges([0, 1, 2, 0], [1, 2, 0, 3], directed=True)


def negative_weight() -> Graph:
    return Graph.from_edges([0, 1, 2], [1, 2, 0], weight=[1.0, 1.0, -0.5])


def cora() -> Graph:
    # Here, because a data set is read from disk only when a check asks for it.
    from layerlab.graph.datasets import load

    return load("cora").graph
