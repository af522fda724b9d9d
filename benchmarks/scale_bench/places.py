"""Where the generated graphs lie: a working folder outside the repository, in which what is there is used again."""

from __future__ import annotations

import argparse
import shutil
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from bench_common.command import say

from layerlab.errors import UserError
from layerlab.lab.cache import cache_folder
from layerlab.lab.memory import size
from scale_bench import watched
from scale_bench.generate import Shape

# Listed edges of a graph of ogbn-products' size, some of them repeats.
PRODUCTS = Shape(edges=63_600_000)
QUICK = Shape(nodes=20_000, edges=200_000, train=4_000, validation=800)
# ogbn-arxiv: 169,343 nodes, 1,166,243 edges, 40 classes, 128 features; more than half of the nodes train.
ARXIV = Shape(169_343, 1_166_243, 40, 128, 90_941, 29_799)
# Bytes of a generated graph: its tables and its store.
_EDGE, _NUMBER = 20, 10


@dataclass
class Work:
    """The working folder; `begin` sets it."""

    folder: Path | None = None


WORK = Work()


def options(parser: argparse.ArgumentParser) -> None:
    """The option of the working folder."""
    parser.add_argument(
        "--work",
        type=Path,
        default=None,
        metavar="DIR",
        help="where generated graphs are kept, some 5 GB; default: a folder in the user's cache. Delete it afterwards",
    )


def begin(given: argparse.Namespace) -> None:
    """Take the folder of the command line."""
    WORK.folder = (given.work or cache_folder() / "benchmark-scale").resolve()
    WORK.folder.mkdir(parents=True, exist_ok=True)


def folder() -> Path:
    """The working folder."""
    assert WORK.folder is not None
    return WORK.folder


def products(quick: bool) -> Shape:
    """The graph that most parts are about."""
    return QUICK if quick else PRODUCTS


def of_size(edges: int, nodes: int) -> Shape:
    """A graph for the fits: as many nodes are trained on, in proportion, as in `PRODUCTS`."""
    share = nodes / PRODUCTS.nodes
    train, validation = (max(100, round(share * n)) for n in (PRODUCTS.train, PRODUCTS.validation))
    return replace(PRODUCTS, nodes=nodes, edges=edges, train=train, validation=validation)


def name(shape: Shape) -> str:
    """Of a shape's folders."""
    return f"{shape.nodes}-{shape.edges}-{shape.columns}-{shape.seed}"


def tables(shape: Shape) -> Path:
    """The tables of a graph, generated where they are not there."""
    made = folder() / f"tables-{name(shape)}"
    if (made / "complete").exists():
        return made
    wanted = _EDGE * shape.edges + _NUMBER * shape.nodes * shape.columns
    if shutil.disk_usage(folder()).free < wanted:
        raise UserError(f"expected {size(wanted)} of free disk; name another folder by --work", file=folder())
    say(f"    generating {shape.edges:,} edges of {shape.nodes:,} nodes")
    given = asdict(shape)
    fields = ("nodes", "edges", "classes", "columns", "train", "validation", "seed")
    options = [word for field in fields for word in (f"--{field}", str(given[field]))]
    watched.watch([sys.executable, "-m", "scale_bench.generate", str(made), *options], threads=1)
    (made / "complete").touch()
    return made


def conversion(made: Path, out: Path) -> list[str | Path]:
    """The words behind ``layerlab`` that turn tables into a store."""
    files = ["--nodes", made / "nodes.parquet", "--features", made / "features.npy"]
    return ["graph", "convert", made / "edges.parquet", *files, "--out", out, "--json"]


def store(shape: Shape) -> Path:
    """The store of a graph, converted where it is not there."""
    out = folder() / f"store-{name(shape)}"
    if not (out / "store.json").exists():
        made = tables(shape)
        say(f"    converting {shape.edges:,} edges")
        watched.command(*conversion(made, out), threads=1)
    return out


def forget(*paths: Path) -> None:
    """Delete folders of this benchmark."""
    for path in paths:
        shutil.rmtree(path, ignore_errors=True)
