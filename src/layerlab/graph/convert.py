"""Graphs from and to what other people keep them in.

Each ``from_`` validates as `Graph.from_edges` does, and each pair is a round trip for what both sides say.
"""

from __future__ import annotations

import math
import warnings
from numbers import Real
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
import scipy.sparse as sp
import torch

from layerlab.errors import UserError
from layerlab.graph.edge_table import EdgeTable, read_edge_table
from layerlab.graph.edges import INT32_MAX, Numbers
from layerlab.graph.npz import from_npz, to_npz
from layerlab.graph.sparse import SparseMatrix
from layerlab.graph.structure import Graph
from layerlab.lab.files import write_atomic

__all__ = [
    "EdgeTable",
    "from_csv",
    "from_networkx",
    "from_npz",
    "from_pyg",
    "from_scipy",
    "read_edge_table",
    "to_csv",
    "to_networkx",
    "to_npz",
    "to_pyg",
    "to_scipy",
]

_ID_DIGITS = len(str(INT32_MAX))


def _from_arcs(
    source: Numbers,
    target: Numbers,
    weight: Numbers | None,
    num_nodes: SupportsIndex | None,
    directed: bool | None,
) -> Graph:
    """The graph of these arcs; ``directed=None``: undirected if each has its reverse of the same weight."""
    if directed is None:
        arcs = Graph.from_edges(source, target, num_nodes=num_nodes, weight=weight, directed=True)
        if arcs != arcs.transpose():
            return arcs
    return Graph.from_edges(source, target, num_nodes=num_nodes, weight=weight, directed=bool(directed))


# ---------------------------------------------------------------------- scipy


def from_scipy(matrix: Any, directed: bool | None = None) -> Graph:
    """The graph whose adjacency matrix is ``matrix``: entry (u, v) is the weight of u → v.

    Stored entries are edges, explicit zeros included; entries stored twice are summed, as scipy does. A
    matrix of ones (or of truth values) is an unweighted graph.

    Args:
        matrix: (n, n) scipy sparse matrix or array of real numbers, any format.
        directed: None: undirected if the matrix is exactly symmetric. False on an asymmetric matrix (an upper
            triangle, say) takes its entries as a list of undirected edges.

    Raises:
        UserError: not sparse, not square, not real, or an entry that is not finite.

    >>> from_scipy(sp.csr_array([[0, 1], [1, 0]]))
    Graph(2 nodes, 1 undirected edge)
    >>> from_scipy(sp.csr_array([[0, 0.5], [0, 0]]))
    Graph(2 nodes, 1 weighted arc)
    """
    if not sp.issparse(matrix) or matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        shape = getattr(matrix, "shape", None)
        raise UserError(
            f"expected a square scipy sparse matrix, got {type(matrix).__name__}"
            + ("" if shape is None else f" of shape {tuple(shape)}")
        )
    if matrix.dtype.kind not in "buif":
        raise UserError(f"expected a matrix of real numbers, got {matrix.dtype}")
    coo = sp.csr_array(matrix, copy=True).tocoo()
    coo.sum_duplicates()
    row, column = coo.coords
    if (bad := np.flatnonzero(~np.isfinite(coo.data))).size:
        at = bad[0]
        raise UserError(f"entry ({row[at]}, {column[at]}) is {coo.data[at]}; every weight must be finite")
    weight = None if (coo.data == 1).all() else coo.data
    return _from_arcs(row, column, weight, coo.shape[0], directed)


def to_scipy(graph: Graph) -> sp.csr_array:
    """The adjacency matrix as a ``scipy.sparse.csr_array`` of float64 that may be changed freely.

    >>> to_scipy(Graph.from_edges([0], [1])).toarray().tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    data = np.ones(graph.indices.size) if graph.weights is None else graph.weights.copy()
    parts = (data, graph.indices.copy(), graph.indptr.copy())
    return sp.csr_array(parts, shape=(graph.num_nodes, graph.num_nodes))


# ---------------------------------------------------------------------- networkx


def _networkx() -> Any:
    try:
        import networkx
    except ImportError:
        raise UserError("networkx is not installed; pip install 'layerlab[interop]'") from None
    return networkx


def from_networkx(graph: Any, weight: str | None = "weight") -> Graph:
    """A networkx graph: node i is ``list(graph.nodes)[i]``, directed as it is.

    Parallel edges of a multigraph are merged by the rule of `Graph.from_edges`.

    Args:
        graph: ``Graph``, ``DiGraph`` or their multigraphs.
        weight: the edge attribute that holds the weight, taken as 1 where it is missing; the result is
            unweighted when no edge has it, or with None.

    Raises:
        UserError: networkx not installed, another object, or a weight that is no finite number.

    >>> import networkx as nx
    >>> from_networkx(nx.path_graph(["a", "b", "c"])).edges()[:2]
    (array([0, 1]), array([1, 2]))
    """
    if not isinstance(graph, _networkx().Graph):
        raise UserError(f"expected a networkx graph, got {type(graph).__name__}")
    position = {node: at for at, node in enumerate(graph.nodes)}
    source, target, weights = [], [], []
    for u, v, attributes in graph.edges(data=True):
        source.append(position[u])
        target.append(position[v])
        weights.append(attributes.get(weight))
    if all(value is None for value in weights):
        numbers = None
    else:
        ends = zip(graph.edges(), weights, strict=True)
        numbers = [1.0 if value is None else _number(value, edge) for edge, value in ends]
    return Graph.from_edges(
        source, target, num_nodes=len(position), weight=numbers, directed=graph.is_directed()
    )


def _number(value: object, edge: tuple[Any, ...]) -> float:
    try:
        number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise UserError(f"edge {edge[:2]!r} has weight {value!r}; expected a finite number")
    return number


def to_networkx(graph: Graph) -> Any:
    """A networkx ``Graph`` or ``DiGraph`` on the nodes 0 … n−1, weights in the attribute ``weight``.

    Raises:
        UserError: networkx not installed.

    >>> to_networkx(Graph.from_edges([0], [1], weight=[0.5])).edges(data=True)
    EdgeDataView([(0, 1, {'weight': 0.5})])
    """
    networkx = _networkx()
    result = networkx.DiGraph() if graph.directed else networkx.Graph()
    result.add_nodes_from(range(graph.num_nodes))
    source, target, weight = graph.edges()
    if weight is None:
        result.add_edges_from(zip(source.tolist(), target.tolist(), strict=True))
    else:
        result.add_weighted_edges_from(zip(source.tolist(), target.tolist(), weight.tolist(), strict=True))
    return result


# ---------------------------------------------------------------------- torch_geometric


def from_pyg(data: Any, directed: bool | None = None) -> Graph:
    """The graph of a torch_geometric ``Data``: arcs ``edge_index[0] → edge_index[1]``.

    Weights are ``edge_weight``, or else an ``edge_attr`` of one dimension; an ``edge_attr`` of several is
    left out, and ``notes`` says so. Features and labels are not read.

    Args:
        data: an object with an ``edge_index`` of shape (2, m), as ``Data`` is.
        directed: None: undirected if every arc has its reverse with the same weight.

    Raises:
        UserError: no ``edge_index``, or one that `Graph.from_edges` refuses.

    >>> from torch_geometric.data import Data
    >>> from_pyg(Data(edge_index=torch.tensor([[0, 1], [1, 0]]), num_nodes=3))
    Graph(3 nodes, 1 undirected edge)
    """
    edge_index = getattr(data, "edge_index", None)
    if not isinstance(edge_index, torch.Tensor) or edge_index.ndim != 2 or edge_index.shape[0] != 2:
        found = tuple(edge_index.shape) if isinstance(edge_index, torch.Tensor) else type(edge_index).__name__
        raise UserError(
            f"expected a homogeneous Data whose edge_index is a tensor of shape (2, edges), got {found}"
        )
    with warnings.catch_warnings():
        # Without features Data infers the number of nodes as we do, and warns of it.
        warnings.simplefilter("ignore", UserWarning)
        num_nodes = getattr(data, "num_nodes", None)
    weight, attributes = getattr(data, "edge_weight", None), getattr(data, "edge_attr", None)
    ignored: tuple[str, ...] = ()
    if weight is None and attributes is not None:
        if attributes.ndim == 1:
            weight = attributes
        else:
            ignored = (f"edge_attr of shape {tuple(attributes.shape)} is no weight and was left out",)
    graph = _from_arcs(edge_index[0], edge_index[1], weight, num_nodes, directed)
    return graph.with_notes(graph.notes + ignored)


def to_pyg(graph: Graph, x: Any = None, y: Any = None) -> Any:
    """A torch_geometric ``Data``; an undirected edge appears in both directions, as is the custom there.

    Args:
        graph: the graph; its weights become ``edge_weight``, of torch's default dtype.
        x: (n, F) features: tensor, array or `SparseMatrix` (which becomes dense), or None.
        y: (n) labels, or None.

    Raises:
        UserError: torch_geometric not installed, or x or y of another length than n.

    >>> to_pyg(Graph.from_edges([0], [1]))
    Data(edge_index=[2, 2], num_nodes=2)
    """
    try:
        from torch_geometric.data import Data
    except ImportError:
        raise UserError("torch_geometric is not installed; pip install 'layerlab[interop]'") from None
    arcs = Graph(graph.num_nodes, True, graph.indptr, graph.indices, graph.weights)
    source, target, weight = arcs.edges()
    data = Data(edge_index=torch.from_numpy(np.stack([source, target])), num_nodes=graph.num_nodes)
    if weight is not None:
        data.edge_weight = torch.tensor(weight, dtype=torch.get_default_dtype())
    for name, values in (("x", x), ("y", y)):
        if values is None:
            continue
        tensor = values.to_dense() if isinstance(values, SparseMatrix) else torch.as_tensor(values)
        if tensor.ndim == 0 or tensor.shape[0] != graph.num_nodes:
            shape = tuple(tensor.shape)
            raise UserError(f"{name} must have one row a node: expected {graph.num_nodes}, got shape {shape}")
        data[name] = tensor
    return data


# ---------------------------------------------------------------------- text


def from_csv(path: str | Path, *, directed: bool = False, num_nodes: SupportsIndex | None = None) -> Graph:
    """An edge list of integer ids: see `read_edge_table` for the format (CSV, TSV, semicolons or blanks).

    Args:
        path: the file.
        directed: whether the order of the two ids has a meaning.
        num_nodes: n; the largest id plus one when left out. A list of edges cannot say that the last nodes
            are isolated.

    Raises:
        UserError: with file and line: whatever `read_edge_table` refuses, an id that is no integer, negative,
            or not below ``num_nodes``.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "edges.tsv"
    ...     _ = file.write_text("# a path\\n0\\t1\\n1\\t2\\n")
    ...     from_csv(file)
    Graph(3 nodes, 2 undirected edges)
    """
    table = read_edge_table(path)
    ends = []
    for name, cells in (("source", table.source), ("target", table.target)):
        for cell, line in zip(cells, table.lines, strict=True):
            if not (cell.isascii() and cell.isdigit()) or len(cell) > _ID_DIGITS:
                raise UserError(
                    f"expected an integer from 0 to {INT32_MAX - 1} as {name}, got '{cell}'",
                    file=path,
                    line=line,
                )
        ends.append(np.array(cells, dtype=np.int64))
    if isinstance(num_nodes, int | np.integer) and table.lines:
        beyond = np.maximum(*ends) >= num_nodes
        if beyond.any():
            at = int(np.argmax(beyond))
            raise UserError(
                f"edge {table.source[at]}, {table.target[at]} goes beyond num_nodes={num_nodes};"
                " raise it or mend the edge",
                file=path,
                line=table.lines[at],
            )
    try:
        return Graph.from_edges(*ends, num_nodes=num_nodes, weight=table.weight, directed=directed)
    except UserError as error:
        raise UserError(str(error), file=path) from None


def to_csv(graph: Graph, path: str | Path) -> None:
    """Write ``source,target[,weight]``, each edge once, weights to the last bit.

    The number of nodes and the direction are not in the file; `to_npz` keeps them.

    Raises:
        UserError: the file cannot be written.
    """
    source, target, weight = graph.edges()
    columns: list[list[Any]] = [source.tolist(), target.tolist()]
    if weight is not None:
        columns.append(weight.tolist())
    header = "source,target" if weight is None else "source,target,weight"
    lines = [header, *(",".join(map(repr, row)) for row in zip(*columns, strict=True)), ""]
    write_atomic(path, "\n".join(lines).encode())
