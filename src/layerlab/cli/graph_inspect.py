"""``layerlab graph inspect``: what a graph's spectrum says before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from layerlab.cli import graph_options as options
from layerlab.cli.options import AsJson, Report
from layerlab.cli.run_folder import begun, finished

EPILOG = (
    "Example: layerlab graph inspect pubmed --train --report\n\n"
    "Your own edges: layerlab graph inspect friends.csv"
)


def inspect(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="cora, citeseer, pubmed, a folder of yours, a store, an .npz, or a bare edge list.",
        ),
    ],
    train: Annotated[
        bool, typer.Option("--train", help="Train SGC at every depth, and compare with the prediction.")
    ] = False,
    depth: Annotated[int, typer.Option(min=1, max=256, help="The largest depth looked at.")] = 32,
    report: Report = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the report. Default: runs/inspect-DATA.")
    ] = None,
    seed: options.Seed = 0,
    as_json: AsJson = False,
) -> None:
    """What the graph's spectrum says before anything is trained: components, smoothing, how deep a model should be.

    Eigenvalues are given with the bound of their residual. Without labels there is no prediction of depth.
    """
    from layerlab.cli import progress
    from layerlab.cli.output import answer, print_json, print_table, say
    from layerlab.graph.inspection import inspect as look
    from layerlab.graph.inspection import load_subject
    from layerlab.graph.runs import slug

    subject = load_subject(data)
    folder = (out or Path("runs") / f"inspect-{slug(data)}") if report or out is not None else None
    config = {"data": data, "depth": depth, "seed": seed}
    with begun(folder, "graph-inspection", config) as run:
        with progress.share(f"inspecting {slug(data)}") as tell:

            def trained(done: int, depths: int) -> None:
                tell(done / depths, f"training at depth {done} of {depths}")

            found = look(
                subject,
                name=data,
                train=train,
                depths=range(1, depth + 1),
                seed=seed,
                progress=tell,
                training_progress=trained,
            )
        record = found.to_dict()
        if run is not None:
            from layerlab.graph.inspection_page import inspection_page

            record |= finished(run, record, inspection_page)
    if as_json:
        print_json(record)
        return
    print_table(f"{data}: {found.graph!r}", ["", "value", "residual", "what it is"], _facts(record), left=4)
    for sentence in record["findings"]:
        answer(f"  - {sentence}")
    for note in record["notes"]:
        answer(f"  note: {note}")
    if "report" in record:
        say(f"report: {record['report']}")


def _facts(record: dict[str, Any]) -> list[list[str]]:
    """The table of an inspection, as text: counts, eigenvalues, homophily, depths."""
    from layerlab.graph.inspection_page import EIGENVALUES, number, residual

    parts, spectrum = record["spectrum"]["components"], record["spectrum"]
    rows = [
        [
            "components",
            f"{parts['count']:,}",
            "exact",
            f"{parts['isolated']:,} isolated, {parts['bipartite']:,} bipartite",
        ]
    ]
    rows += [
        [sign, number(spectrum[name]["value"]), residual(spectrum[name]), meaning]
        for name, (sign, meaning) in EIGENVALUES.items()
        if spectrum[name] is not None
    ]
    if (mixing := record["homophily"]) and mixing["edge"] is not None:
        rows.append(
            [
                "homophily",
                number(mixing["edge"]),
                "exact",
                f"share of edges within a class; {mixing['expected']:.2f} by chance",
            ]
        )
    if features := record["features"]:
        gone = features["hundredth_after"]["energy"]
        shown = "never" if gone is None else f"{gone:.1f}"
        rows.append(["smoothing", shown, "", "layers until 1 % of the features' energy is left"])
    if prediction := record["prediction"]:
        rows.append(["depth, predicted", str(prediction["best"]), "", "best K of an SGC"])
    if training := record["training"]:
        rows.append(["depth, trained", str(training["best"]), "", "best K by validation accuracy"])
    return rows
