"""``layerlab graph train``: one model, kept in a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from layerlab.cli import graph_options as options
from layerlab.cli.options import AsJson
from layerlab.cli.processes import Processes, bar_of, speaks, start, together
from layerlab.cli.run_folder import typed

EPILOG = "Example: layerlab graph train cora --model gat --out runs/gat"


def train(
    data: options.Data,
    model: Annotated[str, typer.Option(help="gcn, gat, sgc or mlp.")] = "gcn",
    out: Annotated[Path | None, typer.Option(help="Run folder. Default: runs/DATA-MODEL-SEED.")] = None,
    protocol: options.Protocol = None,
    seed: options.Seed = 0,
    epochs: Annotated[int | None, typer.Option(min=1, help="Largest number of epochs.")] = None,
    learning_rate: Annotated[float | None, typer.Option(min=1e-9, help="Of Adam.")] = None,
    weight_decay: Annotated[float | None, typer.Option(min=0.0, help="L2 penalty.")] = None,
    hidden: Annotated[int | None, typer.Option(min=1, help="Hidden width (per head for gat).")] = None,
    dropout: Annotated[float | None, typer.Option(min=0.0, max=0.99, help="Share that is dropped.")] = None,
    batch_size: options.BatchSize = None,
    fanout: options.Fanout = None,
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
    from layerlab.graph.runs import slug, train_run

    given = {
        "epochs": epochs,
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "hidden": hidden,
        "dropout": dropout,
    }
    folder = out or Path("runs") / f"{slug(data)}-{model}-{seed}"
    batching = options.batching_of(batch_size, fanout)
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
                on_choice=None if as_json or not speaks(group) else options.say_choice,
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
