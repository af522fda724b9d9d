"""Sign codes: quadratic forms for n = 2^m (the duals of extended BCH codes), and random signs drawn until they do.

**Quadratic forms.** For positions x of GF(2^m) and b_1 ... b_t of it, the coset of Walsh functions of

    q_b(x) = Σ_{i=1}^t Tr(b_i x^(2^i + 1)),    t ≤ (m - 1)/2,

is a basis, and the functions are closed under addition: all inner products are sums of (-1)^(q_b(x) + <u, x>), at most
2^t √n by the bound of Weil, Carlitz and Uchiyama (degree less one times √n; L. Carlitz, S. Uchiyama, "Bounds for
exponential sums", Duke Math. J. 24 (1957), 37-41). The kernel of the alternating form of q_b has at most 2t
dimensions, and 2t - 1 for odd m, as ranks are even. So n^(t+1) lines have coherence 2^t / √n, or 2^(t - 1/2) / √n for
odd m. With t = 1 and 2 these are the duals of the extended double- and triple-error-correcting BCH codes, between the
Reed-Muller codes of order 1 and 2 (F. MacWilliams, N. Sloane, "The Theory of Error-Correcting Codes", chapter 15,
sections 2-4). Half as many bases at less come from a Kerdock set for even m.

**Random signs** of N vectors keep below δ but for a probability of N(N-1)/2 times a binomial tail; where they do not,
all are drawn again.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from layerlab.errors import UserError
from layerlab.projection.binary_fields import BinaryField
from layerlab.projection.bounds import floors, rademacher_log_failure
from layerlab.projection.certificate import Certificate
from layerlab.projection.cosets import CosetCode, Proof, alternating_forms, ranks
from layerlab.projection.memory import refuse_beyond
from layerlab.projection.packing import Form, Packed, Rows, all_rows, pack, unpacked, write_rows
from layerlab.projection.pairs import sign_histogram, sign_scan, triangle

# Sums of forms whose ranks are worked out together, and at most.
_AT_ONCE, _ALL = 18, 24
# Expected pairs that fail beyond which drawing again is no use: one draw in twenty succeeds.
HOPELESS = 3.0


def most_terms(dim: int) -> int:
    """The largest t for n = 2^m dimensions; 0 where there is no such code.

    >>> most_terms(1024), most_terms(8), most_terms(4), most_terms(1000)
    (4, 1, 0, 0)
    """
    return max(0, dim.bit_length() - 2) // 2 if dim > 1 and dim & (dim - 1) == 0 else 0


def quadratic_count(dim: int, terms: int) -> int:
    """Lines of the code of quadratic forms with so many terms, and the unit vectors: n^(t+1) + n.

    >>> quadratic_count(512, 1)
    262656
    """
    return dim ** (terms + 1) + dim


def quadratic_coherence(dim: int, terms: int) -> float:
    """What they do not exceed: 2^t/√n, for odd m divided by √2.

    >>> quadratic_coherence(1024, 1), quadratic_coherence(512, 1)
    (0.0625, 0.0625)
    """
    degree = dim.bit_length() - 1
    return math.ldexp(1.0, terms - (degree + 1) // 2)


class QuadraticSigns(CosetCode):
    """The n^(t+1) lines of quadratic forms with t terms, then the n unit vectors.

    Args:
        dim: n = 2^m, m ≥ 3.
        terms: t, from 1 to (m - 1)/2.

    Raises:
        UserError: another dimension, or more terms.

    >>> lines = QuadraticSigns(32, 1)
    >>> lines.count
    1056
    >>> found = lines.certify()
    >>> found.coherence, found.exact
    (0.25, True)
    """

    def __init__(self, dim: int, terms: int) -> None:
        if not 1 <= terms <= most_terms(dim):
            raise UserError(
                f"expected a dimension 2^m of at least 8 and 1 to (m - 1)/2 terms, got {dim} and {terms}; "
                f"{f'take up to {most_terms(dim)} terms' if most_terms(dim) else 'take 8, 16, 32 ... dimensions'}"
            )
        self.dim, self.cosets, self.units = dim, dim**terms, True
        self.terms, self.name = terms, f"a code of quadratic forms with {terms} terms"
        field = BinaryField(dim.bit_length() - 1)
        x = np.arange(dim)
        # Tr(b x^k) is linear in b: one function for each bit of each b.
        self._basis = pack(
            np.concatenate(
                [
                    field.trace[
                        field.product(1 << np.arange(field.degree)[:, None], field.power(x, 2**i + 1))
                    ]
                    for i in range(1, terms + 1)
                ]
            )
        )

    def representatives(self, first: int, last: int) -> Packed:
        """Sums of the basic functions: those whose bits the number of the coset has."""
        numbers = np.arange(first, last, dtype=np.uint64)[:, None]
        out = np.zeros((last - first, self._basis.shape[1]), np.uint64)
        for bit, function in enumerate(self._basis):
            out ^= ((numbers >> np.uint64(bit)) & np.uint64(1)) * function
        return out

    def prove(self, cosets: int) -> Proof:
        """The least rank of a sum of two of the first forms: these are the forms numbered below the next power of 2.

        Raises:
            ArithmeticError: a rank is lower than the theorem allows, which would be a mistake of this program.
        """
        within = "within a basis: Walsh functions are orthogonal"
        if cosets == 1:
            return Proof(0.0, within)
        bits = (cosets - 1).bit_length()
        bound = quadratic_coherence(self.dim, self.terms)
        if bits > _ALL:
            return Proof(
                bound, f"the kernel of a form has at most 2t dimensions (t = {self.terms}); {within}"
            )
        least = self._least_rank(bits)
        upper = 2.0 ** (-least / 2)
        if upper > bound:
            raise ArithmeticError("a quadratic form has a lower rank than it must")
        text = (
            f"between bases: the alternating forms are closed under addition, and all {2**bits - 1:,} sums have rank "
            f"{least} or more over GF(2), so every cosine is at most 2^-{least // 2}; {within}"
        )
        return Proof(upper, text)

    def _least_rank(self, bits: int) -> int:
        basis = alternating_forms(self._basis[:bits], self.dim)
        low = min(bits, _AT_ONCE)
        sums = _sums(basis[:low])
        least = self.dim.bit_length()
        for high in _sums(basis[low:]):
            found = ranks(sums ^ high)
            # The sum of no forms has rank 0, and is the difference of nothing.
            found = found[1:] if not high.any() else found
            least = min(least, int(found.min()))
        return least


def _sums(forms: NDArray[np.int64]) -> NDArray[np.int64]:
    """All 2^k sums over GF(2) of k forms; entry c adds those whose bits c has."""
    out = np.zeros((1, forms.shape[1]), np.int64)
    for form in forms:
        out = np.concatenate([out, out ^ form])
    return out


@dataclass(frozen=True)
class RandomSigns:
    """Random sign vectors with their certificate.

    Attributes:
        packed: (count, words) uint64, a bit for each minus.
        certificate: of all pairs, exact.
        attempts: how many draws it took.
    """

    packed: Packed
    certificate: Certificate
    attempts: int

    def rows(self, first: int, last: int, form: Form = "float32") -> Rows:
        """Some vectors: ±1/√n in float32, or ±1 in int8."""
        return unpacked(self.packed[first:last], self.certificate.dim, form)

    def vectors(self) -> Tensor:
        """All of them as unit vectors: (count, dim) float32.

        Raises:
            UserError: they take more than the memory that is free.
        """
        return all_rows(len(self.packed), self.certificate.dim, self.rows)

    def write(
        self, path: str | Path, form: Form = "float32", progress: Callable[[int, int], None] | None = None
    ) -> None:
        """Stream them into a ``.npy`` file, as `CosetCode.write` does."""
        write_rows(path, len(self.packed), self.certificate.dim, form, self.rows, progress)


def rademacher(
    dim: int,
    count: int,
    coherence: float,
    *,
    seed: int = 0,
    attempts: int = 100,
    nearest: int = 10,
    progress: Callable[[int, int], None] | None = None,
) -> RandomSigns:
    """Independent random signs, drawn again until the coherence of all pairs is at most what is asked.

    Args:
        dim: entries of a vector.
        count: vectors, at least 2.
        coherence: between 0 and 1.
        seed: of the draws.
        attempts: after how many draws to give up.
        nearest: how many of the nearest pairs to list.
        progress: called with the pairs measured of a draw, and all.

    Raises:
        UserError: so many pairs are expected to fail that drawing is no use, every attempt failed, or memory is short.

    >>> found = rademacher(256, 100, 0.35)
    >>> found.certificate.coherence <= 0.35, found.certificate.exact, found.vectors().shape
    (True, True, torch.Size([100, 256]))
    """
    if count < 2 or attempts < 1 or nearest < 1:
        raise UserError(
            f"expected at least 2 vectors, 1 attempt and 1 pair to list, got {count}, {attempts} and {nearest}; "
            "a coherence needs a pair"
        )
    tail = rademacher_log_failure(dim, 2, coherence, exact=True)
    expected = math.log(count) + math.log(count - 1) - math.log(2) + tail
    if expected > math.log(HOPELESS):
        most = math.floor((1 + math.sqrt(1 + 4 * math.exp(min(-tail, 80.0)))) / 2)
        raise UserError(
            f"expected a request that random signs can meet, got {count:,} vectors of {dim:,} dimensions at "
            f"{coherence:g}: {math.exp(min(expected, 700.0)):.3g} pairs are expected above it; "
            f"ask for at most {most:,} vectors, more coherence or another construction"
        )
    words = -(-dim // 64)
    refuse_beyond(8 * words * count, f"the bits of {count:,} vectors of {dim:,} signs", "ask for fewer")
    used = np.full(words, np.iinfo(np.uint64).max, np.uint64)
    if dim % 64:
        used[-1] = (1 << dim % 64) - 1
    tiles = triangle(count, dim)
    report = progress or (lambda done, of: None)
    for attempt in range(attempts):
        generator = np.random.default_rng((seed, attempt))
        packed = generator.integers(0, 2**64, (count, words), np.uint64) & used
        counts, pairs = sign_scan(packed, dim, min(nearest, count * (count - 1) // 2), tiles, report)
        if abs(pairs[0].cosine) <= coherence:
            certificate = Certificate(
                coherence=abs(pairs[0].cosine),
                error=0.0,
                exact=True,
                arithmetic="whole numbers: differing signs counted on packed bits",
                count=count,
                dim=dim,
                field="real",
                pairs=count * (count - 1) // 2,
                measured_pairs=count * (count - 1) // 2,
                proved_by=None,
                nearest=tuple(pairs),
                histogram=sign_histogram(counts, dim),
                floors=tuple(floors(dim, count)),
            )
            return RandomSigns(packed, certificate, attempt + 1)
    raise UserError(
        f"expected random signs of coherence {coherence:g} within {attempts} draws, and none had it "
        f"({math.exp(expected):.2g} pairs above it expected in each); ask for fewer vectors, or allow more attempts"
    )
