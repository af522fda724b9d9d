"""A person's own data set: a folder with ``edges.csv`` and ``nodes.csv``, and perhaps a file of features."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from layerlab.errors import UserError
from layerlab.graph.edge_table import by_number, read_edge_table
from layerlab.graph.node_data import UNKNOWN, NodeDataset, Split
from layerlab.graph.sparse import SparseMatrix
from layerlab.graph.structure import Graph
from layerlab.lab.arrays import BROKEN

PARTS = ("train", "validation", "test")
_PART_OF = {"train": "train", "val": "validation", "validation": "validation", "test": "test", "": ""}
_DELIMITERS = (",", "\t", ";")
_FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass
class _Nodes:
    """``nodes.csv`` as it stands: one entry a node, in the order of the file."""

    ids: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    feature_names: tuple[str, ...] = ()
    features: list[NDArray[np.float64]] = field(default_factory=list)


def _text(file: Path) -> str:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UserError(
            f"cannot read it ({error.strerror or error}); a data set's folder holds edges.csv and nodes.csv",
            file=file,
        ) from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"byte {content[error.start]:#04x} is not UTF-8; save the file as UTF-8",
            file=file,
            line=content[: error.start].count(b"\n") + 1,
        ) from error


def _numbers(cells: list[str], names: tuple[str, ...], *, file: Path, line: int) -> NDArray[np.float64]:
    try:
        values = np.array(cells, dtype=np.float64)
    except ValueError:
        values = np.full(len(cells), math.nan)
    # Features are kept as float32, so what overflows there is as infinite as "inf" itself.
    bad = np.flatnonzero(~(np.abs(values) <= _FLOAT32_MAX))
    for column in bad:
        try:
            value = float(cells[column])
        except ValueError:
            value = math.nan
        if not abs(value) <= _FLOAT32_MAX:
            raise UserError(
                f"feature '{names[column]}' is '{cells[column]}'; expected a finite number",
                file=file,
                line=line,
            )
    return values


def _read_nodes(file: Path) -> _Nodes:
    text = _text(file)
    heading = next((row for row in text.splitlines() if row.strip()), None)
    if heading is None:
        raise UserError("it is empty; expected a heading line 'id,label' and a line for each node", file=file)
    delimiter = max(_DELIMITERS, key=heading.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    nodes = _Nodes()
    columns: dict[str, int] = {}
    feature_columns: list[int] = []
    first_line: dict[str, int] = {}
    try:
        for raw in reader:
            row, line = [cell.strip() for cell in raw], reader.line_num
            if not any(row):
                continue
            if not columns:
                columns = _columns(row, file=file, line=line)
                feature_columns = [at for name, at in columns.items() if name not in ("id", "label", "split")]
                nodes.feature_names = tuple(row[at] for at in feature_columns)
                continue
            if len(row) != len(columns):
                raise UserError(
                    f"expected {len(columns)} cells, as in the heading, got {len(row)}", file=file, line=line
                )
            _add(nodes, row, columns, first_line, file=file, line=line)
            if feature_columns:
                cells = [row[at] for at in feature_columns]
                nodes.features.append(_numbers(cells, nodes.feature_names, file=file, line=line))
    except csv.Error as error:
        raise UserError(
            f"expected comma-separated values ({error})", file=file, line=reader.line_num
        ) from error
    if not nodes.ids:
        raise UserError("it has a heading but no nodes; add a line for each node", file=file)
    return nodes


def _columns(heading: list[str], *, file: Path, line: int) -> dict[str, int]:
    columns: dict[str, int] = {}
    for at, name in enumerate(heading):
        key = name.lower() if name.lower() in ("id", "label", "split") else name
        if not key or key in columns:
            what = "has no name" if not key else f"repeats the name '{name}'"
            raise UserError(
                f"column {at + 1} of the heading {what}; name each column once", file=file, line=line
            )
        columns[key] = at
    for needed in ("id", "label"):
        if needed not in columns:
            shown = ", ".join(heading[:6]) + (", ..." if len(heading) > 6 else "")
            raise UserError(
                f"expected a column '{needed}' in the heading, got: {shown}", file=file, line=line
            )
    return columns


def _add(
    nodes: _Nodes,
    row: list[str],
    columns: dict[str, int],
    first_line: dict[str, int],
    *,
    file: Path,
    line: int,
) -> None:
    node, label = row[columns["id"]], row[columns["label"]]
    if not node:
        raise UserError("this node has no id; give it one", file=file, line=line)
    if node in first_line:
        raise UserError(
            f"node '{node}' is on line {first_line[node]} already; ids are unique", file=file, line=line
        )
    first_line[node] = line
    word = row[columns["split"]] if "split" in columns else ""
    if word.lower() not in _PART_OF:
        raise UserError(
            f"split is '{word}'; expected train, val, validation, test or nothing", file=file, line=line
        )
    part = _PART_OF[word.lower()]
    if part and not label:
        raise UserError(
            f"node '{node}' is in the split's part '{part}' but has no label; give it one or clear its split",
            file=file,
            line=line,
        )
    nodes.ids.append(node)
    nodes.labels.append(label)
    nodes.parts.append(part)
    nodes.lines.append(line)


def _labels(nodes: _Nodes, *, file: Path, needed: bool) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    given = {label for label in nodes.labels if label}
    numeric = all(label.isascii() and label.isdigit() for label in given)
    names = sorted(given, key=lambda label: (by_number(label), label)) if numeric else sorted(given)
    if not names and needed:
        raise UserError(
            "no node has a label; fill in the column 'label' for some nodes of each class", file=file
        )
    if len(names) == 1 and needed:
        raise UserError(f"every label is '{names[0]}'; a classifier needs at least two classes", file=file)
    position = {label: at for at, label in enumerate(names)}
    return np.array([position.get(label, UNKNOWN) for label in nodes.labels], dtype=np.int64), tuple(names)


def _split(nodes: _Nodes, *, file: Path) -> Split | None:
    parts = np.array(nodes.parts)
    if not parts.any():
        return None
    train, validation, test = (np.flatnonzero(parts == part) for part in PARTS)
    if not train.size:
        raise UserError("the column 'split' names no training node; write 'train' for some nodes", file=file)
    return Split(train, validation, test)


def _feature_file(file: Path) -> Any:
    """The matrix of a features file, dense or sparse, as it is stored."""
    try:
        with file.open("rb") as stream:
            if file.suffix == ".npz":
                matrix = sparse.csr_array(sparse.load_npz(stream))
                matrix.check_format(full_check=True)
                return matrix
            matrix = np.load(stream, allow_pickle=False)
    except (OSError, AttributeError, *BROKEN) as error:
        kind = "scipy.sparse.save_npz" if file.suffix == ".npz" else "numpy.save"
        raise UserError(
            f"expected a matrix written by {kind}, without pickles ({error})", file=file
        ) from error
    if not isinstance(matrix, np.ndarray) or matrix.ndim != 2:
        raise UserError("expected one two-dimensional array, nodes x features", file=file)
    return matrix


def _checked(matrix: Any, nodes: int, *, file: Path) -> SparseMatrix:
    if matrix.shape[0] != nodes:
        raise UserError(
            f"it has {matrix.shape[0]} rows, but nodes.csv lists {nodes} nodes; "
            "expected a row for each node, in the order of nodes.csv",
            file=file,
        )
    if matrix.dtype.kind not in "buif":
        raise UserError(f"expected real numbers, got {matrix.dtype}", file=file)
    if isinstance(matrix, np.ndarray):
        # scipy knows neither half precision nor the byte order of other machines.
        matrix = matrix.astype(np.float64 if matrix.dtype.kind == "f" else matrix.dtype.newbyteorder("="))
    entries = sparse.coo_array(matrix)
    bad = np.flatnonzero(~(np.abs(entries.data.astype(np.float64)) <= _FLOAT32_MAX))
    if bad.size:
        row, column = entries.row[bad[0]], entries.col[bad[0]]
        raise UserError(
            f"row {row}, column {column} (from 0) is {entries.data[bad[0]]}; expected finite float32 numbers",
            file=file,
        )
    return SparseMatrix.from_scipy(sparse.csr_array(entries))


def _features(folder: Path, nodes: _Nodes) -> tuple[SparseMatrix, str]:
    """The features and, where a reader would not expect them, a note on what they are."""
    count = len(nodes.ids)
    files = [file for file in (folder / "features.npy", folder / "features.npz") if file.exists()]
    if len(files) + bool(nodes.feature_names) > 1:
        found = [
            *(["the columns of nodes.csv"] if nodes.feature_names else []),
            *(file.name for file in files),
        ]
        raise UserError(
            f"features come from one place, but there are {' and '.join(found)}; keep one", file=folder
        )
    if files:
        return _checked(_feature_file(files[0]), count, file=files[0]), ""
    if nodes.feature_names:
        return SparseMatrix.from_scipy(sparse.csr_array(np.stack(nodes.features))), ""
    note = f"no features given: each node has itself as its only feature (the {count} x {count} identity)"
    return SparseMatrix.from_scipy(sparse.eye_array(count, format="csr")), note


def load_folder(folder: str | Path, *, need_labels: bool = True) -> NodeDataset:
    """Read a data set from a folder.

    ``nodes.csv`` has a heading and a line for each node: ``id``, ``label`` (empty: unknown), perhaps
    ``split`` (train, val, validation, test or empty); every other column is a numeric feature. ``edges.csv``
    has two ids a line and perhaps a weight; edges are undirected, and one listed in both directions counts
    once. Features may stand in ``features.npy`` (a dense array) or ``features.npz``
    (``scipy.sparse.save_npz``) instead, rows in the order of ``nodes.csv``. Without any features, each node
    gets itself as its only feature (the identity matrix), as is usual for graphs without attributes;
    ``notes`` says so.

    Args:
        folder: the folder.
        need_labels: whether data without labels, or with one class only, are refused: training needs two classes,
            prediction none.

    Returns:
        The data set, nodes in the order of ``nodes.csv``; classes sorted by name, or by number where all are
        numbers.

    Raises:
        UserError: whatever is wrong with the files, with file and line.
    """
    folder = Path(folder)
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "is not there"
        raise UserError(f"expected a folder with edges.csv and nodes.csv; this {what}", file=folder)
    nodes_file, edges_file = folder / "nodes.csv", folder / "edges.csv"
    nodes = _read_nodes(nodes_file)
    labels, class_names = _labels(nodes, file=nodes_file, needed=need_labels)
    split = _split(nodes, file=nodes_file)
    features, note = _features(folder, nodes)

    sources, targets, weights, lines = read_edge_table(edges_file)
    position = {node: at for at, node in enumerate(nodes.ids)}
    ends = []
    for named in (sources, targets):
        for node, line in zip(named, lines, strict=True):
            if node not in position:
                raise UserError(
                    f"edge names node '{node}', which nodes.csv does not list; add it or remove the edge",
                    file=edges_file,
                    line=line,
                )
        ends.append(np.array([position[node] for node in named], dtype=np.int64))
    try:
        graph = Graph.from_edges(*ends, num_nodes=len(nodes.ids), weight=weights)
    except UserError as error:
        raise UserError(str(error), file=edges_file) from None
    name = folder.resolve().name
    return NodeDataset(
        name=name,
        graph=graph,
        features=features,
        labels=labels,
        class_names=class_names,
        node_ids=tuple(nodes.ids),
        split=split,
        source=f"folder '{name}'",
        notes=(note,) if note else (),
    )
