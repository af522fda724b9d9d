"""The edges of a file as pairs of positions, in files of their own; and which nodes there are, if no table says."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerlab.errors import UserError
from layerlab.graph.edge_table import HEADINGS, read_edge_table
from layerlab.graph.edges import INT32_MAX
from layerlab.graph.store import ids as id_files
from layerlab.graph.store.arrays import ArrayWriter, read_pieces
from layerlab.graph.store.layout import ArrayFile
from layerlab.graph.store.reading import Table, first_row, stream
from layerlab.graph.store.rows import Ends, Tell

_LARGEST_REREAD = 1 << 26  # bytes of a file that is read again to say in which line something is wrong


class NotWholeError(Exception):
    """Some id is no whole number after all: all of them are text then."""


class EdgeColumns:
    """Which columns of a table are an edge's source, target and, perhaps, weight."""

    def __init__(self, table: Table) -> None:
        self.table = table
        names = [name.lower() for name in table.columns]
        wanted = [next((at for at, name in enumerate(names) if name in known), None) for known in HEADINGS]
        if wanted[0] is None or wanted[1] is None:
            if len(names) not in (2, 3) or table.head is None:
                shown = ", ".join(table.columns[:6]) + (", ..." if len(names) > 6 else "")
                raise UserError(
                    f"expected columns 'source', 'target' and perhaps 'weight', got: {shown}", file=table.path
                )
            wanted = [0, 1, 2 if len(names) == 3 else None]
        self.ends = tuple(table.columns[at] for at in wanted[:2] if at is not None)
        self.weight = None if wanted[2] is None else table.columns[wanted[2]]
        if table.head is None:
            for name in self.ends:
                kind = table.types[table.columns.index(name)]
                if not (table.looks_whole(name) or kind == "VARCHAR"):
                    raise UserError(
                        f"column '{name}' holds {kind}; expected whole numbers or text as ids",
                        file=table.path,
                    )

    @property
    def look_whole(self) -> bool:
        """Whether the ids look like whole numbers."""
        return all(self.table.looks_whole(name) for name in self.ends)

    def select(self, *, whole: bool) -> str:
        """A query for (s, t) or (s, t, w)."""
        expression = self.table.whole if whole else self.table.words
        columns = [f"{expression(name)} AS {short}" for name, short in zip(self.ends, "st", strict=True)]
        if self.weight is not None:
            columns.append(f"{self.table.number(self.weight)} AS w")
        return f"SELECT {', '.join(columns)} FROM {self.table.source}"


def write_ends(
    connection: Any,
    columns: EdgeColumns,
    folder: Path,
    *,
    whole: bool,
    nodes: int | None,
    node_files: dict[str, ArrayFile],
    node_table: str,
    tell: Tell,
) -> tuple[Ends, dict[str, ArrayFile]]:
    """Write ``source.npy``, ``target.npy`` and ``weight.npy`` into ``folder``.

    Args:
        connection: of the engine.
        columns: of the edges' table.
        folder: where to write.
        whole: whether ids are whole numbers; else they are text.
        nodes: how many a node table lists; None: the nodes are the ids that occur, in ascending order.
        node_files: the files of the node table's ids.
        node_table: its name, for errors.
        tell: told the fraction done.

    Returns:
        The edges, and the files of the ids, where there is no node table.

    Raises:
        NotWholeError: text among what looked like whole numbers.
        UserError: whatever is wrong with the file.
    """
    if nodes is not None:
        table = id_files.positions(folder, node_files, nodes) if whole else None
        if table is None:
            id_files.register(connection, "ids", folder, node_files, nodes)
            return _joined(connection, columns, folder, whole, nodes, node_table, tell), node_files
        return _looked_up(connection, columns, folder, table, nodes, node_table, tell), node_files
    if whole and (found := _ranked(connection, columns, folder, tell)) is not None:
        return found
    ends = columns.select(whole=whole)
    tell(0.0, "collecting the ids")
    connection.execute(
        "CREATE OR REPLACE TABLE ids AS SELECT id, CAST(row_number() OVER (ORDER BY id) - 1 AS INTEGER) AS place FROM"
        f" (SELECT s AS id FROM ({ends}) UNION SELECT t FROM ({ends})) WHERE id IS NOT NULL"
    )
    query = "SELECT id FROM ids ORDER BY place"
    count, files = id_files.write_ids(connection, query, columns.table.path, folder, whole=whole)
    return _joined(connection, columns, folder, whole, count, node_table, tell), files


class _Writers:
    """The files of the edges."""

    def __init__(self, folder: Path, weighted: bool, stack: ExitStack) -> None:
        self.folder = folder
        kinds: dict[str, Any] = {"source.npy": np.int32, "target.npy": np.int32}
        if weighted:
            kinds["weight.npy"] = np.float64
        self.writers = {
            name: stack.enter_context(ArrayWriter(folder / name, kind)) for name, kind in kinds.items()
        }

    def append(self, *columns: NDArray[Any]) -> None:
        for writer, column in zip(self.writers.values(), columns, strict=True):
            writer.append(column)

    def ends(self, nodes: int) -> Ends:
        return Ends(self.folder, {name: writer.file for name, writer in self.writers.items()}, nodes)


def _batches(
    connection: Any, columns: EdgeColumns, query: str, tell: Tell, *, whole: bool
) -> Generator[tuple[Any, ...]]:
    """(source, target[, weight]) as numpy arrays, weights checked; the ends are still what the query gives."""
    done = 0
    for batch in stream(connection, query, columns.table.path):
        if not len(batch):
            continue
        ends = batch.columns[:2]
        if any(column.null_count for column in ends):
            if whole and columns.table.text:
                raise NotWholeError
            raise _refused(columns, "the source or target of an edge is empty; complete or remove it")
        weights = [column.to_numpy(zero_copy_only=False) for column in batch.columns[2:]]
        if weights and (batch.column(2).null_count or not np.isfinite(weights[0]).all()):
            raise _refused(columns, "expected a finite number as the weight of every edge")
        done += len(batch)
        tell(min(1.0, done / max(columns.table.rows, 1)), f"reading edges: {done:,}")
        yield *(column.to_numpy(zero_copy_only=False) for column in ends), *weights


def _refused(columns: EdgeColumns, message: str) -> UserError:
    """The error with the line of the file, if that can be found in a short time."""
    path = columns.table.path
    if columns.table.text and path.stat().st_size <= _LARGEST_REREAD:
        read_edge_table(path)  # raises, with the line
    return UserError(message, file=path)


def _ranked(
    connection: Any, columns: EdgeColumns, folder: Path, tell: Tell
) -> tuple[Ends, dict[str, ArrayFile]] | None:
    """Whole numbers below 2**31, by a bit for each; None where there are others."""
    from layerlab.graph.store import kernels

    bits = np.zeros(1 << 10, dtype=np.uint64)
    query = columns.select(whole=True)
    with ExitStack() as stack:
        writers = _Writers(folder, columns.weight is not None, stack)
        for source, target, *weight in _batches(connection, columns, query, tell, whole=True):
            least, most = min(source.min(), target.min()), max(source.max(), target.max())
            if least < 0 or most >= INT32_MAX:
                return None
            if most >> 6 >= bits.size:
                grown = np.zeros(max(2 * bits.size, (int(most) >> 6) + 1), dtype=np.uint64)
                grown[: bits.size] = bits
                bits = grown
            for column in (source, target):
                kernels.mark(bits, column)
            writers.append(source, target, *weight)
    counts = np.bitwise_count(bits).astype(np.int64)
    nodes = int(counts.sum())
    present = np.flatnonzero(counts)
    # All of 0 … n−1, and nothing else.
    plain = not nodes or (present[-1] * 64 + int(bits[present[-1]]).bit_length() == nodes)
    ends = writers.ends(nodes)
    if plain:
        return ends, {}
    with ArrayWriter(folder / "ids.npy", np.int64) as ids:
        for start in range(0, bits.size, 1 << 16):
            words = bits[start : start + (1 << 16)]
            ids.append(np.flatnonzero(np.unpackbits(words.view(np.uint8), bitorder="little")) + 64 * start)
    before = (np.cumsum(counts) - counts).astype(np.int32)
    return _closed(ends, bits, before), {"ids.npy": ids.file}


def _closed(ends: Ends, bits: NDArray[np.uint64], before: NDArray[np.int32]) -> Ends:
    """The edges with each id replaced by how many smaller ones there are."""
    from layerlab.graph.store import kernels

    files = dict(ends.files)
    for name in ("source.npy", "target.npy"):
        other = ends.folder / f"closed_{name}"
        with ArrayWriter(other, np.int32) as writer:
            for piece in read_pieces(ends.folder / name, files[name], 1 << 21):
                out = np.empty_like(piece)
                kernels.rank(bits, before, piece, out)
                writer.append(out)
        other.replace(ends.folder / name)
        files[name] = writer.file
    return Ends(ends.folder, files, ends.num_nodes)


def _unknown(columns: EdgeColumns, node: object, node_table: str) -> UserError:
    return UserError(
        f"edge names node '{node}', which {node_table} does not list; add it or remove the edge",
        file=columns.table.path,
    )


def _looked_up(
    connection: Any,
    columns: EdgeColumns,
    folder: Path,
    table: NDArray[np.int32],
    nodes: int,
    node_table: str,
    tell: Tell,
) -> Ends:
    """Whole numbers, through a table of positions."""
    query = columns.select(whole=True)
    with ExitStack() as stack:
        writers = _Writers(folder, columns.weight is not None, stack)
        for source, target, *weight in _batches(connection, columns, query, tell, whole=True):
            found = []
            for column in (source, target):
                outside = (column < 0) | (column >= table.size)
                if outside.any():
                    raise _unknown(columns, column[outside][0], node_table)
                at = table[column]
                if (at < 0).any():
                    raise _unknown(columns, column[at < 0][0], node_table)
                found.append(at)
            writers.append(*found, *weight)
    return writers.ends(nodes)


def _joined(
    connection: Any,
    columns: EdgeColumns,
    folder: Path,
    whole: bool,
    nodes: int,
    node_table: str,
    tell: Tell,
) -> Ends:
    """Any ids, through a join with the engine's table ``ids``."""
    given = columns.select(whole=whole)
    weight = ", e.w" if columns.weight is not None else ""
    joined = f"FROM ({given}) e LEFT JOIN ids a ON e.s = a.id LEFT JOIN ids b ON e.t = b.id"
    # -1: not in the table; NULL: empty.
    ends = (f"CASE WHEN e.{end} IS NOT NULL THEN coalesce({at}.place, -1) END" for end, at in ("sa", "tb"))
    with ExitStack() as stack:
        writers = _Writers(folder, columns.weight is not None, stack)
        query = f"SELECT {', '.join(ends)}{weight} {joined}"
        batches = _batches(connection, columns, query, tell, whole=whole)
        for source, target, *rest in batches:
            if min(source.min(), target.min()) < 0:
                del source, target, rest
                batches.close()  # the engine answers one query at a time
                first = "SELECT coalesce(CASE WHEN a.place IS NULL THEN e.s END, e.t)"
                node = first_row(connection, f"{first} {joined} WHERE a.place IS NULL OR b.place IS NULL")
                raise _unknown(columns, node[0], node_table)
            writers.append(source, target, *rest)
    return writers.ends(nodes)
