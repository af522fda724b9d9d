"""``layerlab graph predict``: the classes of nodes by a model that was trained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from layerlab.cli import graph_options as options
from layerlab.cli.options import AsJson

EPILOG = "Example: layerlab graph predict runs/cora-gcn-0 cora --out predictions.csv"


def predict(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A folder that `layerlab graph train` made.")],
    data: options.Data,
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
