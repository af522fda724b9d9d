"""``layerlab estimator optimise``: the best sample of a function of yours, with everything paid for on disk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from layerlab.cli import estimator_options as options
from layerlab.cli.options import AsJson, Report
from layerlab.cli.run_folder import slug, typed

if TYPE_CHECKING:
    from layerlab.estimators.optimise.optimum import Optimum

EPILOG = (
    "Example: layerlab estimator optimise examples/parity.py:f --bits 12 --budget 20000\n\n"
    "Slow functions: layerlab estimator optimise train.py:score --categories 6x5 --single --budget 300 --workers 4"
    " --timeout 600 --failures worst"
)


def optimise(
    subject: options.Subject,
    bits: options.Bits = None,
    categories: options.Categories = None,
    gaussian: options.Gaussian = None,
    single: options.Single = False,
    budget: Annotated[int, typer.Option(help="Evaluations of the function that may be paid for.")] = 10_000,
    minimise: Annotated[bool, typer.Option("--minimise", help="Look for the smallest value.")] = False,
    workers: options.Workers = 0,
    timeout: options.Timeout = None,
    failures: Annotated[
        Literal["stop", "worst"],
        typer.Option(help="What raises, hangs or returns NaN ends the run, or counts as the worst value."),
    ] = "stop",
    estimator: Annotated[
        str, typer.Option(help="Of the gradient; auto: of least variance on the first batch.")
    ] = "auto",
    natural: Annotated[
        bool,
        typer.Option("--natural/--plain", help="Follow the natural gradient, or the plain one with Adam."),
    ] = True,
    fitness: Annotated[
        Literal["rank", "value"],
        typer.Option(
            help="Climb the expected utility of ranks (biased, robust), or of the values (unbiased)."
        ),
    ] = "rank",
    entropy: Annotated[float, typer.Option(help="Weight of the distribution's entropy.")] = 0.0,
    restarts: Annotated[
        bool, typer.Option("--restarts/--no-restarts", help="Begin anew where an ascent has ended.")
    ] = True,
    batch: Annotated[
        int | None, typer.Option(help="Evaluations a step. Default: by dimension and budget.")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(help="Learning rate. Default: by dimension and batch.")
    ] = None,
    probability: options.Probability = None,
    parameters: options.Parameters = None,
    seed: options.Seed = 0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in the folder; a larger budget extends it.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Run folder. Default: runs/optimise-FILE-FUNC.")] = None,
    report: Report = False,
    as_json: AsJson = False,
) -> None:
    """Maximise a function by stochastic gradient ascent on its expectation; nothing paid for is ever lost.

    Every evaluation is in evaluations.jsonl in the run folder as soon as it is made. After Ctrl-C, a kill or an error,
    the same command with --resume takes the same course, to the bit, without paying again.
    """
    from layerlab.cli import progress
    from layerlab.cli.output import print_json, say
    from layerlab.estimators.optimise.run import Evaluation
    from layerlab.estimators.optimise.run import optimise as search
    from layerlab.lab.machine import environment
    from layerlab.lab.subjects import notice

    space = options.space(bits, categories, gaussian)
    first = space.family(options.parameters(space, probability, parameters))
    folder = out or Path("runs") / f"optimise-{slug(subject)}"
    say(notice(subject))
    with progress.share(f"optimising {slug(subject)}") as bar, options.hinting(single):
        try:
            found = search(
                subject,
                first,
                evaluation=Evaluation(single, workers, timeout, failures),
                folder=folder,
                resume=resume,
                command=typed(),
                tell=lambda spent, best: bar(min(1.0, spent / budget), f"best {best:.6g}"),
                budget=budget,
                maximise=not minimise,
                estimator=estimator,
                natural=natural,
                fitness=fitness,
                entropy=entropy,
                restarts=restarts,
                batch=batch,
                rate=rate,
                seed=seed,
            )
        except KeyboardInterrupt:
            say("interrupted before the first value")
            raise typer.Exit(130) from None
    record = {"function": subject, "space": space.describe(), "run": str(folder), **found.to_dict()}
    if report and not found.interrupted:
        record["report"] = _page(folder)
    for remark in found.remarks:
        say(f"note: {remark}")
    if as_json:
        print_json({**record, "environment": environment()})
    else:
        _print(subject, space.describe(), found)
        say(f"every evaluation: {folder / 'evaluations.jsonl'}")
    if "report" in record:
        say(f"report: {record['report']}")
    if found.interrupted:
        say(f"interrupted: the same command with --resume goes on from {found.evaluations} evaluations")
        raise typer.Exit(130)


def _page(folder: Path) -> str:
    from layerlab.estimators.optimise.page import optimum_page
    from layerlab.lab.records import open_run
    from layerlab.lab.report.page import write

    return str(write(optimum_page(open_run(folder)), folder / "report.html"))


def _print(subject: str, space: str, found: Optimum) -> None:
    from layerlab.cli.output import print_table
    from layerlab.estimators.optimise.page import facts

    record: dict[str, Any] = found.to_dict()
    print_table(f"{subject}, {space}", ["", ""], [[name, words] for name, words in facts(record)], left=2)
