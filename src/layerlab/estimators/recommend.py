"""Which estimator to take: the rule, and its reason in one sentence.

Among unbiased estimators, at equal evaluations of f, the one of least variance; of those within 1 % of it, or within
the noise of the measurement, the simplest. An exact variance counts as it is, a measured one by the upper end of its
interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from layerlab.errors import UserError
from layerlab.lab.statistics import paired_difference

SIMPLICITY = (
    "reinforce",
    "constant",
    "leave-one-out",
    "mean",
    "optimal",
    "input",
    "antithetic",
    "disarm",
    "arm",
    "evolution",
    "pathwise",
    "rebar",
    "relax",
)
"""Estimators from the simplest on; others come after these."""

_MARGIN = 0.01


@dataclass(frozen=True, eq=False)
class Candidate:
    """An estimator with its variance on one function, at a number of evaluations that all candidates share.

    Attributes:
        name: of the estimator.
        variance: trace of its covariance: exact, or measured.
        low: lower end of the interval; the variance itself when exact.
        high: upper end.
        squares: ``(R,)`` squared distances of measured estimates from their mean, of which the variance is the mean;
            None when exact.
        bias: length of its bias; 0 for an unbiased one.
        biased: whether it is labelled as biased.
        usable: it can be run as it is; a baseline that nobody knows beforehand cannot.
    """

    name: str
    variance: float
    low: float
    high: float
    squares: Tensor | None = None
    bias: float = 0.0
    biased: bool = False
    usable: bool = True

    @property
    def error(self) -> float:
        """Mean squared error: variance and squared bias."""
        return self.variance + self.bias**2


@dataclass(frozen=True)
class Recommendation:
    """What to take.

    Attributes:
        name: of the estimator.
        reason: one sentence.
        remarks: what else is worth knowing, a sentence each.
    """

    name: str
    reason: str
    remarks: tuple[str, ...]


def recommend(candidates: Sequence[Candidate], samples: int) -> Recommendation:
    """The estimator to take, by the rule of this module.

    Args:
        candidates: estimators that apply, with "reinforce" among them.
        samples: evaluations an estimate, at which they are compared.

    Raises:
        UserError: "reinforce" is not among them.

    >>> plain, other = Candidate("reinforce", 4.0, 4.0, 4.0), Candidate("leave-one-out", 1.0, 1.0, 1.0)
    >>> recommend([plain, other], 64).reason
    'it has the least variance of all unbiased estimators at 64 evaluations: 0.25 times that of reinforce'
    """
    named = {candidate.name: candidate for candidate in candidates}
    if "reinforce" not in named:
        raise UserError("expected plain reinforce among the estimators to compare; add it with --estimators")
    plain = named["reinforce"]
    unbiased = [c for c in candidates if c.usable and not c.biased]
    best = min(unbiased, key=lambda c: (c.high, _rank(c)))
    tied = [c for c in unbiased if c is not best and _tie(c, best)]
    chosen = min([best, *tied], key=_rank)
    return Recommendation(
        chosen.name,
        _reason(chosen, best, plain, len(unbiased), samples),
        tuple(_remarks(named, chosen)),
    )


def times(value: float) -> str:
    """A ratio to read.

    >>> times(0.25), times(0.0), times(math.inf), times(1234.5)
    ('0.25 times', '0 times', 'infinitely many times', '1,230 times')
    """
    if math.isinf(value):
        return "infinitely many times"
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f} times" if rounded >= 1000 else f"{rounded:g} times"


def ratio(value: float, to: float) -> float:
    """``value / to``; 1 for nothing to nothing, infinite for something to nothing."""
    if to == 0:
        return 1.0 if value == 0 else math.inf
    return value / to


def _rank(candidate: Candidate) -> int:
    return SIMPLICITY.index(candidate.name) if candidate.name in SIMPLICITY else len(SIMPLICITY)


def _tie(one: Candidate, best: Candidate) -> bool:
    """Whether ``one`` is as good as the best as far as the figures tell."""
    if one.squares is not None and best.squares is not None and len(one.squares) == len(best.squares):
        # What both share (the same samples) cancels in the differences.
        apart = paired_difference(one.squares.tolist(), best.squares.tolist())
        return apart.low <= _MARGIN * best.variance
    return one.low <= best.high * (1 + _MARGIN)


def _reason(chosen: Candidate, best: Candidate, plain: Candidate, unbiased: int, samples: int) -> str:
    at = f"at {samples:,} evaluation{'' if samples == 1 else 's'}"
    against = "" if chosen is plain else f"{times(ratio(chosen.variance, plain.variance))} that of reinforce"
    if plain.high == 0:
        return f"no estimate has any variance {at}, and it is the simplest"
    if unbiased == 1:
        return "it is the only unbiased estimator that was looked at"
    if chosen.high == 0:
        return f"it has no variance at all {at}"
    if chosen is best:
        return f"it has the least variance of all unbiased estimators {at}: {against or 'no other has less'}"
    close = abs(ratio(chosen.variance, best.variance) - 1) <= _MARGIN
    words = f"the same as {best.name}, to 1 %" if close else f"not told from {best.name} by the noise"
    return f"it is the simplest of those with the least variance {at}: {words}{against and f', {against}'}"


def _remarks(named: dict[str, Candidate], chosen: Candidate) -> list[str]:
    found = []
    plain, mean = named["reinforce"], named.get("mean, known", named.get("mean"))
    if mean is not None and mean.low > plain.high * (1 + 1e-9):
        known = ", even when it is known" if mean.name == "mean, known" else ""
        found.append(
            f"the mean of f as a baseline is worse than none here{known}: "
            f"{times(ratio(mean.variance, plain.variance))} the variance of reinforce"
        )
    rivals = [c for c in named.values() if c.biased and math.isfinite(c.bias) and c.error < chosen.low]
    if rivals:
        rival = min(rivals, key=lambda c: c.error)
        error = f"{times(ratio(rival.error, chosen.variance))} that of {chosen.name}"
        if rival.bias == 0:
            found.append(
                f"{rival.name} is biased in general, but not on this function: its variance is {error}"
            )
        else:
            found.append(
                f"{rival.name} is biased, and yet its mean squared error is lower: {error}; the bias stays, however "
                "many samples are averaged"
            )
    return found
