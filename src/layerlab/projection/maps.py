"""Random linear maps of R^d to R^n that keep squared lengths in the mean, drawn and applied.

- ``gaussian``: independent normal entries of variance 1/n.
- ``rademacher``: entries ±1/√n.
- ``sparse``: entries 0, or with probability ``density`` ±1/√(n density). Density 1/3 is Achlioptas', 1/√d is Li's.
- ``hadamard``: random signs D, the Walsh-Hadamard transform H, n of its rows: (H D x)[rows]/√n, without a matrix.

References: see `layerlab.projection.tails`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerlab.errors import UserError
from layerlab.projection.tails import KINDS, Kind

# Below this density a sparse product takes less time than a dense one (measured: from 0.02 to 0.1 by the shape).
SPARSE_BELOW = 0.05
# Numbers in hand at once.
_BLOCK = 1 << 21


@dataclass(frozen=True)
class RandomMap:
    """One map that was drawn.

    Attributes:
        kind: which law it was drawn from.
        dim_in: d.
        dim_out: n.
        matrix: ``(n, d)``, an array, or a scipy CSR array where it is sparse enough; None for ``hadamard``.
        signs: ``(d,)`` int8, the diagonal of D; None but for ``hadamard``.
        rows: ``(n,)`` int64, ascending; None but for ``hadamard``.
    """

    kind: Kind
    dim_in: int
    dim_out: int
    matrix: Any = None
    signs: NDArray[np.int8] | None = None
    rows: NDArray[np.int64] | None = None

    def cast(self, dtype: Any) -> RandomMap:
        """The same map with a matrix of another dtype."""
        if self.matrix is None or self.matrix.dtype == dtype:
            return self
        return replace(self, matrix=self.matrix.astype(dtype))


def draw(
    kind: Kind,
    dim_in: int,
    dim_out: int,
    generator: np.random.Generator,
    *,
    density: float = 1 / 3,
    dtype: Any = np.float64,
) -> RandomMap:
    """Draw a map.

    Args:
        kind: ``"gaussian"``, ``"rademacher"``, ``"sparse"`` or ``"hadamard"``.
        dim_in: d.
        dim_out: n.
        generator: all chance comes from it.
        density: of a sparse map, the probability of an entry other than 0.
        dtype: of the matrix, float32 or float64.

    Raises:
        UserError: another kind, a dimension below 1, a density out of (0, 1], or more rows than a Hadamard matrix has.

    >>> made = draw("rademacher", 3, 4, np.random.default_rng(0))
    >>> np.unique(made.matrix).tolist()
    [-0.5, 0.5]
    """
    if kind not in KINDS:
        raise UserError(f"expected a map among {', '.join(KINDS)}, got {kind!r}")
    if dim_in < 1 or dim_out < 1:
        raise UserError(f"expected dimensions of at least 1, got {dim_in} to {dim_out}")
    if kind == "hadamard":
        return _fast(dim_in, dim_out, generator)
    if kind == "gaussian":
        matrix = generator.standard_normal((dim_out, dim_in), dtype=dtype)
        matrix *= dim_out**-0.5
    else:
        share = 1.0 if kind == "rademacher" else density
        if not 0 < share <= 1:
            raise UserError(f"expected a density above 0, at most 1, got {density}; take 1/3 (Achlioptas)")
        matrix = _signs(dim_in, dim_out, generator, share, dtype)
    return RandomMap(kind, dim_in, dim_out, matrix)


def apply(drawn: RandomMap, x: Any) -> NDArray[Any]:
    """The images of rows: ``(N, n)``, dense, in the dtype of x.

    Args:
        drawn: the map.
        x: ``(N, d)``, an array or a scipy sparse matrix, float32 or float64.

    >>> apply(draw("hadamard", 5, 3, np.random.default_rng(0)), np.eye(5)).shape
    (5, 3)
    """
    from scipy.sparse import issparse

    if drawn.matrix is None:
        return _apply_fast(drawn, x)
    if issparse(x) and not issparse(drawn.matrix):
        return np.ascontiguousarray(x @ drawn.matrix.T)
    if issparse(x):
        return np.asarray((x @ drawn.matrix.T).toarray())
    if issparse(drawn.matrix):
        return np.ascontiguousarray((drawn.matrix @ x.T).T)
    return np.asarray(x @ drawn.matrix.T)


def _signs(dim_in: int, dim_out: int, generator: np.random.Generator, density: float, dtype: Any) -> Any:
    size = (dim_out * density) ** -0.5
    if density < SPARSE_BELOW:
        return _sparse_signs(dim_in, dim_out, generator, density, dtype)
    matrix = np.empty((dim_out, dim_in), dtype)
    step = max(1, _BLOCK // dim_in)
    for start in range(0, dim_out, step):
        rows = matrix[start : start + step]
        rows[:] = (2 * generator.integers(0, 2, rows.shape, dtype=np.int8) - 1) * dtype(size)
        if density < 1:
            rows[generator.random(rows.shape, np.float32) >= density] = 0
    return matrix


def _sparse_signs(
    dim_in: int, dim_out: int, generator: np.random.Generator, density: float, dtype: Any
) -> Any:
    from scipy.sparse import csr_array

    counts = generator.binomial(dim_in, density, dim_out)
    columns = [np.sort(generator.choice(dim_in, count, replace=False, shuffle=False)) for count in counts]
    offsets = np.concatenate([[0], np.cumsum(counts)])
    values = (2 * generator.integers(0, 2, offsets[-1], dtype=np.int8) - 1) * dtype(
        (dim_out * density) ** -0.5
    )
    return csr_array((values, np.concatenate(columns), offsets), shape=(dim_out, dim_in))


def _fast(dim_in: int, dim_out: int, generator: np.random.Generator) -> RandomMap:
    padded = 1 << (dim_in - 1).bit_length()
    if dim_out > padded:
        raise UserError(
            f"the Hadamard map of {dim_in} dimensions has {padded} rows, so it cannot give {dim_out}; "
            "lower the dimension or take another map"
        )
    signs = 2 * generator.integers(0, 2, dim_in, dtype=np.int8) - 1
    rows = np.sort(generator.choice(padded, dim_out, replace=False)).astype(np.int64)
    return RandomMap("hadamard", dim_in, dim_out, signs=signs, rows=rows)


def _apply_fast(drawn: RandomMap, x: Any) -> NDArray[Any]:
    import torch
    from scipy.sparse import issparse

    from layerlab.projection.hadamard import padded_size, subsampled

    signs, rows = torch.from_numpy(drawn.signs), torch.from_numpy(drawn.rows)
    out = np.empty((x.shape[0], drawn.dim_out), x.dtype)
    step = max(1, _BLOCK // padded_size(drawn.dim_in))
    for start in range(0, x.shape[0], step):
        block = x[start : start + step]
        dense = block.toarray() if issparse(x) else np.array(block)
        out[start : start + step] = subsampled(torch.from_numpy(dense), signs, rows).numpy()
    return out
