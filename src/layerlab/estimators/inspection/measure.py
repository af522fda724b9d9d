"""A user's function looked at: what `layerlab estimator inspect` prints."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from layerlab.errors import UserError
from layerlab.estimators.calls import Calls, Table
from layerlab.estimators.enumeration import MOST_OUTCOMES, Progress, joint, probabilities, tabulate
from layerlab.estimators.estimation import estimate
from layerlab.estimators.inspection.contenders import Contender, Refused, contenders
from layerlab.estimators.inspection.point import Effort, Row, check_size, look, span
from layerlab.estimators.inspection.probe import Probe, probe
from layerlab.estimators.inspection.summary import summary
from layerlab.estimators.inspection.sweep import sweep
from layerlab.estimators.space import Space
from layerlab.estimators.values import Function, differentiated
from layerlab.estimators.variance import Exact, SlopeMoments

_LONG = 30.0  # seconds, from which on a person is told beforehand


@dataclass(frozen=True)
class Settings:
    """What is asked of a function; every field is JSON.

    Attributes:
        samples: evaluations an estimate, at which variances are compared.
        repetitions: of every estimate where there is no formula.
        outcomes: as many are enumerated, at most.
        estimators: which; all that apply by default.
        baseline: of the estimator "constant".
        sampled: number of random parameters to look at, in the place of given ones.
        curve: whether the variance is followed against mu.
        seed: of all draws.
    """

    samples: int = 64
    repetitions: int = 400
    outcomes: int = MOST_OUTCOMES
    estimators: tuple[str, ...] = ()
    baseline: float | None = None
    sampled: int | None = None
    curve: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("samples", 1), ("repetitions", 8), ("outcomes", 0)):
            if getattr(self, name) < least:
                raise UserError(f"expected {name} of at least {least}, got {getattr(self, name)}; give more")
        if self.sampled is not None and self.sampled < 1:
            raise UserError(f"expected at least 1 choice of random parameters, got {self.sampled}")
        if self.outcomes > MOST_OUTCOMES:
            raise UserError(
                f"at most {MOST_OUTCOMES:,} outcomes are enumerated, got {self.outcomes:,}; ask for fewer"
            )
        if self.baseline is not None and not math.isfinite(self.baseline):
            raise UserError(f"expected a finite baseline, got {self.baseline}")


def inspect(
    f: Function,
    space: Space,
    parameters: Tensor,
    settings: Settings,
    progress: Progress | None = None,
    say: Any = None,
) -> dict[str, Any]:
    """Variance, bias and cost of every estimator on one function, and which to take.

    Args:
        f: takes ``(n, dims)`` samples, returns n numbers.
        space: what f takes.
        parameters: of the distribution, unless random ones are asked for.
        settings: what is asked.
        progress: told the share of the work and words.
        say: told, in a sentence, when it is going to take long.

    Returns:
        The record, ready for JSON.

    Raises:
        UserError: f fails, or what is asked does not fit the space.
    """
    started = time.perf_counter()
    check_size(space, settings.samples)
    generator = torch.Generator().manual_seed(settings.seed)
    points = [parameters] if settings.sampled is None else space.sampled(settings.sampled, generator)
    calls = Calls(f)
    seen = probe(calls, space.family(points[0]), generator)
    taken, refused = contenders(
        space.family(points[0]), settings.samples, settings.estimators, settings.baseline, seen.no_slopes
    )
    enumerable = space.outcomes is not None and space.outcomes <= settings.outcomes
    exact = enumerable and seen.tabulable
    work = _evaluations(space, settings, taken, len(points), exact)
    if say is not None and work * seen.seconds > _LONG:
        say(_warning(work, seen, exact))
    told = _parts(progress, 0.6 if exact and space.outcomes and space.outcomes > 4096 else 0.05)
    callee: Calls | Table = calls
    slopes: list[Exact | None] = [None] * len(points)
    if exact:
        values, slopes, why = _table(calls, space, points, taken, told[0])
        callee = Table(space, values, calls)
        if why:
            refused += [Refused(c.name, c.title, why) for c in taken if c.estimator.differentiable]
            taken = [c for c in taken if not c.estimator.differentiable]
    looked = []
    for position, (chosen, slope) in enumerate(zip(points, slopes, strict=True)):
        effort = Effort(settings.samples, settings.repetitions, settings.seed + 7919 * position)
        looked.append(
            look(space, chosen, taken, callee, slope, effort, _share(told[1], position, len(points)))
        )
    curves = None
    if settings.curve and space.kind == "bits":
        curves = sweep(space, callee, settings.samples, settings.repetitions, settings.seed, told[2])
    overheads = _overheads(looked[0].rows, space, points[0], settings.samples)
    return {
        "space": {
            "kind": space.kind,
            "option": space.option,
            "words": space.describe(),
            "outcomes": space.outcomes,
        },
        **summary(looked, refused, seen, settings.samples, overheads),
        "enumerable": enumerable,
        "enumerated": exact,
        "where": _where(space, parameters),
        "mu": _common_mu(space, parameters) if settings.sampled is None else None,
        "parameters": [space.to_json(point) for point in points] if space.size <= 64 else None,
        "sampled": settings.sampled,
        "samples": settings.samples,
        "repetitions": settings.repetitions,
        "seed": settings.seed,
        "curves": curves,
        "evaluations": calls.evaluations,
        "f_seconds": calls.seconds / calls.evaluations,
        "seconds": time.perf_counter() - started,
    }


def _common_mu(space: Space, parameters: Tensor) -> float | None:
    """The probability of a 1, where all bits have the same."""
    if space.kind != "bits" or not bool((parameters == parameters[0]).all()):
        return None
    return float(torch.sigmoid(parameters[0].double()))


def _where(space: Space, parameters: Tensor) -> str:
    """The parameters in words."""
    if (mu := _common_mu(space, parameters)) is not None:
        return f"each 1 with probability {mu:.4g}"
    if not bool(parameters.any()):
        return "all values equally likely" if space.kind == "categories" else "standard normal"
    return "parameters as given"


def _table(
    calls: Calls,
    space: Space,
    points: Sequence[Tensor],
    taken: Sequence[Contender],
    progress: Progress | None,
) -> tuple[Tensor, list[Exact | None], str]:
    """Values of all outcomes, straight-through at every point if it is looked at, and why there are no slopes."""
    none: list[Exact | None] = [None] * len(points)
    if not any(contender.name == "straight-through" for contender in taken):
        return tabulate(calls.values, space, progress), none, ""
    chances = [probabilities(space, point) for point in points]
    gathered = [(joint(chance), SlopeMoments(chance, space.shape)) for chance in chances]
    start = 0

    def evaluate(samples: Tensor) -> Tensor:
        nonlocal start
        values, slopes = differentiated(calls, samples)
        for weights, moments in gathered:
            moments.add(weights[start : start + len(samples)], slopes)
        start += len(samples)
        return values

    try:
        values = tabulate(evaluate, space, progress)
    except UserError as error:
        # f itself may be sound, and only its derivative not.
        return tabulate(calls.values, space, progress), none, str(error)
    return values, [moments.exact(1) for _, moments in gathered], ""


def _evaluations(
    space: Space, settings: Settings, taken: Sequence[Contender], points: int, exact: bool
) -> int:
    """About how often f is going to be called."""
    estimate_cost = settings.samples * settings.repetitions
    slopes = sum(contender.estimator.differentiable for contender in taken)
    if exact:
        return (space.outcomes or 0) + points * slopes * estimate_cost
    pairs = any(contender.estimator.cost == 2 for contender in taken)
    # Score estimators share their samples; the reference has its own.
    work = points * estimate_cost * (2 + pairs + slopes)
    return work + (estimate_cost * 3 if settings.curve and space.kind == "bits" else 0)


def _warning(work: int, seen: Probe, exact: bool) -> str:
    seconds = work * seen.seconds
    span = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
    mend = "--outcomes 0 measures instead" if exact else "--repetitions makes it less"
    return f"about {span}: {work:,} evaluations of f at {1e3 * seen.seconds:.3g} ms each ({mend})"


def _parts(
    progress: Progress | None, first: float
) -> tuple[Progress | None, Progress | None, Progress | None]:
    """Progress of the table, of the estimators, of the curve."""
    second = first + (1 - first) * 0.7
    return span(progress, 0.0, first), span(progress, first, second), span(progress, second, 1.0)


def _share(progress: Progress | None, position: int, count: int) -> Progress | None:
    return span(progress, position / count, (position + 1) / count)


def _overheads(rows: Sequence[Row], space: Space, parameters: Tensor, samples: int) -> dict[str, float]:
    """Seconds of an estimate beyond f, by contender, with a function that costs next to nothing."""
    found = {}
    for row in rows:
        generator = torch.Generator().manual_seed(0)
        times = [
            estimate(_cheap, space.family(parameters), samples, generator, row.contender.estimator)
            for _ in range(6)
        ]
        found[row.contender.name] = min(one.diagnostics.overhead_seconds for one in times)
    return found


def _cheap(samples: Tensor) -> Tensor:
    return samples.double().flatten(1).sum(-1)
