"""What each construction offers: how many vectors at which coherence, before anything is made."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from layerlab.projection import bounds
from layerlab.projection.bounds import Field
from layerlab.projection.signs import most_terms, quadratic_coherence, quadratic_count

LIKELY = 0.5
"""Failure of the union bound up to which random signs are drawn: every second draw succeeds, or more."""


TITLES = {
    "orthonormal": "orthonormal vectors",
    "simplex": "a regular simplex",
    "plane": "lines of the plane",
    "kerdock": "a Kerdock set",
    "quadratic-signs": "a code of quadratic forms",
    "random-signs": "random signs",
    "optimised-frame": "an optimised frame",
    "random-lines": "random lines",
    "document": "the document's construction",
}
"""The constructions by name, and in words."""


@dataclass(frozen=True)
class Offer:
    """So many vectors of at most this coherence.

    Attributes:
        construction: its name.
        count: vectors.
        coherence: what they do not exceed.
        how: why that is sure, or how likely.
    """

    construction: str
    count: int
    coherence: float
    how: str

    def sentence(self) -> str:
        """In words.

        >>> print(offers(16, 100)[0].sentence())
        a Kerdock set has 100 vectors at 0.25
        """
        verb = "has" if TITLES[self.construction].startswith(("a ", "an ", "the ")) else "have"
        return f"{TITLES[self.construction]} {verb} {self.count:,} vectors at {self.coherence:.4g}"

    def to_dict(self) -> dict[str, str | int | float]:
        """As JSON."""
        return {
            "construction": self.construction,
            "count": self.count,
            "coherence": self.coherence,
            "how": self.how,
        }


@dataclass(frozen=True)
class _Kind:
    """A construction by its two sides: the coherence of a count (None: has none), the most vectors of a coherence."""

    name: str
    how: str | Callable[[int], str]
    coherence: Callable[[int, int], float | None]
    most: Callable[[int, float], int]
    fields: tuple[Field, ...] = ("real", "complex")

    def offer(self, dim: int, count: int, coherence: float) -> Offer:
        """With the reason written out for a dimension."""
        how = self.how if isinstance(self.how, str) else self.how(dim)
        return Offer(self.name, count, coherence, how)


def offers(dim: int, count: int, field: Field = "real") -> list[Offer]:
    """The constructions that have as many vectors, by the coherence they promise. Frames promise none beforehand.

    Args:
        dim: at least 2.
        count: at least 2.
        field: real constructions serve complex vectors too.

    >>> [(offer.construction, round(offer.coherence, 4)) for offer in offers(16, 17)]
    [('simplex', 0.0625), ('kerdock', 0.25), ('quadratic-signs', 0.5), ('random-signs', 0.75)]
    """
    found = [
        kind.offer(dim, count, value)
        for kind in _KINDS
        if field in kind.fields and (value := kind.coherence(dim, count)) is not None
    ]
    return sorted(found, key=lambda offer: offer.coherence)


def offers_at(dim: int, coherence: float, field: Field = "real") -> list[Offer]:
    """The most vectors that each construction has at this coherence, most first; none but orthonormal ones up to dim.

    >>> [(offer.construction, offer.count) for offer in offers_at(1024, 0.04)]
    [('kerdock', 525312), ('simplex', 1025), ('orthonormal', 1024)]
    """
    found = [
        kind.offer(dim, most, coherence)
        for kind in _KINDS
        if field in kind.fields and ((most := kind.most(dim, coherence)) > dim or kind.name == "orthonormal")
    ]
    return sorted(found, key=lambda offer: -offer.count)


def _simplex_most(dim: int, coherence: float) -> int:
    return dim + 1 if _at_most(1 / dim, coherence) else 0


def _plane_most(dim: int, coherence: float) -> int:
    return math.floor(math.pi / math.acos(coherence) + 1e-9) if dim == 2 else 0


def kerdock_dim(dim: int) -> int:
    """The largest 4^k that a dimension of at least 4 holds; the rest is filled with zeros.

    >>> kerdock_dim(4), kerdock_dim(63), kerdock_dim(1024)
    (4, 16, 1024)
    """
    return 1 << (dim.bit_length() - 1) // 2 * 2


def _kerdock(dim: int, count: int) -> float | None:
    inner = kerdock_dim(dim)
    return inner**-0.5 if inner > 1 and count <= bounds.kerdock_count(inner) else None


def _kerdock_most(dim: int, coherence: float) -> int:
    inner = kerdock_dim(dim)
    return bounds.kerdock_count(inner) if inner > 1 and _at_most(inner**-0.5, coherence) else 0


def _how_kerdock(dim: int) -> str:
    inner = kerdock_dim(dim)
    return f"orthonormal bases that meet at 1/√{inner:,} = {inner**-0.5:.4g}{_padded(inner, dim)}"


def _how_quadratic(dim: int) -> str:
    inner = power_of_two(dim)
    return f"orthonormal bases of signs from the dual of a BCH code{_padded(inner, dim)}"


def _padded(inner: int, dim: int) -> str:
    return "" if inner == dim else f", in {inner:,} of the {dim:,} dimensions (zeros in the others)"


def power_of_two(dim: int) -> int:
    """The largest power of 2 that a dimension holds.

    >>> power_of_two(1000)
    512
    """
    return 1 << (dim.bit_length() - 1)


def quadratic_terms(inner: int, count: int | None, coherence: float | None) -> int | None:
    """The fewest terms of a code of quadratic forms for a count, else the most for a coherence; None: it has none.

    >>> quadratic_terms(512, 100_000, None), quadratic_terms(512, None, 0.13), quadratic_terms(512, 10**9, 0.1)
    (1, 2, None)
    """
    fitting = [
        terms
        for terms in range(1, most_terms(inner) + 1)
        if (count is None or count <= quadratic_count(inner, terms))
        and (coherence is None or _at_most(quadratic_coherence(inner, terms), coherence))
    ]
    if not fitting:
        return None
    return fitting[0] if count is not None else fitting[-1]


def _quadratic(dim: int, count: int) -> float | None:
    inner = power_of_two(dim)
    terms = quadratic_terms(inner, count, None)
    return None if terms is None else quadratic_coherence(inner, terms)


def _quadratic_most(dim: int, coherence: float) -> int:
    inner = power_of_two(dim)
    terms = quadratic_terms(inner, None, coherence)
    return 0 if terms is None else quadratic_count(inner, terms)


def _random(dim: int, count: int) -> float | None:
    """The least of the cosines that signs can have at which the union bound leaves enough: a bisection."""
    low, high = 0, dim  # agreements less disagreements
    if bounds.rademacher_log_failure(dim, count, (dim - 1) / dim, exact=True) > math.log(LIKELY):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        fails = bounds.rademacher_log_failure(dim, count, middle / dim, exact=True) > math.log(LIKELY)
        low, high = (middle, high) if fails else (low, middle)
    return high / dim


def _random_most(dim: int, coherence: float) -> int:
    """The largest count that the exact binomial tail and the union bound leave likely enough."""
    # log(pairs) + log(tail) <= log(likely); the bound for two vectors is one pair's tail.
    tail = bounds.rademacher_log_failure(dim, 2, coherence, exact=True)
    if tail == -math.inf:
        return 0
    pairs = math.exp(min(math.log(LIKELY) - tail, 86.0))
    return math.floor((1 + math.sqrt(1 + 8 * pairs)) / 2)


def _at_most(value: float, coherence: float) -> bool:
    return value <= coherence * (1 + bounds.ROUNDING)


_KINDS = (
    _Kind(
        "orthonormal",
        "as many vectors as dimensions, or fewer, can be orthogonal",
        lambda dim, count: 0.0 if count <= dim else None,
        lambda dim, coherence: dim,
    ),
    _Kind(
        "simplex",
        "one vector more than dimensions, with every cosine -1/dim",
        lambda dim, count: 1 / dim if count == dim + 1 else None,
        _simplex_most,
    ),
    _Kind(
        "plane",
        "at equal angles",
        lambda dim, count: math.cos(math.pi / count) if dim == 2 else None,
        _plane_most,
        ("real",),
    ),
    _Kind(
        "kerdock",
        _how_kerdock,
        _kerdock,
        _kerdock_most,
    ),
    _Kind(
        "quadratic-signs",
        _how_quadratic,
        _quadratic,
        _quadratic_most,
    ),
    _Kind(
        "random-signs", "by the union bound over all pairs, drawn again until it holds", _random, _random_most
    ),
)
