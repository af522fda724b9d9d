"""A node table larger than memory: ids, labels, split and feature columns, each into files of its own."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerlab.errors import UserError
from layerlab.graph.edge_table import by_number
from layerlab.graph.store import ids as id_files
from layerlab.graph.store.arrays import ArrayWriter
from layerlab.graph.store.layout import PARTS, ArrayFile, block_name
from layerlab.graph.store.reading import Table, first_row, quoted, refusals, stream
from layerlab.graph.store.rows import Tell
from layerlab.lab.arrays import BROKEN

# Columns of a block of features, at least; docs/decisions/0017 says why.
BLOCK_WIDTH = 16
_MOST_BLOCKS = 64
# Their names are kept in memory and in the manifest.
_MOST_CLASSES = 1_000_000
_KNOWN = ("id", "label", "split")
_WORDS = {"train": 1, "val": 2, "valid": 2, "validation": 2, "test": 3}
_FLOAT32_MAX = float(np.finfo(np.float32).max)
_ROWS = 1 << 14


@dataclass(frozen=True)
class NodeColumns:
    """Which columns of a node table are what; the others are features.

    Raises:
        UserError: no column 'id', or a name twice.
    """

    table: Table

    def __post_init__(self) -> None:
        names = [name.lower() if name.lower() in _KNOWN else name for name in self.table.columns]
        repeated = [name for name in names if names.count(name) > 1]
        if repeated or "id" not in names:
            shown = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
            what = f"the column '{repeated[0]}' once" if repeated else "a column 'id' in the heading"
            raise UserError(f"expected {what}, got: {shown}", file=self.table.path)

    def named(self, name: str) -> str | None:
        """The column ``id``, ``label`` or ``split`` as the file writes it; None where there is none."""
        return next((column for column in self.table.columns if column.lower() == name), None)

    @property
    def id(self) -> str:
        return next(column for column in self.table.columns if column.lower() == "id")

    @property
    def features(self) -> tuple[str, ...]:
        """The other columns."""
        return tuple(column for column in self.table.columns if column.lower() not in _KNOWN)

    @property
    def look_whole(self) -> bool:
        """Whether the ids look like whole numbers."""
        return self.table.looks_whole(self.id)


@dataclass(frozen=True)
class Nodes:
    """What a node table gave."""

    count: int
    class_names: tuple[str, ...]
    columns: int
    width: int
    files: dict[str, ArrayFile]


def write_nodes(
    connection: Any, columns: NodeColumns, folder: Path, *, whole: bool, tell: Tell
) -> Nodes | None:
    """Write the files of a node table, nodes in the order of its rows.

    Args:
        connection: of the engine.
        columns: of the table.
        folder: where to write.
        whole: whether ids are whole numbers.
        tell: told the fraction done.

    Returns:
        What there is; None where ids are no whole numbers after all.

    Raises:
        UserError: ids missing or repeated, a split that is none, features that are no finite numbers.
    """
    table, path = columns.table, columns.table.path
    tell(0.0, "reading nodes")
    label, split = columns.named("label"), columns.named("split")
    expression = table.whole(columns.id) if whole else table.words(columns.id)
    parts = [f"{expression} AS id"]
    parts += [f"{'NULL' if label is None else table.words(label)} AS label"]
    parts += [f"{'NULL' if split is None else f'lower({table.words(split)})'} AS split"]
    create = f"CREATE OR REPLACE TABLE nodes AS SELECT {', '.join(parts)} FROM {table.source}"
    connection.execute("SET preserve_insertion_order = true")
    with refusals(path):
        connection.execute(create)
        total, given = first_row(connection, "SELECT count(*), count(id) FROM nodes")
    if given < total:
        if whole and table.text:
            return None
        raise UserError("a node has no id; give it one", file=path)
    if not total:
        raise UserError("it has a heading but no nodes; add a line for each node", file=path)
    repeated = first_row(connection, "SELECT id FROM nodes GROUP BY id HAVING count(*) > 1 LIMIT 1")
    if repeated is not None:
        raise UserError(f"node '{repeated[0]}' is listed more than once; ids are unique", file=path)
    count, files = id_files.write_ids(connection, "SELECT id FROM nodes", path, folder, whole=whole)
    names = _class_names(connection, path)
    if label is not None:
        files |= _labels(connection, names, path, folder)
    if split is not None:
        files |= _split(connection, path, folder)
    connection.execute("DROP TABLE nodes")
    width = block_width(len(columns.features))
    if columns.features:
        files |= _features(connection, columns, folder, width, count, tell)
    return Nodes(count, names, len(columns.features), width, files)


def _class_names(connection: Any, path: Path) -> tuple[str, ...]:
    """Sorted by name, or by number where all are numbers."""
    query = f"SELECT DISTINCT label FROM nodes WHERE label IS NOT NULL LIMIT {_MOST_CLASSES + 1}"
    names = [row[0] for row in connection.sql(query).fetchall()]
    if len(names) > _MOST_CLASSES:
        raise UserError(
            f"expected at most {_MOST_CLASSES:,} classes, got more; is the column 'label' one of classes?",
            file=path,
        )
    numeric = all(name.isascii() and name.isdigit() for name in names)
    return tuple(sorted(names, key=lambda name: (by_number(name), name)) if numeric else sorted(names))


def _labels(connection: Any, names: tuple[str, ...], path: Path, folder: Path) -> dict[str, ArrayFile]:
    at = {name: number for number, name in enumerate(names)}
    with ArrayWriter(folder / "labels.npy", np.int32) as labels:
        for batch in stream(connection, "SELECT label FROM nodes", path, ordered=True):
            # Each word once, however many nodes it stands for.
            coded = batch.column(0).dictionary_encode()
            words = coded.dictionary.to_pylist()
            places = np.array([*(at[word] for word in words), -1], dtype=np.int32)
            labels.append(places[_indices(coded)])
    return {"labels.npy": labels.file}


def _indices(coded: Any) -> NDArray[np.int64]:
    """The index of each entry of a dictionary array; -1, the last, where it is empty."""
    found: NDArray[np.int64] = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return found


def _split(connection: Any, path: Path, folder: Path) -> dict[str, ArrayFile]:
    given = [row[0] for row in connection.sql("SELECT DISTINCT split FROM nodes LIMIT 100").fetchall()]
    for word in given:
        if word is not None and word not in _WORDS:
            raise UserError(f"split is '{word}'; expected train, val, validation, test or nothing", file=path)
    lone = first_row(
        connection, "SELECT id, split FROM nodes WHERE split IS NOT NULL AND label IS NULL LIMIT 1"
    )
    if lone is not None:
        part = PARTS[_WORDS[lone[1]] - 1]
        raise UserError(
            f"node '{lone[0]}' is in the split's part '{part}' but has no label; give it one or clear its split",
            file=path,
        )
    if not any(given):
        return {}
    if "train" not in given:
        raise UserError("the column 'split' names no training node; write 'train' for some nodes", file=path)
    with ArrayWriter(folder / "split.npy", np.uint8) as split:
        for batch in stream(connection, "SELECT split FROM nodes", path, ordered=True):
            coded = batch.column(0).dictionary_encode()
            numbers = [_WORDS[word] for word in coded.dictionary.to_pylist()]
            split.append(np.array([*numbers, 0], dtype=np.uint8)[_indices(coded)])
    return {"split.npy": split.file}


def block_width(columns: int) -> int:
    """Columns of a block: few, but not so few that a store has hundreds of files.

    >>> block_width(100), block_width(10_000)
    (16, 157)
    """
    return max(BLOCK_WIDTH, -(-columns // _MOST_BLOCKS)) if columns else 0


class BlockWriter:
    """The files of features, written some rows at a time."""

    def __init__(self, folder: Path, columns: int, width: int, stack: ExitStack) -> None:
        (folder / "features").mkdir(exist_ok=True)
        starts = range(0, columns, width) if columns else ()
        self._slices = [slice(begin, min(begin + width, columns)) for begin in starts]
        self._writers = [
            stack.enter_context(ArrayWriter(folder / block_name(at), np.float32, (part.stop - part.start,)))
            for at, part in enumerate(self._slices)
        ]

    def append(self, rows: NDArray[np.float32]) -> None:
        """The next rows, all columns."""
        for writer, part in zip(self._writers, self._slices, strict=True):
            writer.append(rows[:, part])

    @property
    def files(self) -> dict[str, ArrayFile]:
        """What was written."""
        return {block_name(at): writer.file for at, writer in enumerate(self._writers)}


def _features(
    connection: Any, columns: NodeColumns, folder: Path, width: int, count: int, tell: Tell
) -> dict[str, ArrayFile]:
    table, names = columns.table, columns.features
    if not table.text:
        for name in names:
            kind = table.types[table.columns.index(name)]
            if not (
                table.looks_whole(name)
                or kind in ("FLOAT", "DOUBLE", "BOOLEAN")
                or kind.startswith("DECIMAL")
            ):
                raise UserError(f"feature '{name}' holds {kind}; expected numbers", file=table.path)
    chosen = ", ".join(f"{table.number(name)} AS {quoted(name)}" for name in names)
    done = 0
    with ExitStack() as stack:
        blocks = BlockWriter(folder, len(names), width, stack)
        for batch in stream(connection, f"SELECT {chosen} FROM {table.source}", table.path, ordered=True):
            for begin in range(0, len(batch), _ROWS):
                piece = batch.slice(begin, _ROWS)
                numbers = np.empty((len(piece), len(names)))
                for at, column in enumerate(piece.columns):
                    numbers[:, at] = column.fill_null(np.nan).to_numpy(zero_copy_only=False)
                if (bad := np.argwhere(~(np.abs(numbers) <= _FLOAT32_MAX))).size:
                    row, at = bad[0]
                    raise UserError(
                        f"feature '{names[at]}' of row {done + row} (from 0) is {numbers[row, at]}; expected a finite"
                        " number",
                        file=table.path,
                    )
                blocks.append(numbers.astype(np.float32))
                done += len(piece)
                tell(done / count, f"writing features: {done:,} of {count:,} nodes")
    return blocks.files


def write_matrix(path: Path, folder: Path, nodes: int, tell: Tell) -> tuple[int, int, dict[str, ArrayFile]]:
    """The features of an ``.npy`` file, read some rows at a time.

    Args:
        path: of a matrix of real numbers, a row for each node.
        folder: where to write.
        nodes: how many there are.
        tell: told the fraction done.

    Returns:
        Columns, columns of a block, files.

    Raises:
        UserError: no such matrix, or a number that is not a finite float32.
    """
    try:
        with path.open("rb") as stream:
            if stream.read(6) != b"\x93NUMPY":
                raise ValueError("it does not begin as an .npy file")
        matrix = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, *BROKEN) as error:
        raise UserError(
            f"expected a matrix written by numpy.save, without pickles ({error})", file=path
        ) from error
    if matrix.ndim != 2 or matrix.dtype.kind not in "buif":
        raise UserError(
            f"expected a matrix of real numbers, nodes x features, got {matrix.dtype} of shape {matrix.shape}",
            file=path,
        )
    if matrix.shape[0] != nodes:
        raise UserError(
            f"it has {matrix.shape[0]} rows, but there are {nodes} nodes; expected a row for each node, in the order"
            " of the node table",
            file=path,
        )
    columns = matrix.shape[1]
    width = block_width(columns)
    if not columns:
        return 0, 0, {}
    with ExitStack() as stack:
        blocks = BlockWriter(folder, columns, width, stack)
        for begin in range(0, nodes, _ROWS):
            # Mapped anew for each piece: pages of a map that have been read count as memory until it is closed.
            if begin:
                matrix = np.load(path, mmap_mode="r", allow_pickle=False)
            piece = np.asarray(matrix[begin : begin + _ROWS])
            with np.errstate(over="ignore"):
                numbers = piece.astype(np.float32)
            # After the cast: the largest float32 is beyond half precision, where a comparison with it says nothing.
            if (bad := np.argwhere(~np.isfinite(numbers))).size:
                row, at = bad[0]
                raise UserError(
                    f"row {begin + row}, column {at} (from 0) is {piece[row, at]}; expected finite float32 numbers",
                    file=path,
                )
            blocks.append(numbers)
            done = begin + len(piece)
            tell(done / nodes, f"writing features: {done:,} of {nodes:,} nodes")
    return columns, width, blocks.files
