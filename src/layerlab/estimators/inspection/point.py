"""Every contender at one choice of the parameters: variance, bias, signal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from layerlab.errors import UserError
from layerlab.estimators.bias import BiasTest, bias_test
from layerlab.estimators.calls import Calls, Table
from layerlab.estimators.curves import signal_to_noise
from layerlab.estimators.enumeration import Moments, Progress
from layerlab.estimators.estimation import with_options
from layerlab.estimators.families import Family
from layerlab.estimators.inspection.contenders import Contender, Refused
from layerlab.estimators.recommend import Candidate, ratio
from layerlab.estimators.score import Constant, LeaveOneOut
from layerlab.estimators.space import Space
from layerlab.estimators.trials import Callee, Trials, run
from layerlab.estimators.variance import (
    Exact,
    antithetic,
    best_baseline,
    leave_one_out,
    with_baseline,
    with_mean_of_half,
)
from layerlab.lab import statistics

# Repetitions that only look values up are cheap: as many more, as long as they are not more numbers than this.
_CHEAPER, _CHEAP_NUMBERS = 5, 3 * 10**7

# Numbers that may be held at once: 128 MB of scores, 512 MB of estimates.
_SCORES, _ESTIMATES = 1 << 24, 1 << 26

# Numbers that all repetitions of an estimate may have in their scores: some seconds.
_PATIENCE, _LEAST_REPETITIONS = 1 << 29, 20

# A bias of this share of the gradient is rounding.
_ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class Reference:
    """What is known of f and of the gradient under one distribution.

    Attributes:
        mean: E f.
        variance: Var f.
        best: the best constant baseline b*.
        gradient: of E f.
        error: standard error of the gradient; None when exact.
        moments: exact ones; None when measured.
    """

    mean: float
    variance: float
    best: float
    gradient: Tensor
    error: Tensor | None
    moments: Moments | None

    @property
    def length(self) -> float:
        """Length of the gradient; of a measured one without what noise adds on average."""
        squared = self.gradient.square().sum()
        if self.error is not None:
            squared = squared - self.error.square().sum()
        return math.sqrt(max(0.0, float(squared)))


@dataclass(frozen=True, eq=False)
class Row:
    """A contender at one choice of the parameters.

    Attributes:
        contender: who.
        how: "exact", "closed form" or "measured".
        variance: trace over the coordinates that it estimates.
        low: lower end of the interval; the variance itself when not measured.
        high: upper end.
        ratio: to the variance of plain REINFORCE over the same coordinates, with its interval.
        squares: of `Trials`; None when not measured.
        bias: exact length of the bias; None when unknown.
        test: of bias.
        everywhere: it estimates all coordinates.
        signal: length of the gradient over the coordinates that it estimates.
    """

    contender: Contender
    how: str
    variance: float
    low: float
    high: float
    ratio: tuple[float, float, float]
    squares: Tensor | None
    bias: float | None
    test: BiasTest
    everywhere: bool
    signal: float

    @property
    def signal_to_noise(self) -> float:
        """``|gradient| / sqrt(variance)``."""
        return signal_to_noise(self.signal, self.variance)

    @property
    def usable(self) -> bool:
        """It can be run without knowing what only an inspection knows."""
        return self.contender.limit is None and self.everywhere

    @property
    def caught(self) -> bool:
        """It should be unbiased, and is not on this f: its derivative does not tell how f jumps."""
        estimator = self.contender.estimator
        return estimator.differentiable and not estimator.biased and not self.test.passed

    def candidate(self) -> Candidate:
        """For `layerlab.estimators.recommend.recommend`."""
        biased = self.contender.estimator.biased or self.caught
        bias = self.bias if self.bias is not None else self.test.norm if biased else 0.0
        return Candidate(
            self.contender.name,
            self.variance,
            self.low,
            self.high,
            squares=self.squares,
            bias=math.nan if self.contender.scaled else bias,
            biased=biased,
            usable=self.usable,
        )


@dataclass(frozen=True, eq=False)
class Point:
    """All contenders at one choice of the parameters."""

    parameters: Tensor
    reference: Reference
    rows: tuple[Row, ...]
    refused: tuple[Refused, ...]


@dataclass(frozen=True)
class Effort:
    """How much is spent on what has to be measured.

    Attributes:
        samples: evaluations an estimate.
        repetitions: of each estimate.
        seed: of all draws.
    """

    samples: int
    repetitions: int
    seed: int


def check_size(space: Space, samples: int) -> None:
    """Refuse what would not fit into memory.

    Raises:
        UserError: there are too many parameters, or evaluations, to measure anything.
    """
    size = math.prod(space.shape)
    if size * samples > _SCORES:
        raise UserError(
            f"{space.describe()} at {samples:,} evaluations an estimate are too much to measure variances: expected "
            f"parameters times evaluations of at most {_SCORES:,}, got {size * samples:,}; look at a smaller problem"
        )


def look(
    space: Space,
    parameters: Tensor,
    contenders: Sequence[Contender],
    f: Calls | Table,
    slopes: Exact | None,
    effort: Effort,
    progress: Progress | None = None,
) -> Point:
    """Look at every contender.

    Args:
        space: what f takes.
        parameters: of the distribution.
        contenders: "reinforce" among them.
        f: a table where every outcome is known; else f itself.
        slopes: of straight-through, where it is known exactly.
        effort: see there.
        progress: told as repetitions are made.

    Raises:
        UserError: f fails.
    """
    family = space.family(parameters)
    reference = _exact(space, parameters, f) if isinstance(f, Table) else _measured(family, f, effort)
    ready = [_with_limit(contender, reference) for contender in contenders]
    exact, closed = _formulas(space, f, reference, ready, slopes, effort.samples)
    trials, refused = _trials(ready, f, family, effort, progress)
    plain = _plain(ready, trials)
    rows = []
    for contender in ready:
        if contender.name not in trials:
            continue
        known = exact.get(contender.name)
        how = "measured" if known is None else "closed form" if contender.name in closed else "exact"
        rows.append(
            _row(contender, trials[contender.name], known, how, plain, exact.get("reinforce"), reference)
        )
    return Point(parameters, reference, tuple(rows), tuple(refused))


def _exact(space: Space, parameters: Tensor, table: Table) -> Reference:
    moments = Moments.of(space, table.held, parameters)
    return Reference(
        moments.mean, moments.variance, best_baseline(moments), moments.gradient(), None, moments
    )


def _measured(family: Family, calls: Calls, effort: Effort) -> Reference:
    """From one large batch of its own."""
    count = min(effort.samples * effort.repetitions, _SCORES // family.parameters.numel())
    generator = torch.Generator().manual_seed(effort.seed + 1)
    x = family.sample(count, generator)
    values = calls.values(x)
    terms = LeaveOneOut().from_samples(family, x, values)
    lengths = family.score(x).double().square().flatten(1).sum(-1)
    mean = float(values.mean())
    best = mean + float(((values - mean) * lengths).sum() / lengths.sum())
    return Reference(
        mean, float(values.var()), best, terms.gradient.double(), terms.standard_error().double(), None
    )


def _with_limit(contender: Contender, reference: Reference) -> Contender:
    if contender.limit is None:
        return contender
    baseline = reference.mean if contender.limit == "mean" else reference.best
    known = with_options(contender.estimator, baseline=baseline)
    return Contender(contender.name, contender.title, known, contender.limit)


def _formulas(
    space: Space,
    f: Calls | Table,
    reference: Reference,
    contenders: Sequence[Contender],
    slopes: Exact | None,
    samples: int,
) -> tuple[dict[str, Exact], set[str]]:
    """Exact means and variances by contender, and who of them has a closed form."""
    moments = reference.moments
    if moments is None or not isinstance(f, Table):
        return {}, set()
    found = {
        "reinforce": with_baseline(moments, 0.0, samples),
        "mean, known": with_baseline(moments, reference.mean, samples),
        "optimal, known": with_baseline(moments, reference.best, samples),
    }
    for contender in contenders:
        if contender.limit is None and isinstance(contender.estimator, Constant):
            found["constant"] = with_baseline(moments, float(contender.estimator.baseline), samples)
    if samples >= 2:
        found["mean"] = with_mean_of_half(moments, samples)
        found["leave-one-out"] = leave_one_out(moments, samples)
        if space.kind == "bits":
            found["arm"] = antithetic(f.held, moments, samples, "arm")
            found["disarm"] = antithetic(f.held, moments, samples, "disarm")
    if slopes is not None:
        found["straight-through"] = Exact(slopes.mean, slopes.variance / samples)
    # One bit: the enumeration of two outcomes is the closed form.
    closed = set(found) - {"straight-through"} if space == Space("bits", 1, 2) else set()
    return found, closed


def _trials(
    contenders: Sequence[Contender],
    f: Calls | Table,
    family: Family,
    effort: Effort,
    progress: Progress | None,
) -> tuple[dict[str, Trials], list[Refused]]:
    """Repetitions of everybody; an estimator that calls f where it cannot be called is refused."""
    size = family.parameters.numel()
    most = _ESTIMATES // size
    patient = max(_LEAST_REPETITIONS, _PATIENCE // (effort.samples * size))
    asked = min(effort.repetitions, most, patient)
    cheap = asked
    if isinstance(f, Table):
        cheap = max(asked, min(_CHEAPER * asked, _CHEAP_NUMBERS // (effort.samples * size), most))
    by_value = [contender for contender in contenders if not contender.estimator.differentiable]
    by_slope = [contender for contender in contenders if contender.estimator.differentiable]
    share = len(by_value) / max(1, len(contenders))
    found = _run(by_value, f, family, effort, cheap, span(progress, 0.0, share))
    refused: list[Refused] = []
    for number, contender in enumerate(by_slope):
        start = share + (1 - share) * number / len(by_slope)
        part = span(progress, start, start + (1 - share) / len(by_slope))
        try:
            found |= _run([contender], f, family, effort, asked, part)
        except UserError as error:
            refused.append(Refused(contender.name, contender.title, str(error)))
    return found, refused


def _run(
    contenders: Sequence[Contender],
    f: Callee,
    family: Family,
    effort: Effort,
    repetitions: int,
    progress: Progress | None,
) -> dict[str, Trials]:
    estimators = [contender.estimator for contender in contenders]
    trials = run(estimators, f, family, effort.samples, repetitions, effort.seed, progress)
    return {contender.name: one for contender, one in zip(contenders, trials, strict=True)}


def span(progress: Progress | None, start: float, stop: float) -> Progress | None:
    """The progress of a part of the work, told as that of the whole."""
    if progress is None:
        return None
    return lambda share, words: progress(start + (stop - start) * share, words)


def _plain(contenders: Sequence[Contender], trials: dict[str, Trials]) -> Trials:
    return trials[next(contender.name for contender in contenders if contender.name == "reinforce")]


def _row(
    contender: Contender,
    trials: Trials,
    known: Exact | None,
    how: str,
    plain: Trials,
    plain_exact: Exact | None,
    reference: Reference,
) -> Row:
    covered = trials.covered
    held = torch.where(covered, reference.gradient, torch.zeros_like(reference.gradient))
    test = bias_test(trials.estimates, held, reference.error)
    length = float(held.norm())
    if reference.error is not None:
        length = math.sqrt(max(0.0, length**2 - float(reference.error[covered].square().sum())))
    bias: float | None = None
    if known is not None and plain_exact is not None:
        quotient = ratio(known.trace, plain_exact.trace)
        figures = (known.trace, known.trace, known.trace)
        quotients = (quotient, quotient, quotient)
        off = float((known.mean - held).norm()) if contender.estimator.biased else 0.0
        bias = off if off > _ROUNDING * float(known.mean.norm() + held.norm()) else 0.0
    else:
        figures = (trials.variance.mean, max(0.0, trials.variance.low), trials.variance.high)
        quotients = _quotient(trials, plain, plain_exact)
    return Row(
        contender,
        how,
        *figures,
        ratio=quotients,
        squares=trials.squares if known is None else None,
        bias=bias,
        test=test,
        everywhere=bool(covered.all()),
        signal=length,
    )


def _quotient(trials: Trials, plain: Trials, plain_exact: Exact | None) -> tuple[float, float, float]:
    """Ratio of variances with its interval, by the delta method; repetitions on the same samples are paired."""
    own = trials.squares
    if plain_exact is not None:
        below = float(plain_exact.variance[trials.covered].sum())
        found = trials.variance
        return ratio(found.mean, below), ratio(max(0.0, found.low), below), ratio(found.high, below)
    other = plain.squares_over(trials.covered)
    count = min(len(own), len(other))
    own, other = own[:count], other[:count]
    below = float(other.mean())
    if below == 0:
        quotient = ratio(float(own.mean()), below)
        return quotient, quotient, quotient
    middle = float(own.mean()) / below
    apart = statistics.estimate(((own - middle * other) / below).tolist())
    return middle, max(0.0, middle + apart.low), middle + apart.high
