"""Which layer's attention can be replaced, by what, and why another cannot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from layerlab.attention.crossover import rounded

Standing = Literal["replace", "too short", "too far off", "not predicted", "not possible"]

# Best first.
_ORDER: tuple[Standing, ...] = ("replace", "too short", "too far off", "not predicted", "not possible")


@dataclass(frozen=True)
class Candidate:
    """One mechanism at one site.

    Attributes:
        mechanism: its name.
        reason: why it cannot stand here; None if it can.
        local: error of the attention's output; None where not computed.
        error: predicted error of the model's output; None where not predicted.
        speed: time of softmax over its own at the site's length; None where not timed.
        pays_from: the length from which it is faster; None where it is not up to ``timed_to``.
        timed_to: the longest length that was timed; None where none was.
    """

    mechanism: str
    reason: str | None = None
    local: float | None = None
    error: float | None = None
    speed: float | None = None
    pays_from: int | None = None
    timed_to: int | None = None


@dataclass(frozen=True)
class Advice:
    """What is to be done with one site.

    Attributes:
        site: where.
        standing: whether it can be replaced, or what is in the way.
        mechanism: the one that is meant; None where none comes into question.
        sentence: the advice, with its numbers.
    """

    site: str
    standing: Standing
    mechanism: str | None
    sentence: str

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def advise(site: str, length: int, candidates: Sequence[Candidate], most: float) -> Advice:
    """Weighs the candidates at one site.

    Args:
        site: its name.
        length: its number of keys.
        candidates: what was tried.
        most: error of the model's output that is allowed.

    >>> linear = Candidate("linear", None, 0.2, 0.01, 0.4, 900, 4096)
    >>> advise("0", 64, [linear], 0.02).sentence
    'keep softmax: at 64 tokens linear is slower (0.4 times as fast); it pays from about 900 on; \
predicted error here 1 %'
    >>> advise("0", 2048, [Candidate("linear", None, 0.2, 0.01, 3.1, 900, 4096)], 0.02).sentence
    'replace by linear: predicted error 1 %, 3.1 times as fast at 2,048 tokens'
    """
    possible = [c for c in candidates if c.reason is None]
    if not possible:
        why = candidates[0].reason if candidates else "no mechanism was tried"
        return Advice(site, "not possible", None, f"keep softmax: {why}")
    known = sorted((c for c in possible if c.error is not None), key=_error)
    if not known:
        best = min(possible, key=lambda c: c.local if c.local is not None else float("inf"))
        return Advice(
            site, "not predicted", best.mechanism, "keep softmax: the error of a swap could not be predicted"
        )
    near = [c for c in known if _error(c) <= most]
    if not near:
        best = known[0]
        return Advice(
            site,
            "too far off",
            best.mechanism,
            f"keep softmax: the least predicted error is {percent(best.error)} ({best.mechanism}), above "
            f"{percent(most)}{_slower(best, length)}",
        )
    fast = [c for c in near if c.speed is not None and c.speed > 1]
    if fast:
        best = fast[0]
        return Advice(
            site,
            "replace",
            best.mechanism,
            f"replace by {best.mechanism}: predicted error {percent(best.error)}, {times(best.speed)} at {length:,} "
            "tokens",
        )
    # The one that pays soonest, if it is not the best.
    best = min(near, key=lambda c: (c.pays_from is None, c.pays_from or 0, -(c.speed or 0.0)))
    if best.timed_to is None:
        words = f"keep softmax: {best.mechanism} was not timed"
    elif best.pays_from is None:
        words = (
            f"keep softmax: at {length:,} tokens {best.mechanism} is slower{_ratio(best)}, and up to "
            f"{best.timed_to:,}"
        )
    else:
        words = (
            f"keep softmax: at {length:,} tokens {best.mechanism} is slower{_ratio(best)}; it pays from about "
            f"{rounded(best.pays_from):,} on"
        )
    return Advice(site, "too short", best.mechanism, f"{words}; predicted error here {percent(best.error)}")


def ranked(advice: Sequence[Advice], candidates: Sequence[Sequence[Candidate]]) -> list[int]:
    """Positions of the sites, those that are best replaced first."""

    def key(position: int) -> tuple[int, float, int]:
        made = advice[position]
        meant = next((c for c in candidates[position] if c.mechanism == made.mechanism), None)
        error = float("inf") if meant is None or meant.error is None else meant.error
        return _ORDER.index(made.standing), error, position

    return sorted(range(len(advice)), key=key)


def percent(share: float | None) -> str:
    """A share with two significant digits.

    >>> percent(0.0234), percent(1.5), percent(2e-7), percent(None)
    ('2.3 %', '150 %', '2e-05 %', '–')
    """
    if share is None:
        return "–"
    value = 100 * share
    return f"{value:.0f} %" if value >= 10 else f"{value:.2g} %"


def times(speed: float | None) -> str:
    """``2.3 times as fast``; with two digits.

    >>> times(2.345), times(0.041), times(130.0)
    ('2.3 times as fast', '0.041 times as fast', '130 times as fast')
    """
    if speed is None:
        return "–"
    return f"{speed:.0f} times as fast" if speed >= 10 else f"{speed:.2g} times as fast"


def _ratio(candidate: Candidate) -> str:
    return "" if candidate.speed is None else f" ({times(candidate.speed)})"


def _slower(candidate: Candidate, length: int) -> str:
    if candidate.speed is None or candidate.speed > 1:
        return ""
    return f"; at {length:,} tokens it is slower, too"


def _error(candidate: Candidate) -> float:
    return float("inf") if candidate.error is None else candidate.error
