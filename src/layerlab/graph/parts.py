"""Rows of a sparse matrix in runs: what is computed of one fits beside a graph larger than memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch

from layerlab.graph.edges import IntArray
from layerlab.lab.arrays import is_mapped

# Entries of a run: some ten bytes of work space each, 40 MB.
_ENTRIES = 1 << 22


class Part(NamedTuple):
    """The rows begin … end−1: their entries, and the row of each of these."""

    begin: int
    end: int
    entries: slice
    rows: IntArray


def parts(indptr: IntArray, dtype: np.dtype[np.int32] | np.dtype[np.int64]) -> Iterator[Part]:
    """The rows in runs of a few million entries, at least one row each.

    Args:
        indptr: (n + 1) where each row begins.
        dtype: of the rows that are told.

    >>> [(part.begin, part.end, part.rows.tolist()) for part in parts(np.array([0, 1, 3]), np.dtype(np.int32))]
    [(0, 2, [0, 1, 1])]
    """
    begin, last = 0, indptr.size - 1
    while begin < last:
        first = int(indptr[begin])
        end = int(np.searchsorted(indptr, first + _ENTRIES, side="right")) - 1
        end = min(max(end, begin + 1), last)
        rows = np.arange(begin, end, dtype=dtype)
        yield Part(
            begin,
            end,
            slice(first, int(indptr[end])),
            np.repeat(rows, np.diff(indptr[begin : end + 1])),
        )
        begin = end


def tensor(array: IntArray) -> torch.Tensor:
    """As a tensor. A copy: torch tensors cannot be read-only, and a graph must not change through them.

    Except where the array lies in a file: it may be larger than memory, and its map is private (`open_array`).
    """
    if is_mapped(array):
        view = array.view()
        with contextlib.suppress(ValueError):  # a map that somebody else made read-only
            view.setflags(write=True)
            return torch.from_numpy(view)
    return torch.tensor(array)
