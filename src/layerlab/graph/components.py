"""Connected components, and which of them are bipartite: what the spectrum's ends say, found by counting."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from layerlab.graph.structure import Graph

# Stored entries up to which everything is found by scipy at once, in about 100 bytes each.
_MOST_IN_MEMORY = 1 << 24


@dataclass(frozen=True, eq=False)
class Components:
    """The connected components of a graph, numbered by their smallest node.

    Attributes:
        labels: (n) int64, the component of each node.
        sizes: (count) int64, nodes.
        edges: (count) int64, edges (arcs when directed); a self-loop counts once.
        bipartite: (count) bool, whether the nodes can be coloured by two colours so that no edge joins equal
            ones. A self-loop is an odd cycle; a lone node without one is bipartite, and has no edge.
        colours: (n) int8, such a colouring by 0 and 1, the smallest node being 0; −1 where there is none.
        isolated: int64, the nodes without any edge, ascending.
    """

    labels: NDArray[np.int64]
    sizes: NDArray[np.int64]
    edges: NDArray[np.int64]
    bipartite: NDArray[np.bool_]
    colours: NDArray[np.int8]
    isolated: NDArray[np.int64]

    @property
    def count(self) -> int:
        """Number of components."""
        return self.sizes.size

    @property
    def bipartite_with_edge(self) -> NDArray[np.bool_]:
        """(count) bool: the components with eigenvalue 2 of the normalised Laplacian, by theory."""
        return self.bipartite & (self.edges > 0)

    def to_dict(self) -> dict[str, Any]:
        """Counts and the ten largest sizes, as plain Python numbers."""
        return {
            "count": self.count,
            "isolated": int(self.isolated.size),
            "bipartite": int(self.bipartite_with_edge.sum()),
            "largest": np.sort(self.sizes)[::-1][:10].tolist(),
        }


def components(graph: Graph) -> Components:
    """The connected components of ``graph``; of a directed graph the weakly connected ones.

    An edge of weight 0 joins nothing and counts nowhere here: no matrix of the graph sees it, and the number
    of components is to equal the multiplicity of the Laplacian's eigenvalue 0. Time and memory are linear.

    Whether a component is bipartite is read off the double cover, which has nodes (v, 0) and (v, 1) and for
    each edge u—v the edges (u, 0)—(v, 1) and (u, 1)—(v, 0). A walk of odd length from v to itself is a path
    from (v, 0) to (v, 1) there, so a component is bipartite exactly if its cover falls into two parts, and
    the part that holds (v, 0) colours v.

    Reference: F. Harary, Graph Theory (1969), theorem 2.4 (bipartite means no odd cycle).

    Args:
        graph: any graph; weights matter only in being 0 or not.

    Returns:
        The components.

    >>> found = components(Graph.from_edges([0, 1, 4], [2, 3, 4], num_nodes=6))
    >>> found.labels.tolist(), found.sizes.tolist(), found.edges.tolist()
    ([0, 1, 0, 1, 2, 3], [2, 2, 1, 1], [1, 1, 1, 0])
    >>> found.bipartite.tolist(), found.colours.tolist(), found.isolated.tolist()
    ([True, True, False, True], [0, 0, 1, 1, -1, 0], [5])
    """
    if graph.indices.size > _MOST_IN_MEMORY:
        return _by_union(graph)
    n = graph.num_nodes
    source, target, weight = graph.edges()
    if weight is not None:
        source, target = source[weight != 0], target[weight != 0]
    labels, first = _numbered_by_first(_join(n, source, target))
    cover = _join(2 * n, np.concatenate([source, source + n]), np.concatenate([target + n, target]))
    bipartite = cover[first] != cover[first + n]
    colours = np.where(cover[:n] == cover[first][labels], 0, 1).astype(np.int8)
    colours[~bipartite[labels]] = -1
    touched = np.zeros(n, dtype=bool)
    touched[source] = touched[target] = True
    return Components(
        labels=labels,
        sizes=np.bincount(labels, minlength=first.size),
        edges=np.bincount(labels[source], minlength=first.size),
        bipartite=bipartite,
        colours=colours,
        isolated=np.flatnonzero(~touched),
    )


def _by_union(graph: Graph) -> Components:
    """The same for a graph larger than memory: by union of sets, each node with a colour relative to its set's root.

    Reference: R. Tarjan, Efficiency of a good but not linear set union algorithm, JACM 22 (1975).
    """
    from layerlab.graph.kernels import unions_cpu as kernels

    n = graph.num_nodes
    parent = np.arange(n, dtype=np.int64)
    colour, odd = np.zeros((2, n), dtype=np.int8)
    touched = np.zeros(n, dtype=bool)
    for source, target in _joining(graph):
        kernels.unite(source, target, parent, colour, odd)
        touched[source] = touched[target] = True
    kernels.flatten(parent, colour, odd)
    labels, first = _numbered_by_first(parent)
    bipartite = odd[parent[first]] == 0
    # The smallest node of a component has colour 0.
    colours = colour ^ colour[first][labels]
    colours[~bipartite[labels]] = -1
    edges = np.zeros(first.size, dtype=np.int64)
    for source, target in _joining(graph):
        once = source if graph.directed else source[source <= target]
        edges += np.bincount(labels[once], minlength=first.size)
    return Components(
        labels=labels,
        sizes=np.bincount(labels, minlength=first.size),
        edges=edges,
        bipartite=bipartite,
        colours=colours,
        isolated=np.flatnonzero(~touched),
    )


def _joining(graph: Graph) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """The stored entries whose weight is not 0."""
    begin = 0
    for source, target in graph.entries():
        if graph.weights is None:
            yield source, target
        else:
            there = graph.weights[begin : begin + source.size] != 0
            yield source[there], target[there]
        begin += source.size


def _join(nodes: int, source: NDArray[np.int64], target: NDArray[np.int64]) -> NDArray[np.int32]:
    """A label for each node, equal where edges join them."""
    pattern = sp.coo_array((np.ones(source.size, dtype=np.int8), (source, target)), shape=(nodes, nodes))
    _, labels = connected_components(pattern.tocsr(), directed=False)
    return labels


def _numbered_by_first(labels: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The labels renumbered in the order of their first nodes, and those nodes."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty(order.size, dtype=np.int64)
    rank[order] = np.arange(order.size)
    return rank[inverse], first[order].astype(np.int64)
