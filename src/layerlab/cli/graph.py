"""``layerlab graph``: train, predict and race graph neural networks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from layerlab.cli import graph_attention, graph_convert
from layerlab.cli.options import AsJson, On, Report
from layerlab.cli.processes import Processes
from layerlab.cli.run_folder import finished, typed

if TYPE_CHECKING:
    from layerlab.graph.sampling.batching import Batching
    from layerlab.graph.sampling.memory import Choice

app = typer.Typer(
    help="Inspect a graph; train, predict and race GCN, GAT, SGC and an MLP on its nodes.",
    epilog="Example: layerlab graph race cora --models gcn,gat,sgc,mlp --seeds 20",
    no_args_is_help=True,
)

_Data = Annotated[
    str, typer.Argument(metavar="DATA", help="cora, citeseer, pubmed, a folder of yours, or a store.")
]
_Protocol = Annotated[
    str | None,
    typer.Option(
        help="public: the data's own split. random: 60/20/20 a seed. course: 140 random training nodes, 100 epochs."
        " Default: public where there is one."
    ),
]
_BatchSize = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Train in mini-batches of so many nodes. Default: a full batch where an estimate says that it fits into"
        " memory, else 1024.",
    ),
]
_Fanout = Annotated[
    str | None,
    typer.Option(
        help="Neighbours that a mini-batch draws, one number a layer, the last layer's first, such as 15,10,5; 'all'"
        " draws none. Says how many layers GCN and GAT have. Default: 15,10,5,5,... for the layers there are."
    ),
]
_Seed = Annotated[int, typer.Option(min=0, help="The same seed gives the same bits on one machine.")]


def _batching(size: int | None, fanout: str | None) -> Batching | None:
    """The mini-batches that were asked for."""
    from layerlab.graph.sampling.batching import SIZE, Batching, parse_fanouts

    if size is None and fanout is None:
        return None
    return Batching(size or SIZE, () if fanout is None else parse_fanouts(fanout))


@app.command(
    epilog="Example: layerlab graph inspect pubmed --train --report\n\n"
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
    seed: _Seed = 0,
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
    if report or out is not None:
        from layerlab.graph.inspection_page import inspection_page
        from layerlab.lab.records import create_run

        run = create_run(
            out or Path("runs") / f"inspect-{slug(data)}",
            "graph-inspection",
            typed(),
            {"data": data, "depth": depth, "seed": seed},
        )
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


@app.command(epilog="Example: layerlab graph train cora --model gat --out runs/gat")
def train(
    data: _Data,
    model: Annotated[str, typer.Option(help="gcn, gat, sgc or mlp.")] = "gcn",
    out: Annotated[Path | None, typer.Option(help="Run folder. Default: runs/DATA-MODEL-SEED.")] = None,
    protocol: _Protocol = None,
    seed: _Seed = 0,
    epochs: Annotated[int | None, typer.Option(min=1, help="Largest number of epochs.")] = None,
    learning_rate: Annotated[float | None, typer.Option(min=1e-9, help="Of Adam.")] = None,
    weight_decay: Annotated[float | None, typer.Option(min=0.0, help="L2 penalty.")] = None,
    hidden: Annotated[int | None, typer.Option(min=1, help="Hidden width (per head for gat).")] = None,
    dropout: Annotated[float | None, typer.Option(min=0.0, max=0.99, help="Share that is dropped.")] = None,
    batch_size: _BatchSize = None,
    fanout: _Fanout = None,
    processes: Processes = 1,
    partition: Annotated[
        str | None,
        typer.Option(
            help="Each process holds the features of a part of the nodes, and fetches what else a batch reads: hash, or"
            " metis (pip install 'layerlab\\[partition]'). Default: all read the same files."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train one model, with the settings of its paper unless told otherwise, and keep it in a run folder.

    Ctrl-C or a kill loses nothing: the same command goes on where it stopped.
    """
    from layerlab.cli import progress
    from layerlab.cli.output import print_json, print_table, say
    from layerlab.cli.processes import bar_of, speaks, start, together
    from layerlab.graph.runs import slug, train_run

    given = {
        "epochs": epochs,
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "hidden": hidden,
        "dropout": dropout,
    }
    folder = out or Path("runs") / f"{slug(data)}-{model}-{seed}"
    batching = _batching(batch_size, fanout)
    try:
        start(processes)
        with together() as group, bar_of(group, progress.epochs, f"{model} on {slug(data)}") as report:
            run = train_run(
                data,
                model,
                out=folder,
                protocol=protocol,
                seed=seed,
                overrides={name: value for name, value in given.items() if value is not None},
                batching=batching,
                command=typed(),
                on_choice=None if as_json or not speaks(group) else _say_choice,
                on_epoch=report,
                on_compile=progress.compiling if speaks(group) else None,
                group=group,
                partition=partition,
            )
    except KeyboardInterrupt:
        say(f"interrupted; what was trained is in {folder}: run the same command to go on")
        raise
    if not speaks(group):
        return
    results, config = run.meta["results"], run.meta["config"]
    if as_json:
        print_json({"run": str(folder), **config, **{k: v for k, v in results.items() if k != "curves"}})
        return
    metrics = results["metrics"]
    print_table(
        f"{model} on {config['data']}, protocol {config['protocol']}, seed {config['seed']}",
        ["", "loss", "accuracy"],
        [
            [part, f"{metrics[f'{part}_loss']:.4f}", f"{100 * metrics[f'{part}_accuracy']:.1f} %"]
            for part in ("validation", "test")
            if f"{part}_loss" in metrics
        ],
    )
    say(
        f"epoch {results['best_epoch']} of {results['epochs']} kept, {results['parameters']:,} parameters, "
        f"{1e3 * results['step_seconds']:.1f} ms an epoch, {results['seconds']:.1f} s in all"
    )
    say(f"run folder: {folder}; predict with: layerlab graph predict {folder} {data} --out predictions.csv")


@app.command(epilog="Example: layerlab graph predict runs/cora-gcn-0 cora --out predictions.csv")
def predict(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A folder that `layerlab graph train` made.")],
    data: _Data,
    out: Annotated[Path, typer.Option(help="CSV file: id, label, probability.")] = Path("predictions.csv"),
    as_json: AsJson = False,
) -> None:
    """Predict the class of every node. The data need the training data's feature columns; labels are not needed."""
    from collections import Counter

    from layerlab.cli.output import print_json, print_table, say
    from layerlab.graph.prediction import predict_run

    predictions = predict_run(run, data)
    predictions.write(out)
    counts = Counter(predictions.labels)
    if as_json:
        print_json(
            {"out": str(out), "nodes": len(predictions.labels), "labels": dict(sorted(counts.items()))}
        )
        return
    print_table(
        f"{len(predictions.labels):,} predictions",
        ["label", "nodes"],
        [[k, f"{n:,}"] for k, n in sorted(counts.items())],
    )
    say(f"written: {out}")


@app.command(epilog="Example: layerlab graph race cora --models gcn,gat,sgc,mlp --seeds 20 --json")
def race(
    data: _Data,
    models: Annotated[str, typer.Option(help="Comma-separated: gcn, gat, sgc, mlp.")] = "gcn,gat,sgc,mlp",
    seeds: Annotated[int, typer.Option(min=1, help="Seeds 0, 1, ..., N - 1 for every model.")] = 10,
    protocol: _Protocol = None,
    out: Annotated[Path | None, typer.Option(help="Run folder. Default: runs/race-DATA-PROTOCOL.")] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Trainings at a time; the number of cores by default.")
    ] = None,
    on: On = "local",
    batch_size: _BatchSize = None,
    fanout: _Fanout = None,
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

    names = [name.strip() for name in models.split(",") if name.strip()]
    folder = out or Path("runs") / f"race-{slug(data)}{f'-{protocol}' if protocol else ''}"
    batching = _batching(batch_size, fanout)
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
                on_choice=None if as_json else lambda model, choice: _say_choice(choice, f"{model}: "),
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
    for title, columns, rows in _race_tables(summary):
        print_table(title, columns, rows)
    say(f"report: {page}")


def _say_choice(choice: Choice, of: str = "") -> None:
    """Full batch or mini-batches and why, where that is not plain."""
    from layerlab.cli.output import say

    if choice.notable:
        say(of + choice.sentence)


def _race_tables(summary: dict[str, Any]) -> list[tuple[str, list[str], list[list[str]]]]:
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


app.command(epilog=graph_attention.EPILOG)(graph_attention.attention)
app.command(epilog=graph_convert.EPILOG)(graph_convert.convert)
