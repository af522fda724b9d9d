"""Many products with one sparse matrix: where it is large compiled, on all threads, into memory that is used again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from layerlab.errors import UserError
from layerlab.graph.kernels import operators
from layerlab.lab import kernels
from layerlab.lab.kernels import pages, threads

Floats = NDArray[np.float64]

# Stored entries from which on the compiled product is taken: below, scipy's takes milliseconds, and loading (the first
# time on a machine compiling) the other one takes longer than all products.
_COMPILED_FROM = 1 << 22
# Rows that are worked on together: a block of 24 columns of them stays in the cache. Fixed, so that sums do not depend
# on threads.
_ROWS = 1 << 13


class Product:
    """x ↦ Mx for a sparse M in float64, to be called many times.

    Each number is summed by one thread in the order of its row, so bits do not depend on the number of threads.

    Args:
        matrix: (n, m) float64.

    Raises:
        UserError: a large matrix with a column out of range.

    >>> Product(sp.csr_array([[0.0, 2.0], [1.0, 0.0]]))(np.array([1.0, 5.0])).tolist()
    [10.0, 1.0]
    """

    def __init__(self, matrix: sp.csr_array) -> None:
        self.matrix = matrix
        self._compiled = matrix.nnz >= _COMPILED_FROM and kernels.serve()
        if self._compiled and not (
            matrix.indices.min() >= 0 and matrix.indices.max() < matrix.shape[1]
        ):  # the kernel trusts them
            raise UserError(f"expected columns in 0 ... {matrix.shape[1] - 1} of a sparse matrix")

    def __call__(self, x: Floats, out: Floats | None = None) -> Floats:
        """The product with x, (m) or (m, d) and contiguous, written into ``out`` where that is given."""
        if not self._compiled:
            found: Floats = self.matrix @ x
            if out is None:
                return found
            out[...] = found
            return out
        out = np.empty((self.matrix.shape[0], *x.shape[1:])) if out is None else out
        wide, into = (array.reshape(array.shape[0], -1) for array in (x, out))
        offsets, columns, values = self.matrix.indptr, self.matrix.indices, self.matrix.data
        cuts = threads.parts_of(offsets, len(columns) * wide.shape[1] // 8)
        threads.run(operators.cpu().spmm, (offsets, columns, values, None, wide, None, into), cuts)
        return out


def room(rows: int, columns: int) -> Floats:
    """(rows, columns) of new memory, in huge pages where there are such: random rows of it are read faster."""
    return pages.empty(torch.empty(0, dtype=torch.float64), rows, columns).numpy()


def by_rows(rows: int, work: Callable[[slice], Floats | float]) -> Floats:
    """The sum of what ``work`` returns for stretches of rows, dealt to threads and added up in order."""
    count = max(1, -(-rows // _ROWS))
    found: list[Any] = [0.0] * count

    def part(first: int, last: int) -> None:
        for index in range(first, last):
            found[index] = work(slice(index * _ROWS, min(rows, (index + 1) * _ROWS)))

    threads.run(part, (), threads.even_parts(count, threads.SMALL * (count - 1)))
    total: Floats = np.sum(found, axis=0)
    return total


def inner(x: Floats, y: Floats) -> Floats:
    """The inner product of each column of x with that of y."""
    found: Floats = np.einsum("ij,ij->j", x, y)
    return found
