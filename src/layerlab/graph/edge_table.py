"""Edge lists as text: one edge a line, ids in the first two columns, perhaps a weight in the third.

Here a file becomes columns of strings, and every complaint names its file and line; what the ids mean is for
the caller to say.
"""

from __future__ import annotations

import csv
import io
import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from layerlab.errors import UserError

_DELIMITERS = "\t;,"  # on equal terms the earlier one: a comma may be a decimal point
_SNIFFED_LINES = 100
# The names of the columns source, target and weight, in lower case.
HEADINGS = (
    frozenset({"source", "src", "from", "node1"}),
    frozenset({"target", "dst", "to", "node2", "destination"}),
    frozenset({"weight", "w", "value"}),
)


def by_number(digits: str) -> tuple[int, str]:
    """What sorts words of digits by the numbers they are, however long; ``int`` refuses more than 4,300 digits.

    >>> sorted(["10", "9", "007"], key=by_number)
    ['007', '9', '10']
    """
    number = digits.lstrip("0")
    return len(number), number


class EdgeTable(NamedTuple):
    """The columns of an edge list; ``lines`` holds the 1-based line of each edge."""

    source: list[str]
    target: list[str]
    weight: list[float] | None
    lines: list[int]


def read_edge_table(path: str | Path) -> EdgeTable:
    """Read an edge list: CSV, TSV, semicolons or blanks, whichever the file uses.

    Two columns, ids as they are written, or three, the third a finite weight; the same number in every line.
    Empty lines and lines that begin with ``#`` are passed over. A first line that names its columns
    (``source``, ``src``, ``from`` or ``node1``, then ``target``, ``dst``, ``to``, ``destination`` or
    ``node2``, then ``weight``, ``w`` or ``value``) is a header. UTF-8, with or without byte order mark;
    fields may be quoted.

    Args:
        path: the file.

    Returns:
        (source, target, weight or None, lines), equally long; empty for a file with a header only.

    Raises:
        UserError: with the file, and the line where there is one: not there, empty, not text, a line without
            its target, a weight that is no finite number, columns that change in number.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "edges.csv"
    ...     _ = file.write_text("source,target,weight\\nann,bob,0.5\\n")
    ...     read_edge_table(file)
    EdgeTable(source=['ann'], target=['bob'], weight=[0.5], lines=[2])
    """
    path = Path(path)
    content = _content(path)
    source: list[str] = []
    target: list[str] = []
    weight: list[float] = []
    lines: list[int] = []
    width = 0
    for line, cells in _rows(content, _sniff(content), path):
        if width == 0:
            width = _width(cells, path, line)
            if _is_header(cells, path, line):
                continue
        if len(cells) != width:
            raise UserError(_wrong_width(cells, width), file=path, line=line)
        if not (cells[0] and cells[1]):
            name = "target" if cells[0] else "source"
            raise UserError(f"the {name} of this edge is empty; complete or remove it", file=path, line=line)
        source.append(cells[0])
        target.append(cells[1])
        if width == 3:
            weight.append(_weight(cells[2], path, line))
        lines.append(line)
    if width == 0:
        raise UserError("the file holds no edges; expected one edge a line: source,target", file=path)
    return EdgeTable(source, target, weight if width == 3 else None, lines)


class Head(NamedTuple):
    """The beginning of a table: ``columns`` are its names, or empty without a heading; ``rows`` the first ones."""

    delimiter: str
    columns: tuple[str, ...]
    width: int
    rows: list[list[str]]
    bytes_per_row: float


def read_head(path: str | Path, *, heading: bool, size: int = 1 << 18) -> Head:
    """Look at the beginning of a table that may be larger than memory.

    Args:
        path: the file; its format as in `read_edge_table`.
        heading: True: the first line names the columns, whatever they are. False: it is an edge list, whose first line
            may name them.
        size: bytes to look at.

    Raises:
        UserError: with file and line: not there, empty, not text, not an edge list.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "edges.tsv"
    ...     _ = file.write_text("src\\tdst\\n1\\t2\\n")
    ...     read_head(file, heading=False)[:4]
    ('\\t', ('src', 'dst'), 2, [['1', '2']])
    """
    path = Path(path)
    content = _content(path, size)
    delimiter = _sniff(content)
    columns: tuple[str, ...] = ()
    rows: list[list[str]] = []
    width = 0
    for line, cells in _rows(content, delimiter, path):
        if width == 0:
            width = len(cells) if heading else _width(cells, path, line)
            if heading or _is_header(cells, path, line):
                columns = tuple(cells)
                continue
        if len(cells) == width:  # what is wrong with another line is for the reader of all lines to say
            rows.append(cells)
    if width == 0:
        raise UserError("the file is empty; expected a line for each row of a table", file=path)
    return Head(delimiter, columns, width, rows, len(content.encode()) / max(len(rows), 1))


def _content(path: Path, size: int = -1) -> str:
    """The text with Unix line ends; of a longer file the whole lines among the first ``size`` bytes."""
    try:
        with path.open("rb") as stream:
            raw = stream.read(size)
            if stream.read(1) and b"\n" in raw:
                raw = raw[: raw.rindex(b"\n") + 1]
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror}); expected an edge list", file=path) from None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise UserError("this line is not UTF-8 text; save the file as UTF-8", file=path, line=line) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _is_comment(line: str) -> bool:
    return not line or line.isspace() or line.lstrip().startswith("#")


def _sniff(content: str) -> str:
    """The delimiter that makes the most cells of the first line that one cuts at all; else a blank."""
    lines = (line.strip() for line in io.StringIO(content) if not _is_comment(line))
    for line in itertools.islice(lines, _SNIFFED_LINES):
        best = max(_DELIMITERS, key=lambda delimiter: _cells(line, delimiter))
        if _cells(line, best) > 1:
            return best
    return " "


def _cells(line: str, delimiter: str) -> int:
    try:
        return len(next(csv.reader([line], delimiter=delimiter, strict=True)))
    except csv.Error:  # a quoted field that goes on behind its closing quote: not this delimiter
        return 0


def _rows(content: str, delimiter: str, path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line number, cells) of each line that says something."""
    # Comments become empty lines, so that the reader's count stays the file's.
    lines = ("\n" if _is_comment(line) else line for line in io.StringIO(content))
    if delimiter == " ":
        lines = (line.strip() + "\n" for line in lines)
    reader = csv.reader(lines, delimiter=delimiter, strict=True, skipinitialspace=True)
    line = 0
    try:
        for cells in reader:
            if reader.line_num > line + 1:
                raise UserError("a quoted field is not closed on its line", file=path, line=line + 1)
            line += 1
            if cells:
                yield line, [cell.strip() for cell in cells]
    except csv.Error as error:
        raise UserError(f"not a line of a table ({error})", file=path, line=line + 1) from None


def _wrong_width(cells: list[str], width: int) -> str:
    if len(cells) == 1:
        return (
            f"a dangling edge: expected a source and a target, got '{cells[0]}' only; complete or remove it"
        )
    return f"expected {width} columns as in the lines before, got {len(cells)}"


def _width(cells: list[str], path: Path, line: int) -> int:
    """The number of columns that the first line sets."""
    if len(cells) < 2:
        raise UserError(_wrong_width(cells, 2), file=path, line=line)
    if len(cells) > 3:
        raise UserError(
            f"expected the columns source,target or source,target,weight, got {len(cells)} columns;"
            " remove the others",
            file=path,
            line=line,
        )
    return len(cells)


def _is_header(cells: list[str], path: Path, line: int) -> bool:
    names = [cell.lower() for cell in cells]
    if not {names[0], names[1]} <= HEADINGS[0] | HEADINGS[1]:
        return False
    for name, known, what in zip(names, HEADINGS, ("source", "target", "weight"), strict=False):
        if name not in known:
            raise UserError(
                f"column '{name}' stands where '{what}' is expected; the columns are source,target[,weight]",
                file=path,
                line=line,
            )
    return True


def _weight(cell: str, path: Path, line: int) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if "_" in cell or not math.isfinite(value):
        raise UserError(f"expected a finite number as weight, got '{cell}'", file=path, line=line)
    return value
