"""The slow twin of `layerlab.graph.sampling.neighbours`: plain Python, the same bits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from layerlab.graph.field import Field
from layerlab.graph.sparse import SparseMatrix
from layerlab.lab.random import philox


class _Words:
    """The random words of one row: those of the counters (node, layer), four a counter."""

    def __init__(self, seed: int, node: int, layer: int) -> None:
        self.key = np.array([seed & 0xFFFFFFFF, seed >> 32], np.uint32)
        self.counter = [node & 0xFFFFFFFF, node >> 32, 0, layer]
        self.waiting: list[int] = []

    def next(self) -> int:
        if not self.waiting:
            self.waiting = philox(np.array(self.counter, np.uint32), self.key).tolist()
            self.counter[2] += 1
        return self.waiting.pop(0)

    def below(self, size: int) -> int:
        """A whole number from 0 to size - 1, each as often as the others."""
        while True:
            place, low = divmod(self.next() * size, 2**32)
            if low >= 2**32 % size:
                return place


def drawn_places(among: int, count: int, seed: int, node: int, layer: int) -> list[int]:
    """Floyd's algorithm: ``count`` of ``among`` places, ascending.

    >>> drawn_places(5, 2, seed=0, node=0, layer=0)
    [1, 4]
    """
    words, chosen = _Words(seed, node, layer), set[int]()
    for last in range(among - count, among):
        place = words.below(last + 1)
        chosen.add(last if place in chosen else place)
    return sorted(chosen)


def sample_field(
    operator: SparseMatrix, nodes: Tensor, fanouts: Sequence[int], seed: int, *, scaled: bool = True
) -> Field:
    """As `layerlab.graph.sampling.neighbours.sample_field`; for checked arguments."""
    matrix, level, operators = operator.to_scipy(), nodes.tolist(), []
    for layer, fanout in enumerate(fanouts):
        rows: list[dict[int, np.floating]] = []
        for node in level:
            row = slice(matrix.indptr[node], matrix.indptr[node + 1])
            entries = dict(zip(matrix.indices[row].tolist(), matrix.data[row], strict=True))
            others = [name for name in entries if name != node]
            if 0 <= fanout < len(others):
                scale = matrix.dtype.type(len(others) / fanout if scaled and fanout else 1)
                chosen = [others[p] for p in drawn_places(len(others), fanout, seed, node, layer)]
                entries = {
                    **{name: entries[name] for name in (node,) if name in entries},
                    **{name: entries[name] * scale for name in chosen},
                }
            rows.append(entries)
        reached = sorted({name for entries in rows for name in entries} - set(level))
        place = {name: position for position, name in enumerate([*level, *reached])}
        dense = torch.zeros(len(level), len(place), dtype=operator.dtype)
        for i, entries in enumerate(rows):
            for name, number in entries.items():
                dense[i, place[name]] = float(number)
        operators.append(SparseMatrix.from_dense(dense))
        level = list(place)
    return Field(torch.tensor(level, dtype=torch.int64), tuple(reversed(operators)))
