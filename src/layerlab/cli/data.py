"""``layerlab data``: which data sets there are, and how to get those that are not in the package."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from layerlab.cli.options import AsJson

app = typer.Typer(
    help="List the data sets and fetch those that are not in the package.",
    epilog="Example: layerlab data list",
    no_args_is_help=True,
)


@app.command("list", epilog="Example: layerlab data list --json")
def list_(
    as_json: AsJson = False,
) -> None:
    """Show the known data sets, their sizes, and whether they are here."""
    from layerlab.cli.output import print_json, print_table, say
    from layerlab.graph.known import KNOWN
    from layerlab.segmentation.known import KNOWN as IMAGES

    if as_json:
        images: list[dict[str, object]] = [
            {"name": each.name, "kind": "images", "available": each.is_here, "path": str(each.path)}
            | {"origin": each.title, "megabytes": each.size, "terms": each.terms}
            for each in IMAGES.values()
        ]
        print_json(
            [
                {
                    "kind": "graph",
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
            + images
        )
        return
    print_table(
        "Graphs (split: train/validation/test nodes)",
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
    print_table(
        "Images and masks",
        ["name", "where", "what", "MB"],
        [
            [each.name, "fetched" if each.is_here else "not fetched", each.title, f"{each.size:,}"]
            for each in IMAGES.values()
        ],
        left=3,
    )
    absent = [known.name for known in KNOWN.values() if not known.is_here]
    absent += [each.name for each in IMAGES.values() if not each.is_here]
    if absent:
        say(f"To fetch: layerlab data get {'|'.join(absent)}")
    say(
        "Your own graph: a folder with edges.csv and nodes.csv; give its path wherever a data set is asked for."
    )
    say("Your own images: a folder of images and one of masks; see `layerlab segment check --help`.")


@app.command(
    "get",
    epilog="Example: layerlab data get citeseer\n\nImages and masks: layerlab data get pets --source downloads",
)
def get(
    name: str = typer.Argument(help="citeseer or pubmed; pets, flowers17 or flowers102."),
    folder: Annotated[
        Path | None,
        typer.Option(
            "--from",
            "--source",
            help="Take the published files (Planetoid's ind.NAME.*, the archives) from this folder, not the network.",
        ),
    ] = None,
    as_json: bool = typer.Option(False, "--json", help="Print JSON instead of a sentence."),
) -> None:
    """Fetch a data set, check its SHA-256 sums and keep it, converted, in the cache folder.

    Images come from their publisher's address, as folders images and masks. The cache folder is $LAYERLAB_DATA where
    that is set, else the user's cache folder of this system.
    """
    from layerlab.cli.output import answer, print_json, say
    from layerlab.errors import UserError
    from layerlab.graph.download import get as fetch
    from layerlab.graph.known import KNOWN
    from layerlab.segmentation.known import KNOWN as IMAGES

    if name in IMAGES:
        _get_images(name, folder, as_json)
        return
    if name not in KNOWN:
        raise UserError(f"expected one of {', '.join([*KNOWN, *IMAGES])}; got '{name}'")
    got = fetch(name, folder=folder, say=say, progress=sys.stderr.isatty())
    if as_json:
        print_json({"name": got.name, "path": str(got.path), "fetched": got.fetched})
    elif got.fetched:
        answer(f"{got.name}: stored in {got.path}")
    else:
        answer(f"{got.name}: already there, {got.path}")


def _get_images(name: str, folder: Path | None, as_json: bool) -> None:
    from layerlab.cli import progress
    from layerlab.cli.output import answer, print_json, say
    from layerlab.segmentation.download import get as fetch
    from layerlab.segmentation.known import find

    known = find(name)
    with progress.share(f"getting {name}") as tell:
        got = fetch(known, source=folder, say=say, progress=tell)
    done = got.converted
    if as_json:
        record: dict[str, object] = {"name": got.name, "path": str(got.path), "fetched": got.fetched}
        if done is not None:
            record |= {"pairs": done.pairs, "without_mask": done.without_mask, "left_out": done.left_out}
        print_json({**record, "terms": known.terms})
        return
    if done is None:
        answer(f"{name}: already there, {got.path}")
    else:
        answer(f"{name}: {done.pairs:,} images with masks stored in {got.path}")
        if done.without_mask:
            say(f"{done.without_mask:,} images have no mask and were left out")
        for words in done.left_out[:10]:
            say(f"left out: {words}")
        if len(done.left_out) > 10:
            say(f"left out: {len(done.left_out) - 10:,} more (--json names them)")
    say(f"terms: {known.terms}")
    say(
        f"next: layerlab segment check {got.path / 'images'} {got.path / 'masks'} --classes {got.path / 'classes.json'}"
    )
