"""The matrices of a graph in float64, as scipy sparse arrays: what the spectral modules work on."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch

from layerlab.graph.structure import Graph


def laplacian(graph: Graph) -> sp.csr_array:
    """D − A, with D the row sums of A: (n, n) float64.

    Symmetric when the graph is undirected, and then xᵀ(D − A)x = Σ over edges of w_uv (x_u − x_v)². A self-loop
    adds its weight to D and to A alike, so it leaves no trace.

    Reference: F. Chung, Spectral Graph Theory (1997), section 1.2.

    >>> laplacian(Graph.from_edges([0, 1], [1, 2])).toarray().tolist()
    [[1.0, -1.0, 0.0], [-1.0, 2.0, -1.0], [0.0, -1.0, 1.0]]
    """
    adjacency = graph.adjacency(dtype=torch.float64).to_scipy()
    return sp.csr_array(sp.diags_array(graph.degrees()) - adjacency)


def normalized_laplacian(graph: Graph) -> sp.csr_array:
    """L = D^(−1/2) (D − A) D^(−1/2): (n, n) float64, eigenvalues in [0, 2].

    D^(−1/2) is taken as 0 at nodes of degree 0, whose rows and columns are zero: an isolated node adds an
    eigenvalue 0, as a component should. For a directed graph D holds the in-degrees and L is I − P.

    Reference: F. Chung, Spectral Graph Theory (1997), section 1.2.

    Raises:
        UserError: a node of negative degree, whose square root does not exist.

    >>> normalized_laplacian(Graph.from_edges([0], [1], num_nodes=3)).toarray().tolist()
    [[1.0, -1.0, 0.0], [-1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    """
    present = sp.diags_array((graph.degrees("in") > 0).astype(np.float64))
    return sp.csr_array(present - propagation(graph, self_loops=False))


def propagation(graph: Graph, self_loops: bool = True) -> sp.csr_array:
    """P = D^(−1/2) (Aᵀ + I) D^(−1/2), or without the I: (n, n) float64, row = receiver.

    `Graph.normalized_adjacency` in float64 for scipy. Symmetric, with eigenvalues in [−1, 1], when the graph is
    undirected and no weight is negative.

    Reference: Kipf and Welling, Semi-supervised classification with graph convolutional networks (ICLR 2017).

    Args:
        graph: the graph.
        self_loops: whether nodes without a self-loop get one of weight 1.

    Raises:
        UserError: a node of negative degree, whose square root does not exist.

    >>> propagation(Graph.from_edges([0], [1])).toarray().round(12).tolist()
    [[0.5, 0.5], [0.5, 0.5]]
    """
    found = graph.normalized_adjacency(self_loops, dtype=torch.float64)
    # Over the graph's own memory: of a large graph every copy counts. It must not be changed in place.
    return sp.csr_array((found.numbers, *reversed(found.pattern.arrays)), shape=found.shape)
