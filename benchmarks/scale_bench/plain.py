"""Neighbour sampling as a user without a compiled sampler can have it: numpy, every step over whole arrays.

The meaning is that of torch_geometric's NeighborLoader (``replace=False``): the neighbours of a node are drawn once, in
the hop that reaches it, and every layer reads them; nodes and edges stand hop by hop, so that
``torch_geometric.utils.trim_to_layer`` can leave out what a layer does not need.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Rows of up to so many times the fan-out are drawn by sorting random keys, longer ones by drawing again what repeats.
_SHORT = 4


@dataclass(frozen=True)
class Subgraph:
    """What NeighborLoader gives: nodes, the seeds first; edges by position (from, to); how many each hop added."""

    nodes: NDArray[np.int64]
    edge_index: Tensor
    nodes_per_hop: list[int]
    edges_per_hop: list[int]


class PlainSampler:
    """Draws subgraphs; keeps 8 bytes a node of scratch.

    Args:
        indptr, indices: rows of the graph, without self-loops.
        fanouts: neighbours of the seeds, of those they reach, and so on.
        seed: of the draws.
    """

    def __init__(
        self, indptr: NDArray[np.integer], indices: NDArray[np.integer], fanouts: Sequence[int], seed: int = 0
    ) -> None:
        self.indptr, self.indices, self.fanouts = indptr, indices, tuple(fanouts)
        self._position = np.full(len(indptr) - 1, -1, np.int64)
        self._random = np.random.default_rng(seed)

    def sample(self, seeds: NDArray[np.int64]) -> Subgraph:
        """The subgraph around the seeds."""
        position, nodes, frontier = self._position, [seeds], seeds
        position[seeds] = np.arange(len(seeds))
        known, sources, targets, edges_per_hop = len(seeds), [], [], []
        for fanout in self.fanouts:
            rows, drawn = self._neighbours(frontier, fanout)
            new = np.unique(drawn[position[drawn] < 0])
            position[new] = np.arange(known, known + len(new))
            known += len(new)
            sources.append(position[drawn])
            targets.append(position[frontier[rows]])
            edges_per_hop.append(len(drawn))
            nodes.append(new)
            frontier = new
        every = np.concatenate(nodes)
        position[every] = -1
        edges = np.stack([np.concatenate(sources), np.concatenate(targets)])
        return Subgraph(every, torch.from_numpy(edges), [len(hop) for hop in nodes], edges_per_hop)

    def _neighbours(
        self, nodes: NDArray[np.int64], fanout: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(position among the nodes, neighbour) of what is drawn: all of a row up to the fan-out, else so many."""
        begin = self.indptr[nodes].astype(np.int64)
        degree = self.indptr[nodes + 1].astype(np.int64) - begin
        rows, entries = [], []
        few = np.flatnonzero(degree <= fanout)
        rows.append(np.repeat(few, degree[few]))
        within = np.arange(int(degree[few].sum())) - np.repeat(
            np.cumsum(degree[few]) - degree[few], degree[few]
        )
        entries.append(np.repeat(begin[few], degree[few]) + within)
        for chosen, draw in (
            (np.flatnonzero((degree > fanout) & (degree <= _SHORT * fanout)), self._by_keys),
            (np.flatnonzero(degree > _SHORT * fanout), self._by_rejection),
        ):
            if len(chosen):
                rows.append(np.repeat(chosen, fanout))
                entries.append((begin[chosen, None] + draw(degree[chosen], fanout)).ravel())
        return np.concatenate(rows), self.indices[np.concatenate(entries)].astype(np.int64)

    def _by_keys(self, degree: NDArray[np.int64], fanout: int) -> NDArray[np.int64]:
        keys = self._random.random((len(degree), int(degree.max())), np.float32)
        keys[np.arange(keys.shape[1]) >= degree[:, None]] = 2.0
        return np.argpartition(keys, fanout - 1, axis=1)[:, :fanout]

    def _by_rejection(self, degree: NDArray[np.int64], fanout: int) -> NDArray[np.int64]:
        found = (self._random.random((len(degree), fanout)) * degree[:, None]).astype(np.int64)
        again = np.arange(len(degree))
        while len(again):
            found[again] = np.sort(found[again], axis=1)
            again = again[(np.diff(found[again], axis=1) == 0).any(1)]
            # The whole row anew: every subset stays equally likely.
            found[again] = (self._random.random((len(again), fanout)) * degree[again, None]).astype(np.int64)
        return found
