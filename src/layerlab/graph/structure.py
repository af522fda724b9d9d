"""The graph itself: a validated, immutable adjacency matrix in CSR form.

Everything else in this room reads a `Graph`; nothing writes one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, SupportsIndex, cast

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch

from layerlab.errors import UserError
from layerlab.graph.edges import FloatArray, IntArray, Numbers, compress, index_dtype, plural
from layerlab.graph.parts import Part, parts, tensor
from layerlab.graph.sparse import Pattern, SparseMatrix


@dataclass(frozen=True, eq=False, repr=False)
class Graph:
    """An immutable graph on the nodes 0 … n−1: A[u, v] is the weight of the edge u → v.

    A is kept in compressed sparse rows (CSR), sorted and without repeats; it is symmetric when the graph is
    undirected. A self-loop is one entry A[u, u] = w, as in scipy and networkx, and counts once in a degree.
    The arrays are read-only, so derived quantities are computed once and kept.

    Build one with `from_edges` or a converter (`from_scipy`, `from_networkx`, `from_pyg`, `from_csv`,
    `from_npz`); the constructor takes arrays as they are and validates nothing.

    Attributes:
        num_nodes: n.
        directed: whether A may be asymmetric.
        indptr: (n + 1), int32 or int64: row u is ``indices[indptr[u]:indptr[u + 1]]``.
        indices: (stored entries), int32 or int64. int32 whenever n and the number of entries fit.
        weights: (stored entries), float64; None when every edge has weight 1.
        notes: what validation did or saw, one short sentence each.

    >>> g = Graph.from_edges([0, 1, 1, 3], [1, 0, 2, 3], num_nodes=5)
    >>> g
    Graph(5 nodes, 3 undirected edges)
    >>> g.indptr.tolist(), g.indices.tolist()
    ([0, 1, 3, 4, 5, 5], [1, 0, 2, 1, 3])
    >>> g.notes
    ('1 of 3 edges listed in both directions', '1 self-loop', '1 isolated node')
    """

    num_nodes: int
    directed: bool
    indptr: IntArray
    indices: IntArray
    weights: FloatArray | None = None
    notes: tuple[str, ...] = ()
    _cache: dict[Any, Any] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        for array in (self.indptr, self.indices, self.weights):
            if array is not None:
                array.setflags(write=False)

    @staticmethod
    def from_edges(
        source: Numbers,
        target: Numbers,
        *,
        num_nodes: SupportsIndex | None = None,
        weight: Numbers | None = None,
        directed: bool = False,
    ) -> Graph:
        """The graph of the edges ``source[i] → target[i]``.

        Repeats are merged. Without weights an edge is there or not. With weights, the *distinct* weights
        given for one pair are summed: the same weight again restates the edge (so an undirected edge may be
        listed once or in both directions), another weight is a parallel edge. What was merged or summed is
        said in ``notes``.

        Args:
            source: (m) integers in 0 … n−1: list, numpy array or torch tensor.
            target: (m) integers in 0 … n−1.
            num_nodes: n; the largest index plus one when left out.
            weight: (m) finite numbers, or None for an unweighted graph.
            directed: False: the orientation in which an edge is listed has no meaning.

        Returns:
            The graph; an edge of weight 0 is kept as an edge.

        Raises:
            UserError: indices that are no integers or out of range, weights that are not finite (both name
                the first such edge), lengths that differ, or ids too large to infer ``num_nodes`` from.

        >>> Graph.from_edges([0, 1], [1, 2], weight=[0.5, 2.0], directed=True).degrees("in").tolist()
        [0.0, 0.5, 2.0]
        """
        directed = bool(directed)
        n, indptr, indices, weights, merged = compress(source, target, weight, num_nodes, directed)
        graph = Graph(n, directed, indptr, indices, weights)
        seen = ((graph.num_self_loops, "self-loop"), (graph.isolated_nodes().size, "isolated node"))
        notes = merged + tuple(plural(number, noun) for number, noun in seen if number)
        return graph.with_notes(notes)

    def reorder(self) -> tuple[Graph, npt.NDArray[np.int64]]:
        """The same graph with its nodes renumbered so that neighbours are close in memory (reverse Cuthill-McKee).

        Worth it on large graphs with local structure. With 169,343 nodes and 2.3 to 2.5 million entries, one thread:
        a product with 16 columns takes 3.6 ms instead of 32 on a shuffled ring, 22 instead of 32 on a random
        power-law graph; attention, 8 heads of 16, takes 197 ms instead of 663 and 523 instead of 619. Renumbering
        takes 0.1 to 0.4 s. On random communities, and by falling degree, little was gained. Small graphs lie in
        the cache anyway.

        Reference: Cuthill and McKee, Reducing the bandwidth of sparse symmetric matrices, 1969.

        Returns:
            The graph, and the permutation: its node i was node ``permutation[i]``. Features and labels follow by
            ``features.rows(torch.from_numpy(permutation))`` and ``labels[permutation]``.

        >>> path, permutation = Graph.from_edges([2, 0, 3], [0, 3, 1]).reorder()
        >>> permutation.tolist(), path.indices.tolist()
        ([2, 0, 3, 1], [1, 0, 2, 1, 3, 2])
        """
        from layerlab.graph.reordering import reorder

        return reorder(self)

    # ------------------------------------------------------------------ counts

    @property
    def weighted(self) -> bool:
        """Whether the edges carry weights."""
        return self.weights is not None

    @property
    def num_self_loops(self) -> int:
        """Number of nodes with an edge to themselves."""
        if "self-loops" not in self._cache:
            found = (np.count_nonzero(part.rows == self.indices[part.entries]) for part in self._parts())
            self._cache["self-loops"] = int(sum(found))
        return cast(int, self._cache["self-loops"])

    @property
    def num_edges(self) -> int:
        """Edges: arcs when directed; when undirected each edge once, a self-loop being one edge."""
        stored = self.indices.size
        return stored if self.directed else (stored + self.num_self_loops) // 2

    def isolated_nodes(self) -> npt.NDArray[np.int64]:
        """The nodes without any edge, in either direction, themselves included; ascending.

        >>> Graph.from_edges([2], [0], num_nodes=4, directed=True).isolated_nodes().tolist()
        [1, 3]
        """
        touched = np.diff(self.indptr) > 0
        for part in self._parts():
            touched[self.indices[part.entries]] = True
        return np.flatnonzero(~touched)

    def degrees(self, direction: Literal["out", "in"] = "out") -> FloatArray:
        """Weighted degrees: row sums of A ("out") or column sums ("in"); the two agree when undirected.

        A self-loop counts once (networkx counts it twice), so that the degrees are exactly the sums of A.

        Args:
            direction: "out" or "in".

        Returns:
            (n) float64.

        Raises:
            UserError: another direction.

        >>> Graph.from_edges([0, 0, 2], [1, 2, 2]).degrees().tolist()
        [2.0, 1.0, 2.0]
        """
        if direction not in ("out", "in"):
            raise UserError(f"direction must be 'out' or 'in', got {direction!r}")
        if direction == "in" and self.directed:
            if self.weighted or "transpose" in self._cache:
                return self.transpose().degrees("out")
            counts = np.zeros(self.num_nodes, dtype=np.int64)
            for part in self._parts():
                counts += np.bincount(self.indices[part.entries], minlength=self.num_nodes)
            return counts.astype(np.float64)
        if self.weights is None:
            return np.diff(self.indptr).astype(np.float64)
        sums = np.empty(self.num_nodes)
        for part in self._parts():
            weights, rows = self.weights[part.entries], part.rows - part.begin
            sums[part.begin : part.end] = np.bincount(rows, weights=weights, minlength=part.end - part.begin)
        return sums

    def edges(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], FloatArray | None]:
        """The edges as (source, target, weight or None), sorted; an undirected edge once, source <= target.

        >>> source, target, weight = Graph.from_edges([2, 1], [1, 0]).edges()
        >>> source.tolist(), target.tolist(), weight
        ([0, 1], [1, 2], None)
        """
        source, target, weight = self._rows().astype(np.int64), self.indices.astype(np.int64), self.weights
        if self.directed:
            return source, target, weight
        once = source <= target
        return source[once], target[once], None if weight is None else weight[once]

    def entries(self) -> Iterator[tuple[IntArray, IntArray]]:
        """All stored entries as (row, column), in order, some millions at a time: of an undirected edge both.

        >>> [(row.tolist(), column.tolist()) for row, column in Graph.from_edges([0, 2], [1, 2]).entries()]
        [([0, 1, 2], [1, 0, 2])]
        """
        for part in self._parts():
            yield part.rows, self.indices[part.entries]

    # ------------------------------------------------------------------ derived graphs

    def transpose(self) -> Graph:
        """The graph with every arc reversed; itself when undirected.

        Kept, both ways: ``g.transpose().transpose() is g``.

        >>> Graph.from_edges([0], [1], directed=True).transpose().edges()[:2]
        (array([1]), array([0]))
        """
        if not self.directed:
            return self
        if "transpose" not in self._cache:
            shape, dtype = (self.num_nodes, self.num_nodes), self.indices.dtype
            values = np.ones(self.indices.size, dtype=np.int8) if self.weights is None else self.weights
            csr = sp.csr_array((values, self.indices, self.indptr), shape=shape).T.tocsr()
            indptr, indices = csr.indptr.astype(dtype), csr.indices.astype(dtype)
            weights = csr.data if self.weighted else None
            other = Graph(self.num_nodes, True, indptr, indices, weights, self.notes)
            other._cache["transpose"] = self
            self._cache["transpose"] = other
        return cast(Graph, self._cache["transpose"])

    def with_self_loops(self) -> Graph:
        """The graph in which every node has a self-loop; kept, and itself if none was missing.

        A node that has one keeps it with its own weight; the others get one of weight 1: the "remaining
        self-loops" of torch_geometric.

        >>> Graph.from_edges([0, 0], [0, 1], weight=[3.0, 5.0]).with_self_loops().edges()[2].tolist()
        [3.0, 5.0, 1.0]
        """
        if self.num_self_loops == self.num_nodes:
            return self
        if "looped" not in self._cache:
            lacking = np.ones(self.num_nodes, dtype=bool)
            for part in self._parts():
                lacking[part.rows[part.rows == self.indices[part.entries]]] = False
            added = np.concatenate([[0], np.cumsum(lacking)])
            total = self.indices.size + int(added[-1])
            dtype = index_dtype(self.num_nodes, total)
            indptr = (self.indptr + added).astype(dtype)
            indices = np.empty(total, dtype=dtype)
            weights = None if self.weights is None else np.empty(total)
            for part in self._parts():
                own = self.indices[part.entries]
                nodes = np.flatnonzero(lacking[part.begin : part.end]) + part.begin
                # Rows are sorted, so a loop goes behind the entries left of the diagonal.
                left = np.bincount(part.rows[own < part.rows] - part.begin, minlength=part.end - part.begin)
                places = self.indptr[nodes] - part.entries.start + left[nodes - part.begin]
                into = slice(int(indptr[part.begin]), int(indptr[part.end]))
                indices[into] = np.insert(own.astype(dtype), places, nodes)
                if weights is not None and self.weights is not None:
                    weights[into] = np.insert(self.weights[part.entries], places, 1.0)
            looped = Graph(self.num_nodes, self.directed, indptr, indices, weights, self.notes)
            self._cache["looped"] = looped
        return cast(Graph, self._cache["looped"])

    # ------------------------------------------------------------------ operators

    def adjacency(self, dtype: torch.dtype = torch.float32) -> SparseMatrix:
        """A as a torch sparse matrix; kept, one a dtype. Its entries stand in the order of ``indices``.

        Args:
            dtype: a floating type.

        Raises:
            UserError: a weight too large for the type.

        >>> Graph.from_edges([0], [1], directed=True).adjacency().to_dense().tolist()
        [[0.0, 1.0], [0.0, 0.0]]
        """
        key = ("adjacency", dtype)
        if key not in self._cache:
            self._cache[key] = self._operator(self._values, dtype)
        return cast(SparseMatrix, self._cache[key])

    def normalized_adjacency(
        self, self_loops: bool = True, dtype: torch.dtype = torch.float32
    ) -> SparseMatrix:
        """P = D^-1/2 (Aᵀ + I) D^-1/2, the propagation matrix of a GCN: P[v, u] carries u to v. Kept.

        D holds the row sums of Aᵀ + I, that is, the in-degrees. A node that has a self-loop keeps its own and
        gets no second one. Without ``self_loops`` the I is left out, and a node of degree 0 (an isolated one,
        say) has a zero row and column: D^-1/2 is taken as 0 there. With them, an isolated node sends to
        itself with weight 1. The arithmetic is float64, rounded once to ``dtype``.

        Reference: Kipf and Welling, Semi-supervised classification with graph convolutional networks, ICLR
        2017, section 2.2; for directed and weighted graphs the convention is torch_geometric's ``gcn_norm``.

        Args:
            self_loops: whether I is added.
            dtype: a floating type.

        Returns:
            (n, n) sparse matrix.

        Raises:
            UserError: a node of negative (or overflowing) degree, whose square root does not exist.

        >>> Graph.from_edges([0], [1]).normalized_adjacency().to_dense().tolist()
        [[0.5, 0.5], [0.5, 0.5]]
        """
        key = ("normalized", bool(self_loops), dtype)
        if key not in self._cache:
            # Transposed first: a store has the transpose, but not that of the graph with self-loops.
            received = self.transpose().with_self_loops() if self_loops else self.transpose()
            degree = received.degrees("out")
            if (bad := np.flatnonzero(~((degree >= 0) & np.isfinite(degree)))).size:
                raise UserError(
                    "the normalised adjacency needs finite in-degrees that are not negative, but node"
                    f" {bad[0]} has {degree[bad[0]]:g}; use weights >= 0 of ordinary size"
                )
            root = np.zeros_like(degree)
            np.divide(1.0, np.sqrt(degree), out=root, where=degree > 0)

            def values(part: Part) -> FloatArray:
                # The product of the roots first: it commutes, so P is symmetric to the last bit where A is.
                return received._values(part) * (root[part.rows] * root[received.indices[part.entries]])

            self._cache[key] = received._operator(values, dtype)
        return cast(SparseMatrix, self._cache[key])

    # ------------------------------------------------------------------ housekeeping

    def _rows(self) -> IntArray:
        """The row of each stored entry."""
        return np.repeat(np.arange(self.num_nodes, dtype=self.indices.dtype), np.diff(self.indptr))

    def _parts(self) -> Iterator[Part]:
        return parts(self.indptr, self.indices.dtype)

    def _values(self, part: Part) -> FloatArray:
        """The weight of each stored entry, ones when unweighted."""
        if self.weights is None:
            return np.ones(part.entries.stop - part.entries.start)
        return self.weights[part.entries]

    def _operator(self, values: Callable[[Part], FloatArray], dtype: torch.dtype) -> SparseMatrix:
        """``values`` on the pattern of A, zeros kept; one pattern serves every dtype."""
        if not dtype.is_floating_point:
            raise UserError(f"an adjacency matrix needs a floating dtype, got {dtype}")
        found = torch.empty(self.indices.size, dtype=dtype)
        for part in self._parts():
            given = values(part)
            if given.size and np.abs(given).max() > torch.finfo(dtype).max:
                raise UserError(
                    f"a weight is too large for {dtype}; ask for torch.float64 or scale the weights"
                )
            found[part.entries] = torch.tensor(given)
        if "pattern" not in self._cache:
            crow, col = tensor(self.indptr), tensor(self.indices)
            self._cache["pattern"] = Pattern(crow, col, (self.num_nodes, self.num_nodes))
        return SparseMatrix(self._cache["pattern"], found)

    def remember(self, *, self_loops: int, transpose: Graph | None = None) -> None:
        """Take derived quantities that a store has instead of computing them; they are trusted."""
        self._cache["self-loops"] = self_loops
        if transpose is not None:
            self._cache["transpose"], transpose._cache["transpose"] = transpose, self
            transpose._cache["self-loops"] = self_loops

    def __eq__(self, other: object) -> bool:
        """Equal nodes, direction, edges and weights; how it was built (``notes``) does not matter."""
        if not isinstance(other, Graph):
            return NotImplemented
        if (self.num_nodes, self.directed) != (other.num_nodes, other.directed):
            return False
        if self.weights is None or other.weights is None:
            same_weights = self.weights is other.weights
        else:
            same_weights = np.array_equal(self.weights, other.weights)
        same_rows = np.array_equal(self.indptr, other.indptr)
        return same_rows and same_weights and np.array_equal(self.indices, other.indices)

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        kind = ("weighted " if self.weighted else "") + ("arc" if self.directed else "undirected edge")
        return f"Graph({plural(self.num_nodes, 'node')}, {plural(self.num_edges, kind)})"

    def with_notes(self, notes: tuple[str, ...]) -> Graph:
        """The same graph with other ``notes``."""
        return Graph(self.num_nodes, self.directed, self.indptr, self.indices, self.weights, notes)

    def __reduce__(self) -> tuple[Any, ...]:
        # Through the constructor: pickled arrays come back writable, and kept quantities need not travel.
        return Graph, (self.num_nodes, self.directed, self.indptr, self.indices, self.weights, self.notes)

    def __copy__(self) -> Graph:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Graph:
        return self

    # ------------------------------------------------------------------ converters

    @staticmethod
    def open(path: str | Path) -> Graph:
        """The graph of a store that `layerlab graph convert` made, over memory maps; see `layerlab.graph.store`."""
        from layerlab.graph.store import open_store

        return open_store(path).graph

    @staticmethod
    def from_scipy(matrix: Any, directed: bool | None = None) -> Graph:
        """See `layerlab.graph.convert.from_scipy`."""
        from layerlab.graph import convert

        return convert.from_scipy(matrix, directed)

    @staticmethod
    def from_networkx(graph: Any, weight: str | None = "weight") -> Graph:
        """See `layerlab.graph.convert.from_networkx`."""
        from layerlab.graph import convert

        return convert.from_networkx(graph, weight)

    @staticmethod
    def from_pyg(data: Any, directed: bool | None = None) -> Graph:
        """See `layerlab.graph.convert.from_pyg`."""
        from layerlab.graph import convert

        return convert.from_pyg(data, directed)

    @staticmethod
    def from_csv(
        path: str | Path, *, directed: bool = False, num_nodes: SupportsIndex | None = None
    ) -> Graph:
        """See `layerlab.graph.convert.from_csv`."""
        from layerlab.graph import convert

        return convert.from_csv(path, directed=directed, num_nodes=num_nodes)

    @staticmethod
    def from_npz(path: str | Path) -> Graph:
        """See `layerlab.graph.convert.from_npz`."""
        from layerlab.graph import convert

        return convert.from_npz(path)

    def to_scipy(self) -> Any:
        """See `layerlab.graph.convert.to_scipy`."""
        from layerlab.graph import convert

        return convert.to_scipy(self)

    def to_networkx(self) -> Any:
        """See `layerlab.graph.convert.to_networkx`."""
        from layerlab.graph import convert

        return convert.to_networkx(self)

    def to_pyg(self, x: Any = None, y: Any = None) -> Any:
        """See `layerlab.graph.convert.to_pyg`."""
        from layerlab.graph import convert

        return convert.to_pyg(self, x, y)

    def to_csv(self, path: str | Path) -> None:
        """See `layerlab.graph.convert.to_csv`."""
        from layerlab.graph import convert

        convert.to_csv(self, path)

    def to_npz(self, path: str | Path) -> None:
        """See `layerlab.graph.convert.to_npz`."""
        from layerlab.graph import convert

        convert.to_npz(self, path)
