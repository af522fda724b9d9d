"""``layerlab graph convert``: tables larger than memory become a store."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Annotated

import typer

from layerlab.cli.options import AsJson

EPILOG = (
    "Example: layerlab graph convert edges.parquet --nodes nodes.csv --features features.npy --out products\n\n"
    "Then: layerlab graph inspect products"
)
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)I?B?", re.IGNORECASE)
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


def _bytes(text: str) -> int:
    from layerlab.errors import UserError

    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise UserError(f"expected a size such as 500MB or 2GB for --memory, got '{text}'")
    return int(float(found[1]) * 1024 ** _POWERS[found[2].upper()])


def convert(
    edges: Annotated[
        Path, typer.Argument(metavar="EDGES", help="CSV, TSV or Parquet: source, target, perhaps weight.")
    ],
    out: Annotated[Path, typer.Option(help="The store: a folder that is not there yet.")],
    nodes: Annotated[
        Path | None,
        typer.Option(
            help="CSV, TSV or Parquet: id, perhaps label and split; other columns are features. Default: the nodes are"
            " the ids in EDGES."
        ),
    ] = None,
    features: Annotated[
        Path | None, typer.Option(help="An .npy matrix, a row for each node, in the order of the node table.")
    ] = None,
    directed: Annotated[
        bool, typer.Option("--directed", help="Edges have a direction. Default: they have none.")
    ] = False,
    memory: Annotated[
        str, typer.Option(help="What the conversion may use, about; the rest is spilled to the disk.")
    ] = "1GB",
    as_json: AsJson = False,
) -> None:
    """Turn edges, and a node table, that may be larger than memory into a store, which every graph command takes.

    Ctrl-C or a kill loses nothing: the same command goes on after the last finished phase.
    """
    from layerlab.cli import progress
    from layerlab.cli.output import answer, print_json, say
    from layerlab.graph.edges import plural
    from layerlab.graph.store.convert import convert as to_store

    allowed, begun = _bytes(memory), time.perf_counter()
    try:
        with progress.share(f"converting {edges.name}") as tell:
            store = to_store(
                edges,
                out,
                nodes=nodes,
                features=features,
                directed=directed,
                memory=allowed,
                progress=tell,
            )
    except KeyboardInterrupt:
        say("interrupted; what is finished is kept: run the same command to go on")
        raise
    shape = None if store.features is None else list(store.features.shape)
    if as_json:
        print_json(
            {
                "store": str(out),
                "fingerprint": store.fingerprint,
                "nodes": store.num_nodes,
                "edges": store.graph.num_edges,
                "directed": directed,
                "weighted": store.graph.weighted,
                "features": 0 if shape is None else shape[1],
                "classes": list(store.class_names),
                "notes": list(store.notes),
                "bytes": sum(file.bytes for file in store.manifest.files.values()),
            }
        )
        return
    answer(f"{out}: {store.graph!r}")
    if shape is not None:
        classes = len(store.class_names)
        answer(f"  - {plural(shape[1], 'feature')}, {classes} class{'es' * (classes != 1)}")
    for note in store.notes:
        answer(f"  note: {note}")
    say(f"converted in {time.perf_counter() - begun:.0f} s; look at it with: layerlab graph inspect {out}")
