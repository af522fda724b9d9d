"""``layerlab graph race``: models side by side, over paired seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from layerlab.cli import graph_options as options
from layerlab.cli.options import AsJson, On, listed
from layerlab.cli.run_folder import typed

EPILOG = "Example: layerlab graph race cora --models gcn,gat,sgc,mlp --seeds 20 --json"


def race(
    data: options.Data,
    models: Annotated[str, typer.Option(help="Comma-separated: gcn, gat, sgc, mlp.")] = "gcn,gat,sgc,mlp",
    seeds: Annotated[int, typer.Option(min=1, help="Seeds 0, 1, ..., N - 1 for every model.")] = 10,
    protocol: options.Protocol = None,
    out: Annotated[Path | None, typer.Option(help="Run folder. Default: runs/race-DATA-PROTOCOL.")] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Trainings at a time; the number of cores by default.")
    ] = None,
    on: On = "local",
    batch_size: options.BatchSize = None,
    fanout: options.Fanout = None,
    as_json: AsJson = False,
) -> None:
    """Train models side by side on the same splits and seeds, and compare them pair by pair.

    Finished cells stay in the run folder: an interrupted race goes on with the same command, and a finished one can be
    widened by more models or seeds. The folder also gets report.html.
    """
    from layerlab.cli import progress
    from layerlab.cli.output import print_json, print_table, say
    from layerlab.graph.racing import race_run
    from layerlab.graph.runs import slug
    from layerlab.lab.cluster.executor import opened
    from layerlab.lab.report.page import write
    from layerlab.lab.report.race import race_page

    names = listed(models)
    folder = out or Path("runs") / f"race-{slug(data)}{f'-{protocol}' if protocol else ''}"
    batching = options.batching_of(batch_size, fanout)
    try:
        with opened(on, jobs) as workers, progress.race(slug(data), names, seeds) as report:
            run, summary = race_run(
                data,
                names,
                range(seeds),
                out=folder,
                protocol=protocol,
                jobs=jobs,
                workers=workers,
                batching=batching,
                command=typed(),
                on_choice=None if as_json else lambda model, choice: options.say_choice(choice, f"{model}: "),
                on_cell=report,
                on_compile=progress.compiling,
            )
    except KeyboardInterrupt:
        say(f"interrupted; finished cells are in {folder}: run the same command to go on")
        raise
    page = write(race_page(run), folder / "report.html")
    if as_json:
        print_json({"run": str(folder), "report": str(page), **summary})
        return
    for title, columns, rows in _tables(summary):
        print_table(title, columns, rows)
    say(f"report: {page}")


def _tables(summary: dict[str, Any]) -> list[tuple[str, list[str], list[list[str]]]]:
    """The two tables of a race, as text: the contestants, and their paired differences."""
    percent = "{:.2f}".format
    standings = [
        [
            name,
            percent(100 * entry["mean"]),
            percent(100 * entry["sd"]) if entry["n"] > 1 else "-",
            f"{100 * entry['low']:.2f} to {100 * entry['high']:.2f}" if entry["n"] > 1 else "-",
            f"{entry['parameters']:,}",
            f"{1e3 * entry['step_seconds']:.1f}",
            f"{entry['seconds']:.1f}",
        ]
        for name, entry in summary["contestants"].items()
    ]
    part = summary["metric"].split("_")[0]
    setting = f"{summary['data']}, protocol {summary['protocol']}, {len(summary['seeds'])} seeds"
    title = f"{setting}: {part} accuracy, per cent"
    tables = [
        (title, ["model", "mean", "sd", "95 % interval", "parameters", "ms/epoch", "total s"], standings)
    ]
    if summary["differences"] and summary["differences"][0]["n"] > 1:
        rows = [
            [
                f"{entry['left']} - {entry['right']}",
                f"{100 * entry['mean']:+.2f}",
                f"{100 * entry['low']:+.2f} to {100 * entry['high']:+.2f}",
                f"{entry['wins']}/{entry['n']}",
            ]
            for entry in summary["differences"]
        ]
        tables.append(("Paired differences, points", ["pair", "mean", "95 % interval", "wins"], rows))
    return tables
