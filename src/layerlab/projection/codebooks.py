"""Almost orthogonal vectors on request: the construction is picked, made, certified, or the request refused."""

from __future__ import annotations

import numbers
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from layerlab.errors import UserError
from layerlab.projection import bounds, building
from layerlab.projection.bounds import Field
from layerlab.projection.building import Made, Progress
from layerlab.projection.certificate import Certificate
from layerlab.projection.choice import TITLES, Offer, offers, offers_at
from layerlab.projection.frames import fits
from layerlab.projection.memory import refuse_beyond

CONSTRUCTIONS = tuple(building.BUILDERS)
"""What `codebook` can be told to use."""


class ImpossibleError(UserError):
    """No such vectors exist: a lower bound on the coherence excludes them, and is named."""


class OutOfReachError(UserError):
    """No bound known here excludes such vectors, but no construction here has them; the best is named."""


@dataclass(frozen=True, eq=False)
class Codebook:
    """Vectors with what is known of their coherence.

    Attributes:
        made: where the vectors come from.
        certificate: their coherence, measured or proved, and the floors beside it.
        construction: one of `CONSTRUCTIONS`.
        why: why that construction, in one sentence.
        promised: the vectors that the document's theorem promises at this coherence.
    """

    made: Made
    certificate: Certificate
    construction: str
    why: str
    promised: int

    @property
    def count(self) -> int:
        """How many vectors."""
        return self.certificate.count

    @property
    def dim(self) -> int:
        """Their dimension."""
        return self.certificate.dim

    @property
    def vectors(self) -> Tensor:
        """All of them: ``(count, dim)`` unit rows, float32 for signs, else float64 or complex128.

        Raises:
            UserError: they take more than the memory that is free; the size is stated.
        """
        return self.made.vectors()

    def to_dict(self) -> dict[str, Any]:
        """What is known of them, without the vectors, as JSON."""
        found = self.certificate
        return {
            "construction": self.construction,
            "why": self.why,
            "count": self.count,
            "dim": self.dim,
            "field": found.field,
            "coherence": found.coherence,
            "error": found.error,
            "exact": found.exact,
            "arithmetic": found.arithmetic,
            "pairs": found.pairs,
            "measured_pairs": found.measured_pairs,
            "proved_by": found.proved_by,
            "floor": found.floors[0].value,
            "floor_name": found.floors[0].name,
            "welch": bounds.welch(self.dim, self.count, field=found.field),
            "levenshtein": bounds.levenshtein(self.dim, self.count, found.field)[0],
            "document_count": self.promised,
            **self.made.details,
        }


def codebook(
    dim: int,
    count: int | None = None,
    coherence: float | None = None,
    field: Field = "real",
    seed: int = 0,
    *,
    construction: str | None = None,
    progress: Progress | None = None,
) -> Codebook:
    """Vectors of a small coherence μ = max_{i<j} ``|⟨x_i, x_j⟩|`` / (‖x_i‖ ‖x_j‖), certified.

    Given a count, the construction with the least coherence; given a coherence, the one with the most vectors; given
    both, one that has both. Orthonormal vectors, regular simplices, lines of the plane, Kerdock sets (4^k dimensions,
    or the largest 4^k that fits, filled with zeros), random signs by the union bound, optimised frames where they are
    small; the course document's construction only by name.

    Args:
        dim: dimension of the space, at least 2.
        count: vectors, at least 2.
        coherence: at most this, between 0 and 1.
        field: "real" or "complex". Real vectors are complex ones too, and may come where complex ones are asked for.
        seed: of random draws and starts.
        construction: one of `CONSTRUCTIONS`, in place of the choice.
        progress: called with the share done and words.

    Returns:
        The vectors (made when they are asked for, where they are structured), their certificate, and why.

    Raises:
        ImpossibleError: a floor excludes the request.
        OutOfReachError: no floor excludes it, and no construction here reaches it.
        UserError: neither count nor coherence, or one out of range, or more than fits into memory.

    >>> found = codebook(16, coherence=0.25)
    >>> found.count, found.construction, found.certificate.coherence, found.certificate.exact
    (144, 'kerdock', 0.25, True)
    >>> try:
    ...     codebook(100, 10_000, 0.1)
    ... except ImpossibleError as error:
    ...     print(str(error)[:70])
    impossible: Levenshtein floor 0.140 for 10,000 vectors in dimension 10
    """
    _check(dim, count, coherence, field, construction)
    # Numbers of numpy lack what whole numbers of Python can.
    dim, count = int(dim), None if count is None else int(count)
    if count is not None and coherence is not None:
        _refuse_excluded(dim, count, coherence, field)
    # A bit for each sign is the least that any construction works with, streamed or not.
    refuse_beyond(
        (count or 2) * dim // 8,
        f"{count or 2:,} vectors of {dim:,} dimensions, a bit for each sign,",
        "ask for fewer, or for a smaller dimension",
    )
    request = building.Request(dim, count, coherence, field, seed, progress or (lambda share, words: None))
    if construction is not None:
        return _finished(request, construction, "asked for by name")
    if count is None:
        return _most(request)
    return _least(request) if coherence is None else _both(request)


def _finished(request: building.Request, construction: str, why: str, made: Made | None = None) -> Codebook:
    made = made or building.BUILDERS[construction](request)
    found = made.certify(request)
    if request.coherence is not None and found.coherence > request.coherence * (1 + bounds.ROUNDING):
        raise OutOfReachError(
            f"{TITLES[construction]} has coherence {found.coherence:.4g} for {found.count:,} vectors in dimension "
            f"{found.dim:,}, above {request.coherence:g}; leave out the construction, or ask for more coherence"
        )
    inside = min(max(found.coherence, 1e-300), 1 - 1e-12)
    return Codebook(
        made,
        found,
        construction,
        f"{TITLES[construction]}: {why}",
        bounds.document_count(found.dim, inside),
    )


def _least(request: building.Request) -> Codebook:
    """The smallest coherence for a count."""
    dim, count = request.dim, request.wanted
    found = offers(dim, count, request.field)
    floor = bounds.floor(dim, count, request.field)
    best = found[0] if found else None
    if best is not None and best.coherence <= floor.value * (1 + bounds.ROUNDING):
        return _finished(
            request.at(best.coherence), best.construction, f"{best.how}; no {count:,} vectors have less"
        )
    if fits(dim, count):
        made = building.optimised(request)
        if best is None or made.coherence <= best.coherence:
            why = f"{count:,} vectors in dimension {dim:,} are few enough to be optimised from random starts"
            if made.coherence <= floor.value * (1 + 1e-7):
                why += f", down to the floor; no {count:,} vectors have less"
            elif best is not None:
                why += f", below the {best.coherence:.4g} of {TITLES[best.construction]}"
            return _finished(request, "optimised-frame", why, made)
    if best is not None:
        why = f"{best.how}; the least coherence of the constructions here for {count:,} vectors in dimension {dim:,}"
        return _finished(request.at(best.coherence), best.construction, why)
    return _finished(
        request,
        "random-lines",
        f"no construction here has {count:,} vectors in dimension {dim:,}; random ones, with no promise",
    )


def _most(request: building.Request) -> Codebook:
    """The most vectors for a coherence."""
    dim, coherence = request.dim, request.limit
    found = [building.limited(request, offer) for offer in offers_at(dim, coherence, request.field)]
    best = max(found, key=lambda entry: entry[0].count)
    offer, remark = best
    allowed = bounds.most(dim, coherence, request.field)
    if allowed > offer.count and fits(dim, offer.count + 1):
        made, tried = building.most_optimised(request, offer.count)
        if made is not None:
            why = f"more vectors at {coherence:g} than the {offer.count:,} of {TITLES[offer.construction]}; {tried}"
            return _finished(request.of(made.count), "optimised-frame", why, made)
    if allowed <= offer.count:
        ending = "no bound allows more"
    elif allowed < 10**15:
        ending = f"up to {allowed:,} are not excluded"
    else:
        ending = "no bound known here limits their number"
    why = f"{offer.how}; the most vectors at {coherence:g} of the constructions here, {ending}{remark}"
    return _finished(request.of(offer.count), offer.construction, why)


def _both(request: building.Request) -> Codebook:
    """So many vectors at no more than a coherence."""
    dim, count, coherence = request.dim, request.wanted, request.limit
    found = offers(dim, count, request.field)
    for offer in found:
        if offer.coherence <= coherence * (1 + bounds.ROUNDING):
            why = f"{offer.how}; {offer.coherence:.4g} is no more than the {coherence:g} asked for"
            return _finished(request, offer.construction, why)
    best: Offer | None = found[0] if found else None
    if fits(dim, count):
        made = building.optimised(request)
        if made.coherence <= coherence * (1 + bounds.ROUNDING):
            return _finished(request, "optimised-frame", "found by descent from random starts", made)
        if best is None or made.coherence < best.coherence:
            best = Offer("optimised-frame", count, made.coherence, "found by descent")
    most = offers_at(dim, coherence, request.field)[0]
    has = f"{best.sentence()}, and " if best is not None else ""
    raise OutOfReachError(
        f"not excluded by any bound known here (floor {bounds.floor(dim, count, request.field).value:.4g}), but no "
        f"construction here reaches {count:,} vectors in dimension {dim:,} at {coherence:g}; best we have: {has}"
        f"{most.sentence()}"
    )


def _refuse_excluded(dim: int, count: int, coherence: float, field: Field) -> None:
    floor = bounds.floor(dim, count, field)
    if not floor.excludes(coherence):
        return
    digits = next(d for d in range(3, 18) if d == 17 or float(f"{floor.value:.{d}f}") > coherence)
    raise ImpossibleError(
        f"impossible: {floor.name.partition(',')[0]} floor {floor.value:.{digits}f} for {count:,} vectors in dimension "
        f"{dim:,}, above {coherence:g}; at {coherence:g} up to {bounds.most(dim, coherence, field):,} vectors are not "
        "excluded"
    )


def _check(
    dim: int, count: int | None, coherence: float | None, field: str, construction: str | None
) -> None:
    for name, value in (("dimension", dim), ("count", count)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, numbers.Integral)):
            raise UserError(f"expected a whole number as {name}, got {value!r}")
    if dim < 2:
        raise UserError(
            f"a codebook needs a dimension of at least 2, got {dim}"
            + ("; in dimension 1 any two vectors lie on one line (coherence 1)" if dim == 1 else "")
        )
    if count is None and coherence is None:
        raise UserError("expected a count, a coherence or both, got neither; for example count=1000")
    if count is not None and count < 2:
        raise UserError(f"a codebook holds at least 2 vectors, got count {count}; a coherence needs a pair")
    if coherence is not None and not 0 < coherence < 1:
        raise UserError(
            f"expected a coherence between 0 and 1, got {coherence:g}; for coherence 0 give count (at most dim), and 1 "
            "allows any vectors"
        )
    if field not in ("real", "complex"):
        raise UserError(f"expected the field 'real' or 'complex', got {field!r}")
    if construction is not None and construction not in CONSTRUCTIONS:
        raise UserError(f"expected a construction of {', '.join(CONSTRUCTIONS)}, got {construction!r}")


__all__ = ["CONSTRUCTIONS", "Codebook", "ImpossibleError", "OutOfReachError", "codebook"]
