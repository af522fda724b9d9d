"""A graph from whatever a person has: a data set by name, a folder, an archive, or a bare list of edges."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from layerlab.errors import UserError
from layerlab.graph.datasets import load
from layerlab.graph.edge_table import by_number, read_edge_table
from layerlab.graph.known import KNOWN
from layerlab.graph.npz import from_npz
from layerlab.graph.store.layout import is_store
from layerlab.graph.store.opened import open_store
from layerlab.graph.structure import Graph


def load_graph(data: str | Path) -> Graph:
    """The graph of a data set, a folder, an ``.npz`` or an edge list.

    Known names come before files; write ``./cora`` for a file of that name. Features and labels are not read
    from a folder's files more than its format asks for, and need not be there.

    Args:
        data: "cora", "citeseer" or "pubmed"; a folder as `layerlab.graph.datasets.load` takes, or a store; an
            ``.npz`` that `layerlab.graph.npz.to_npz` wrote; or any other file, read by `edge_list`.

    Raises:
        UserError: nothing there by that name, or whatever the reader has to say about it.

    >>> load_graph("cora")
    Graph(2708 nodes, 5278 undirected edges)
    """
    path = Path(data)
    if str(data) not in KNOWN and is_store(path):
        return open_store(path).graph
    if str(data) in KNOWN or path.is_dir():
        return load(data, need_labels=False).graph
    if not path.exists():
        raise UserError(
            f"expected a data set ({', '.join(KNOWN)}), a folder with edges.csv and nodes.csv, an .npz or an edge"
            f" list; there is no '{data}'"
        )
    return from_npz(path) if path.suffix == ".npz" else edge_list(path)


def edge_list(path: str | Path) -> Graph:
    """The undirected graph of a bare edge list: its nodes are the ids that occur in it.

    Nothing else says which nodes there are, so ids need not be numbers nor begin at 0, and there is no isolated node.
    (`Graph.from_csv` takes ids as positions instead.) Whole numbers are put in their order, other ids in the order in
    which they occur. For the format see `layerlab.graph.edge_table.read_edge_table`.

    Raises:
        UserError: with file and line, whatever the reader refuses.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "friends.csv"
    ...     _ = file.write_text("ann,bob\\nbob,eve\\n")
    ...     edge_list(file)
    Graph(3 nodes, 2 undirected edges)
    """
    table = read_edge_table(path)
    ids = list(dict.fromkeys(name for ends in zip(table.source, table.target, strict=True) for name in ends))
    if all(name.isascii() and name.isdigit() for name in ids):
        ids.sort(key=by_number)
    position = {name: place for place, name in enumerate(ids)}
    ends = (
        np.array([position[name] for name in side], dtype=np.int64) for side in (table.source, table.target)
    )
    try:
        return Graph.from_edges(*ends, num_nodes=len(ids), weight=table.weight)
    except UserError as error:
        raise UserError(str(error), file=path) from None
