"""Vectors of any origin, read a few rows at a time: checked, and as unit vectors or packed signs.

Vectors are the rows of a ``(count, dim)`` array: a torch tensor, a numpy array, or one mapped from a file. Rows need
not have unit length: the coherence is that of the lines through them.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerlab.errors import UserError

# Numbers read at a time, so that what is worked out from them fits a cache or little memory.
_AT_ONCE = 1 << 20

Array = Tensor | NDArray[np.generic]


class Rows:
    """A view of an array as checked vectors.

    Args:
        vectors: (count, dim), real or complex; at least two rows.

    Raises:
        UserError: another shape or type, or fewer than two vectors.
    """

    def __init__(self, vectors: Array) -> None:
        if not isinstance(vectors, Tensor | np.ndarray):
            raise UserError(
                f"expected a (count, dim) tensor or array of vectors, got {type(vectors).__name__}; "
                "give vectors as rows of torch.tensor(...)"
            )
        if vectors.ndim != 2:
            raise UserError(
                f"expected a (count, dim) array with a vector in each row, got shape {tuple(vectors.shape)}; "
                "reshape it to two dimensions"
            )
        self._vectors = vectors.detach().cpu() if isinstance(vectors, Tensor) else vectors
        self.count, self.dim = (int(size) for size in vectors.shape)
        if self.dim < 1 or self.count < 2:
            raise UserError(
                f"expected at least 2 vectors of at least 1 dimension, got {self.count} of {self.dim}; "
                "a coherence needs a pair"
            )
        if isinstance(vectors, np.ndarray) and vectors.dtype.kind not in "fiucb":
            raise UserError(f"expected numbers, got an array of {vectors.dtype}; convert it to float32")
        self.complex = _probe(self._vectors).is_complex()

    def numbers(self, first: int, last: int) -> Tensor:
        """Rows as given, in float64 or complex128."""
        part = self._vectors[first:last]
        tensor = part if isinstance(part, Tensor) else _native(part)
        return tensor.to(torch.complex128 if self.complex else torch.float64)

    def unit(self, first: int, last: int) -> Tensor:
        """Rows divided by their lengths, in float64 or complex128.

        Raises:
            UserError: a row is zero, or has a NaN or an infinite entry.
        """
        return self._unit(self.numbers(first, last), first)

    def unit_of(self, chosen: NDArray[np.int64]) -> Tensor:
        """As `unit`, of single rows."""
        some = self._vectors[torch.from_numpy(chosen) if isinstance(self._vectors, Tensor) else chosen]
        tensor = some if isinstance(some, Tensor) else _native(some)
        return self._unit(tensor.to(torch.complex128 if self.complex else torch.float64), 0)

    def _unit(self, x: Tensor, first: int) -> Tensor:
        # First by the largest entry, so that no square overflows or vanishes.
        largest = x.abs().amax(dim=1, keepdim=True)
        bad = ~(torch.isfinite(largest) & (largest > 0)).flatten()
        if bad.any():
            row = int(bad.nonzero()[0])
            if float(largest[row]) == 0:
                raise UserError(
                    f"expected vectors with a direction, got a zero vector in row {first + row}; leave it out"
                )
            column = int((~torch.isfinite(x[row].abs())).nonzero()[0])
            raise UserError(
                f"expected finite numbers, got {x[row, column].item()} in row {first + row}, "
                f"column {column}; mend or leave out that vector"
            )
        x = x / largest
        return x / torch.linalg.vector_norm(x, dim=1, keepdim=True)

    def all_unit(self, dtype: torch.dtype) -> Tensor:
        """Every row as `unit` gives it, rounded to ``dtype``; by a compiled loop for real numbers."""
        out = torch.empty(self.count, self.dim, dtype=dtype)
        step = max(1, _AT_ONCE // self.dim)
        for first in range(0, self.count, step):
            last = min(first + step, self.count)
            if self.complex or not self._quickly_unit(first, last, out):
                out[first:last] = self.unit(first, last)
        return out

    def _quickly_unit(self, first: int, last: int, out: Tensor) -> bool:
        from layerlab.lab.kernels import threads
        from layerlab.projection.kernels.pairs_cpu import unit_rows

        rows = self._real(first, last)
        done = np.zeros(last - first, np.uint8)
        cuts = threads.even_parts(last - first, 2 * rows.size)
        threads.run(unit_rows, (rows, out[first:last].numpy(), done), cuts)
        return bool(done.all())

    def packed(self) -> NDArray[np.uint64] | None:
        """A bit for each minus sign, in words of 64, if the signs say all of every row; else None.

        They do where all entries of a row have the same absolute value.
        """
        from layerlab.lab.kernels import threads
        from layerlab.projection.kernels.pairs_cpu import pack_signs

        if self.complex:
            return None
        out = np.zeros((self.count, -(-self.dim // 64)), np.uint64)
        alike = np.zeros(self.count, np.uint8)
        step = max(1, 16 * _AT_ONCE // self.dim)
        for first in range(0, self.count, step):
            last = min(first + step, self.count)
            rows = self._real(first, last)
            cuts = threads.even_parts(last - first, rows.size // 2)
            threads.run(pack_signs, (rows, out[first:last], alike[first:last]), cuts)
            if not alike[first:last].all():
                return None
        return out

    def _real(self, first: int, last: int) -> NDArray[np.generic]:
        """Rows as given if kernels take them, else in float64."""
        part = self._vectors[first:last]
        known = (np.float32, np.float64, np.int8)
        if isinstance(part, Tensor):
            part = part.contiguous()
            part = part if part.dtype in (torch.float32, torch.float64, torch.int8) else part.double()
            return part.numpy()
        return np.array(part, part.dtype if part.dtype in known else np.float64, order="C")


def _native(part: NDArray[np.generic]) -> Tensor:
    """A copy: a file may be mapped read-only, which torch warns of, or be of another machine's byte order."""
    return torch.from_numpy(np.array(part, part.dtype.newbyteorder("=")))


def _probe(vectors: Array) -> Tensor:
    """An empty tensor of the same kind; refuses what torch does not know."""
    if isinstance(vectors, Tensor):
        return vectors[:0]
    try:
        return _native(vectors[:0])
    except TypeError as error:
        raise UserError(
            f"expected numbers that torch knows, got an array of {vectors.dtype}; convert it to float32"
        ) from error
