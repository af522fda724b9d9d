"""Which estimators are looked at on a function, and why others are not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal

from layerlab.errors import UserError
from layerlab.estimators.estimation import ESTIMATORS, with_options
from layerlab.estimators.estimator import Estimator
from layerlab.estimators.families import Family

Limit = Literal["mean", "optimal"]

# Options that make an estimator another one, worth a row of its own.
_VARIATIONS = {"normalise": "normalised", "ranks": "ranks"}


@dataclass(frozen=True)
class Contender:
    """A row of the table.

    Attributes:
        name: of the estimator, with what makes it another one: "leave-one-out, normalised".
        title: how it is called.
        estimator: what is run; of a limit, `Constant` with the baseline to come.
        limit: a baseline that is known here and nowhere else: what estimating it well tends to.
        scaled: its length is not that of the gradient, so that its error is not comparable.
    """

    name: str
    title: str
    estimator: Estimator
    limit: Limit | None = None
    scaled: bool = False


@dataclass(frozen=True)
class Refused:
    """An estimator that does not apply."""

    name: str
    title: str
    why: str


def contenders(
    family: Family, samples: int, wanted: Sequence[str], baseline: float | None, no_slopes: str
) -> tuple[list[Contender], list[Refused]]:
    """What to look at.

    Args:
        family: the distribution.
        samples: evaluations an estimate.
        wanted: names in `ESTIMATORS`; all if there are none. "reinforce" is always there, to compare with.
        baseline: of "constant".
        no_slopes: why f has no derivative; empty where it has one.

    Raises:
        UserError: an unknown name, or none of those that are wanted applies.
    """
    for name in wanted:
        with_options(name)
    chosen = [name for name in ESTIMATORS if not wanted or name in wanted or name == "reinforce"]
    taken: list[Contender] = []
    refused: list[Refused] = []
    for name in chosen:
        estimator = ESTIMATORS[name]
        if name == "constant" and baseline is not None:
            estimator = with_options(estimator, baseline=baseline)
        why = _refusal(estimator, family, samples, no_slopes)
        if why:
            refused.append(Refused(name, estimator.title, why))
            continue
        taken.append(Contender(name, estimator.title, estimator))
        if name == "mean":
            taken.append(_known("mean", "mean baseline, E f known"))
        if name == "optimal":
            taken.append(_known("optimal", "optimal baseline, b* known"))
        for option, word in _VARIATIONS.items():
            if option in {field.name for field in fields(estimator)}:
                other = with_options(estimator, **{option: True})
                taken.append(Contender(f"{name}, {word}", f"{estimator.title}, {word}", other, scaled=True))
    why_not = {one.name: one.why for one in refused}
    if wanted and all(name in why_not for name in wanted):
        reasons = "; ".join(f"{name}: {why_not[name]}" for name in dict.fromkeys(wanted))
        raise UserError(f"none of the estimators that were asked for can be looked at; {reasons}")
    if not any(contender.name == "reinforce" for contender in taken):
        raise UserError(f"expected at least 1 evaluation an estimate, got {samples}")
    return taken, refused


def _known(limit: Limit, title: str) -> Contender:
    return Contender(f"{limit}, known", title, ESTIMATORS["constant"], limit=limit)


def _refusal(estimator: Estimator, family: Family, samples: int, no_slopes: str) -> str:
    if reason := estimator.refusal(family):
        return f"it {reason.removeprefix(f'{estimator.name} ')}"
    if estimator.differentiable and no_slopes:
        return f"it needs the derivative of f, but {no_slopes}"
    for option in estimator.needs:
        if getattr(estimator, option) is None:
            given = "give one with --baseline" if estimator.name == "constant" else "only in Python"
            return f"it needs a {option}: {given}"
    if samples < estimator.least_samples:
        return f"it needs at least {estimator.least_samples} evaluations an estimate"
    return ""
