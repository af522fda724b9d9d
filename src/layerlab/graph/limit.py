"""What propagation leaves of features in the end: their part on D^(1/2) 1 of every component."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from layerlab.graph.components import components
from layerlab.graph.products import by_rows, inner, room
from layerlab.graph.structure import Graph

Floats = NDArray[np.float64]


class Limit:
    """The orthogonal projection Π on D^(1/2) 1 of each component, the eigenvectors of P of eigenvalue 1.

    Args:
        graph: undirected, weights >= 0.
        self_loops: whether P has them. Nodes of degree 0 have no part in the limit.

    >>> path = Graph.from_edges([0], [1], num_nodes=3)
    >>> Limit(path, self_loops=False).off(np.array([[2.0], [4.0], [1.0]])).round(9).tolist()
    [[-1.0], [1.0], [1.0]]
    """

    def __init__(self, graph: Graph, self_loops: bool) -> None:
        received = graph.with_self_loops() if self_loops else graph
        root, self._labels = np.sqrt(received.degrees("in")), components(received).labels
        norm = np.sqrt(np.bincount(self._labels, weights=root**2))
        self._entries = np.divide(root, norm[self._labels], out=np.zeros_like(root), where=root > 0)
        inside = np.flatnonzero(self._entries)
        self._sums = sp.csr_array(
            (self._entries[inside], (self._labels[inside], inside)), shape=(norm.size, graph.num_nodes)
        )

    def coefficients(self, x: Floats) -> Floats:
        """(components, d) what each component's vector has of the columns of x (n, d)."""
        found: Floats = self._sums @ x
        return found

    def part(self, coefficients: Floats, rows: slice) -> Floats:
        """Some rows of Πx."""
        return self._entries[rows, None] * coefficients[self._labels[rows]]

    def remove(self, x: Floats) -> None:
        """x −= Πx."""
        coefficients = self.coefficients(x)

        def take(rows: slice) -> float:
            x[rows] -= self.part(coefficients, rows)
            return 0.0

        by_rows(len(x), take)

    def off(self, x: Floats) -> Floats:
        """What of x is not on the limit, in new memory; zero where that is rounding."""
        rest = room(*x.shape)
        rest[...] = x
        self.remove(rest)
        if norm(rest) <= 1e-12 * norm(x):
            rest[...] = 0.0
        return rest


def squares(x: Floats) -> Floats:
    """(d) the squared norm of each column."""
    return by_rows(len(x), lambda rows: inner(x[rows], x[rows]))


def norm(x: Floats) -> float:
    """The Frobenius norm."""
    return float(np.sqrt(squares(x).sum()))
