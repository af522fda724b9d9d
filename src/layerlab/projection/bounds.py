"""How small the coherence of many vectors can be, and how many vectors a coherence allows.

The coherence of vectors x_1 ... x_N of a space of dimension n is the largest absolute cosine of two of them,
μ = max over i < j of abs(<x_i, x_j>) / (norm x_i norm x_j). Vectors that differ by a factor count as one line.

Floors say what no vectors can go below:

- **Welch**, order k: μ^2k ≥ (N M_k - 1)/(N - 1), where M_k is the mean of abs(<u, v>)^2k over the unit sphere,
  1·3···(2k-1) / (n(n+2)···(n+2k-2)) in R^n and 1/binomial(n+k-1, k) in C^n. Order 1 is the simplex bound.
- **Orthoplex**: μ ≥ 1/√n for more than n(n+1)/2 lines of R^n, or n² of C^n.
- **Levenshtein**, order m: the universal bound by linear programming, for D(m) < N ≤ D(m+1) with
  D(m) = binomial(n+m-1, m) in R^n and binomial(n+⌈m/2⌉-1, ⌈m/2⌉) binomial(n+⌊m/2⌋-1, ⌊m/2⌋) in C^n. Order 1 is
  Welch's first; order 2 is μ² ≥ (3N - n² - 2n)/((n+2)(N-n)) in R^n and (2N - n² - n)/((n+1)(N-n)) in C^n.

Counts say how many vectors a construction is sure to give: the document's, random signs, Kerdock sets.

References: L. Welch, "Lower bounds on the maximum cross correlation of signals", IEEE Trans. Inf. Theory 20 (1974),
397-399; V. Sidelnikov, "New bounds for densest packing of spheres", Mat. Sbornik 95 (1974), 148-158 (real moments);
J. Conway, R. Hardin, N. Sloane, "Packing lines, planes, etc.", Experimental Math. 5 (1996), Corollary 5.3;
P. Delsarte, J.-M. Goethals, J. Seidel, "Bounds for systems of lines, and Jacobi polynomials", Philips Res. Rep. 30
(1975), 91-105, table I; V. Levenshtein, "Universal bounds for codes and designs", Handbook of Coding Theory (1998),
sections 5.4 and 6.1; A. Calderbank, P. Cameron, W. Kantor, J. Seidel, "Z4-Kerdock codes, orthogonal spreads, and
extremal Euclidean line-sets", Proc. London Math. Soc. 75 (1997), 436-480.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from layerlab.errors import UserError

Field = Literal["real", "complex"]

# A floor is computed to about this relative error: what falls short of it by less is not excluded.
ROUNDING = 1e-9
# Counts beyond the range of this order get the floor of the largest count inside: they hold that many vectors.
_HIGHEST_ORDER = 2_000
_HIGHEST_WELCH = 64
# No array can have more rows.
_MOST = 2**63 - 1


@dataclass(frozen=True)
class Floor:
    """A coherence that no ``count`` vectors of a space can go below.

    Attributes:
        value: the floor, from 0 to 1, to a relative error of `ROUNDING`.
        name: the bound that gives it, e.g. ``"Levenshtein, order 2"``.
    """

    value: float
    name: str

    def excludes(self, coherence: float) -> bool:
        """Whether vectors of this coherence cannot exist, beyond doubt by rounding.

        >>> floor(100, 10_000).excludes(0.1), floor(16, 144).excludes(0.25)
        (True, False)
        """
        return coherence < self.value * (1 - ROUNDING)


def welch(dim: int, count: int, order: int = 1, field: Field = "real") -> float:
    """Welch's bound of one order, 0 where it says nothing.

    >>> round(welch(3, 4), 12)  # four lines through the corners of a cube
    0.333333333333
    >>> welch(10, 10)
    0.0
    """
    _check(dim, count, field)
    if order < 1:
        raise UserError(f"expected an order of Welch's bound of at least 1, got {order}; take 1, 2, 3 ...")
    if order == 1:
        return math.sqrt(max(0, count - dim) / (dim * (count - 1)))
    excess = count * math.exp(_log_moment(dim, order, field)) - 1
    return 0.0 if excess <= 0 else min(1.0, (excess / (count - 1)) ** (0.5 / order))


def orthoplex(dim: int, count: int, field: Field = "real") -> float:
    """1/√n for more lines than the matrices of projections have dimensions, else 0.

    >>> orthoplex(4, 10), orthoplex(4, 11), orthoplex(4, 16, "complex"), orthoplex(4, 17, "complex")
    (0.0, 0.5, 0.0, 0.5)
    """
    _check(dim, count, field)
    return 1 / math.sqrt(dim) if count > _design(dim, 2, field) else 0.0


def levenshtein(dim: int, count: int, field: Field = "real") -> tuple[float, int]:
    """Levenshtein's bound and its order, the one in whose range ``count`` lies; ``(0, 0)`` for ``count <= dim``.

    The squares of the cosines of an extremal code are the nodes of a quadrature that integrates polynomials of degree
    up to the order over the sphere, with weight 1/count at 1 (and a node at 0 for an even order). The bound is the
    largest node below 1: an eigenvalue of the Jacobi matrix of the sphere's measure, whose last row is set so that 1
    is a node and has that weight.

    >>> [round(number, 4) for number in levenshtein(100, 10_000)]
    [0.14, 2]
    >>> round(levenshtein(3, 6)[0] * 5**0.5, 12)  # the diagonals of the icosahedron
    1.0
    """
    _check(dim, count, field)
    if count <= dim:
        return 0.0, 0
    if dim == 1:
        return 1.0, 1
    if dim == 2 and field == "real":
        # The measure of the circle; lines at equal angles are best.
        return math.cos(math.pi / count), count - 1
    order = 1
    while order < _HIGHEST_ORDER and _design(dim, order + 1, field) < count:
        order += 1
    count = min(count, _design(dim, order + 1, field))
    if order == 1:
        return welch(dim, count), 1
    if order == 2:
        # Written out: the eigenvalue would lose digits where the floor is near 0.
        a, b = (3, 2) if field == "real" else (2, 1)
        return math.sqrt((a * count - dim * (dim + b)) / ((dim + b) * (count - dim))), 2
    return math.sqrt(_largest_node(dim, count, order, field)), order


def floors(dim: int, count: int, field: Field = "real") -> list[Floor]:
    """Every bound that says something, the largest first; one that is trivial for ``count <= dim``.

    >>> [(item.name, round(item.value, 3)) for item in floors(64, 2_100)]
    [('orthoplex', 0.125), ('Levenshtein, order 2', 0.124), ('Welch, order 2', 0.124), ('Welch, order 1', 0.123)]
    """
    _check(dim, count, field)
    if count <= dim:
        return [Floor(0.0, "orthonormal vectors exist")]
    value, order = levenshtein(dim, count, field)
    found = [Floor(value, f"Levenshtein, order {order}"), Floor(orthoplex(dim, count, field), "orthoplex")]
    found += [Floor(welch(dim, count, k, field), f"Welch, order {k}") for k in range(1, _HIGHEST_WELCH)]
    return sorted((item for item in found if item.value > 0), key=lambda item: -item.value)


def floor(dim: int, count: int, field: Field = "real") -> Floor:
    """The largest of the valid lower bounds on the coherence of ``count`` vectors.

    Args:
        dim: the dimension n of the space, at least 1.
        count: how many vectors, at least 1.
        field: ``"real"`` or ``"complex"``.

    Raises:
        UserError: a dimension or count below 1, or another field.

    >>> best = floor(100, 10_000)
    >>> round(best.value, 3), best.name
    (0.14, 'Levenshtein, order 2')
    >>> round(floor(1024, 525_312).value, 12)  # Kerdock sets reach it
    0.03125
    """
    return floors(dim, count, field)[0]


def most(dim: int, coherence: float, field: Field = "real") -> int:
    """The largest count of vectors that no floor excludes at this coherence; at most 2^63 - 1.

    >>> most(1024, 1 / 32), most(3, 1 / 5**0.5), most(100, 0.001)
    (525312, 6, 100)
    """
    _check(dim, 1, field)
    _check_coherence(coherence)
    low, high = dim, dim + 1
    while high < _MOST and not floor(dim, high, field).excludes(coherence):
        low, high = high, min(2 * high, _MOST)
    if not floor(dim, high, field).excludes(coherence):
        return _MOST
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if floor(dim, middle, field).excludes(coherence) else (middle, high)
    return low


def document_count(dim: int, coherence: float) -> int:
    """What the document's theorem promises: floor(exp(n δ²/72)) - 1 unit vectors with all abs(cos) <= δ.

    Never below 0, and at most 2^63 - 1 (it exceeds that only for n δ² > 3144).

    >>> document_count(1000, 0.3), document_count(1000, 0.5), document_count(10, 0.1)
    (2, 31, 0)
    """
    _check(dim, 1, "real")
    _check_coherence(coherence)
    return _whole_exponential(dim * coherence**2 / 72) - 1


def rademacher_count(dim: int, coherence: float, failure: float | None = None) -> int:
    """How many random sign vectors stay below a coherence, by Hoeffding's inequality and the union over pairs.

    N (N - 1) exp(-n δ²/2) bounds the probability that any pair has abs(cos) > δ.

    Args:
        dim: n.
        coherence: δ.
        failure: the probability that may be left, in (0, 1); ``None``: anything below 1, which proves that such
            vectors exist: N = floor(exp(n δ²/4)).

    >>> rademacher_count(1000, 0.3), rademacher_count(1000, 0.3, failure=0.01)
    (5910522063, 591052206)
    """
    _check(dim, 1, "real")
    _check_coherence(coherence)
    exponent = dim * coherence**2 / 4
    if failure is None:
        return _whole_exponential(exponent)
    if not 0 < failure < 1:
        raise UserError(f"expected a failure probability between 0 and 1, got {failure}; take e.g. 0.01")
    # N (N - 1) < N²: what this leaves out is less than one vector.
    return _whole_exponential(exponent + math.log(failure) / 2)


def rademacher_log_failure(dim: int, count: int, coherence: float, *, exact: bool = False) -> float:
    """The natural logarithm of the union bound on the failure of ``count`` random sign vectors, at most 0.

    Args:
        dim: n.
        count: N.
        coherence: δ; failure means a pair with abs(cos) > δ.
        exact: take the binomial tail of a pair in place of Hoeffding's 2 exp(-n δ²/2).

    >>> round(rademacher_log_failure(1024, 1000, 0.25), 2), rademacher_log_failure(1024, 10**9, 0.1)
    (-18.19, 0.0)
    >>> rademacher_log_failure(1024, 1000, 0.25, exact=True) < -20
    True
    """
    _check(dim, count, "real")
    _check_coherence(coherence)
    if count == 1:
        return -math.inf
    pairs = math.log(count) + math.log(count - 1) - math.log(2)
    return min(0.0, pairs + (_log_tail(dim, coherence) if exact else math.log(2) - dim * coherence**2 / 2))


def kerdock_count(dim: int) -> int:
    """Lines of a Kerdock set, n/2 + 1 orthonormal bases at 1/√n from each other: (n² + 2n)/2, for n = 4^k.

    Real Levenshtein's order 2 allows no more at that coherence.

    >>> kerdock_count(4), kerdock_count(1024)
    (12, 525312)
    """
    if not is_power_of_four(dim):
        raise UserError(
            f"expected a dimension 4^k for a Kerdock set, got {dim}; take 4, 16, 64, 256, 1024 ..."
        )
    return dim * (dim + 2) // 2


def is_power_of_four(dim: int) -> bool:
    """Whether ``dim`` is 4, 16, 64 ...

    >>> [dim for dim in range(1, 100) if is_power_of_four(dim)]
    [4, 16, 64]
    """
    return dim > 1 and dim & (dim - 1) == 0 and dim.bit_length() % 2 == 1


def _check(dim: int, count: int, field: str) -> None:
    if dim < 1:
        raise UserError(f"expected a dimension of at least 1, got {dim}; take a positive whole number")
    if count < 1:
        raise UserError(f"expected a count of at least 1 vector, got {count}; take a positive whole number")
    if field not in ("real", "complex"):
        raise UserError(f"expected the field 'real' or 'complex', got {field!r}; take one of the two")


def _check_coherence(coherence: float) -> None:
    if not 0 < coherence < 1:
        raise UserError(
            f"expected a coherence between 0 and 1 (both excluded), got {coherence}; take e.g. 0.1 "
            "(0 needs orthonormal vectors, 1 holds for any)"
        )


def _whole_exponential(exponent: float) -> int:
    return math.floor(math.exp(exponent)) if exponent < math.log(_MOST) else _MOST


def _log_moment(dim: int, order: int, field: Field) -> float:
    a, b = (0.5, dim / 2) if field == "real" else (1.0, float(dim))
    return math.lgamma(order + a) - math.lgamma(a) + math.lgamma(b) - math.lgamma(order + b)


def _log_tail(dim: int, coherence: float) -> float:
    """log P(abs(<x, y>) > δ n) of two random sign vectors: <x, y> = n - 2 Binomial(n, 1/2)."""
    from scipy.special import betainc, gammaln, logsumexp

    # The least disagreement count that keeps the pair: both tails beyond it have the same probability.
    least = math.ceil(dim * (1 - coherence) / 2 - ROUNDING)
    if least == 0:
        return -math.inf
    tail = float(betainc(dim - least + 1, least, 0.5))
    if tail > 1e-290:
        return math.log(2) + math.log(tail)
    # Going down from the largest, terms shrink by this factor or more: those below e^-60 of it are left out.
    factor = least / (dim - least + 1)
    kept = min(least, math.ceil(60 / -math.log(factor)))
    ks = np.arange(least - kept, least)
    terms = math.lgamma(dim + 1) - gammaln(ks + 1) - gammaln(dim - ks + 1)
    return math.log(2) + float(logsumexp(terms)) - dim * math.log(2)


def _design(dim: int, order: int, field: Field) -> int:
    """D(m): the fewest lines whose directions integrate polynomials of degree m in abs(cos)² exactly."""
    if field == "real":
        return math.comb(dim + order - 1, order)
    small, large = order // 2, order - order // 2
    return math.comb(dim + large - 1, large) * math.comb(dim + small - 1, small)


def _largest_node(dim: int, count: int, order: int, field: Field) -> float:
    from scipy.linalg import eigvalsh_tridiagonal

    nodes, even = (order + 1) // 2, order % 2 == 0
    a, b = ((dim - 3) / 2, -0.5) if field == "real" else (dim - 2.0, 0.0)
    # An even order has a node at 0: what is left integrates against t times the measure, whose mass is 1/dim.
    if even:
        nodes, b = order // 2, b + 1
    weight = dim / count if even else 1 / count
    diagonal, side = _jacobi_matrix(nodes + 1, a, b)
    values = [1.0, (1 - diagonal[0]) / side[0]]  # the orthonormal polynomials at 1
    for i in range(1, nodes):
        values.append(((1 - diagonal[i]) * values[i] - side[i - 1] * values[i - 1]) / side[i])
    last = math.sqrt(1 / weight - math.fsum(value**2 for value in values[:nodes]))
    side[nodes - 1] *= values[nodes] / last
    diagonal[nodes] = 1 - side[nodes - 1] * values[nodes - 1] / last
    eigenvalues = eigvalsh_tridiagonal(diagonal, side)
    return float(eigenvalues[-2])


def _jacobi_matrix(size: int, a: float, b: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The recurrence of the polynomials orthonormal for t^b (1 - t)^a on [0, 1], a + b > -1: both diagonals."""
    i = np.arange(size, dtype=np.float64)
    both = 2 * i + a + b
    diagonal = np.empty(size)
    diagonal[0] = (b - a) / (a + b + 2)
    diagonal[1:] = (b**2 - a**2) / (both[1:] * (both[1:] + 2))
    j, sums = i[1:], both[1:]
    side = 4 * j * (j + a) * (j + b) * (j + a + b) / (sums**2 * (sums + 1) * (sums - 1))
    return (1 + diagonal) / 2, np.sqrt(side) / 2
