"""The graph itself: a validated, immutable adjacency matrix in CSR form.

Everything else in this room reads a `Graph`; nothing writes one.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from typing import Any, Literal, SupportsIndex, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch

from layerlab.errors import UserError
from layerlab.graph.sparse import Pattern, SparseMatrix

IntArray: TypeAlias = npt.NDArray[np.signedinteger[Any]]
FloatArray: TypeAlias = npt.NDArray[np.float64]

_INT32_MAX = 2**31 - 1
# A mistyped id must not make a graph of two thousand million isolated nodes: beyond this many nodes, and beyond
# this many nodes an edge, the number of nodes has to be stated.
_INFERRED_NODES = 10_000_000
_INFERRED_NODES_PER_EDGE = 100


@dataclass(frozen=True, eq=False, repr=False)
class Graph:
    """An immutable graph on the nodes 0 … n−1: A[u, v] is the weight of the edge u → v.

    A is kept in compressed sparse rows (CSR), sorted and without repeats; it is symmetric when the graph is
    undirected. A self-loop is one entry A[u, u] = w, as in scipy and networkx, and counts once in a degree.
    The arrays are read-only, so derived quantities are computed once and kept.

    Build one with `from_edges` or a converter (``Graph.from_scipy``, ``from_networkx``, ``from_pyg``, ``from_csv``,
    ``from_npz``); the constructor takes arrays as they are and validates nothing.

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
        source: npt.ArrayLike | torch.Tensor,
        target: npt.ArrayLike | torch.Tensor,
        *,
        num_nodes: SupportsIndex | None = None,
        weight: npt.ArrayLike | torch.Tensor | None = None,
        directed: bool = False,
    ) -> Graph:
        """The graph of the edges ``source[i] → target[i]``.

        Repeats are merged. Without weights an edge is there or not. With weights, the *distinct* weights given for
        one pair are summed: the same weight again restates the edge (so an undirected edge may be listed once or in
        both directions), another weight is a parallel edge. What was merged or summed is said in ``notes``.

        Args:
            source: (m) integers in 0 … n−1: list, numpy array or torch tensor.
            target: (m) integers in 0 … n−1.
            num_nodes: n; the largest index plus one when left out.
            weight: (m) finite numbers, or None for an unweighted graph.
            directed: False: the orientation in which an edge is listed has no meaning.

        Returns:
            The graph; an edge of weight 0 is kept as an edge.

        Raises:
            UserError: indices that are no integers or out of range, weights that are not finite (both name the first
                such edge), lengths that differ, or ids too large to infer ``num_nodes`` from.

        >>> Graph.from_edges([0, 1], [1, 2], weight=[0.5, 2.0], directed=True).degrees("in").tolist()
        [0.0, 0.5, 2.0]
        """
        u, v = _indices("source", source), _indices("target", target)
        if u.size != v.size:
            raise UserError(f"source and target must be of one length, got {u.size} and {v.size}")
        w = None if weight is None else _weights(weight, u.size)
        n = _node_count(num_nodes, u, v)
        merged = _merge(u, v, w, n, directed)
        indptr, indices, weights = _compress(merged, n, directed)
        notes = list(merged.notes)
        graph = Graph(n, directed, indptr, indices, weights)
        if graph.num_self_loops:
            notes.append(_count(graph.num_self_loops, "self-loop"))
        if isolated := graph.isolated_nodes().size:
            notes.append(_count(isolated, "isolated node"))
        return Graph(n, directed, indptr, indices, weights, tuple(notes))

    # ------------------------------------------------------------------ counts

    @property
    def weighted(self) -> bool:
        """Whether the edges carry weights."""
        return self.weights is not None

    @property
    def num_self_loops(self) -> int:
        """Number of nodes with an edge to themselves."""
        if "self-loops" not in self._cache:
            self._cache["self-loops"] = int(np.count_nonzero(self._rows() == self.indices))
        return cast(int, self._cache["self-loops"])

    @property
    def num_edges(self) -> int:
        """Edges: arcs when directed; when undirected each edge once, a self-loop being one edge."""
        stored = self.indices.size
        return stored if self.directed else (stored + self.num_self_loops) // 2

    def isolated_nodes(self) -> npt.NDArray[np.int64]:
        """The nodes without any edge, in either direction, themselves included; ascending."""
        touched = np.diff(self.indptr) > 0
        touched[self.indices] = True
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
        ends = self._rows() if direction == "out" else self.indices
        return np.bincount(ends, weights=self.weights, minlength=self.num_nodes).astype(
            np.float64, copy=False
        )

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

    # ------------------------------------------------------------------ derived graphs

    def transpose(self) -> Graph:
        """The graph with every arc reversed; itself when undirected. Kept: ``g.transpose().transpose() is g``.

        >>> Graph.from_edges([0], [1], directed=True).transpose().edges()[:2]
        (array([1]), array([0]))
        """
        if not self.directed:
            return self
        if "transpose" not in self._cache:
            csr = sp.csr_array(
                (self._values(), self.indices, self.indptr), shape=(self.num_nodes,) * 2
            ).T.tocsr()
            weights = None if self.weights is None else csr.data
            dtype = self.indices.dtype
            other = Graph(
                self.num_nodes, True, csr.indptr.astype(dtype), csr.indices.astype(dtype), weights, self.notes
            )
            other._cache["transpose"] = self
            self._cache["transpose"] = other
        return cast(Graph, self._cache["transpose"])

    def with_self_loops(self) -> Graph:
        """The graph in which each node without a self-loop got one of weight 1; kept, itself if none was missing.

        A node that already has a loop keeps it with its own weight: the "remaining self-loops" of torch_geometric.

        >>> Graph.from_edges([0, 0], [0, 1], weight=[3.0, 5.0]).with_self_loops().edges()[2].tolist()
        [3.0, 5.0, 1.0]
        """
        if self.num_self_loops == self.num_nodes:
            return self
        if "looped" not in self._cache:
            rows = self._rows()
            lacking = np.ones(self.num_nodes, dtype=bool)
            lacking[rows[rows == self.indices]] = False
            nodes = np.flatnonzero(lacking)
            # Rows are sorted, so a loop goes behind the entries left of the diagonal.
            left = np.bincount(rows[self.indices < rows], minlength=self.num_nodes)
            places = (self.indptr[:-1] + left)[nodes]
            dtype = _index_dtype(self.num_nodes, self.indices.size + nodes.size)
            indptr = self.indptr.astype(np.int64)
            indptr[1:] += np.cumsum(lacking)
            indices = np.insert(self.indices.astype(dtype), places, nodes)
            weights = None if self.weights is None else np.insert(self.weights, places, 1.0)
            self._cache["looped"] = Graph(
                self.num_nodes, self.directed, indptr.astype(dtype), indices, weights, self.notes
            )
        return cast(Graph, self._cache["looped"])

    # ------------------------------------------------------------------ operators

    def adjacency(self, dtype: torch.dtype = torch.float32) -> SparseMatrix:
        """A as a torch sparse matrix; kept, one a dtype.

        Args:
            dtype: a floating type.

        Raises:
            UserError: a weight too large for the type.

        >>> Graph.from_edges([0], [1], directed=True).adjacency().to_dense().tolist()
        [[0.0, 1.0], [0.0, 0.0]]
        """
        key = ("adjacency", dtype)
        if key not in self._cache:
            self._cache[key] = self._operator(self._values(), dtype)
        return cast(SparseMatrix, self._cache[key])

    def normalized_adjacency(
        self, self_loops: bool = True, dtype: torch.dtype = torch.float32
    ) -> SparseMatrix:
        """P = D^-1/2 (Aᵀ + I) D^-1/2, the propagation matrix of a GCN: P[v, u] carries u to v. Kept.

        D holds the row sums of Aᵀ + I, that is, the in-degrees. A node that has a self-loop keeps its own and gets
        no second one. Without ``self_loops`` the I is left out, and a node of degree 0 (an isolated one, say) has a
        zero row and column: D^-1/2 is taken as 0 there. With them, an isolated node sends to itself with weight 1.
        The arithmetic is float64, rounded once to ``dtype``.

        Reference: Kipf and Welling, Semi-supervised classification with graph convolutional networks, ICLR 2017,
        section 2.2; for directed and weighted graphs the convention is torch_geometric's ``gcn_norm``.

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
            received = (self.with_self_loops() if self_loops else self).transpose()
            degree = received.degrees("out")
            if (bad := np.flatnonzero(~((degree >= 0) & np.isfinite(degree)))).size:
                raise UserError(
                    f"the normalised adjacency needs degrees that are finite and not negative, but node {bad[0]} has"
                    f" in-degree {degree[bad[0]]:g}; use weights >= 0"
                )
            scale = np.zeros_like(degree)
            np.divide(1.0, np.sqrt(degree), out=scale, where=degree > 0)
            values = scale[received._rows()] * received._values() * scale[received.indices]
            self._cache[key] = received._operator(values, dtype)
        return cast(SparseMatrix, self._cache[key])

    # ------------------------------------------------------------------ housekeeping

    def _rows(self) -> IntArray:
        """The row of each stored entry."""
        return np.repeat(np.arange(self.num_nodes, dtype=self.indices.dtype), np.diff(self.indptr))

    def _values(self) -> FloatArray:
        """The weight of each stored entry, ones when unweighted."""
        return np.ones(self.indices.size) if self.weights is None else self.weights

    def _operator(self, values: FloatArray, dtype: torch.dtype) -> SparseMatrix:
        """``values`` on the pattern of A, zeros kept; one pattern serves every dtype."""
        if not dtype.is_floating_point:
            raise UserError(f"an adjacency matrix needs a floating dtype, got {dtype}")
        if values.size and np.abs(values).max() > torch.finfo(dtype).max:
            raise UserError(
                f"a weight is too large for {dtype}; ask for torch.float64 or scale the weights down"
            )
        if "pattern" not in self._cache:
            # Copies: torch tensors cannot be read-only, and the graph must not change through them.
            crow, col = torch.tensor(self.indptr), torch.tensor(self.indices)
            self._cache["pattern"] = Pattern(crow, col, (self.num_nodes, self.num_nodes))
        return SparseMatrix(self._cache["pattern"], torch.tensor(values).to(dtype))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Graph):
            return NotImplemented
        if (self.num_nodes, self.directed, self.weighted) != (
            other.num_nodes,
            other.directed,
            other.weighted,
        ):
            return False
        same = np.array_equal(self.indptr, other.indptr) and np.array_equal(self.indices, other.indices)
        if self.weights is None or other.weights is None:
            return same
        return same and np.array_equal(self.weights, other.weights)

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        kind = ("weighted " if self.weighted else "") + ("arc" if self.directed else "undirected edge")
        return f"Graph({_count(self.num_nodes, 'node')}, {_count(self.num_edges, kind)})"

    def __reduce__(self) -> tuple[Any, ...]:
        # Through the constructor: pickled arrays come back writable, and kept quantities need not travel.
        return Graph, (self.num_nodes, self.directed, self.indptr, self.indices, self.weights, self.notes)

    def __copy__(self) -> Graph:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Graph:
        return self


# ---------------------------------------------------------------------- validation


def _array(name: str, values: npt.ArrayLike | torch.Tensor) -> npt.NDArray[Any]:
    """``values`` as a one-dimensional numpy array of whatever type they have."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        array = (values.double() if values.is_floating_point() else values).numpy()
    else:
        try:
            array = np.asarray(values)
        except (ValueError, TypeError, OverflowError) as error:
            raise UserError(f"{name} must be a one-dimensional array of numbers: {error}") from None
    if array.ndim != 1:
        raise UserError(f"{name} must be one-dimensional, got an array of shape {array.shape}")
    return array


def _indices(name: str, values: npt.ArrayLike | torch.Tensor) -> npt.NDArray[np.int64]:
    array = _array(name, values)
    if array.size == 0:
        return np.empty(0, dtype=np.int64)  # an empty list has no type to speak of
    if array.dtype.kind not in "iu":
        raise UserError(f"{name} must hold integers (node positions), got {array.dtype}; convert them first")
    # Compared in the given type: an unsigned 64-bit id must not turn negative unseen.
    if (bad := np.flatnonzero((array < 0) | (array >= _INT32_MAX))).size:
        raise UserError(
            f"{name} of edge {bad[0]} is {array[bad[0]]}; node positions run from 0 to num_nodes - 1"
            f" (at most {_INT32_MAX - 1})"
        )
    return array.astype(np.int64, copy=False)


def _weights(values: npt.ArrayLike | torch.Tensor, edges: int) -> FloatArray:
    array = _array("weight", values)
    if array.size != edges:
        raise UserError(f"weight must have one number an edge: expected {edges}, got {array.size}")
    if array.size and array.dtype.kind not in "iuf":
        raise UserError(f"weight must hold real numbers, got {array.dtype}; convert them first")
    array = array.astype(np.float64, copy=False)
    if (bad := np.flatnonzero(~np.isfinite(array))).size:
        raise UserError(f"weight of edge {bad[0]} is {array[bad[0]]}; every weight must be finite")
    return array


def _node_count(given: SupportsIndex | None, source: IntArray, target: IntArray) -> int:
    """``num_nodes`` as given, checked against the indices; inferred from them when not given."""
    largest = max(int(source.max()), int(target.max())) if source.size else -1
    if given is None:
        if largest >= max(_INFERRED_NODES, _INFERRED_NODES_PER_EDGE * source.size):
            raise UserError(
                f"the largest index is {largest}, with {_count(source.size, 'edge')} only; number the nodes"
                " 0, 1, 2, ..., or state num_nodes if this is meant"
            )
        return largest + 1
    try:
        count = -1 if isinstance(given, bool | np.bool_) else operator.index(given)
    except TypeError:
        count = -1
    if not 0 <= count <= _INT32_MAX:
        raise UserError(f"num_nodes must be an integer from 0 to {_INT32_MAX}, got {given!r}")
    if largest >= count:
        for name, ends in (("source", source), ("target", target)):
            if (bad := np.flatnonzero(ends >= count)).size:
                raise UserError(
                    f"{name} of edge {bad[0]} is {ends[bad[0]]}, but with num_nodes={count} the nodes are"
                    f" 0 to {count - 1}; raise num_nodes or mend the edge"
                )
    return count


# ---------------------------------------------------------------------- building


@dataclass(frozen=True)
class _Merged:
    """Edges sorted by (source, target) without repeats; source <= target when undirected."""

    source: npt.NDArray[np.int64]
    target: npt.NDArray[np.int64]
    weight: FloatArray | None
    notes: tuple[str, ...]


def _merge(
    source: npt.NDArray[np.int64],
    target: npt.NDArray[np.int64],
    weight: FloatArray | None,
    num_nodes: int,
    directed: bool,
) -> _Merged:
    """Sort and merge; one sort does it all, on the key (pair, orientation)."""
    n = max(num_nodes, 1)
    low, high = (source, target) if directed else (np.minimum(source, target), np.maximum(source, target))
    key = (low * n + high) * 2  # below 2**63, as n < 2**31
    if not directed:
        key += source > target
    if weight is None:
        key.sort()
    else:
        order = np.argsort(key)
        key, weight = key[order], weight[order]
    pair = key >> 1
    first = np.ones(key.size, dtype=bool)
    np.not_equal(pair[1:], pair[:-1], out=first[1:])
    pair = pair[first]
    distinct = int(np.count_nonzero(key[1:] != key[:-1])) + min(key.size, 1)

    notes = []
    if repeats := key.size - distinct:
        notes.append(f"merged {_count(repeats, 'duplicate edge')}")
    # All or none in both directions are the two usual ways to list a graph; in between is worth a word.
    if 0 < (both := distinct - pair.size) < pair.size - int(np.count_nonzero(pair % (n + 1) == 0)):
        notes.append(f"{both} of {_count(pair.size, 'edge')} listed in both directions")
    if weight is not None:
        weight, summed = _merge_weights(weight, first)
        if summed:
            notes.append(f"{_count(summed, 'edge')} listed with differing weights, which were summed")
    low, high = np.divmod(pair, n)
    return _Merged(low, high, weight, tuple(notes))


def _merge_weights(weight: FloatArray, first: npt.NDArray[np.bool_]) -> tuple[FloatArray, int]:
    """The sum of the distinct weights of each group (a group begins where ``first``), and how many had several."""
    group = np.cumsum(first) - 1
    merged = weight[first]
    differing = np.zeros(merged.size, dtype=bool)
    differing[group[weight != merged[group]]] = True
    if not differing.any():
        return merged, 0
    chosen = differing[group]
    group, weight = group[chosen], weight[chosen]
    # Sorted, so that the sum does not depend on the order of the input.
    order = np.lexsort((weight, group))
    group, weight = group[order], weight[order]
    new = np.ones(weight.size, dtype=bool)
    new[1:] = (group[1:] != group[:-1]) | (weight[1:] != weight[:-1])
    sums = np.bincount(group[new], weights=weight[new], minlength=merged.size)
    merged[differing] = sums[differing]
    if not np.isfinite(merged).all():
        raise UserError("the weights of parallel edges sum to infinity; scale the weights down")
    return merged, int(differing.sum())


def _compress(
    merged: _Merged, num_nodes: int, directed: bool
) -> tuple[IntArray, IntArray, FloatArray | None]:
    """CSR arrays (indptr, indices, weights) of merged edges; an undirected edge is stored in both rows."""
    source, target, weight = merged.source, merged.target, merged.weight
    if not directed:
        # Each row takes first what lies left of the diagonal, then the rest: with a counting sort by row, which
        # keeps the order within a row, the columns come out sorted.
        mirrored = source != target
        source, target = (
            np.concatenate([target[mirrored], source]),
            np.concatenate([source[mirrored], target]),
        )
        data = np.ones(source.size, np.int8) if weight is None else np.concatenate([weight[mirrored], weight])
        csr = sp.coo_array((data, (source, target)), shape=(num_nodes, num_nodes)).tocsr()
        dtype = _index_dtype(num_nodes, source.size)
        return csr.indptr.astype(dtype), csr.indices.astype(dtype), None if weight is None else csr.data
    dtype = _index_dtype(num_nodes, source.size)
    indptr = np.zeros(num_nodes + 1, dtype=dtype)
    np.cumsum(np.bincount(source, minlength=num_nodes), out=indptr[1:])
    return indptr, target.astype(dtype), weight


def _index_dtype(num_nodes: int, stored: int) -> type[np.int32] | type[np.int64]:
    """int32 as long as every index and every offset fits."""
    return np.int32 if max(num_nodes, stored) <= _INT32_MAX else np.int64


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
