"""``layerlab data``: which data sets there are, and how to get those that are not in the package."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="List the data sets and fetch those that are not in the package.",
    epilog="Example: layerlab data list",
    no_args_is_help=True,
)


@app.command("list", epilog="Example: layerlab data list --json")
def list_(
    as_json: bool = typer.Option(False, "--json", help="Print JSON instead of a table."),
) -> None:
    """Show the known data sets, their sizes, and whether they are here."""
    from layerlab.cli.output import print_json, print_table, say
    from layerlab.graph.known import KNOWN

    if as_json:
        print_json(
            [
                {
                    "name": known.name,
                    "nodes": known.nodes,
                    "edges": known.edges,
                    "features": known.features,
                    "classes": known.classes,
                    "train": known.split_sizes[0],
                    "validation": known.split_sizes[1],
                    "test": known.split_sizes[2],
                    "available": known.is_here,
                    "path": str(known.path),
                    "origin": known.origin,
                }
                for known in KNOWN.values()
            ]
        )
        return
    print_table(
        "Data sets (split: train/validation/test nodes)",
        ["name", "where", "nodes", "edges", "features", "classes", "split"],
        [
            [
                known.name,
                known.where,
                f"{known.nodes:,}",
                f"{known.edges:,}",
                f"{known.features:,}",
                str(known.classes),
                "/".join(map(str, known.split_sizes)),
            ]
            for known in KNOWN.values()
        ],
        left=2,
    )
    absent = [known.name for known in KNOWN.values() if not known.is_here]
    if absent:
        say(f"To fetch: layerlab data get {'|'.join(absent)}")
    say("Your own: a folder with edges.csv and nodes.csv; give its path wherever a data set is asked for.")


@app.command("get", epilog="Example: layerlab data get citeseer")
def get(
    name: str = typer.Argument(help="citeseer or pubmed."),
    folder: Annotated[
        Path | None,
        typer.Option("--from", help="Take Planetoid's ind.NAME.* files from this folder, not the network."),
    ] = None,
    as_json: bool = typer.Option(False, "--json", help="Print JSON instead of a sentence."),
) -> None:
    """Fetch a data set, check its SHA-256 sums and keep it, converted, in the cache folder.

    The cache folder is $LAYERLAB_DATA where that is set, else the user's cache folder of this system.
    """
    from layerlab.cli.output import print_json, say
    from layerlab.graph.download import get as fetch

    got = fetch(name, folder=folder, say=say, progress=sys.stderr.isatty())
    if as_json:
        print_json({"name": got.name, "path": str(got.path), "fetched": got.fetched})
    elif got.fetched:
        typer.echo(f"{got.name}: stored in {got.path}")
    else:
        typer.echo(f"{got.name}: already there, {got.path}")
