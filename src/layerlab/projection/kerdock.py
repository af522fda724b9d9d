"""Kerdock sets: n/2 + 1 orthonormal bases of R^n whose lines meet at 1/√n, the most there can be, for n = 4^k.

With n = 2^m, positions are pairs (x, e) of GF(2^(m-1)) x GF(2), and for each a of GF(2^(m-1)) the coset of Walsh
functions of the quadratic form

    q_a(x, e) = Σ_{i=1}^{(m-2)/2} Tr((a x)^(2^i + 1)) + e Tr(a x)

is a basis; the standard basis is one more. The alternating form of q_a on (x, e), (y, f) is Tr(ax)Tr(ay) + Tr(a²xy)
+ e Tr(ay) + f Tr(ax), and those of any two differ by a matrix of full rank m. (A. Kerdock, "A class of low-rate
nonlinear binary codes", Information and Control 20 (1972), 182-187; F. MacWilliams, N. Sloane, "The Theory of
Error-Correcting Codes", chapter 15, section 5; as line sets: P. Cameron, J. Seidel, "Quadratic forms over GF(2)",
Indag. Math. 35 (1973), 1-8.)

That theorem is not taken on trust: `Kerdock.prove` works out the rank of every pair of forms.
"""

from __future__ import annotations

import math

import numpy as np

from layerlab.errors import UserError
from layerlab.projection.binary_fields import BinaryField
from layerlab.projection.bounds import is_power_of_four
from layerlab.projection.cosets import CosetCode, Proof, alternating_forms, ranks
from layerlab.projection.packing import Packed, pack

# Matrices whose ranks are worked out together.
_AT_ONCE = 1 << 18


class Kerdock(CosetCode):
    """The Kerdock set of R^n: (n² + 2n)/2 lines, of which the first n²/2 have only signs.

    Args:
        dim: n = 4^k, k ≥ 1.

    Raises:
        UserError: another dimension.

    >>> lines = Kerdock(16)
    >>> lines.count, lines.vectors().shape
    (144, torch.Size([144, 16]))
    >>> found = lines.certify()
    >>> found.coherence, found.exact, found.floors[0].value
    (0.25, True, 0.25)
    """

    def __init__(self, dim: int) -> None:
        if not is_power_of_four(dim):
            raise UserError(
                f"expected a dimension 4^k for a Kerdock set, got {dim}; take 4, 16, 64, 256, 1024 ... "
                "or another construction"
            )
        self.dim, self.cosets, self.units, self.name = dim, dim // 2, True, "a Kerdock set"
        field = BinaryField(dim.bit_length() - 2)
        x = np.arange(field.size)
        quadratic = np.zeros(field.size, np.int64)
        for i in range(1, (field.degree - 1) // 2 + 1):
            quadratic ^= field.trace[field.power(x, 2**i + 1)]
        self._field, self._quadratic = field, quadratic

    def representatives(self, first: int, last: int) -> Packed:
        """The forms q_a for a = first ... last - 1; bit p = x + (n/2) e."""
        products = self._field.product(np.arange(first, last)[:, None], np.arange(self._field.size))
        without = self._quadratic[products]
        return pack(np.concatenate([without, without ^ self._field.trace[products]], axis=1))

    def prove(self, cosets: int) -> Proof:
        """That any two of the first bases meet at 1/√n: the rank of every difference of two forms.

        Raises:
            ArithmeticError: a rank is not full, which would be a mistake of this program.
        """
        step = max(1, 2**24 // self.dim)
        forms = np.concatenate(
            [
                alternating_forms(self.representatives(first, min(first + step, cosets)), self.dim)
                for first in range(0, cosets, step)
            ]
        )
        degree = forms.shape[1]
        firsts, seconds = np.triu_indices(cosets, 1)
        for start in range(0, len(firsts), _AT_ONCE):
            some = slice(start, start + _AT_ONCE)
            if (ranks(forms[firsts[some]] ^ forms[seconds[some]]) < degree).any():
                raise ArithmeticError("two forms of a Kerdock set differ by a singular matrix")
        pairs = cosets * (cosets - 1) // 2
        text = "within a basis: Walsh functions are orthogonal"
        if pairs:
            text = (
                f"between bases: the alternating forms of all {pairs:,} pairs of {cosets:,} bases differ by a matrix "
                f"of full rank {degree} over GF(2), so every cosine is ±1/√{self.dim}; {text}"
            )
        return Proof(1 / math.sqrt(self.dim) if pairs else 0.0, text)
