"""The constructions, made: each from a request, as vectors in memory or as rows that are made when they are read."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerlab.errors import UserError
from layerlab.projection import bounds
from layerlab.projection.bounds import Field
from layerlab.projection.certificate import Certificate, certify
from layerlab.projection.choice import Offer, kerdock_dim, offers, power_of_two, quadratic_terms
from layerlab.projection.cosets import CosetCode
from layerlab.projection.document import document_codebook
from layerlab.projection.frames import LARGEST_COUNT, fits, optimised_frame, plane
from layerlab.projection.kerdock import Kerdock
from layerlab.projection.memory import refuse_beyond
from layerlab.projection.packing import Rows, all_rows, pieces
from layerlab.projection.signs import QuadraticSigns, RandomSigns, rademacher
from layerlab.projection.simplex import simplex

Progress = Callable[[float, str], None]

# Pairs, times words of 64 signs, that are compared in a minute or less: more are made only when a count asks for them.
_COMPARED = 1 << 37
# What is made at most, as signs in int8, when no count asks for more.
_BYTES = 1 << 31


@dataclass(frozen=True)
class Request:
    """What is to be made."""

    dim: int
    count: int | None
    coherence: float | None
    field: Field
    seed: int
    progress: Progress

    @property
    def wanted(self) -> int:
        """The count; it was given, or set by `of`."""
        if self.count is None:
            raise UserError("this construction needs a count; give one")
        return self.count

    @property
    def limit(self) -> float:
        """The coherence; it was given, or set by `at`."""
        if self.coherence is None:
            raise UserError("this construction needs a coherence; give one")
        return self.coherence

    def of(self, count: int) -> Request:
        """The same with a count."""
        return replace(self, count=count)

    def at(self, coherence: float) -> Request:
        """The same with a coherence; 0 sets none."""
        return replace(self, coherence=coherence or None)

    def counted(self, done: int, of: int) -> None:
        """Progress over pairs."""
        self.progress(done / max(1, of), f"{done:,} of {of:,} pairs")


class Made(ABC):
    """Vectors that a construction gave.

    Attributes:
        dim, count: of them.
        details: what is known beyond the certificate, as JSON.
    """

    dim: int
    count: int
    details: dict[str, Any]

    @property
    @abstractmethod
    def dtype(self) -> np.dtype[np.generic]:
        """Of `stored`: int8 for signs, else float64 or complex128."""

    @abstractmethod
    def stored(self) -> Iterator[NDArray[np.generic]]:
        """The rows as they are kept in a file, some at a time; signs as ±1, not divided by √n."""

    @abstractmethod
    def vectors(self) -> Tensor:
        """All of them as unit rows."""

    @abstractmethod
    def certify(self, request: Request) -> Certificate:
        """Their coherence."""


@dataclass(frozen=True, eq=False)
class InMemory(Made):
    """Unit vectors in memory."""

    rows: Tensor
    coherence: float = math.nan
    details: dict[str, Any] = field(default_factory=dict)
    dim: int = field(init=False)
    count: int = field(init=False)

    def __post_init__(self) -> None:
        count, dim = self.rows.shape
        object.__setattr__(self, "dim", dim)
        object.__setattr__(self, "count", count)

    @property
    def dtype(self) -> np.dtype[np.generic]:
        return self.rows[:0].numpy().dtype

    def stored(self) -> Iterator[NDArray[np.generic]]:
        for first, last in pieces(self.count, self.dim):
            yield self.rows[first:last].contiguous().numpy()

    def vectors(self) -> Tensor:
        return self.rows

    def certify(self, request: Request) -> Certificate:
        return _in_field(certify(self.rows, progress=request.counted), request.field)


@dataclass(frozen=True, eq=False)
class Signs(Made):
    """The first lines of a sign code, zeros after their entries; rows are made when they are read."""

    code: CosetCode | RandomSigns
    dim: int
    count: int
    inner: int
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def dtype(self) -> np.dtype[np.generic]:
        return np.dtype(np.int8)

    def stored(self) -> Iterator[NDArray[np.generic]]:
        for first, last in pieces(self.count, self.dim):
            yield self._padded(self.code.rows(first, last, "int8"))

    def vectors(self) -> Tensor:
        _refuse(self.count, self.dim, 4, "float32")
        return all_rows(self.count, self.dim, lambda first, last: self._padded(self.code.rows(first, last)))

    def _padded(self, rows: Rows) -> Rows:
        if self.inner == self.dim:
            return rows
        out = np.zeros((len(rows), self.dim), rows.dtype)
        out[:, : self.inner] = rows
        return out

    def certify(self, request: Request) -> Certificate:
        if isinstance(self.code, RandomSigns):
            found = self.code.certificate
        else:
            found = self.code.certify(self.count, seed=request.seed, progress=request.counted)
        if self.dim != self.inner:
            # Zeros change no cosine; but a larger space allows more.
            found = replace(found, dim=self.dim, floors=tuple(bounds.floors(self.dim, self.count)))
        return _in_field(found, request.field)


def _in_field(found: Certificate, field: Field) -> Certificate:
    if found.field == field:
        return found
    return replace(found, field=field, floors=tuple(bounds.floors(found.dim, found.count, field)))


def _refuse(count: int, dim: int, width: int, kind: str) -> None:
    refuse_beyond(
        count * dim * width,
        f"{count:,} vectors of {dim:,} dimensions in {kind}",
        "ask for fewer, or write them to a file with layerlab codebook make --out codes.npz",
    )


def _orthonormal(request: Request) -> Made:
    count, dim = request.count or request.dim, request.dim
    if count > dim:
        raise UserError(
            f"{dim:,} dimensions hold {dim:,} orthonormal vectors, got count {count:,}; ask for fewer"
        )
    _refuse(count, dim, 16, "float64, with a copy,")
    return InMemory(torch.eye(count, dim, dtype=torch.float64), 0.0)


def _simplex(request: Request) -> Made:
    dim, count = request.dim, request.count or request.dim + 1
    if count > dim + 1:
        raise UserError(
            f"a simplex of {dim:,} dimensions has {dim + 1:,} vectors, got count {count:,}; ask for fewer"
        )
    _refuse(dim + 1, dim, 24, "float64, with copies,")
    return InMemory(simplex(dim)[:count], 1 / dim)


def _plane(request: Request) -> Made:
    if request.dim != 2 or request.field != "real":
        raise UserError(
            f"lines of the plane have 2 real dimensions, got {request.dim} {request.field} ones; take 2"
        )
    count = request.count or max(2, math.floor(math.pi / math.acos(request.limit) + 1e-9))
    return InMemory(plane(count), math.cos(math.pi / count))


def _kerdock(request: Request) -> Made:
    inner = kerdock_dim(request.dim)
    if inner < 4:
        raise UserError(f"a Kerdock set has 4, 16, 64 ... dimensions, got {request.dim}; take at least 4")
    return _coset_code(request, Kerdock(inner))


def _quadratic(request: Request) -> Made:
    inner = power_of_two(request.dim)
    terms = quadratic_terms(inner, request.count, request.coherence)
    if terms is None:
        raise UserError(
            f"no code of quadratic forms in {request.dim:,} dimensions has what is asked; take a larger coherence, a "
            "smaller count, or 8, 16, 32 ... dimensions"
        )
    return _coset_code(request, QuadraticSigns(inner, terms))


def _coset_code(request: Request, code: CosetCode) -> Made:
    count = code.count if request.count is None else request.count
    if count > code.count:
        raise UserError(
            f"{code.name} in {code.dim:,} dimensions has {code.count:,} lines, got count {count:,}"
        )
    return Signs(code, request.dim, count, code.dim, {"inner_dim": code.dim})


def _random_signs(request: Request) -> Made:
    count = request.wanted
    limit = request.coherence
    if limit is None:
        offered = [o for o in offers(request.dim, count, request.field) if o.construction == "random-signs"]
        if not offered:
            raise UserError(
                f"random signs of {request.dim:,} dimensions are hardly ever {count:,} different lines; take fewer"
            )
        limit = offered[0].coherence
    drawn = rademacher(request.dim, count, limit, seed=request.seed, progress=request.counted)
    return Signs(drawn, request.dim, count, request.dim, {"draws": drawn.attempts})


def _random_lines(request: Request) -> Made:
    dim, count = request.dim, request.wanted
    parts = 2 if request.field == "complex" else 1
    _refuse(count, dim, 16 * parts, "float64, with a copy,")
    generator = torch.Generator().manual_seed(request.seed)
    rows = torch.randn(count, dim * parts, generator=generator, dtype=torch.float64)
    if parts == 2:
        rows = torch.view_as_complex(rows.view(count, dim, 2))
    return InMemory(rows / torch.linalg.vector_norm(rows, dim=1, keepdim=True))


def optimised(request: Request) -> InMemory:
    """An optimised frame; a coherence, where there is one, is enough."""
    found = optimised_frame(
        request.dim,
        request.wanted,
        field=request.field,
        seed=request.seed,
        floor=bounds.floor(request.dim, request.wanted, request.field).value,
        target=request.coherence,
        progress=request.progress,
    )
    return InMemory(found.vectors, found.coherence, {"starts": found.restarts, "spread": list(found.spread)})


def most_optimised(request: Request, fewest: int) -> tuple[InMemory | None, str]:
    """The most vectors whose optimised frame keeps the coherence, more than ``fewest``; and how far was looked.

    A larger frame is harder, so counts are halved; that is no proof that none between has it.
    """
    limit = request.limit * (1 + bounds.ROUNDING)
    most = min(bounds.most(request.dim, request.limit, request.field), LARGEST_COUNT)
    while most > fewest and not fits(request.dim, most):
        most -= 1
    low, high, best = max(fewest, request.dim), most + 1, None
    while high - low > 1:
        middle = (low + high) // 2
        made = optimised(request.of(middle))
        if made.coherence <= limit:
            low, best = middle, made
        else:
            high = middle
    ending = (
        "no bound allows more" if high > most else f"{high:,} were tried, and no frame of so many was found"
    )
    return best, ending


def _optimised(request: Request) -> Made:
    return optimised(request)


def _document(request: Request) -> Made:
    """The document's theorem at the coherence; without one, at the smallest that promises as many."""
    coherence = request.coherence
    if coherence is None:
        coherence = math.sqrt(72 * math.log(request.wanted + 1) / request.dim) * (1 + 1e-12)
        if coherence >= 1:
            raise UserError(
                f"the document's theorem promises {request.wanted:,} vectors only from dimension "
                f"{math.ceil(72 * math.log(request.wanted + 1)):,} on, got {request.dim:,}; ask for fewer"
            )
    promised = bounds.document_count(request.dim, coherence)
    _refuse(min(request.count or promised, promised), request.dim, 24, "float64, with copies,")
    found = document_codebook(
        request.dim, coherence, request.count, seed=request.seed, progress=request.progress
    )
    norms = torch.linalg.vector_norm(found.as_written, dim=1)
    return InMemory(
        found.vectors,
        coherence,
        {
            "document_promised": found.promised,
            "document_coherence": coherence,
            "document_epsilon": found.epsilon,
            "document_distortion": found.distortion,
            "document_draws": found.draws,
            "document_norm_as_written_least": float(norms.min()),
            "document_norm_as_written_largest": float(norms.max()),
        },
    )


def limited(request: Request, offer: Offer) -> tuple[Offer, str]:
    """An offer cut to what is made without being asked for by count; with a remark if it was cut."""
    most = min(offer.count, max(2, _BYTES // request.dim))
    if offer.construction == "random-signs":
        most = min(most, math.isqrt(2 * _COMPARED // -(-request.dim // 64)))
    if most == offer.count or offer.construction == "orthonormal":
        return offer, ""
    return replace(offer, count=most), (
        f"; of {offer.count:,} that there are {most:,} are made (give a count for another number)"
    )


BUILDERS: dict[str, Callable[[Request], Made]] = {
    "orthonormal": _orthonormal,
    "simplex": _simplex,
    "plane": _plane,
    "kerdock": _kerdock,
    "quadratic-signs": _quadratic,
    "random-signs": _random_signs,
    "optimised-frame": _optimised,
    "random-lines": _random_lines,
    "document": _document,
}
"""How each construction is made, by name."""
