"""Sign codes made of cosets of the Walsh functions: rows, files, and what quadratic forms over GF(2) prove.

For n = 2^m, positions p and Walsh functions u are vectors of m bits, and line u of the coset of a function q is
(-1)^(q(p) + <u, p>) / √n. The lines of one coset are an orthonormal basis (Hadamard). Of two cosets whose functions q
and r are quadratic, all inner products have the size 2^-h or are 0, where 2h is the rank over GF(2) of the alternating
matrix of q + r (F. MacWilliams, N. Sloane, "The Theory of Error-Correcting Codes", chapter 15, theorem 5). So ranks of
small matrices tell the coherence of all lines.

Everything is on packed bits, a bit for each minus sign: 128 bytes for a line of 1,024 dimensions.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from layerlab.errors import UserError
from layerlab.projection.bounds import floors
from layerlab.projection.certificate import Certificate
from layerlab.projection.memory import refuse_beyond
from layerlab.projection.packing import Form, Packed, Rows, all_rows, pack, pieces, unpacked, write_rows
from layerlab.projection.pairs import Pair, sign_histogram, sign_scan, triangle

# Pairs measured beside a proof, if there are as many.
MEASURED = 10**9


@dataclass(frozen=True)
class Proof:
    """No two lines have a larger abs(cos) than ``upper``; ``text`` says why."""

    upper: float
    text: str


class CosetCode(ABC):
    """Lines of n = 2^m dimensions: whole cosets of Walsh functions one after another, then perhaps the unit vectors.

    Attributes:
        dim: n.
        cosets: how many cosets there are.
        units: whether the n standard unit vectors follow them.
        name: of the construction, for messages.
    """

    dim: int
    cosets: int
    units: bool
    name: str

    @abstractmethod
    def representatives(self, first: int, last: int) -> Packed:
        """The functions q of some cosets, packed: (last - first, words)."""

    @abstractmethod
    def prove(self, cosets: int) -> Proof:
        """Bound the coherence of the first cosets by algebra, all of it computed."""

    @property
    def count(self) -> int:
        """How many lines there are."""
        return self.dim * (self.cosets + self.units)

    def packed(self, first: int, last: int) -> Packed:
        """Lines with signs, packed: (last - first, words), a bit for each minus."""
        walsh = walsh_functions(self.dim)
        out = np.empty((last - first, walsh.shape[1]), np.uint64)
        for start, stop in self._by_coset(first, last):
            coset = start // self.dim
            part = walsh[start - coset * self.dim : stop - coset * self.dim]
            np.bitwise_xor(
                part, self.representatives(coset, coset + 1), out=out[start - first : stop - first]
            )
        return out

    def _by_coset(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """The lines from ``first`` on in pieces that lie in one coset each."""
        while first < last:
            stop = min(last, (first // self.dim + 1) * self.dim)
            yield first, stop
            first = stop

    def rows(self, first: int, last: int, form: Form = "float32") -> Rows:
        """Lines ``first ... last - 1``.

        Args:
            first: the first line.
            last: one after the last line.
            form: ``"float32"``: unit vectors, ±1/√n (exact for n = 4^k); ``"int8"``: ±1, and a single 1 in the
                standard unit vectors.
        """
        signed = min(last, max(first, self.dim * self.cosets))
        out = np.zeros((last - first, self.dim), np.float32 if form == "float32" else np.int8)
        if signed > first:
            out[: signed - first] = unpacked(self.packed(first, signed), self.dim, form)
        units = np.arange(signed, last)
        out[units - first, units - self.dim * self.cosets] = 1
        return out

    def vectors(self, count: int | None = None) -> Tensor:
        """The first lines as unit vectors.

        Args:
            count: how many, None for all.

        Returns:
            Tensor: (count, dim) float32.

        Raises:
            UserError: more than there are, fewer than 1, or more than memory holds.
        """
        count = self._checked(count)
        return all_rows(count, self.dim, self.rows)

    def write(
        self,
        path: str | Path,
        count: int | None = None,
        form: Form = "float32",
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Stream the first lines into a ``.npy`` file, which appears when it is whole; memory stays small.

        Args:
            path: the file; its folder must exist.
            count: how many lines, None for all.
            form: as for `rows`.
            progress: called with the lines written and all.

        Raises:
            UserError: as for `vectors`, or the file cannot be written.
        """
        count = self._checked(count)
        write_rows(path, count, self.dim, form, self.rows, progress)

    def certify(
        self,
        count: int | None = None,
        *,
        measured: int = MEASURED,
        nearest: int = 10,
        seed: int = 0,
        progress: Callable[[int, int], None] | None = None,
    ) -> Certificate:
        """Prove the coherence of the first lines, and measure it on pairs drawn at random.

        The proof covers all pairs; measured are all pairs of lines with signs that were drawn without replacement, as
        many lines as give ``measured`` pairs (all lines, if those are fewer). The certificate is exact where a
        measured pair reaches what is proved.

        Args:
            count: how many lines, at least 2, None for all.
            measured: at least how many pairs to measure.
            nearest: how many of the nearest measured pairs to list.
            seed: of the drawing.
            progress: called with the pairs measured and to measure.

        Raises:
            UserError: more lines than there are, fewer than 2, nothing to measure.
        """
        count = self._checked(count)
        if count < 2 or measured < 1 or nearest < 1:
            raise UserError(
                "expected at least 2 lines, 1 pair to measure and 1 to list, "
                f"got {count}, {measured} and {nearest}; a coherence needs a pair"
            )
        cosets = min(self.cosets, -(-count // self.dim))
        proof = self.prove(cosets)
        signed = min(count, self.dim * self.cosets)
        drawn = self._drawn(signed, measured, seed)
        packed = np.concatenate(
            [self.packed(first, last)[drawn[first:last]] for first, last in pieces(signed, self.dim)]
        )
        numbers = np.flatnonzero(drawn)
        tiles = triangle(len(numbers), self.dim)
        counts, pairs = sign_scan(packed, self.dim, nearest, tiles, progress or (lambda done, of: None))
        listed = tuple(
            replace(pair, first=int(numbers[pair.first]), second=int(numbers[pair.second])) for pair in pairs
        )
        coherence = abs(listed[0].cosine)
        text = proof.text
        if count > signed:
            # Beside lines with signs, a unit vector's cosines are their entries, ±1/√n.
            coherence = max(coherence, 1 / math.sqrt(self.dim))
            listed = tuple(
                sorted((*listed, self._beside(signed)), key=lambda pair: -abs(pair.cosine))[:nearest]
            )
            text += "; against the standard basis every entry is ±1/√n"
        return Certificate(
            coherence=coherence,
            error=max(0.0, proof.upper - coherence),
            exact=proof.upper == coherence,
            arithmetic="whole numbers: differing signs counted on packed bits",
            count=count,
            dim=self.dim,
            field="real",
            pairs=count * (count - 1) // 2,
            measured_pairs=len(numbers) * (len(numbers) - 1) // 2,
            proved_by=text,
            nearest=listed,
            histogram=sign_histogram(counts, self.dim),
            floors=tuple(floors(self.dim, count)),
        )

    def _beside(self, unit: int) -> Pair:
        sign = -1 if int(self.packed(0, 1)[0, 0]) & 1 else 1
        return Pair(0, unit, sign / math.sqrt(self.dim))

    def _drawn(self, lines: int, measured: int, seed: int) -> NDArray[np.bool_]:
        needed = min(lines, math.isqrt(8 * measured) // 2 + 2)
        drawn = np.zeros(lines, bool)
        drawn[np.random.default_rng(seed).choice(lines, needed, replace=False)] = True
        return drawn

    def _checked(self, count: int | None) -> int:
        if count is None:
            return self.count
        if not 1 <= count <= self.count:
            raise UserError(
                f"expected 1 to {self.count:,} lines of {self.name} in {self.dim:,} dimensions, got {count:,}; "
                "ask for fewer, or for a larger coherence"
            )
        return count


@cache
def walsh_functions(dim: int) -> Packed:
    """Row u has the bits parity(u & p) for p = 0 ... dim - 1, packed.

    >>> [format(int(row[0]), "04b")[::-1] for row in walsh_functions(4)]
    ['0000', '0101', '0011', '0110']
    """
    refuse_beyond(dim * dim // 8, f"the Walsh functions of {dim:,} dimensions", "take fewer dimensions")
    rows = pack(
        np.array([[int(u & p).bit_count() & 1 for p in range(min(dim, 64))] for u in range(min(dim, 64))])
    )
    while len(rows) < dim:
        rows = np.block([[rows, rows], [rows, ~rows]])
    rows.flags.writeable = False
    return rows


def alternating_forms(packed: Packed, dim: int) -> NDArray[np.int64]:
    """The matrices B(i, j) = q(e_i + e_j) + q(e_i) + q(e_j) + q(0) of functions, having seen that they are quadratic.

    Args:
        packed: (count, words), functions on dim = 2^m positions.
        dim: 2^m.

    Returns:
        (count, m) int64; bit j of entry i is B(i, j).

    Raises:
        ArithmeticError: a function is not quadratic: q(p + e_i) + q(p) + q(e_i) + q(0) is not linear in p.
    """
    degree = dim.bit_length() - 1
    bits = np.unpackbits(packed.view(np.uint8), axis=1, bitorder="little", count=dim)
    forms = np.zeros((len(bits), degree), np.int64)
    single = 1 << np.arange(degree)
    for i in range(degree):
        both = single ^ (1 << i)
        row = bits[:, both] ^ bits[:, single] ^ bits[:, [1 << i]] ^ bits[:, [0]]
        row[:, i] = 0
        forms[:, i] = (row.astype(np.int64) << np.arange(degree)).sum(axis=1)
    for i in range(degree):
        low = np.arange(1 << i)
        linear = np.bitwise_count(forms[:, [i]] & low) & 1
        expected = bits[:, : 1 << i] ^ linear.astype(np.uint8) ^ bits[:, [1 << i]] ^ bits[:, [0]]
        if not np.array_equal(expected, bits[:, 1 << i : 2 << i]):
            raise ArithmeticError(
                "a representative of a coset is not a quadratic form: the construction is wrong"
            )
    return forms


def ranks(matrices: NDArray[np.int64]) -> NDArray[np.int64]:
    """Ranks over GF(2) of many square matrices.

    Args:
        matrices: (count, m) int64, rows as bits.

    >>> ranks(np.array([[0b01, 0b10], [0b11, 0b11], [0, 0]])).tolist()
    [2, 1, 0]
    """
    rows = matrices.copy()
    every = np.arange(len(rows))
    found = np.zeros(len(rows), np.int64)
    for column in range(rows.shape[1]):
        with_it = (rows >> column) & 1
        pivot = rows[every, with_it.argmax(axis=1)]
        # Where no row has the column, nothing is added. The pivot's own row becomes 0: it is used up.
        rows ^= with_it * pivot[:, None]
        found += (pivot >> column) & 1
    return found
