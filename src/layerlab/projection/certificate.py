"""The coherence of given vectors, measured over all pairs, and how far the measurement can be wrong.

Three ways, the first that applies:

- **signs**: all entries of a row have one absolute value. The cosine of two rows is (n - 2d)/n, d the entries in which
  their signs differ, counted on packed bits: whole numbers, exact.
- **double**: few numbers. Products of unit rows in float64; with rounding bound γ_n + 4u, below 1e-12 for n < 4,000.
- **single**: products in float32, in blocks whose maxima are taken while they are in a cache; the pairs with the
  largest are worked out again in float64. A pair left out has a float32 cosine below the least of those kept, so a
  true one below that plus the float32 bound: if the largest of the recomputed is above, nothing is missed.

Rounding bound: for unit x, y rounded to precision u (2u) and any order of summation with or without fused operations,
abs(computed - exact) ≤ γ_n (1 + u)² + 2u + u², γ_n = n u / (1 - n u) (N. Higham, "Accuracy and Stability of Numerical
Algorithms", 2nd ed., eq. 3.5). Only half of the symmetric matrix of products is made.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from layerlab.errors import UserError
from layerlab.projection.bounds import Field, Floor, floors
from layerlab.projection.memory import refuse_beyond
from layerlab.projection.pairs import (
    LARGEST,
    Histogram,
    Kept,
    Pair,
    blocks,
    listed,
    pairs_of,
    sign_histogram,
    sign_scan,
    triangle,
)
from layerlab.projection.rows import Array, Rows

# Multiply-adds up to which products are made in float64 (a second or less).
_DOUBLE = 1 << 33
# Numbers up to which the products are made in one piece, without compiled loops.
_SMALL = 1 << 20
# Pairs worked out again in float64, beyond those asked for.
_KEPT = 1024


@dataclass(frozen=True)
class Certificate:
    """What is known of the coherence of vectors, and how.

    Attributes:
        coherence: the largest abs(cos) found; ``nearest[0]`` has it.
        error: the true coherence is at most this much larger (and, by rounding in float64, no more than this smaller);
            0 where it is exact.
        exact: made with whole numbers only, or proved.
        arithmetic: how cosines were made, in words.
        count, dim, field: of the vectors.
        pairs: count (count - 1) / 2.
        measured_pairs: for how many a cosine was made.
        proved_by: the argument for those that were not measured, or None.
        nearest: the pairs with the largest abs(cos), largest first; of equals those that come first by rows.
        histogram: of the cosines measured, or None.
        floors: lower bounds on the coherence of as many vectors, largest first.
    """

    coherence: float
    error: float
    exact: bool
    arithmetic: str
    count: int
    dim: int
    field: Field
    pairs: int
    measured_pairs: int
    proved_by: str | None
    nearest: tuple[Pair, ...]
    histogram: Histogram | None
    floors: tuple[Floor, ...]

    @property
    def pair(self) -> tuple[int, int]:
        """The first rows that have the coherence."""
        return self.nearest[0].first, self.nearest[0].second

    @property
    def upper(self) -> float:
        """What the coherence certainly does not exceed."""
        return min(1.0, self.coherence + self.error)

    @property
    def excess(self) -> float:
        """The coherence over the largest floor, from 1 (best possible) up; infinite over a floor of 0."""
        floor = self.floors[0].value
        return self.coherence / floor if floor > 0 else 1.0 if self.coherence == 0 else math.inf


def certify(
    vectors: Array,
    *,
    nearest: int = 10,
    bins: int = 201,
    progress: Callable[[int, int], None] | None = None,
) -> Certificate:
    """Measure max over i < j of abs(cos(x_i, x_j)) over all pairs of rows.

    Args:
        vectors: (count, dim), at least 2 rows, a tensor or an array, real or complex, of any lengths but 0; an array
            mapped from a file is read in pieces.
        nearest: how many of the nearest pairs to list, at least 1.
        bins: of the histogram of cosines, from -1 to 1 (complex: of their absolute values, from 0 to 1); 0 for
            none. An odd number keeps 0 off an edge.
            Signs get a bin for every cosine that occurs, whatever is asked.
        progress: called with the pairs done and all pairs.

    Raises:
        UserError: fewer than two vectors, a zero vector, a NaN or an infinite entry, no numbers.

    >>> import torch
    >>> found = certify(torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, -2.0]]))
    >>> round(found.coherence, 4), found.pair, found.pairs, found.exact
    (0.7071, (0, 1), 3, False)
    >>> certify(torch.tensor([[1, 1, 1, -1], [1, 1, -1, -1], [1, -1, 1, 1]])).exact
    True
    """
    if nearest < 1 or bins < 0:
        raise UserError(
            f"expected at least 1 nearest pair and 0 or more bins, got {nearest} and {bins}; take e.g. 10 and 201"
        )
    rows = Rows(vectors)
    pairs = rows.count * (rows.count - 1) // 2
    nearest = min(nearest, pairs)
    report = progress or (lambda done, of: None)
    small = rows.count * max(rows.count, rows.dim) <= _SMALL
    found = _of_signs(rows, nearest, report, small=small)
    if found is None:
        double = rows.count**2 * rows.dim <= 2 * _DOUBLE
        found = (
            _of_few(rows, nearest, bins) if small else _of_blocks(rows, nearest, bins, report, double=double)
        )
    report(pairs, pairs)
    return found


def _certificate(rows: Rows, nearest: list[Pair], histogram: Histogram | None, **known: Any) -> Certificate:
    field: Field = "complex" if rows.complex else "real"
    pairs = rows.count * (rows.count - 1) // 2
    return Certificate(
        coherence=abs(nearest[0].cosine),
        count=rows.count,
        dim=rows.dim,
        field=field,
        pairs=pairs,
        measured_pairs=pairs,
        proved_by=None,
        nearest=tuple(nearest),
        histogram=histogram,
        floors=tuple(floors(rows.dim, rows.count, field)),
        **known,
    )


def rounding(dim: int, dtype: torch.dtype) -> float:
    """How far a product of two unit vectors that were rounded to ``dtype`` can be from their cosine.

    >>> rounding(1024, torch.float32) < 6.2e-5 and rounding(1024, torch.float64) < 4e-13
    True
    """
    u = torch.finfo(dtype).eps / 2
    # A complex product is two sums of 2n terms; abs() rounds a few times more (Higham, section 3.6).
    terms, factor = (2 * dim + 6, math.sqrt(2)) if dtype.is_complex else (dim, 1.0)
    gamma = terms * u / (1 - terms * u) if terms * u < 1 else math.inf
    # Rows are divided by their length in float64 first: (n/2 + 3) roundings of each entry; here twice that.
    prior = (dim + 8) * torch.finfo(torch.float64).eps
    return factor * gamma * (1 + u) ** 2 + 2 * u + u**2 + prior


# -- signs ----------------------------------------------------------------------------------------------------------


def _of_signs(
    rows: Rows, nearest: int, report: Callable[[int, int], None], *, small: bool
) -> Certificate | None:
    if small:
        # No compiled loops: a small request should not wait for numba.
        x = rows.numbers(0, rows.count)
        size = x.abs()
        if rows.complex or not bool(((size == size[:, :1]) & (size > 0) & torch.isfinite(size)).all()):
            return None
        signs = torch.sign(x)
        gram = (signs @ signs.T).numpy()
        upper = np.triu_indices(rows.count, 1)
        products = gram[upper]
        counts = np.bincount(((rows.dim - products) / 2).astype(np.int64), minlength=rows.dim + 1)
        near = listed(products / rows.dim, *upper, nearest)
    else:
        packed = rows.packed()
        if packed is None:
            return None
        counts, near = sign_scan(packed, rows.dim, nearest, triangle(rows.count, rows.dim), report)
    return _certificate(
        rows,
        near,
        sign_histogram(counts, rows.dim),
        error=0.0,
        exact=True,
        arithmetic="whole numbers: differing signs counted on packed bits",
    )


# -- real and complex numbers ---------------------------------------------------------------------------------------


def _of_few(rows: Rows, nearest: int, bins: int) -> Certificate:
    x = rows.unit(0, rows.count)
    gram = x @ x.mH
    upper = np.triu_indices(rows.count, 1)
    cosines = (gram.abs() if rows.complex else gram).numpy()[upper].clip(-1, 1)
    lowest = 0.0 if rows.complex else -1.0
    counts, edges = np.histogram(cosines, max(bins, 1), (lowest, 1.0))
    return _certificate(
        rows,
        listed(cosines, *upper, nearest),
        Histogram(edges, counts) if bins else None,
        error=rounding(rows.dim, x.dtype),
        exact=False,
        arithmetic="float64 products of unit vectors",
    )


def _of_blocks(
    rows: Rows, nearest: int, bins: int, report: Callable[[int, int], None], *, double: bool
) -> Certificate:
    from layerlab.lab.kernels import threads
    from layerlab.projection.kernels.pairs_cpu import block_pairs

    dtype = {
        (False, False): torch.float32,
        (False, True): torch.float64,
        (True, False): torch.complex64,
        (True, True): torch.complex128,
    }[rows.complex, double]
    refuse_beyond(
        rows.count * rows.dim * dtype.itemsize,
        f"{rows.count:,} unit vectors of {rows.dim:,} dimensions",
        "certify fewer vectors (signs, of equal absolute value in a row, take a 32nd of it)",
    )
    x = rows.all_unit(dtype)
    parts = torch.get_num_threads()
    pairs = rows.count * (rows.count - 1) // 2
    kept = Kept(parts, min(pairs, nearest + _KEPT))
    counts = np.zeros((parts, bins), np.int64)
    lowest = 0.0 if rows.complex else -1.0
    store = torch.empty(LARGEST**2, dtype=dtype)
    done = 0
    with _highest_precision():
        for row, last_row, column, last_column in blocks(0, rows.count):
            shape = (last_row - row, last_column - column)
            block = store[: shape[0] * shape[1]].view(shape)
            torch.mm(x[row:last_row], x[column:last_column].mH, out=block)
            cosines = (block.abs() if rows.complex else block).numpy()
            arguments = (cosines, row, column, lowest, counts, *kept.arrays)
            threads.run(block_pairs, arguments, list(range(parts + 1)))
            done += pairs_of([row, last_row, column, last_column])
            report(done, pairs)
    del store, x
    edges = np.linspace(lowest, 1, bins + 1)
    found, firsts, seconds = kept.merged()
    bound = rounding(rows.dim, dtype)
    near = listed(_again(rows, firsts, seconds), firsts, seconds, nearest)
    certificate = _certificate(
        rows,
        near,
        Histogram(edges, counts.sum(axis=0)) if bins else None,
        error=rounding(rows.dim, torch.complex128 if rows.complex else torch.float64),
        exact=False,
        arithmetic="float64 products of unit vectors"
        if double
        else "float32 products, the largest worked out again in float64",
    )
    if len(found) < pairs:
        # What a pair left out can have at most.
        missed = float(np.abs(found).min()) + bound
        certificate = replace(
            certificate, error=max(certificate.error, min(1.0, missed) - certificate.coherence)
        )
    return certificate


class _highest_precision:  # noqa: N801 (used like a function)
    """torch may be told to round products of float32 to bfloat16; not here."""

    def __enter__(self) -> None:
        self._before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")

    def __exit__(self, *_: object) -> None:
        torch.set_float32_matmul_precision(self._before)


def _again(rows: Rows, firsts: NDArray[np.int64], seconds: NDArray[np.int64]) -> NDArray[np.float64]:
    """The cosines of some pairs in float64."""
    needed, places = np.unique(np.concatenate([firsts, seconds]), return_inverse=True)
    unit = rows.unit_of(needed)
    a, b = (unit[torch.from_numpy(half)] for half in (places[: len(firsts)], places[len(firsts) :]))
    products = (a.conj() * b).sum(dim=1)
    return (products.abs() if rows.complex else products).clamp(-1, 1).numpy()
