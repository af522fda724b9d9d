"""One rule for every experiment: what may be said of a printed figure after so many repetitions.

Intervals are of 95 per cent, by Student's t: they grow as repetitions get fewer. Where they cannot tell, neither do we.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from layerlab.lab.statistics import single_run_interval

Verdict = Literal["holds", "refuted", "measured"]

FEWEST = 5
"""Repetitions below which nothing is said of a single run: three that happen to lie close together would refute
anything, two that do not would pass anything. With five, sd is off by a factor of at most 2.9 in 19 of 20 cases."""


@dataclass(frozen=True)
class Judgement:
    """A verdict, and why there is none where it is "measured"."""

    verdict: Verdict
    why: str = ""

    @property
    def told(self) -> str:
        """What to set behind the measured figure."""
        return f"; {self.why}" if self.why else ""


def of_single_run(pairs: Sequence[tuple[float, Sequence[float]]]) -> Judgement:
    """Does a printed run look like one of ours? "holds" where each of its figures lies where 95 % of our runs would.

    Args:
        pairs: each printed figure with ours, one a seed.

    >>> of_single_run([(1.0, [0.8, 0.9, 1.0, 1.1, 1.2])]).verdict
    'holds'
    >>> of_single_run([(1.0, [1.049, 1.051, 1.054])])
    Judgement(verdict='measured', why='too few seeds to tell (3, at least 5 needed)')
    """
    seeds = min(len(values) for _, values in pairs)
    if seeds < FEWEST:
        return Judgement("measured", f"too few seeds to tell ({seeds}, at least {FEWEST} needed)")
    spans = [(said, single_run_interval(values)) for said, values in pairs]
    return Judgement("holds" if all(low <= said <= high for said, (low, high) in spans) else "refuted")


def of_interval(low: float | None, high: float | None, bound: float = 0.0) -> Judgement:
    """Does an interval lie above ``bound`` ("holds") or below it ("refuted")? None or NaN: there is no interval.

    >>> of_interval(0.1, 0.3).verdict, of_interval(-0.1, 0.3).why, of_interval(None, None).why
    ('holds', 'the interval leaves it open', 'one seed tells no interval')
    """
    if low is None or high is None or not low <= high:
        return Judgement("measured", "one seed tells no interval")
    if low <= bound <= high:
        return Judgement("measured", "the interval leaves it open")
    return Judgement("holds" if low > bound else "refuted")
