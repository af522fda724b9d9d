"""`optimise`: a function, a space and a budget in; the best sample out, with everything paid for on disk."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from layerlab.errors import UserError
from layerlab.estimators.estimation import ESTIMATORS
from layerlab.estimators.evaluation.log import EvaluationLog
from layerlab.estimators.evaluation.objective import Failures, Kind, Objective
from layerlab.estimators.evaluation.worker import Function
from layerlab.estimators.families import Family
from layerlab.estimators.optimise.ascent import Ascent
from layerlab.estimators.optimise.optimum import INTERRUPTED, Optimum, optimum_of
from layerlab.estimators.optimise.settings import AUTO, Settings
from layerlab.estimators.space import Space
from layerlab.lab.records import RunFolder, create_run, open_run

RUN_KIND = "estimator-optimisation"
LOG = "evaluations.jsonl"

_KINDS: dict[str, Kind] = {"bernoulli": "bits", "categorical": "categories", "gaussian": "gaussian"}


@dataclass(frozen=True)
class Evaluation:
    """How f is called; the course of an optimisation does not depend on it.

    Args:
        single: f takes one sample and returns one number.
        workers: processes that call f; 0 calls it here.
        timeout: seconds for one evaluation.
        failures: "stop", or "worst": what fails counts as the worst value so far.
    """

    single: bool = False
    workers: int = 0
    timeout: float | None = None
    failures: Failures = "stop"


def optimise(
    f: str | Function,
    space: Space | Family,
    *,
    evaluation: Evaluation | None = None,
    folder: str | Path | None = None,
    resume: bool = False,
    command: Sequence[str] = (),
    tell: Callable[[int, float], None] | None = None,
    **settings: Any,
) -> Optimum:
    """Look for the sample with the largest (or smallest) value of f, by stochastic gradient ascent on E[f(x)].

    The parameters of the distribution of x follow an estimated gradient of the expectation of f, or of a utility of
    f's ranks. With the default settings: the estimator of least variance on the first batch, rank utilities, the
    natural gradient, restarts around the best sample. No step needs a derivative of f.

    Args:
        f: ``FILE.py:FUNC``, or a function of ``(n, ...)`` samples that returns n finite numbers.
        space: what f takes; or a family whose parameters are the start.
        evaluation: how f is called.
        folder: where ``run.json`` and the log of every evaluation are written, as they are made.
        resume: go on with the run that is in the folder: its evaluations are taken from the log, and the course is, bit
            by bit, that of a run which was never stopped. A larger budget than before goes on from its end.
        command: the command line, for the record.
        tell: is called after each batch with the evaluations so far and the best value.
        **settings: see `Settings`: budget, maximise, estimator, natural, fitness, entropy, restarts, batch, rate, seed.

    Returns:
        The best sample and how it was found. Ctrl-C ends the run in the same way, with what was found until then.

    Raises:
        UserError: an evaluation fails (what was paid for is in the folder), the folder cannot be used, a setting is out
            of range, f is no function.

    >>> found = optimise(lambda x: x.sum(1), Space.parse(bits=20), budget=2000, seed=1)
    >>> found.value, found.deterministic
    (20.0, True)
    """
    first = space.family() if isinstance(space, Space) else space
    _check_family(first)
    first = first.replaced(first.parameters.double())
    asked = Settings(**settings)
    kept = evaluation or Evaluation()
    if folder is None and resume:
        raise UserError("expected the folder of a run to resume; give folder=")
    begun = time.perf_counter()
    with contextlib.ExitStack() as stack:
        log, run = None, None
        if folder is None:
            filled = asked.filled(first)
        else:
            filled, run = _folder(f, first, asked, kept, Path(folder), resume, command)
            log = stack.enter_context(EvaluationLog(Path(folder) / LOG, _header(f, first)))
        _check_estimator(filled, first)
        objective = stack.enter_context(
            Objective(
                f, _KINDS[first.kind], maximise=filled.maximise, budget=filled.budget, log=log, **asdict(kept)
            )
        )
        ascent = Ascent(objective, first, filled)
        with _told_where(folder, objective):
            try:
                ascent.run(tell)
            except KeyboardInterrupt:
                ascent.course.stopped = INTERRUPTED
        found = optimum_of(objective, ascent.family, filled, ascent.course, time.perf_counter() - begun)
        if found is None:
            raise KeyboardInterrupt
        if run is not None and not found.interrupted:
            run.finish(found.to_dict())
    return found


def _check_family(first: Family) -> None:
    if first.kind not in _KINDS or first.batch_shape:
        raise UserError(
            f"expected one Bernoulli, Categorical or Gaussian distribution, got {first.kind} parameters of shape "
            f"{tuple(first.parameters.shape)}"
        )


def _check_estimator(settings: Settings, first: Family) -> None:
    if settings.estimator == AUTO:
        return
    estimator = ESTIMATORS[settings.estimator]
    reason = estimator.refusal(first)
    if reason is None and estimator.differentiable:
        reason = f"{estimator.name} needs the derivative of f, and here f is a black box"
    if reason is None and estimator.needs:
        reason = (
            f"{estimator.name} needs the option {estimator.needs[0]}=..., which an optimisation does not have"
        )
    if reason is not None:
        raise UserError(f"{reason}; take leave-one-out, or auto")


def _folder(
    f: str | Function,
    first: Family,
    asked: Settings,
    evaluation: Evaluation,
    folder: Path,
    resume: bool,
    command: Sequence[str],
) -> tuple[Settings, RunFolder]:
    """The settings with what the run that is resumed had, and the folder of the run."""
    there = (folder / "run.json").exists()
    if there and not resume:
        raise UserError(
            "the folder holds an earlier run: --resume goes on with it, another --out begins a new one",
            file=folder,
        )
    if resume:
        before = open_run(folder, RUN_KIND).meta["config"]
        # What followed from the budget then must not follow from a larger one now.
        asked = replace(
            asked,
            batch=asked.batch if asked.batch is not None else before.get("batch"),
            rate=asked.rate if asked.rate is not None else before.get("rate"),
        )
    filled = asked.filled(first)
    config = {
        **asdict(filled),
        **_header(f, first),
        "failures": evaluation.failures,
        "single": evaluation.single,
    }
    # The budget may grow, and the file may be mended: the log looks at what that does to its values.
    del config["budget"], config["code"]
    return filled, create_run(folder, RUN_KIND, list(command), config)


def _header(f: str | Function, first: Family) -> dict[str, Any]:
    """What logged values depend on."""
    if not isinstance(f, str):
        return {
            "function": getattr(f, "__qualname__", type(f).__name__),
            "space": _space(first),
            "code": None,
        }
    where, _, name = f.rpartition(":")
    code = None
    if where.endswith(".py") and Path(where).is_file():
        code = hashlib.sha256(Path(where).read_bytes()).hexdigest()
    return {"function": f"{Path(where).name}:{name}", "space": _space(first), "code": code}


def _space(first: Family) -> str:
    return f"{_KINDS[first.kind]} {'x'.join(map(str, first.parameters.shape))}"


@contextlib.contextmanager
def _told_where(folder: str | Path | None, objective: Objective) -> Iterator[None]:
    """An error says what of the run is kept."""
    try:
        yield
    except UserError as error:
        if folder is None or not objective.evaluations:
            raise
        raise UserError(
            f"{error}; {objective.evaluations} evaluations are kept in {folder}: --resume goes on from there"
        ) from error
