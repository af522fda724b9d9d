"""How many dimensions a random map needs, and with which probability it fails.

A map A of R^d to R^n with E norm(A x)² = norm(x)² *fails* on N points when some squared distance is off by more than
the factor 1 ± ε. There are N (N - 1)/2 pairs; by the union over them

    P(failure) ≤ N (N - 1)/2 · P(one pair is off).

**Gaussian**: norm(A x)²/norm(x)² is χ²_n/n, whatever x is, so the probability of one pair is exact: two tails of χ².

**Random signs, and sparse signs of density at least 1/3** (Achlioptas): with Q = <r, x>/norm(x) for one row r, all even
moments of Q are at most a normal variable's. So E exp(h Q²) ≤ (1 - 2h)^(-1/2) and E exp(-h Q²) ≤ 1 - h + 3h²/2, and the
best h gives

    P(one pair is off) ≤ exp(-n (ε - ln(1 + ε))/2) + exp(n min_h [ln(1 - h + 3h²/2) + h (1 - ε)]).

Nothing stronger is used here: the χ² tails themselves are *not* proved for signs.

**The subsampled Hadamard map**: what is proved has constants that no one would pay. Its dimension, and its failure
probability, are taken as if it were Gaussian, and that is said.

**Sparser signs (Li)**: E Q⁴ = 3 + (1/density - 3) Σ x_i⁴/norm(x)⁴ is above a normal variable's, so their tails are
heavier than χ² tails, by how much depends on the data. Their dimension is taken as if they were Gaussian; of their
failure probability nothing is stated (measured: 0.155 where a Gaussian map has 0.101, see docs/projection.md).

Classic formulas replace both χ² tails by exp(-n (ε²/2 - ε³/3)/2). With n = 4 ln N/(ε²/2 - ε³/3), scikit-learn's, they
leave N (N - 1)/N² = 1 - 1/N: a success with probability 1/N, which is all that its formula promises. By the exact
tails a Gaussian map of that dimension fails with probability at most 0.112 (the largest at N = 5, as ε → 0, where it
is 10 P(abs(Z) > √(4 ln 5))); hence `DEFAULT_FAILURE` = 1/8, whose dimension is never above scikit-learn's.

References: W. Johnson and J. Lindenstrauss, "Extensions of Lipschitz mappings into a Hilbert space", Contemp. Math. 26
(1984), 189-206; S. Dasgupta and A. Gupta, "An elementary proof of a theorem of Johnson and Lindenstrauss", Random
Structures and Algorithms 22 (2003), 60-65; D. Achlioptas, "Database-friendly random projections", J. Comput. Syst. Sci.
66 (2003), 671-687; P. Li, T. Hastie and K. Church, "Very sparse random projections", KDD 2006; N. Ailon and
B. Chazelle, "The fast Johnson-Lindenstrauss transform", SIAM J. Comput. 39 (2009), 302-322.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from layerlab.errors import UserError

Kind = Literal["gaussian", "rademacher", "sparse", "hadamard"]
KINDS: tuple[Kind, ...] = get_args(Kind)

DEFAULT_FAILURE = 0.125
"""The smallest power of 1/2 for which a Gaussian map never needs more dimensions than scikit-learn's formula."""

ACHLIOPTAS = 1 / 3
"""The least share of entries other than 0 for which the moments of signs stay below the Gaussian ones."""

# What float64 can tell after it has been divided by the number of pairs.
_LEAST_FAILURE = 1e-200
_MOST_POINTS = 10**40
_MOST_DIM = 2**62


@dataclass(frozen=True)
class Dimension:
    """A dimension to project to, and what is known of it.

    Attributes:
        dim: n.
        failure: the stated probability that some pair is off by more than ε: proved, or as if the map were Gaussian; 1
            where nothing is stated.
        proved: whether ``failure`` is proved for this map.
        proved_failure: the probability that is proved; 1 where nothing is.
        basis: what ``failure`` rests on, in words.
    """

    dim: int
    failure: float
    proved: bool
    proved_failure: float
    basis: str


@dataclass(frozen=True)
class Formula:
    """A dimension by some formula, and the exact failure probability (union bound) of a Gaussian map of it.

    Attributes:
        name: whose formula, and the formula.
        dim: n.
        promise: the failure probability that its proof leaves; None where it promises none.
        failure: by exact χ² tails.
    """

    name: str
    dim: int
    promise: float | None
    failure: float


def pair_failure(dim: int, eps: float) -> float:
    """P(abs(χ²_n/n - 1) > ε): how often a Gaussian map changes one squared distance by more than the factor 1 ± ε.

    Args:
        dim: n, at least 1.
        eps: ε in (0, 1).

    Returns:
        The probability, to a relative error of about 1e-9; 0 below 1e-300.

    Raises:
        UserError: n or ε out of range.

    >>> round(pair_failure(594, 0.1), 4), round(pair_failure(5920, 0.1) * 1e8, 2)
    (0.0845, 7.55)
    """
    from scipy.special import gammainc, gammaincc

    _check_dim(dim)
    _check_eps(eps)
    half = dim / 2
    return float(gammainc(half, half * (1 - eps)) + gammaincc(half, half * (1 + eps)))


def moment_pair_failure(dim: int, eps: float) -> float:
    """What is proved of one pair under a map of random signs, or of sparse signs of density at least 1/3.

    Args:
        dim: n, at least 1.
        eps: ε in (0, 1).

    Returns:
        The bound of the module's head, at most 1. Never above Achlioptas' 2 exp(-n (ε²/2 - ε³/3)/2).

    >>> round(moment_pair_failure(5920, 0.1) * 1e6, 2)
    1.74
    """
    _check_dim(dim)
    _check_eps(eps)
    upper, lower = _moment_rates(eps)
    return min(1.0, math.exp(-dim * upper) + math.exp(-dim * lower))


def failure(count: int, dim: int, eps: float, kind: Kind = "gaussian", density: float = ACHLIOPTAS) -> float:
    """The union bound on the probability that some pair of ``count`` points is off, at most 1; 1: nothing is proved.

    Args:
        count: N, at least 2.
        dim: n.
        eps: ε in (0, 1).
        kind: the map.
        density: of a sparse map, the share of entries other than 0.

    >>> round(failure(1000, 5920, 0.1), 4), round(failure(1000, 5920, 0.1, "rademacher"), 3)
    (0.0377, 0.87)
    >>> failure(1000, 5920, 0.1, "hadamard")
    1.0
    """
    _check_count(count)
    if (one := _proof(kind, density)) is None:
        _check_dim(dim)
        _check_eps(eps)
        return 1.0
    return min(1.0, _pairs(count) * one(dim, eps))


def dimension(
    count: int,
    eps: float,
    failure: float | None = None,
    kind: Kind = "gaussian",
    density: float = ACHLIOPTAS,
) -> Dimension:
    """The smallest dimension in which all squared distances of ``count`` points stay within 1 ± ε, but for a failure.

    Args:
        count: N, at least 2.
        eps: ε in (0, 1).
        failure: the probability of a failure that is allowed. With a number the dimension of a Gaussian, sign or
            Achlioptas map is the smallest for which that is proved. None: 1/8 by the χ² tails for every map, which is
            never above scikit-learn's dimension; proved for the Gaussian map only.
        kind: ``"gaussian"``, ``"rademacher"``, ``"sparse"`` or ``"hadamard"``.
        density: of a sparse map, the share of entries other than 0.

    Raises:
        UserError: fewer than two points, or a number out of range.

    >>> dimension(1000, 0.1).dim, dimension(1000, 0.1, failure=0.01).dim
    (5435, 6460)
    >>> dimension(1000, 0.1, failure=0.01, kind="rademacher").dim
    7816
    >>> dimension(1000, 0.1, failure=0.01, kind="hadamard").basis
    'χ² tails as if the map were Gaussian: not proved for it, so certify'
    """
    _check_count(count)
    _check_eps(eps)
    if failure is not None and not _LEAST_FAILURE <= failure < 1:
        raise UserError(
            f"expected a failure probability from {_LEAST_FAILURE:g} to below 1, got {failure}; take e.g. 0.01"
        )
    proof = _proof(kind, density)
    allowed = DEFAULT_FAILURE if failure is None else failure
    by = pair_failure if failure is None or proof is None else proof
    pairs = _pairs(count)
    dim = _smallest(lambda n: pairs * by(n, eps) <= allowed)
    proved = min(1.0, pairs * proof(dim, eps)) if proof is not None else 1.0
    if by is proof:
        basis = "exact χ² tails" if kind == "gaussian" else "Achlioptas' bounds on moments"
        return Dimension(dim, proved, True, proved, f"{basis} and the union over all pairs")
    if kind == "sparse" and proof is None:
        basis = (
            "χ² tails as if the map were Gaussian, though it fails more often: nothing is stated, so certify"
        )
        return Dimension(dim, 1.0, False, 1.0, basis)
    basis = "χ² tails as if the map were Gaussian: not proved for it, so certify"
    return Dimension(dim, pairs * by(dim, eps), False, proved, basis)


def document_dimension(count: int, eps: float) -> int:
    """The document's n ≥ 8 ln N/ε², rounded up. For ε that is not small a Gaussian map of it fails: see `formulas`.

    >>> document_dimension(1000, 0.1)
    5527
    """
    _check_count(count)
    _check_eps(eps)
    return math.ceil(8 * math.log(count) / eps**2)


def classic_dimension(count: int, eps: float, failure: float | None = None) -> int:
    """Dasgupta and Gupta's 4 ln N/(ε²/2 - ε³/3), or Achlioptas' (4 ln N + 2 ln(1/failure))/(ε²/2 - ε³/3), rounded up.

    >>> classic_dimension(1000, 0.1), classic_dimension(1000, 0.1, failure=0.01)
    (5921, 7895)
    """
    _check_count(count)
    _check_eps(eps)
    more = 0.0 if failure is None else 2 * math.log(1 / failure)
    return math.ceil((4 * math.log(count) + more) / _classic_rate(eps))


def scikit_learn_dimension(count: int, eps: float) -> int:
    """What ``sklearn.random_projection.johnson_lindenstrauss_min_dim`` returns: the classic formula rounded *down*.

    >>> scikit_learn_dimension(1000, 0.1)
    5920
    """
    _check_count(count)
    _check_eps(eps)
    return int(4 * math.log(count) / _classic_rate(eps))


def formulas(count: int, eps: float, allowed: float | None = None) -> list[Formula]:
    """The dimensions by all formulas, with what each promises and what the exact tails say of it.

    Args:
        count: N, at least 2.
        eps: ε in (0, 1).
        allowed: the failure probability, as for `dimension`.

    >>> for row in formulas(10_000, 0.5, 0.01):
    ...     print(f"{row.dim:5d} {row.failure:.2g} {row.name}")
      411 0.0099 exact χ² tails, failure 0.01
      476 0.00043 moments of signs, failure 0.01
      553 1e-05 Achlioptas: (4 ln N + 2 ln(1/failure))/(ε²/2 - ε³/3)
      443 0.0021 Dasgupta and Gupta: 4 ln N/(ε²/2 - ε³/3)
      442 0.0022 scikit-learn: the same, rounded down
      295 1 the document: 8 ln N/ε²
    """
    stated = DEFAULT_FAILURE if allowed is None else allowed
    success = 1 / count
    rows: list[tuple[str, int, float | None]] = [
        (f"exact χ² tails, failure {stated:.3g}", dimension(count, eps, stated).dim, stated),
        (
            f"moments of signs, failure {stated:.3g}",
            dimension(count, eps, stated, "rademacher").dim,
            stated,
        ),
        (
            "Achlioptas: (4 ln N + 2 ln(1/failure))/(ε²/2 - ε³/3)",
            classic_dimension(count, eps, stated),
            stated,
        ),
        ("Dasgupta and Gupta: 4 ln N/(ε²/2 - ε³/3)", classic_dimension(count, eps), 1 - success),
        ("scikit-learn: the same, rounded down", scikit_learn_dimension(count, eps), None),
        ("the document: 8 ln N/ε²", document_dimension(count, eps), None),
    ]
    return [Formula(name, dim, promise, failure(count, dim, eps)) for name, dim, promise in rows]


def density_of_ratio(dim: int, ratio: float) -> float:
    """The density of χ²_n/n at a ratio of squared distances, after to before.

    >>> round(density_of_ratio(100, 1.0), 3)
    2.816
    """
    from scipy.stats import chi2

    return float(dim * chi2.pdf(dim * ratio, dim))


def clopper_pearson(hits: int, trials: int, level: float = 0.95) -> tuple[float, float]:
    """The exact two-sided interval of a share, of ``hits`` in ``trials`` independent trials.

    Reference: C. Clopper and E. Pearson, Biometrika 26 (1934), 404-413.

    >>> [round(end, 4) for end in clopper_pearson(0, 1000)]
    [0.0, 0.0037]
    """
    from scipy.special import betaincinv

    if trials < 1 or not 0 <= hits <= trials:
        raise UserError(f"expected from 0 to {trials} hits in at least one trial, got {hits}")
    if not 0 < level < 1:
        raise UserError(f"expected a confidence between 0 and 1, got {level}; take e.g. 0.95")
    side = (1 - level) / 2
    low = 0.0 if hits == 0 else float(betaincinv(hits, trials - hits + 1, side))
    high = 1.0 if hits == trials else float(betaincinv(hits + 1, trials - hits, 1 - side))
    return low, high


def _proof(kind: Kind, density: float) -> Callable[[int, float], float] | None:
    """What bounds the failure of one pair for a map, if anything does."""
    if kind not in KINDS:
        raise UserError(f"expected a map among {', '.join(KINDS)}, got {kind!r}")
    if not 0 < density <= 1:
        raise UserError(f"expected a density above 0, at most 1, got {density}; take 1/3 (Achlioptas)")
    if kind == "gaussian":
        return pair_failure
    if kind == "rademacher" or (kind == "sparse" and density >= ACHLIOPTAS):
        return moment_pair_failure
    return None


def _moment_rates(eps: float) -> tuple[float, float]:
    """Exponents per dimension: of the upper tail, and of the lower."""
    # The best h solves 1.5 (1 - ε) h² + (2 + ε) h - ε = 0: the derivative of the exponent is 0.
    a, b, c = 1.5 * (1 - eps), 2 + eps, -eps
    h = -2 * c / (b + math.sqrt(b * b - 4 * a * c))
    return (eps - math.log1p(eps)) / 2, -(math.log1p(1.5 * h * h - h) + h * (1 - eps))


def _classic_rate(eps: float) -> float:
    return eps**2 / 2 - eps**3 / 3


def _pairs(count: int) -> float:
    return count * (count - 1) / 2


def _smallest(enough: Callable[[int], bool]) -> int:
    """The smallest n that is enough; what is enough for n is enough for n + 1."""
    high = 1
    while not enough(high):
        high *= 2
        if high > _MOST_DIM:
            raise UserError("no dimension below 2^62 is enough; raise eps")
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _check_dim(dim: int) -> None:
    if dim < 1:
        raise UserError(f"expected a dimension of at least 1, got {dim}")


def _check_eps(eps: float) -> None:
    if not 0 < eps < 1:
        raise UserError(f"expected eps between 0 and 1 (both excluded), got {eps}; take e.g. 0.1")


def _check_count(count: int) -> None:
    if count < 2:
        raise UserError(f"expected at least two points, between which there is a distance, got {count}")
    if count > _MOST_POINTS:
        raise UserError(f"expected at most 10^40 points, got {count}")
