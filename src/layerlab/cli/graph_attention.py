"""``layerlab graph attention``: what the attention of a trained GAT does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from layerlab.cli.options import AsJson, Report
from layerlab.cli.run_folder import finished, typed

EPILOG = "Example: layerlab graph attention runs/cora-gat-0 --report"


def attention(
    run: Annotated[
        Path,
        typer.Argument(metavar="RUN", help="A folder that `layerlab graph train DATA --model gat` made."),
    ],
    data: Annotated[
        str | None,
        typer.Argument(
            metavar="[DATA]",
            help="cora, citeseer, pubmed, or a folder of yours. Default: what the run was trained on, if it has a name"
            " of its own.",
        ),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Edges to name, most and least trusted, a layer.")] = 5,
    report: Report = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the report. Default: runs/attention-RUN.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap behind the intervals.")] = 0,
    as_json: AsJson = False,
) -> None:
    """How a trained GAT spreads its attention: how far from a mean, along with what, which edges it trusts.

    Entropy and distance from uniform by head, rank correlation with the sender's degree and with the agreement of the
    labels, and what the model predicts with a mean in place of attention.
    """
    from layerlab.cli import progress
    from layerlab.cli.output import answer, print_json, print_table, say
    from layerlab.graph.attention_report import attention_report

    with progress.share(f"attention of {run.name}") as tell:
        found = attention_report(run, data, top=top, seed=seed, progress=tell)
    record = found.to_dict()
    if report or out is not None:
        record |= _write(record, run, out, {"top": top, "seed": seed})
    if as_json:
        print_json(record)
        return
    print_table(f"attention on {found.data}: heads", *_heads(record))
    columns, rows = _edges(record)
    if rows:
        print_table("edges between different nodes, mean over the heads of the layer", columns, rows, left=6)
    for sentence in found.findings:
        answer(f"  - {sentence}")
    for note in found.notes:
        answer(f"  note: {note}")
    if "report" in record:
        say(f"report: {record['report']}")


def _write(record: dict[str, Any], run: Path, out: Path | None, options: dict[str, int]) -> dict[str, str]:
    """The record and its page in a folder; where they are."""
    from layerlab.graph.attention_page import attention_page
    from layerlab.graph.runs import slug
    from layerlab.lab.records import create_run, open_run

    weights = open_run(run).meta["results"]["weights_sha256"]
    folder = create_run(
        out or Path("runs") / f"attention-{slug(str(run))}",
        "graph-attention",
        typed(),
        {"weights_sha256": weights, "data": record["data"], "fingerprint": record["fingerprint"], **options},
    )
    return finished(folder, record, attention_page)


def _heads(record: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    from layerlab.graph.attention_page import heads_of

    columns = ["head", "entropy", "weight moved", "self-loop", "uniform", "rho degree", "rho agreement"]
    rows = [
        [
            name,
            *(_number(head[key], ".3f") for key in ("entropy", "moved", "itself", "uniform")),
            *(_correlation(head[key]) for key in ("degree", "agreement")),
        ]
        for name, head in heads_of(record)
    ]
    return columns, rows


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _correlation(found: dict[str, Any] | None) -> str:
    if found is None or found["value"] is None:
        return "-"
    if found["low"] is None:
        return f"{found['value']:+.2f}"
    return f"{found['value']:+.2f} ({found['low']:+.2f} to {found['high']:+.2f})"


def _edges(record: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    columns = ["layer", "trust", "sender", "its class", "receiver", "its class", "weight", "times uniform"]
    rows = [
        [
            str(layer["layer"]),
            kind,
            *(edge[key] or "-" for key in ("source", "source_class", "target", "target_class")),
            _number(edge["coefficient"], ".3f"),
            _number(edge["lift"], ".2f"),
        ]
        for layer in record["layers"]
        for kind in ("most", "least")
        for edge in layer[kind]
    ]
    return columns, rows
