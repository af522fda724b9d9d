"""Tables larger than memory, read by DuckDB: CSV, TSV or Parquet becomes batches of columns.

Everything that is said to the engine is made here; ``docs/decisions/0017`` says why this engine.
"""

from __future__ import annotations

import contextlib
import glob
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from layerlab.errors import UserError
from layerlab.graph.edge_table import Head, read_head

PARQUET = (".parquet", ".pq")
_BATCH = 1 << 18


def engine() -> ModuleType:
    """The module duckdb.

    Raises:
        UserError: it, or pyarrow, through which its results come, is not installed.
    """
    try:
        import duckdb
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise UserError(
            f'converting a graph needs {error.name}; install it with: pip install "layerlab[store]"'
        ) from error
    return duckdb


def connect(memory: int, spill: Path) -> Any:
    """A connection that keeps to ``memory`` bytes and spills what is more into the folder ``spill``."""
    connection = engine().connect(":memory:")
    settings = {
        "memory_limit": f"{max(memory >> 20, 64)}MiB",
        "temp_directory": str(spill),
        "autoinstall_known_extensions": "false",
        "enable_progress_bar": "false",
    }
    for name, value in settings.items():
        connection.execute(f"SET {name} = {literal(value)}")
    return connection


@dataclass(frozen=True)
class Table:
    """A file of rows, looked at.

    Attributes:
        path: the file.
        columns: its names, as the engine calls them.
        source: what to write behind FROM.
        text: whether every column comes as text (CSV) or has a type of its own (Parquet).
        types: of the columns, in the engine's words; VARCHAR for text.
        rows: how many there are, about.
        head: the first rows as text, for CSV.
    """

    path: Path
    columns: tuple[str, ...]
    source: str
    text: bool
    types: tuple[str, ...]
    rows: int
    head: Head | None

    def whole(self, column: str) -> str:
        """An expression for a column of whole numbers; NULL where text is not one as it is usually written."""
        name = quoted(column)
        if not self.text:
            return f"CAST({name} AS BIGINT)"
        number = f"TRY_CAST(trim({name}) AS BIGINT)"
        # Neither 007 nor 7.0 is 7: the text must be what the number is written as.
        return f"CASE WHEN CAST({number} AS VARCHAR) = trim({name}) THEN {number} END"

    def words(self, column: str) -> str:
        """An expression for a column as text; NULL where it is empty."""
        return f"nullif(trim(CAST({quoted(column)} AS VARCHAR)), '')"

    def number(self, column: str) -> str:
        """An expression for a column of real numbers; NULL where it is empty or no number."""
        if not self.text:
            return f"CAST({quoted(column)} AS DOUBLE)"
        return (
            f"CASE WHEN NOT contains({quoted(column)}, '_') THEN TRY_CAST({self.words(column)} AS DOUBLE) END"
        )

    def looks_whole(self, column: str) -> bool:
        """Whether a column holds whole numbers, by its type or by the first rows."""
        at = self.columns.index(column)
        if self.head is None:
            return bool(re.fullmatch(r"U?(TINY|SMALL|BIG)?(INT|INTEGER)", self.types[at]))
        return all(re.fullmatch(r"0|-?[1-9]\d{0,17}", row[at]) for row in self.head.rows)


def quoted(name: str) -> str:
    """A name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


def _file(path: Path) -> str:
    """A file's path as the engine's readers take it: they would read ``edges[1].csv`` as a pattern of names."""
    return literal(glob.escape(str(path)))


def look(connection: Any, path: Path, *, heading: bool) -> Table:
    """What a file holds; ``heading`` where a CSV's first line names the columns in any case (a node table).

    Raises:
        UserError: not there, empty, or no table.
    """
    if not path.is_file():
        there = "a folder" if path.is_dir() else "not there"
        raise UserError(f"expected a table (CSV, TSV or Parquet); it is {there}", file=path)
    if path.suffix.lower() in PARQUET:
        source = f"read_parquet({_file(path)})"
        with refusals(path):
            described = connection.sql(f"DESCRIBE SELECT * FROM {source}").fetchall()
            rows = first_row(connection, f"SELECT count(*) FROM {source}")[0]
        columns, types = tuple(row[0] for row in described), tuple(row[1] for row in described)
        return Table(path, columns, source, False, types, rows, None)
    head = read_head(path, heading=heading)
    names = head.columns or tuple(f"column {at + 1}" for at in range(head.width))
    described_columns = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in names)
    source = (
        f"read_csv({_file(path)}, columns = {{{described_columns}}}, delim = {literal(head.delimiter)},"
        f" header = {str(bool(head.columns)).lower()}, auto_detect = false, quote = '\"', escape = '\"',"
        " comment = '#', strict_mode = true)"
    )
    size = path.stat().st_size
    rows = max(1, round(size / max(head.bytes_per_row, 1.0)))
    return Table(path, names, source, True, ("VARCHAR",) * len(names), rows, head)


def first_row(connection: Any, query: str) -> Any:
    """The first row of a result, None where it is empty."""
    return next(iter(connection.sql(query).limit(1).fetchall()), None)


def stream(connection: Any, query: str, path: Path, *, ordered: bool = False) -> Iterator[Any]:
    """The result of a query as record batches; in the order of the file where asked for, which takes longer.

    Raises:
        UserError: whatever the engine has to say of the file ``path``.
    """
    with refusals(path):
        connection.execute(f"SET preserve_insertion_order = {str(ordered).lower()}")
        yield from connection.sql(query).to_arrow_reader(_BATCH)


@contextlib.contextmanager
def refusals(path: Path) -> Iterator[None]:
    """The engine's errors in one line, with the file and its line."""
    duckdb = engine()
    try:
        yield
    except duckdb.InterruptException:
        raise KeyboardInterrupt from None
    except duckdb.Error as error:
        text = str(error)
        line = re.search(r"on Line: (\d+)", text)
        counted = re.search(r"Expected Number of Columns: (\d+) Found: (\d+)", text)
        if counted is not None:
            said = f"expected {counted[1]} columns as in the lines before, got {counted[2]}"
        else:
            said = f"cannot be read as a table ({text.splitlines()[0]})"
        if re.search(r"No space left|failed to offload|max_temp_directory", text, re.IGNORECASE):
            said = f"the disk is full ({text.splitlines()[0]}); free space and run the same command to go on"
        raise UserError(said, file=path, line=None if line is None else int(line[1])) from None
