"""What was measured, and the one rule by which a verdict follows from it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from layerlab.claims.slack import DefectiveClaimError, Slack, exact

Relation: TypeAlias = Literal["<=", ">=", "=="]
Verdict: TypeAlias = Literal["holds", "violated", "hypotheses unmet"]


@dataclass(frozen=True)
class Measurement:
    """What a measuring function returns: the numbers. It has no say in the verdict.

    Args:
        measured: the measured value; NaN is allowed and never holds.
        bound: what theory says, finite.
        slack: see `Slack`, `rounding`, `confidence`, `exact`.
        unmet: the hypothesis that the subject does not satisfy; use `Measurement.unmet_because`.
    """

    measured: float
    bound: float
    slack: Slack
    unmet: str | None = None

    def __post_init__(self) -> None:
        # Zero-dimensional tensors and arrays are welcome; nothing of them is kept.
        object.__setattr__(self, "measured", float(self.measured))
        object.__setattr__(self, "bound", float(self.bound))
        if self.unmet is None and not math.isfinite(self.bound):
            raise DefectiveClaimError(f"a bound is finite, got {self.bound}")
        if self.unmet is not None and not self.unmet.strip():
            raise DefectiveClaimError("an unmet hypothesis is named")

    @classmethod
    def unmet_because(cls, hypothesis: str) -> Measurement:
        """The subject does not satisfy a hypothesis, so nothing was measured.

        >>> Measurement.unmet_because("the graph is directed").unmet
        'the graph is directed'
        """
        return cls(math.nan, math.nan, exact("nothing was measured"), hypothesis)


@dataclass(frozen=True)
class Outcome:
    """A measurement beside its bound, and the verdict that follows from it.

    The verdict and the tightness are properties: they cannot be handed in.

    Args:
        relation: "<=", ">=" or "==": measured against bound.
        measurement: the numbers.
        seed: the seed of the check, with which the same numbers come again.

    Raises:
        DefectiveClaimError: the slack is so wide that the check could not fail: it lets 0 pass where the
            bound itself does not, or it is not smaller than the numbers compared.

    >>> from layerlab.claims.slack import rounding
    >>> Outcome("<=", Measurement(1.5, 2.0, rounding("float64", 10, 2.0)), seed=0).verdict
    'holds'
    """

    relation: Relation
    measurement: Measurement
    seed: int

    def __post_init__(self) -> None:
        bound, slack = self.measurement.bound, self.measurement.slack
        if self.measurement.unmet is not None or slack.value == 0:
            return
        if not _compare(0.0, self.relation, bound, 0.0):
            if _compare(0.0, self.relation, bound, slack.value):
                raise DefectiveClaimError(
                    f"slack {slack.value:.3g} lets 0 pass for a bound of {bound:.3g} ({slack.reason})"
                )
            return
        yardstick = max(abs(bound), slack.scale or 0.0)
        if slack.value >= yardstick:
            raise DefectiveClaimError(
                f"slack {slack.value:.3g} is not below the numbers compared, {yardstick:.3g} "
                f"({slack.reason}); where the bound is 0, say their size as the slack's scale"
            )

    @property
    def measured(self) -> float:
        """The measured value."""
        return self.measurement.measured

    @property
    def bound(self) -> float:
        """What theory says."""
        return self.measurement.bound

    @property
    def slack(self) -> float:
        """How far the measured value may lie beyond the bound."""
        return self.measurement.slack.value

    @property
    def slack_reason(self) -> str:
        """Where the slack comes from."""
        return self.measurement.slack.reason

    @property
    def unmet(self) -> str | None:
        """The hypothesis that is not satisfied, if there is one."""
        return self.measurement.unmet

    @property
    def verdict(self) -> Verdict:
        """The one rule: unmet hypotheses first; then only a finite value within bound and slack holds."""
        if self.unmet is not None:
            return "hypotheses unmet"
        if math.isfinite(self.measured) and _compare(self.measured, self.relation, self.bound, self.slack):
            return "holds"
        return "violated"

    @property
    def tightness(self) -> float | None:
        """measured / bound; None where that says nothing (bound 0, nothing measured)."""
        if self.unmet is not None or self.bound == 0 or not math.isfinite(self.measured):
            return None
        return self.measured / self.bound

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings, for a record or for JSON; numbers that are not there are None."""
        finite = math.isfinite(self.measured)
        return {
            "measured": self.measured if finite else None,
            "bound": self.bound if math.isfinite(self.bound) else None,
            "slack": self.slack,
            "slack_reason": self.slack_reason,
            "tightness": self.tightness,
            "seed": self.seed,
            "verdict": self.verdict,
            "unmet": self.unmet,
            "note": None if finite or self.unmet is not None else f"measured is {self.measured}",
        }


def _compare(measured: float, relation: Relation, bound: float, slack: float) -> bool:
    if relation == "<=":
        return measured <= bound + slack
    if relation == ">=":
        return measured >= bound - slack
    return abs(measured - bound) <= slack
