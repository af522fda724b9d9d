"""Sparse matrices in compressed-row form: adjacency operators and sparse features alike.

A `Pattern` says where the non-zeros are; a `SparseMatrix` adds their values. The pattern is what is expensive to
transpose or to spread over heads, so it is shared and caches both; the values are an ordinary tensor, which may
carry gradients (attention coefficients) or a dropout mask.
"""

from __future__ import annotations

import warnings
import weakref
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse as scipy_sparse
from torch import Tensor

from layerlab.errors import UserError

# torch says once per process that CSR tensors are in beta. A person who trains a GCN can do nothing about it.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch.sparse_csr_tensor(
        torch.zeros(1, dtype=torch.int32), torch.zeros(0, dtype=torch.int32), torch.zeros(0), (0, 0)
    )

_INT32_MAX = 2**31 - 1


def _index_dtype(nnz: int, shape: tuple[int, int]) -> torch.dtype:
    return torch.int32 if max(nnz, *shape) <= _INT32_MAX else torch.int64


def expect_tensors(*given: object) -> None:
    """UserError where something that is not None is no tensor, such as a numpy array."""
    for value in given:
        if value is not None and not isinstance(value, Tensor):
            raise UserError(f"expected a tensor, got {type(value).__name__}; convert it with torch.as_tensor")


def expect_nodes(nodes: Tensor, count: int, what: str = "nodes") -> None:
    """UserError where these are no list of positions among ``count`` nodes (or rows)."""
    expect_tensors(nodes)
    if nodes.ndim != 1 or nodes.is_floating_point() or nodes.is_complex() or nodes.dtype == torch.bool:
        raise UserError(f"expected a list of {what}, got shape {tuple(nodes.shape)}, {nodes.dtype}")
    if len(nodes) and not (int(nodes.min()) >= 0 and int(nodes.max()) < count):
        raise UserError(f"expected {what} in 0 ... {count - 1}, got {int(nodes.min())} to {int(nodes.max())}")


class Pattern:
    """The positions of the non-zeros of a matrix, row by row. Immutable; its derived forms are built once.

    Args:
        crow: row offsets, ``(rows + 1,)``, int32 or int64, from 0 to nnz, non-decreasing.
        col: column of each entry, ``(nnz,)``, same dtype, strictly increasing within a row.
        shape: ``(rows, columns)``.

    The constructor trusts its input: it is called on what this package built or has validated. Input from
    outside goes through `SparseMatrix.from_scipy`, `from_dense` or `layerlab.graph.Graph`.
    """

    def __init__(self, crow: Tensor, col: Tensor, shape: tuple[int, int]) -> None:
        self.crow = crow
        self.col = col
        self.shape = shape
        self._heads: dict[int, tuple[Pattern, Tensor]] = {}
        self._transposed: tuple[Pattern, Tensor] | None = None
        # Of a transposed pattern its source, weakly: in a ring both would stay until the collector comes by.
        self._origin: tuple[weakref.ref[Pattern], Tensor] | None = None
        self._moved: dict[torch.device, Pattern] = {}

    @property
    def nnz(self) -> int:
        return self.col.shape[0]

    @cached_property
    def row(self) -> Tensor:
        """Row of each entry, ``(nnz,)``."""
        counts = self.crow[1:] - self.crow[:-1]
        rows = torch.arange(self.shape[0], dtype=self.crow.dtype, device=self.crow.device)
        return torch.repeat_interleave(rows, counts, output_size=self.nnz)

    @cached_property
    def longest(self) -> int:
        """Entries of the longest row."""
        return int((self.crow[1:] - self.crow[:-1]).max()) if self.shape[0] else 0

    @cached_property
    def trusted(self) -> bool:
        """True; looks once whether offsets and columns are in range, since kernels index memory unchecked.

        Raises:
            UserError: they are not.
        """
        rows, columns = self.shape
        fits = self.crow.shape == (rows + 1,) and self.col.ndim == 1
        if fits and rows:
            fits = int(self.crow[0]) == 0 and int(self.crow[-1]) == self.nnz
            fits = fits and bool((self.crow[1:] >= self.crow[:-1]).all())
        if fits and self.nnz:
            fits = rows > 0 and int(self.col.min()) >= 0 and int(self.col.max()) < columns
        if not fits:
            raise UserError(
                f"expected row offsets from 0 to {self.nnz} and columns in 0 ... {columns - 1} for a sparse matrix "
                f"of {rows} x {columns}; build it with SparseMatrix.from_scipy"
            )
        return True

    @cached_property
    def arrays(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Row offsets and columns as numpy arrays over the same memory; of a pattern on a CPU."""
        return self.crow.numpy(), self.col.numpy()

    @cached_property
    def order(self) -> NDArray[Any]:
        """The second part of `transposed` as a numpy array in the indices' own width: half the memory to go through."""
        order = self.transposed()[1].numpy()
        return order.astype(self.crow.numpy().dtype)

    @cached_property
    def row_summing(self) -> Pattern:
        """The ``(rows, nnz)`` pattern whose all-ones matrix sums the entries of each row of a ``(nnz, d)`` tensor."""
        entries = torch.arange(self.nnz, dtype=self.crow.dtype, device=self.crow.device)
        return Pattern(self.crow, entries, (self.shape[0], self.nnz))

    @cached_property
    def column_summing(self) -> Pattern:
        """The ``(columns, nnz)`` pattern whose all-ones matrix sums the entries of each column."""
        transposed, order = self.transposed()
        return Pattern(transposed.crow, order.to(self.crow.dtype), (self.shape[1], self.nnz))

    def transposed(self) -> tuple[Pattern, Tensor]:
        """The transposed pattern, and where each of its entries stood in this one: ``values.T == values[order]``."""
        if self._origin is not None and (origin := self._origin[0]()) is not None:
            return origin, self._origin[1]
        if self._transposed is None:
            # Entries come in row order, so a stable sort by column leaves the rows of each column ascending.
            order = torch.argsort(self.col, stable=True)
            counts = torch.bincount(self.col, minlength=self.shape[1])
            crow = torch.zeros(self.shape[1] + 1, dtype=self.crow.dtype, device=self.crow.device)
            crow[1:] = counts.cumsum(0)
            pattern = Pattern(crow, self.row.index_select(0, order), (self.shape[1], self.shape[0]))
            inverse = torch.empty_like(order)
            inverse[order] = torch.arange(self.nnz, device=order.device)
            pattern._origin = (weakref.ref(self), inverse)
            self._transposed = (pattern, order)
        return self._transposed

    def per_head(self, heads: int) -> tuple[Pattern, Tensor]:
        """One copy of the pattern per head, interleaved, so that one product serves all heads.

        Entry (i, j) becomes entries (i H + h, j H + h) for h < H, which act on a ``(columns, H, F)`` tensor seen
        as ``(columns H, F)``. Returns that pattern and the position of each of its entries in a ``(nnz, H)``
        tensor of values, flattened. No tensor of size entries x heads x features is ever built.
        """
        if heads not in self._heads:
            counts = (self.crow[1:] - self.crow[:-1]).long().repeat_interleave(heads)
            crow = torch.zeros(self.shape[0] * heads + 1, dtype=torch.int64, device=self.crow.device)
            crow[1:] = counts.cumsum(0)
            total = self.nnz * heads
            head_row = torch.repeat_interleave(
                torch.arange(self.shape[0] * heads, device=crow.device), counts, output_size=total
            )
            row = torch.div(head_row, heads, rounding_mode="floor")
            head = head_row - row * heads
            within = torch.arange(total, device=crow.device) - crow.index_select(0, head_row)
            entry = self.crow.long().index_select(0, row) + within
            col = self.col.long().index_select(0, entry) * heads + head
            shape = (self.shape[0] * heads, self.shape[1] * heads)
            dtype = _index_dtype(total, shape)
            self._heads[heads] = (Pattern(crow.to(dtype), col.to(dtype), shape), entry * heads + head)
        return self._heads[heads]

    def to(self, device: torch.device | str) -> Pattern:
        """The same pattern on another device (itself when it is there already); kept, with its derived forms."""
        target = torch.device(device)
        if self.col.device == target:
            return self
        if target not in self._moved:
            self._moved[target] = Pattern(self.crow.to(target), self.col.to(target), self.shape)
        return self._moved[target]

    def __getstate__(self) -> dict[str, Any]:
        # Derived forms are cheap to rebuild and would multiply what travels to a worker process.
        return {"crow": self.crow, "col": self.col, "shape": self.shape}

    def __setstate__(self, state: dict[str, Any]) -> None:
        Pattern.__init__(self, state["crow"], state["col"], state["shape"])


class SparseMatrix:
    """An immutable sparse matrix: a shared `Pattern` and one value per entry.

    Args:
        pattern: where the entries are.
        values: ``(nnz,)``, a floating dtype; may require gradients.

    >>> m = SparseMatrix.from_dense(torch.tensor([[0.0, 2.0], [3.0, 0.0]]))
    >>> m.transpose().to_dense().tolist()
    [[0.0, 3.0], [2.0, 0.0]]
    """

    def __init__(self, pattern: Pattern, values: Tensor) -> None:
        if values.shape != (pattern.nnz,):
            raise UserError(f"expected {pattern.nnz} values, one per entry, got shape {tuple(values.shape)}")
        if not values.is_floating_point():
            raise UserError(f"expected floating-point values, got {values.dtype}; convert them with .float()")
        self.pattern = pattern
        self.values = values
        self._transposed: tuple[int, Tensor] | None = None

    @classmethod
    def from_scipy(cls, matrix: Any, dtype: torch.dtype = torch.float32) -> SparseMatrix:
        """From any scipy sparse matrix or array; duplicates are summed, explicit zeros dropped.

        Raises:
            UserError: not a two-dimensional scipy sparse matrix of real numbers, or a value is NaN, infinite or too
                large for ``dtype``.
        """
        if not scipy_sparse.issparse(matrix) or matrix.ndim != 2:
            raise UserError(f"expected a 2-dimensional scipy sparse matrix, got {type(matrix).__name__}")
        if matrix.dtype.kind not in "buif":
            raise UserError(f"expected a matrix of real numbers, got dtype {matrix.dtype}")
        csr = scipy_sparse.csr_array(matrix, copy=True)
        csr.sum_duplicates()
        csr.eliminate_zeros()
        # After the cast: what is too large for the dtype has become infinite by it.
        values = torch.from_numpy(csr.data.astype(np.float64)).to(dtype)
        finite = torch.isfinite(values)
        if not finite.all():
            entry = int(torch.nonzero(~finite)[0])
            row = int(np.searchsorted(csr.indptr, entry, side="right")) - 1
            raise UserError(
                f"row {row}, column {csr.indices[entry]} is {csr.data[entry]}: expected finite values of {dtype}"
            )
        shape = (int(csr.shape[0]), int(csr.shape[1]))
        index = np.int32 if _index_dtype(csr.nnz, shape) is torch.int32 else np.int64
        # Copies: scipy may hand out read-only or foreign memory, and this matrix must not change under its reader.
        crow = torch.from_numpy(csr.indptr.astype(index))
        col = torch.from_numpy(csr.indices.astype(index))
        return cls(Pattern(crow, col, shape), values)

    @classmethod
    def from_dense(cls, matrix: Tensor) -> SparseMatrix:
        """From a two-dimensional tensor; keeps its floating dtype (integers become float32) and device."""
        expect_tensors(matrix)
        if matrix.ndim != 2:
            raise UserError(f"expected a 2-dimensional tensor, got shape {tuple(matrix.shape)}")
        dtype = matrix.dtype if matrix.is_floating_point() else torch.float32
        numbers = matrix.detach().to("cpu", torch.float64).numpy()
        return cls.from_scipy(scipy_sparse.csr_array(numbers), dtype).to(device=matrix.device)

    @property
    def shape(self) -> tuple[int, int]:
        return self.pattern.shape

    @property
    def nnz(self) -> int:
        return self.pattern.nnz

    @property
    def crow(self) -> Tensor:
        return self.pattern.crow

    @property
    def col(self) -> Tensor:
        return self.pattern.col

    @property
    def row(self) -> Tensor:
        return self.pattern.row

    @property
    def dtype(self) -> torch.dtype:
        return self.values.dtype

    @property
    def device(self) -> torch.device:
        return self.values.device

    @cached_property
    def numbers(self) -> NDArray[Any]:
        """The values as a numpy array over the same memory; of constant values on a CPU."""
        return self.values.numpy()

    def transpose(self) -> SparseMatrix:
        """The transposed matrix. The pattern is transposed once; the values follow it, gradients included."""
        pattern, _ = self.pattern.transposed()
        return SparseMatrix(pattern, self.transposed_values())

    def transposed_values(self) -> Tensor:
        """The values in the order of the transposed pattern; kept while they are constant."""
        order = self.pattern.transposed()[1]
        if self.values.requires_grad or torch.compiler.is_compiling():
            return self.values.index_select(0, order)
        # In-place changes raise a tensor's version, so what is kept cannot go stale.
        version = self.values._version
        if self._transposed is None or self._transposed[0] != version:
            self._transposed = (version, self.values.index_select(0, order))
        return self._transposed[1]

    def rows(self, index: Tensor) -> SparseMatrix:
        """The given rows, in the given order, as a new matrix; differentiable in the values.

        Raises:
            UserError: an index that is no list of integers, or out of range.

        >>> SparseMatrix.from_dense(torch.eye(3)).rows(torch.tensor([2, 0])).to_dense().tolist()
        [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
        """
        expect_nodes(index, self.shape[0], "rows")
        crow, wanted = self.crow.long(), index.long()
        counts = crow[wanted + 1] - crow[wanted]
        offsets = torch.zeros(len(wanted) + 1, dtype=torch.int64, device=counts.device)
        offsets[1:] = counts.cumsum(0)
        row = torch.repeat_interleave(torch.arange(len(wanted), device=counts.device), counts)
        entry = crow[wanted][row] + torch.arange(len(row), device=counts.device) - offsets[row]
        pattern = Pattern(offsets.to(self.crow.dtype), self.col[entry], (len(wanted), self.shape[1]))
        return SparseMatrix(pattern, self.values[entry])

    def product(self, other: SparseMatrix) -> SparseMatrix:
        """This matrix times another sparse one, as a sparse one; a constant, by scipy.

        Raises:
            UserError: the shapes or dtypes do not fit, a matrix is not float32 or float64 on a CPU, or its values
                require gradients.

        >>> m = SparseMatrix.from_dense(torch.tensor([[0.0, 2.0], [3.0, 0.0]]))
        >>> m.product(m).to_dense().tolist()
        [[6.0, 0.0], [0.0, 6.0]]
        """
        fits = self.shape[1] == other.shape[0] and self.dtype == other.dtype
        if not (fits and self.multiplies_sparsely and other.multiplies_sparsely):
            raise UserError(
                "expected two matrices of float32 or of float64 on a CPU, without gradients, of shapes (n, m) and "
                f"(m, d), got {self} and {other}"
            )
        out = self.to_scipy() @ other.to_scipy()
        out.sort_indices()
        shape = (self.shape[0], other.shape[1])
        index = _index_dtype(out.nnz, shape)
        pattern = Pattern(
            torch.from_numpy(out.indptr).to(index), torch.from_numpy(out.indices).to(index), shape
        )
        return SparseMatrix(pattern, torch.from_numpy(out.data))

    @property
    def multiplies_sparsely(self) -> bool:
        """Whether `product` takes this matrix."""
        numbers = self.dtype in (torch.float32, torch.float64) and self.device.type == "cpu"
        return numbers and not self.values.requires_grad

    def with_values(self, values: Tensor) -> SparseMatrix:
        """The same pattern with other values: attention coefficients, or values after dropout."""
        return SparseMatrix(self.pattern, values)

    def to(
        self, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> SparseMatrix:
        """A copy on another device or in another floating dtype (itself when nothing changes)."""
        values = self.values.to(device=device, dtype=dtype)
        if values is self.values:
            return self
        return SparseMatrix(self.pattern if device is None else self.pattern.to(device), values)

    def to_scipy(self) -> Any:
        """As a ``scipy.sparse.csr_array`` (float64 stays float64, everything else becomes float32)."""
        values = self.values.detach().cpu()
        values = values if values.dtype == torch.float64 else values.float()
        parts = (values.numpy().copy(), self.col.cpu().numpy().copy(), self.crow.cpu().numpy().copy())
        return scipy_sparse.csr_array(parts, shape=self.shape)

    def to_dense(self) -> Tensor:
        """As a dense tensor; differentiable in the values. For tests and small matrices."""
        dense = self.values.new_zeros(self.shape)
        return dense.index_put((self.row.long(), self.col.long()), self.values)

    def __repr__(self) -> str:
        rows, columns = self.shape
        return f"SparseMatrix({rows} x {columns}, {self.nnz} entries, {self.dtype}, {self.device})"
