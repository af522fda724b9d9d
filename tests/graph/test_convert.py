"""Each converter: what it reads, what it refuses, and the way there and back."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from layerlab.errors import UserError
from layerlab.graph.convert import from_csv, to_csv
from layerlab.graph.npz import from_npz, to_npz
from layerlab.graph.sparse import SparseMatrix
from layerlab.graph.structure import Graph

CORNERS = {
    "undirected": Graph.from_edges([0, 1, 1, 3], [1, 2, 1, 0], num_nodes=6),
    "directed": Graph.from_edges([0, 1, 1, 3], [1, 2, 1, 0], num_nodes=6, directed=True),
    "weighted": Graph.from_edges([0, 1, 1, 3], [1, 2, 1, 0], num_nodes=6, weight=[0.5, -2.0, 0.0, 3.0]),
    "weighted arcs": Graph.from_edges([0, 1], [1, 0], weight=[0.5, 0.25], directed=True),
    "no edges": Graph.from_edges([], [], num_nodes=3),
    "no nodes": Graph.from_edges([], []),
}


@pytest.fixture(params=CORNERS.values(), ids=CORNERS.keys())
def corner(request: pytest.FixtureRequest) -> Graph:
    return request.param


def test_there_and_back(corner: Graph, tmp_path: Path) -> None:
    for way in ("scipy", "networkx", "pyg"):
        if way == "networkx":
            pytest.importorskip("networkx")
        if way == "pyg":
            pytest.importorskip("torch_geometric")
        there = getattr(corner, f"to_{way}")()
        assert getattr(Graph, f"from_{way}")(there) == corner, way
    corner.to_npz(tmp_path / "graph.npz")
    again = Graph.from_npz(tmp_path / "graph.npz")
    assert again == corner
    assert again.notes == corner.notes
    corner.to_csv(tmp_path / "edges.csv")
    text = Graph.from_csv(tmp_path / "edges.csv", directed=corner.directed, num_nodes=corner.num_nodes)
    assert text.edges()[0].tolist() == corner.edges()[0].tolist()
    assert corner.num_edges == 0 or text == corner  # the text of no edges has no weights either


@settings(derandomize=True, deadline=None, max_examples=40)
@given(
    pairs=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12),
    extra=st.integers(0, 2),
    directed=st.booleans(),
    data=st.data(),
)
def test_files_and_scipy_lose_no_bit(tmp_path_factory, pairs, extra, directed, data) -> None:
    weights = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e300, max_value=1e300)
    weight = data.draw(st.none() | st.lists(weights, min_size=len(pairs), max_size=len(pairs)))
    source, target = [u for u, _ in pairs], [v for _, v in pairs]
    nodes = max(source + target) + 1 + extra
    g = Graph.from_edges(source, target, num_nodes=nodes, weight=weight, directed=directed)
    folder = tmp_path_factory.getbasetemp()
    to_npz(g, folder / "g.npz")
    assert from_npz(folder / "g.npz") == g
    to_csv(g, folder / "g.csv")
    assert from_csv(folder / "g.csv", directed=directed, num_nodes=nodes) == g
    if weight is None or set(weight) != {1.0}:  # a matrix of ones is an unweighted graph
        assert Graph.from_scipy(g.to_scipy(), directed) == g


# ---------------------------------------------------------------------- scipy


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "lil", "dok", "dia", "bsr"])
def test_every_scipy_format_is_read(form: str) -> None:
    dense = np.array([[0, 2, 0], [0, 0, 0], [1, 0, 5]])
    for kind in (sp.coo_array(dense), sp.coo_matrix(dense)):
        g = Graph.from_scipy(kind.asformat(form))
        assert g.directed
        np.testing.assert_array_equal(g.adjacency().to_dense().numpy(), dense)


def test_scipy_direction_follows_symmetry_unless_stated() -> None:
    symmetric, triangle = sp.csr_array([[0, 2.0], [2.0, 1.0]]), sp.csr_array([[0, 2.0], [0, 1.0]])
    assert not Graph.from_scipy(symmetric).directed
    assert Graph.from_scipy(symmetric, directed=True).directed
    assert Graph.from_scipy(triangle).directed
    assert Graph.from_scipy(triangle, directed=False) == Graph.from_scipy(symmetric)
    assert Graph.from_scipy(sp.csr_array([[0, 2.0], [3.0, 0]])).directed  # symmetric in pattern only


def test_scipy_entries_stored_twice_are_summed_and_ones_are_no_weights() -> None:
    twice = sp.coo_array(([1.0, 2.0, 1.0], ([0, 0, 1], [1, 1, 2])), shape=(3, 3))
    assert Graph.from_scipy(twice).edges()[2].tolist() == [3.0, 1.0]
    same = sp.coo_array(([1.0, 1.0], ([0, 0], [1, 1])), shape=(2, 2))
    assert Graph.from_scipy(same).edges()[2].tolist() == [2.0]
    assert not Graph.from_scipy(sp.csr_array([[False, True], [True, False]])).weighted
    assert not Graph.from_scipy(sp.csr_array([[0, 1], [1, 0]])).weighted


def test_scipy_matrices_are_not_shared() -> None:
    matrix = sp.csr_array([[0, 2.0], [3.0, 0]])
    g = Graph.from_scipy(matrix)
    matrix.data[:] = 9.0
    assert g.weights.tolist() == [2.0, 3.0]
    out = g.to_scipy()
    out.data[:] = 9.0
    out.indices[:] = 0
    assert g == Graph.from_scipy(sp.csr_array([[0, 2.0], [3.0, 0]]))


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.eye(2), "square scipy sparse matrix, got ndarray of shape (2, 2)"),
        ([[0, 1], [1, 0]], "square scipy sparse matrix, got list"),
        (sp.csr_array((2, 3)), "square scipy sparse matrix, got csr_array of shape (2, 3)"),
        (sp.coo_array([0, 1]), "square scipy sparse matrix, got coo_array of shape (2,)"),
        (sp.csr_array(np.eye(2) * 1j), "real numbers, got complex128"),
        (sp.csr_array([[0, 1.0], [np.nan, 0]]), "entry (1, 0) is nan"),
        (sp.csr_array([[0, -np.inf], [1.0, 0]]), "entry (0, 1) is -inf"),
    ],
)
def test_scipy_refusals(matrix, message: str) -> None:
    with pytest.raises(UserError) as caught:
        Graph.from_scipy(matrix)
    assert message in str(caught.value)


# ---------------------------------------------------------------------- networkx


def test_networkx_nodes_keep_their_order_and_their_solitude() -> None:
    nx = pytest.importorskip("networkx")
    graph = nx.Graph()
    graph.add_nodes_from(["lonely", "z"])
    graph.add_edges_from([("b", "z"), ("z", "a"), ("a", "a")])
    g = Graph.from_networkx(graph)
    assert list(graph.nodes) == ["lonely", "z", "b", "a"]
    assert [part.tolist() for part in g.edges()[:2]] == [[1, 1, 3], [2, 3, 3]]
    assert g.notes == ("1 self-loop", "1 isolated node")
    np.testing.assert_array_equal(g.to_scipy().toarray(), nx.to_numpy_array(graph))


def test_networkx_weights_and_direction() -> None:
    nx = pytest.importorskip("networkx")
    graph = nx.DiGraph()
    graph.add_edge("a", "b", weight=np.float32(0.5), cost=3)
    graph.add_edge("b", "a")
    g = Graph.from_networkx(graph)
    assert g.directed
    np.testing.assert_array_equal(g.to_scipy().toarray(), nx.to_numpy_array(graph))  # missing: 1
    assert Graph.from_networkx(graph, weight="cost").weights.tolist() == [3.0, 1.0]
    assert not Graph.from_networkx(graph, weight=None).weighted
    assert not Graph.from_networkx(graph, weight="length").weighted
    back = g.to_networkx()
    assert isinstance(back, nx.DiGraph)
    assert back.edges[0, 1]["weight"] == 0.5


def test_networkx_multigraphs_merge() -> None:
    nx = pytest.importorskip("networkx")
    graph = nx.MultiGraph([(0, 1), (0, 1), (1, 2)])
    g = Graph.from_networkx(graph)
    assert (g.num_edges, g.notes) == (2, ("merged 1 duplicate edge",))
    weighted = nx.MultiDiGraph()
    weighted.add_weighted_edges_from([(0, 1, 2.0), (0, 1, 3.0), (1, 0, 4.0)])
    assert Graph.from_networkx(weighted).edges()[2].tolist() == [5.0, 4.0]


@pytest.mark.parametrize("weight", ["heavy", float("nan"), float("inf"), 10**400, True, 1j])
def test_networkx_weights_must_be_numbers(weight) -> None:
    nx = pytest.importorskip("networkx")
    for kind in (nx.Graph, nx.MultiGraph):
        graph = kind()
        graph.add_edge("u", "v", weight=2)
        graph.add_edge("v", "w", weight=weight)
        with pytest.raises(UserError, match=r"edge \('v', 'w'\) has weight .*; expected a finite number"):
            Graph.from_networkx(graph)


def test_networkx_is_what_from_networkx_reads() -> None:
    pytest.importorskip("networkx")
    with pytest.raises(UserError, match="expected a networkx graph, got dict"):
        Graph.from_networkx({0: [1]})


# ---------------------------------------------------------------------- torch_geometric


def test_pyg_first_row_is_the_source() -> None:
    data = SimpleNamespace(edge_index=torch.tensor([[0, 0, 1], [1, 2, 2]]))
    g = Graph.from_pyg(data)
    assert g.directed
    assert g.adjacency().to_dense().tolist() == [[0, 1, 1], [0, 0, 1], [0, 0, 0]]


def test_pyg_direction_follows_symmetry_unless_stated() -> None:
    both = torch.tensor([[0, 1, 2], [1, 0, 2]])
    assert not Graph.from_pyg(SimpleNamespace(edge_index=both)).directed
    assert Graph.from_pyg(SimpleNamespace(edge_index=both), directed=True).directed
    unequal = SimpleNamespace(edge_index=both, edge_weight=torch.tensor([1.0, 2.0, 1.0]))
    assert Graph.from_pyg(unequal).directed
    assert not Graph.from_pyg(unequal, directed=False).directed


def test_pyg_weights_come_from_edge_weight_or_flat_edge_attr() -> None:
    edge_index = torch.tensor([[0, 1], [1, 2]])
    flat, wide = torch.tensor([0.5, 2.0]), torch.ones(2, 3)
    named = SimpleNamespace(edge_index=edge_index, edge_weight=flat, edge_attr=wide)
    assert Graph.from_pyg(named).weights.tolist() == [0.5, 2.0]
    assert Graph.from_pyg(named).notes == ()
    assert Graph.from_pyg(SimpleNamespace(edge_index=edge_index, edge_attr=flat)).weights.tolist() == [
        0.5,
        2.0,
    ]
    left_out = Graph.from_pyg(SimpleNamespace(edge_index=edge_index, edge_attr=wide))
    assert not left_out.weighted
    assert left_out.notes == ("edge_attr of shape (2, 3) is no weight and was left out",)


def test_pyg_data_itself_and_back_with_features() -> None:
    data_type = pytest.importorskip("torch_geometric.data").Data
    edge_index = torch.tensor([[0, 1], [1, 0]])
    assert Graph.from_pyg(data_type(edge_index=edge_index)).num_nodes == 2  # without a warning
    assert Graph.from_pyg(data_type(edge_index=edge_index, x=torch.zeros(4, 1))).num_nodes == 4
    g = Graph.from_edges([0, 1], [1, 1], num_nodes=3, weight=[0.1, 2.0])
    features = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 2.0]])
    out = g.to_pyg(SparseMatrix.from_dense(features), np.array([1, 0, 1]))
    assert torch.equal(out.x, features)
    assert out.y.tolist() == [1, 0, 1]
    assert out.edge_index.tolist() == [[0, 1, 1], [1, 0, 1]]
    assert out.edge_weight.dtype == torch.float32
    assert out.validate()
    with pytest.raises(UserError, match=r"x must have one row a node: expected 3, got shape \(2, 2\)"):
        g.to_pyg(features[:2])
    with pytest.raises(UserError, match="y must have one row a node"):
        g.to_pyg(y=3)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (SimpleNamespace(), "shape (2, edges), got NoneType"),
        (SimpleNamespace(edge_index=torch.zeros(3, 2, dtype=torch.long)), "shape (2, edges), got (3, 2)"),
        (SimpleNamespace(edge_index=torch.zeros(2, 2)), "source must hold integers"),
        (SimpleNamespace(edge_index=torch.tensor([[0], [5]]), num_nodes=5), "target of edge 0 is 5"),
    ],
)
def test_pyg_refusals(data, message: str) -> None:
    with pytest.raises(UserError) as caught:
        Graph.from_pyg(data)
    assert message in str(caught.value)


# ---------------------------------------------------------------------- text


def test_csv_is_written_plainly(tmp_path: Path) -> None:
    file = tmp_path / "edges.csv"
    Graph.from_edges([2, 1], [1, 0], weight=[0.1, 1e-30]).to_csv(file)
    assert file.read_bytes() == b"source,target,weight\n0,1,1e-30\n1,2,0.1\n"
    Graph.from_edges([2, 1], [1, 0], directed=True).to_csv(file)
    assert file.read_bytes() == b"source,target\n1,0\n2,1\n"
    assert [entry.name for entry in tmp_path.iterdir()] == ["edges.csv"]


def test_csv_to_nowhere(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere"):
        Graph.from_edges([0], [1]).to_csv(tmp_path / "nowhere" / "edges.csv")
    with pytest.raises(UserError, match="nowhere"):
        Graph.from_edges([0], [1]).to_npz(tmp_path / "nowhere" / "graph.npz")


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("0,1\n1,x\n", {}, "edges.csv:2: expected an integer from 0 to 2147483646 as target, got 'x'"),
        (
            "0,1\n\n# 1\n1.0,2\n",
            {},
            "edges.csv:4: expected an integer from 0 to 2147483646 as source, got '1.0'",
        ),
        ("0,1\n-1,2\n", {}, "edges.csv:2: expected an integer from 0 to 2147483646 as source, got '-1'"),
        ("0,1\n1_0,2\n", {}, "edges.csv:2: expected an integer"),
        ("0,1\n1,٣\n", {}, "edges.csv:2: expected an integer"),
        (f"0,1\n1,{'9' * 5000}\n", {}, "edges.csv:2: expected an integer"),
        ("0,1\n1,9999999999\n", {}, "edges.csv: target of edge 1 is 9999999999;"),
        ("0,1\n1,99999999\n", {}, "edges.csv: the largest index is 99999999, with 2 edges only"),
        ("0,1\n1,2\n5,1\n", {"num_nodes": 3}, "edges.csv:3: edge 5, 1 goes beyond num_nodes=3"),
        ("a,b\n", {}, "edges.csv:1: expected an integer"),
        ("0,1\n", {"num_nodes": "3"}, "edges.csv: num_nodes must be an integer"),
        ("0,1,1e308\n1,0,1.2e308\n", {}, "edges.csv: the weights of parallel edges sum to infinity"),
    ],
)
def test_csv_refusals_name_the_place(tmp_path: Path, text: str, options: dict, message: str) -> None:
    file = tmp_path / "edges.csv"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        Graph.from_csv(file, **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_csv_direction_and_leading_zeros(tmp_path: Path) -> None:
    file = tmp_path / "edges.csv"
    file.write_text("01,0\n2,1\n")
    assert Graph.from_csv(file) == Graph.from_edges([0, 1], [1, 2])
    assert Graph.from_csv(file, directed=True) == Graph.from_edges([1, 2], [0, 1], directed=True)
    file.write_text("source,target\n")
    assert Graph.from_csv(file, num_nodes=2) == Graph.from_edges([], [], num_nodes=2)
