"""From tables larger than memory to a store, phase by phase; what a phase has finished is not done again.

Phases: the node table; the edges as pairs of positions; rows of the adjacency matrix; its transpose; features. Each
leaves files in the hidden work folder, and its record in ``phases.json`` with their checksums.
"""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from layerlab.errors import UserError
from layerlab.graph.edges import plural
from layerlab.graph.store.arrays import check_array, open_array
from layerlab.graph.store.ends import EdgeColumns, NotWholeError, write_ends
from layerlab.graph.store.layout import ArrayFile, Manifest, write_manifest
from layerlab.graph.store.nodes import NodeColumns, write_matrix, write_nodes
from layerlab.graph.store.opened import Store, open_store
from layerlab.graph.store.publishing import publish, work_folder
from layerlab.graph.store.reading import connect, engine, look
from layerlab.graph.store.rows import Ends, write_rows
from layerlab.lab.files import write_atomic
from layerlab.lab.locks import lock_folder

Progress = Callable[[float, str], None]
LEAST_MEMORY = 64 << 20
_PHASES = "phases.json"
# At which share of the whole each phase begins.
_BEGINS = {"nodes": 0.0, "ends": 0.15, "rows": 0.5, "transpose": 0.7, "features": 0.85, "": 1.0}


@dataclass(frozen=True)
class Sources:
    """What a store is made of.

    Attributes:
        edges: a CSV, TSV or Parquet file of edges.
        nodes: a table of nodes, or None: the nodes are the ids that occur in the edges.
        features: an ``.npy`` matrix, a row for each node, or None.
        directed: whether the orientation of an edge has a meaning.
    """

    edges: Path
    nodes: Path | None = None
    features: Path | None = None
    directed: bool = False

    def describe(self) -> dict[str, Any]:
        """What must be unchanged for finished phases to be of use."""
        files = {}
        for name in ("edges", "nodes", "features"):
            path = getattr(self, name)
            if path is not None:
                found = path.stat()
                files[name] = [str(path.resolve()), found.st_size, found.st_mtime_ns]
        return {"files": files, "directed": self.directed}


class _Phases:
    """The finished phases of a work folder."""

    def __init__(self, folder: Path, about: dict[str, Any], progress: Progress) -> None:
        self.folder = folder
        self.about = about
        self.progress = progress
        self.done: dict[str, dict[str, Any]] = {}
        try:
            content = json.loads((folder / _PHASES).read_text(encoding="utf-8"))
            if content["about"] == about:
                self.done = content["done"]
        except (OSError, ValueError, TypeError, KeyError):
            pass  # nothing of use there: begin at the beginning

    def run(
        self, name: str, work: Callable[[Progress], tuple[dict[str, Any], dict[str, ArrayFile]]]
    ) -> tuple[dict[str, Any], dict[str, ArrayFile]]:
        """What a phase found and wrote: from its record where its files are whole, else by doing it."""
        names = list(_BEGINS)
        begin, end = _BEGINS[name], _BEGINS[names[names.index(name) + 1]]

        def tell(share: float, words: str) -> None:
            self.progress(begin + (end - begin) * share, words)

        if (found := self._kept(name, tell)) is not None:
            return found
        facts, files = work(tell)
        self.done[name] = {"facts": facts, "files": {key: file.to_dict() for key, file in files.items()}}
        content = {"about": self.about, "done": self.done}
        write_atomic(self.folder / _PHASES, json.dumps(content, indent=1).encode())
        return facts, files

    def _kept(self, name: str, tell: Progress) -> tuple[dict[str, Any], dict[str, ArrayFile]] | None:
        record = self.done.get(name)
        if record is None:
            return None
        try:
            files = {
                key: ArrayFile(file["dtype"], tuple(file["shape"]), file["checksum"])
                for key, file in record["files"].items()
            }
            for number, (key, file) in enumerate(files.items()):
                tell(number / len(files), f"checking what is there: {key}")
                open_array(self.folder / key, file)
                check_array(self.folder / key, file)
        except (UserError, KeyError, TypeError):
            return None
        return record["facts"], files


def convert(
    edges: str | Path,
    out: str | Path,
    *,
    nodes: str | Path | None = None,
    features: str | Path | None = None,
    directed: bool = False,
    memory: int = 1 << 30,
    progress: Progress | None = None,
) -> Store:
    """Turn tables larger than memory into a store.

    Edges are merged by the rules of `Graph.from_edges`. Ids are whole numbers or text. With a node table the nodes are
    its rows, in its order; without, they are the ids that occur in the edges, in ascending order.

    Args:
        edges: CSV, TSV or Parquet: source, target and, perhaps, weight.
        out: the store's folder; it must not exist.
        nodes: CSV, TSV or Parquet with a column ``id``, perhaps ``label`` and ``split`` (train, val, validation, test
            or empty); the other columns are numeric features.
        features: an ``.npy`` matrix with a row for each node, in the order of the node table, or of the ids without.
        directed: False: the orientation in which an edge is listed has no meaning.
        memory: bytes for the engine, and for the rows that are sorted together; what else is needed is about 24 bytes a
            node and 300 MB for the programs themselves.
        progress: called with the fraction done and a few words.

    Returns:
        The store, opened.

    Raises:
        UserError: bad input, a full disk, or no engine (install ``layerlab[store]``). Finished phases stay in a hidden
            folder beside ``out``: the same call goes on there.
    """
    engine()
    out = Path(out)
    sources = Sources(
        Path(edges),
        None if nodes is None else Path(nodes),
        None if features is None else Path(features),
        directed,
    )
    if memory < LEAST_MEMORY:
        raise UserError(f"expected at least {LEAST_MEMORY >> 20} MB of memory, got {memory / 2**20:.0f} MB")
    if out.exists() or out.is_symlink():
        raise UserError("is there already; choose another place for the store", file=out)
    for path in (sources.edges, sources.nodes, sources.features):
        if path is not None and not path.is_file():
            raise UserError("expected a file; it is not there", file=path)
    tell = progress or (lambda share, words: None)
    work = work_folder(out)
    try:
        work.mkdir(parents=True, exist_ok=True)
        lock = lock_folder(work)
        try:
            _convert(sources, work, memory, tell)
            tell(1.0, "done")
            publish(work, out)
        except UserError:
            # The tables are at fault, and nothing of use is there yet.
            if not (work / _PHASES).exists():
                shutil.rmtree(work, ignore_errors=True)
            raise
        finally:
            del lock
    except OSError as error:
        hint = "; the same command goes on from here" if error.errno == errno.ENOSPC else ""
        raise UserError(
            f"cannot be written ({error.strerror or error}); choose a writable place, or free space{hint}",
            file=out,
        ) from error
    return open_store(out, verify=False)


def _convert(sources: Sources, work: Path, memory: int, progress: Progress) -> None:
    phases = _Phases(work, sources.describe(), progress)
    spill = work / "spill"
    shutil.rmtree(spill, ignore_errors=True)
    try:
        manifest = _phases(phases, sources, work, spill, memory, True)
    except NotWholeError:
        phases.done.clear()
        manifest = _phases(phases, sources, work, spill, memory, False)
    keep = {*manifest.files}
    for path in work.rglob("*"):
        if path.is_file() and path.relative_to(work).as_posix() not in keep:
            path.unlink()
    shutil.rmtree(spill, ignore_errors=True)
    write_manifest(work, manifest)


def _phases(phases: _Phases, sources: Sources, work: Path, spill: Path, memory: int, whole: bool) -> Manifest:
    connection = connect(memory, spill)
    edge_columns = EdgeColumns(look(connection, sources.edges, heading=False))
    node_columns = None
    if sources.nodes is not None:
        node_columns = NodeColumns(look(connection, sources.nodes, heading=True))
    whole = whole and edge_columns.look_whole and (node_columns is None or node_columns.look_whole)
    files: dict[str, ArrayFile] = {}

    count: int | None = None
    names: tuple[str, ...] = ()
    columns, width = 0, 0
    if node_columns is not None:
        table = node_columns

        def nodes(tell: Progress) -> tuple[dict[str, Any], dict[str, ArrayFile]]:
            if (found := write_nodes(connection, table, work, whole=whole, tell=tell)) is None:
                raise NotWholeError
            facts = {"count": found.count, "names": found.class_names, "shape": [found.columns, found.width]}
            return facts, found.files

        facts, node_files = phases.run("nodes", nodes)
        count, names, (columns, width) = facts["count"], tuple(facts["names"]), facts["shape"]
        files |= node_files
    if columns and sources.features is not None:
        raise UserError(
            f"features come from one place, but {sources.nodes} has {plural(columns, 'column')} of them; keep one",
            file=sources.features,
        )

    def pairs(tell: Progress) -> tuple[dict[str, Any], dict[str, ArrayFile]]:
        ends, id_files = write_ends(
            connection,
            edge_columns,
            work,
            whole=whole,
            nodes=count,
            node_files={name: file for name, file in files.items() if name.startswith("ids")},
            node_table="the node table" if sources.nodes is None else sources.nodes.name,
            tell=tell,
        )
        return {"nodes": ends.num_nodes}, {**ends.files, **id_files}

    facts, end_files = phases.run("ends", pairs)
    connection.close()
    names_of_ends = ("source.npy", "target.npy", "weight.npy")
    ends = Ends(work, {name: end_files[name] for name in names_of_ends if name in end_files}, facts["nodes"])
    files |= {name: file for name, file in end_files.items() if name not in ends.files}

    def rows(tell: Progress) -> tuple[dict[str, Any], dict[str, ArrayFile]]:
        found, written = write_rows(
            ends, work, "", mirror=not sources.directed, swap=False, memory=memory // 2, tell=tell
        )
        return {"stored": found.stored, "loops": found.self_loops, "notes": found.notes}, written

    facts, row_files = phases.run("rows", rows)
    files |= row_files
    if sources.directed:

        def transpose(tell: Progress) -> tuple[dict[str, Any], dict[str, ArrayFile]]:
            return {}, write_rows(
                ends, work, "transpose_", mirror=False, swap=True, memory=memory // 2, tell=tell
            )[1]

        files |= phases.run("transpose", transpose)[1]
    if sources.features is not None:
        path = sources.features

        def matrix(tell: Progress) -> tuple[dict[str, Any], dict[str, ArrayFile]]:
            found = write_matrix(path, work, ends.num_nodes, tell)
            return {"shape": found[:2]}, found[2]

        found, feature_files = phases.run("features", matrix)
        columns, width = found["shape"]
        files |= feature_files
    return Manifest(
        num_nodes=ends.num_nodes,
        stored=facts["stored"],
        self_loops=facts["loops"],
        directed=sources.directed,
        columns=columns,
        width=width,
        class_names=names,
        source=f"edges of '{sources.edges.name}'",
        notes=(*facts["notes"], *_remarks(work, files, facts["loops"])),
        files=files,
    )


def _remarks(work: Path, files: dict[str, ArrayFile], loops: int) -> list[str]:
    """What `Graph.from_edges` says of self-loops and isolated nodes."""
    touched: Any = False
    for name in ("indptr.npy", "transpose_indptr.npy"):
        if name in files:
            touched = touched | (np.diff(open_array(work / name, files[name])) > 0)
    isolated = int(np.count_nonzero(~touched))
    seen = ((loops, "self-loop"), (isolated, "isolated node"))
    return [plural(number, noun) for number, noun in seen if number]
