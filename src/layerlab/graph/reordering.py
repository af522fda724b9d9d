"""Another numbering of a graph's nodes, in which neighbours stand close together in memory."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from scipy.sparse.csgraph import reverse_cuthill_mckee

from layerlab.graph.structure import Graph


def reorder(graph: Graph) -> tuple[Graph, npt.NDArray[np.int64]]:
    """What `Graph.reorder` does."""
    if graph.num_nodes == 0:
        return graph, np.empty(0, np.int64)
    adjacency = graph.to_scipy()
    pattern = sp.csr_matrix(
        (np.ones(graph.indices.size, np.int8), graph.indices, graph.indptr), adjacency.shape
    )
    if graph.directed:
        pattern = (pattern + pattern.T).tocsr()
    permutation = reverse_cuthill_mckee(pattern, symmetric_mode=True).astype(np.int64)
    position = np.empty(graph.num_nodes, np.int64)
    position[permutation] = np.arange(graph.num_nodes)
    rows = adjacency[permutation]
    columns = position[rows.indices].astype(graph.indices.dtype)
    moved = sp.csr_array((rows.data, columns, rows.indptr.astype(graph.indptr.dtype)), shape=adjacency.shape)
    moved.sort_indices()
    weights = moved.data.astype(np.float64) if graph.weighted else None
    return Graph(
        graph.num_nodes, graph.directed, moved.indptr, moved.indices, weights, graph.notes
    ), permutation
