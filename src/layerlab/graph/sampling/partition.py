"""Features that processes hold in parts: each those of its own nodes, and the others' rows when a batch reads them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from layerlab.errors import UserError
from layerlab.graph.node_data import Features, NodeDataset
from layerlab.graph.sampling.inputs import Inputs
from layerlab.graph.sparse import SparseMatrix
from layerlab.graph.structure import Graph
from layerlab.lab.process_group import Group, talking

PARTITIONS = ("hash", "metis")
# 2^64 over the golden ratio: neighbours in number are spread over all parts.
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
_DONE = -1


def check_partition(kind: str) -> None:
    """That there is such a partition, and what makes it.

    Raises:
        UserError: an unknown name, or pymetis is not installed.
    """
    if kind not in PARTITIONS:
        raise UserError(f"expected a partition of {', '.join(PARTITIONS)}, got {kind!r}")
    if kind == "metis":
        _metis()


def parts_of(graph: Graph, kind: str, parts: int) -> NDArray[np.uint16]:
    """The part of every node: ``(n,)``, from 0 to parts - 1.

    "hash" spreads nodes evenly by their numbers. "metis" cuts the graph into parts of about as many nodes with few
    edges between them (Karypis and Kumar 1998), so that most of what a batch of a part's nodes reads is the part's own.

    Args:
        graph: directed edges are cut as undirected ones, weights do not count.
        kind: of `PARTITIONS`.
        parts: how many, up to 65,535.

    Raises:
        UserError: as `check_partition`.

    >>> parts_of(Graph.from_edges([0, 1, 2], [1, 2, 3]), "hash", 2).tolist()
    [0, 1, 0, 0]
    """
    check_partition(kind)
    if kind == "hash":
        words = np.arange(graph.num_nodes, dtype=np.uint64) * _SPREAD >> np.uint64(32)
        return (words % np.uint64(parts)).astype(np.uint16)
    from scipy import sparse

    n = graph.num_nodes
    ones = np.ones(graph.indices.size, np.int8)
    pattern = sparse.csr_array((ones, graph.indices, graph.indptr), shape=(n, n))
    if graph.directed:
        pattern = (pattern + pattern.T).tocsr()
    pattern.setdiag(0)
    pattern.eliminate_zeros()
    metis = _metis()
    adjacency = metis.CSRAdjacency(pattern.indptr, pattern.indices)
    return np.asarray(metis.part_graph(parts, adjacency=adjacency).vertex_part, np.uint16)


class PartitionedInputs(Inputs):
    """Row-normalised features as `Inputs` has them, of which each process keeps the rows of its own nodes in memory.

    `rows` speaks with all processes, so all call it equally often; a process that wants nothing while another one
    reads calls `serve`.

    Args:
        features: of all nodes; only the own rows are read.
        owners: ``(n,)``, the rank that holds each node.
        group: the processes; all make this object together.
    """

    def __init__(self, features: Features, owners: NDArray[np.uint16], group: Group) -> None:
        self.shape, self.owners = features.shape, torch.from_numpy(owners.astype(np.int32))
        self._rank, self._size = group.rank, group.size
        own = torch.nonzero(self.owners == group.rank)[:, 0]
        found = features.rows(own)
        dense = found.to_dense() if isinstance(found, SparseMatrix) else found
        sums = dense.abs().sum(1, dtype=torch.float64)
        self._held = dense * torch.where(sums > 0, 1 / sums, 0.0).float()[:, None]
        self._place = torch.zeros(self.shape[0], dtype=torch.int32)
        self._place[own] = torch.arange(len(own), dtype=torch.int32)
        # Batches are gathered in a background thread, while gradients are reduced: each has its own connections.
        self._links = dist.new_group(backend="gloo")

    def rows(self, nodes: Tensor) -> Tensor:
        """The features of the nodes, dense, from whoever holds them."""
        whose = self.owners[nodes]
        order = torch.argsort(whose, stable=True)
        found = self._exchange(nodes[order], torch.bincount(whose, minlength=self._size))
        assert found is not None
        out = torch.empty(len(nodes), self.shape[1])
        out[order] = found
        return out

    def columns(self) -> Iterator[tuple[slice, Tensor]]:
        """Nobody has all nodes.

        Raises:
            UserError: always.
        """
        raise UserError(
            "an SGC propagates whole columns of features once, before it trains; leave --partition out"
        )

    def serve(self) -> None:
        """Give rank 0 the rows that it asks for, until it has what it wants."""
        nothing = torch.zeros(self._size, dtype=torch.int64)
        while self._exchange(torch.empty(0, dtype=torch.int64), nothing) is not None:
            pass

    @contextmanager
    def served(self) -> Iterator[None]:
        """Around what rank 0 reads while the others `serve`."""
        try:
            yield
        finally:
            self._exchange(torch.empty(0, dtype=torch.int64), torch.full((self._size,), _DONE))

    def _exchange(self, nodes: Tensor, wanted: Tensor) -> Tensor | None:
        """The rows of ``nodes``, which are sorted by owner, ``wanted`` of each; None when rank 0 is done."""
        asked = torch.empty_like(wanted)
        with talking():
            dist.all_to_all_single(asked, wanted, group=self._links)
            if int(asked[0]) == _DONE:
                return None
            given, taken = asked.tolist(), wanted.tolist()
            theirs = torch.empty(int(asked.sum()), dtype=torch.int64)
            dist.all_to_all_single(theirs, nodes.contiguous(), given, taken, group=self._links)
            found = torch.empty(len(nodes), self.shape[1])
            dist.all_to_all_single(found, self._held[self._place[theirs]], taken, given, group=self._links)
        return found


def partitioned(dataset: NodeDataset, kind: str, group: Group) -> PartitionedInputs:
    """A data set's features in parts, which rank 0 cuts for all.

    Args:
        dataset: graph and features.
        kind: of `PARTITIONS`.
        group: the processes; all call this together.
    """
    if kind == "hash":
        owners = parts_of(dataset.graph, kind, group.size)
    else:
        # Cut once: METIS takes the memory of the graph several times.
        made = parts_of(dataset.graph, kind, group.size).tobytes() if group.first else None
        owners = np.frombuffer(group.bytes_of_first(made), np.uint16)
    return PartitionedInputs(dataset.features, owners, group)


def _metis() -> ModuleType:
    try:
        import pymetis
    except ImportError:
        raise UserError(
            'cutting a graph by METIS needs pymetis: pip install "layerlab[partition]", or take --partition hash'
        ) from None
    found: ModuleType = pymetis
    return found
