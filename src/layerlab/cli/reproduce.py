"""``layerlab reproduce``: the documents' experiments and theorems, run again, on one page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from layerlab.cli.options import listed
from layerlab.cli.run_folder import typed

if TYPE_CHECKING:
    from layerlab.reproduce import Step

# What the processes that check claims and train models import.
_NEEDED = (
    "layerlab.reproduce",
    "layerlab.reproduce.graph",
    "layerlab.reproduce.segmentation",
    "sklearn.datasets",
)
# Seconds until every process has imported what it needs, and of the page at the end.
_AROUND = 12.0

EPILOG = "Example: layerlab reproduce --only graph --out reproduce"


def reproduce(
    out: Annotated[Path, typer.Option(help="Folder of the runs and of report.html.")] = Path("reproduce"),
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="gradflow, attention, estimators, projection, graph or segmentation; may be given several times. "
            "Default: all."
        ),
    ] = None,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Every claim, few seeds: a first look in a minute, wide intervals."),
    ] = False,
    full: Annotated[
        bool,
        typer.Option("--full", help="More seeds, samples and arms than by default: a quarter of an hour."),
    ] = False,
    seeds: Annotated[
        int | None,
        typer.Option(min=2, help="Seeds of every experiment, instead of 20 on graphs and 4 of U-Nets."),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Processes; the number of cores by default.")
    ] = None,
    formats: Annotated[
        str,
        typer.Option(
            "--format", help="Of the report, with commas: html (always), md, json, pdf (by a browser)."
        ),
    ] = "html",
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Reproduce the two course documents and write report.html.

    Ctrl-C loses nothing: the same command goes on where it stopped, and one that asks for more keeps what is there.
    """
    from dataclasses import replace

    from layerlab.cli import progress
    from layerlab.cli.output import print_json, print_table, say
    from layerlab.errors import UserError
    from layerlab.lab.preloading import import_ahead

    if jobs != 1:
        # Before the imports of this process, which take as long.
        import_ahead(_NEEDED)
    from layerlab.reproduce import DEFAULT, FULL, QUICK
    from layerlab.reproduce import reproduce as run

    chosen = listed(formats)
    if quick and full:
        raise UserError("--quick and --full exclude each other; leave one out")
    amount = QUICK if quick else FULL if full else DEFAULT
    if seeds is not None:
        amount = replace(amount, seeds=seeds, papers=None, trainings=seeds)
    try:
        page, summary = run(
            out,
            display=progress,
            only=only or (),
            amount=amount,
            jobs=jobs,
            command=typed(),
            formats=chosen,
            on_plan=None if as_json else _say_plan,
        )
    except KeyboardInterrupt:
        say(f"interrupted; finished cells are in {out}: run the same command to go on")
        raise
    if as_json:
        print_json({"report": str(page), **summary})
        return
    figures = [f for f in summary["findings"] if f["id"].startswith("experiment.")]
    if figures:
        print_table(
            "Figures of the documents and the papers",
            ["question", "said", "measured", "verdict"],
            [[f["question"], f["document"], f["measured"], f["verdict"]] for f in figures],
            left=4,
        )
    print_table(
        f"{summary['hold']} of {summary['of']} statements hold, {summary['refuted']} are refuted",
        ["part", "where", "claims that hold", "printed wrongly", "unexpected"],
        [
            [
                part["title"],
                part["place"],
                str(part["hold"]),
                str(part["printed_wrongly"]),
                ", ".join(part["unexpected"]) or "none",
            ]
            for part in summary["parts"]
        ],
        left=2,
    )
    for name in dict.fromkeys(["html", *chosen]):
        say(f"report: {page.with_suffix(f'.{name}')}")


def _say_plan(steps: Sequence[Step], jobs: int) -> None:
    from layerlab.cli import progress
    from layerlab.cli.output import say
    from layerlab.graph.runs import are_compiled
    from layerlab.graph.settings import MODELS

    cells = ", ".join(f"{step.title} {step.seeds * len(step.seconds)}" for step in steps)
    total = sum(step.total for step in steps) + jobs * _AROUND
    time = progress.time_left(total, 0, 0, jobs).removesuffix(" left")
    say(f"plan: {cells}; about {time} in {jobs} processes")
    if not are_compiled(MODELS):
        say("the kernels are compiled for this machine first, once: about half a minute more")
