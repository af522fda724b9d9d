"""``layerlab estimator inspect``: the variance, bias and cost of every gradient estimator on your function."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from layerlab.cli import estimator_options as options
from layerlab.cli.options import AsJson, Report, listed
from layerlab.cli.run_folder import begun, finished, slug

EPILOG = (
    "Example: layerlab estimator inspect examples/parity.py:f --bits 12 --probability 0.8 --report\n\n"
    "Categories: layerlab estimator inspect search.py:score --categories 4x8 --sample-parameters 5"
)


def inspect(
    subject: options.Subject,
    bits: options.Bits = None,
    categories: options.Categories = None,
    gaussian: options.Gaussian = None,
    single: options.Single = False,
    probability: options.Probability = None,
    parameters: options.Parameters = None,
    sample_parameters: Annotated[
        int | None,
        typer.Option(metavar="K", help="Look at K random parameters instead, and tell the medians."),
    ] = None,
    samples: Annotated[
        int,
        typer.Option(min=1, max=65536, help="Evaluations of f an estimate, at which variances are compared."),
    ] = 64,
    estimators: Annotated[
        str | None, typer.Option(metavar="A,B", help="Which estimators. Default: all that apply.")
    ] = None,
    baseline: Annotated[
        float | None, typer.Option(metavar="B", help="The baseline of the estimator constant.")
    ] = None,
    repetitions: Annotated[
        int, typer.Option(min=8, help="Of an estimate, where its variance has to be measured.")
    ] = 400,
    outcomes: Annotated[
        int, typer.Option(min=0, max=2**20, help="Enumerate f when it has at most so many outcomes.")
    ] = 2**20,
    curve: Annotated[
        bool, typer.Option("--curve/--no-curve", help="Follow the variance over the probability of a 1.")
    ] = True,
    workers: options.Workers = 0,
    timeout: options.Timeout = None,
    seed: options.Seed = 0,
    report: Report = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the report. Default: runs/estimator-FILE-FUNC.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Tell the variance, bias and cost of every gradient estimator on your function, and which one to take.

    Exact where the function has at most 2^20 outcomes, else measured, with intervals. Runs the function's own code.
    """
    from layerlab.cli import progress
    from layerlab.cli.estimator_table import print_inspection
    from layerlab.cli.output import print_json, say
    from layerlab.estimators.inspection.measure import Settings
    from layerlab.estimators.inspection.measure import inspect as look
    from layerlab.lab.subjects import notice

    say(notice(subject))
    space = options.space(bits, categories, gaussian)
    chosen = options.parameters(space, probability, parameters)
    options.one_of(sample_parameters=sample_parameters, probability=probability, parameters=parameters)
    settings = Settings(
        samples=samples,
        repetitions=repetitions,
        outcomes=outcomes,
        estimators=tuple(listed(estimators or "")),
        baseline=baseline,
        sampled=sample_parameters,
        curve=curve,
        seed=seed,
    )
    folder = (out or Path("runs") / f"estimator-{slug(subject)}") if report or out is not None else None
    asked = {"subject": subject, "single": single, "space": space.option, **asdict(settings)}
    asked |= {"probability": probability, "parameters": None if parameters is None else str(parameters)}
    with begun(folder, "estimator-inspection", asked) as run:
        with (
            options.function(subject, single, workers, timeout) as f,
            progress.share(f"inspecting {slug(subject)}") as tell,
            options.hinting(single),
        ):
            record = {"subject": subject, **look(f, space, chosen, settings, tell, say)}
        if run is not None:
            from layerlab.estimators.inspection.page import inspection_page

            record |= finished(run, record, inspection_page)
    if as_json:
        print_json(record)
        return
    print_inspection(record)
    if "report" in record:
        say(f"report: {record['report']}")
