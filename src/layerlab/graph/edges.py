"""From the edges a user lists to the arrays a graph keeps: validate, merge, compress.

Vectorised throughout: a list of millions of edges is an ordinary input.
"""

from __future__ import annotations

import operator
from typing import Any, NamedTuple, SupportsIndex, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch

from layerlab.errors import UserError

IntArray: TypeAlias = npt.NDArray[np.signedinteger[Any]]
FloatArray: TypeAlias = npt.NDArray[np.float64]
Numbers: TypeAlias = npt.ArrayLike | torch.Tensor

INT32_MAX = 2**31 - 1
# A mistyped id must not make a graph of a thousand million isolated nodes: beyond this many nodes, and beyond
# this many nodes an edge, the number of nodes has to be stated.
_INFERRED_NODES = 10_000_000
_INFERRED_NODES_PER_EDGE = 100


class Compressed(NamedTuple):
    """A validated adjacency matrix in CSR form, and what was done to get there."""

    num_nodes: int
    indptr: IntArray
    indices: IntArray
    weights: FloatArray | None
    notes: tuple[str, ...]


def compress(
    source: Numbers, target: Numbers, weight: Numbers | None, num_nodes: SupportsIndex | None, directed: bool
) -> Compressed:
    """The adjacency matrix of a list of edges, by the rules that `Graph.from_edges` states."""
    u, v = _indices("source", source), _indices("target", target)
    if u.size != v.size:
        raise UserError(f"source and target must be of one length, got {u.size} and {v.size}")
    w = None if weight is None else _weights(weight, u.size)
    n = _node_count(num_nodes, u, v)
    u, v, w, notes = _merge(u, v, w, n, directed)
    if not directed:
        # Each row takes first what lies left of the diagonal, then the rest: the counting sort by row keeps
        # the order within a row, so the columns come out sorted.
        mirrored = u != v
        u, v = np.concatenate([v[mirrored], u]), np.concatenate([u[mirrored], v])
        data = np.ones(u.size, dtype=np.int8) if w is None else np.concatenate([w[mirrored], w])
        csr = sp.coo_array((data, (u, v)), shape=(n, n)).tocsr()
        indptr, v, w = csr.indptr, csr.indices, None if w is None else csr.data
    else:
        indptr = np.concatenate([[0], np.cumsum(np.bincount(u, minlength=n))])
    dtype = index_dtype(n, v.size)
    return Compressed(n, indptr.astype(dtype), v.astype(dtype), w, notes)


def index_dtype(num_nodes: int, stored: int) -> type[np.int32] | type[np.int64]:
    """int32 as long as every index and every offset fits."""
    return np.int32 if max(num_nodes, stored) <= INT32_MAX else np.int64


def plural(number: int, noun: str) -> str:
    """
    >>> plural(1, "edge"), plural(2, "edge")
    ('1 edge', '2 edges')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _array(name: str, values: Numbers) -> npt.NDArray[Any]:
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


def _indices(name: str, values: Numbers) -> npt.NDArray[np.int64]:
    array = _array(name, values)
    if array.size == 0:
        return np.empty(0, dtype=np.int64)  # an empty list has no type to speak of
    if array.dtype.kind not in "iu":
        raise UserError(f"{name} must hold integers (node positions), got {array.dtype}; convert them first")
    # Compared in the given type: an unsigned 64-bit id must not turn negative unseen.
    if (bad := np.flatnonzero((array < 0) | (array >= INT32_MAX))).size:
        raise UserError(
            f"{name} of edge {bad[0]} is {array[bad[0]]}; node positions run from 0 to num_nodes - 1"
            f" (at most {INT32_MAX - 1})"
        )
    return array.astype(np.int64, copy=False)


def _weights(values: Numbers, edges: int) -> FloatArray:
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
                f"the largest index is {largest}, with {plural(source.size, 'edge')} only; number the nodes"
                " 0, 1, 2, ..., or state num_nodes if this is meant"
            )
        return largest + 1
    try:
        nodes = -1 if isinstance(given, bool | np.bool_) else operator.index(given)
    except TypeError:
        nodes = -1
    if not 0 <= nodes <= INT32_MAX:
        raise UserError(f"num_nodes must be an integer from 0 to {INT32_MAX}, got {given!r}")
    if largest >= nodes:
        bad = int(np.flatnonzero((source >= nodes) | (target >= nodes))[0])
        name, value = ("source", source[bad]) if source[bad] >= nodes else ("target", target[bad])
        raise UserError(
            f"{name} of edge {bad} is {value}, but num_nodes={nodes} allows positions below {nodes} only;"
            " raise num_nodes or mend the edge"
        )
    return nodes


def _merge(
    source: npt.NDArray[np.int64],
    target: npt.NDArray[np.int64],
    weight: FloatArray | None,
    num_nodes: int,
    directed: bool,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], FloatArray | None, tuple[str, ...]]:
    """The edges sorted by (source, target) without repeats, source <= target when undirected; and notes.

    One sort does it all, on the key (pair, orientation).
    """
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
    low, high = np.divmod(pair, n)

    notes = []
    distinct = int(np.count_nonzero(key[1:] != key[:-1])) + min(key.size, 1)
    if repeats := key.size - distinct:
        notes.append(f"merged {plural(repeats, 'duplicate edge')}")
    # All or none in both directions are the two usual ways to list a graph; in between is worth a word.
    if 0 < (both := distinct - pair.size) < int(np.count_nonzero(low != high)):
        notes.append(f"{both} of {plural(pair.size, 'edge')} listed in both directions")
    if weight is not None:
        weight, summed = _merge_weights(weight, first)
        if summed:
            notes.append(f"{plural(summed, 'edge')} listed with differing weights, which were summed")
    return low, high, weight, tuple(notes)


def _merge_weights(weight: FloatArray, first: npt.NDArray[np.bool_]) -> tuple[FloatArray, int]:
    """The sum of the distinct weights of each group, and how many groups had several.

    A group begins where ``first`` is true.
    """
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
