"""A person's own data set: what is read from its folder, and what is said when its files are wrong."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from layerlab.errors import UserError
from layerlab.graph.datasets import load
from layerlab.graph.folder import load_folder

ROOT = Path(__file__).parents[2]

NODES = "id,label,split,height,weight\na,red,train,1,0\nb,blue,val,0.5,2e1\nc,,,-1,0\nd,red,test,0,0\n"
EDGES = "source,target\na,b\nb,c\nc,d\nb,a\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder whose files are right; each test makes one of them wrong."""
    path = tmp_path / "club"
    path.mkdir()
    (path / "nodes.csv").write_text(NODES, encoding="utf-8")
    (path / "edges.csv").write_text(EDGES, encoding="utf-8")
    return path


def without_columns(text: str, first: int, last: int) -> str:
    rows = [line.split(",") for line in text.splitlines()]
    return "".join(",".join(row[:first] + row[last:]) + "\n" for row in rows)


ONLY_LABELS = without_columns(NODES, 3, 5)


def test_a_folder_is_read_as_it_stands(folder: Path) -> None:
    data = load(folder)
    assert (data.name, data.node_ids, data.class_names) == ("club", ("a", "b", "c", "d"), ("blue", "red"))
    assert data.labels.tolist() == [1, 0, -1, 1]
    assert data.features.to_dense().tolist() == [[1, 0], [0.5, 20], [-1, 0], [0, 0]]
    assert data.features.nnz == 4  # zeros are not stored
    source, target, weight = data.graph.edges()
    assert list(zip(source.tolist(), target.tolist(), strict=True)) == [(0, 1), (1, 2), (2, 3)]
    assert weight is None
    assert data.split is not None
    parts = (data.split.train, data.split.validation, data.split.test)
    assert [part.tolist() for part in parts] == [[0], [1], [3]]
    assert (data.source, data.notes) == ("folder 'club'", ())
    assert load(str(folder)).node_ids == data.node_ids


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + NODES,
        NODES.replace("\n", "\r\n"),
        NODES.replace(",", "\t"),
        NODES.replace(",", ";"),
        NODES.replace(",", " , "),
        "\n" + NODES.replace("\n", "\n\n"),
        NODES.replace("a,red", '"a","red"'),
        NODES.replace("val", "Validation").replace("id,label", "ID,Label"),
        NODES.rstrip("\n"),
    ],
    ids=["mark", "crlf", "tabs", "semicolons", "blanks", "empty lines", "quotes", "capitals", "no end"],
)
def test_the_way_a_table_is_written_does_not_matter(text: str, folder: Path) -> None:
    expected = load(folder)
    (folder / "nodes.csv").write_bytes(text.encode("utf-8"))
    data = load(folder)
    assert (data.node_ids, data.class_names) == (expected.node_ids, expected.class_names)
    assert data.labels.tolist() == expected.labels.tolist()
    assert data.features.to_dense().tolist() == expected.features.to_dense().tolist()
    assert data.split is not None
    assert data.split.sizes == (1, 1, 1)


def test_columns_may_stand_in_any_order(folder: Path) -> None:
    rows = [line.split(",") for line in NODES.splitlines()]
    (folder / "nodes.csv").write_text("".join(f"{r[4]},{r[1]},{r[3]},{r[0]},{r[2]}\n" for r in rows))
    data = load(folder)
    assert data.node_ids == ("a", "b", "c", "d")
    assert data.features.to_dense().tolist() == [[0, 1], [20, 0.5], [0, -1], [0, 0]]


def test_quoted_ids_may_hold_the_delimiter(folder: Path) -> None:
    (folder / "nodes.csv").write_text('id,label\n"x, y",red\nz,blue\n')
    (folder / "edges.csv").write_text('z,"x, y"\n')
    data = load(folder)
    assert (data.node_ids, data.graph.num_edges) == (("x, y", "z"), 1)


def test_classes_that_are_numbers_stand_in_their_order(folder: Path) -> None:
    (folder / "nodes.csv").write_text("id,label\na,10\nb,9\nc,10\nd,2\n")
    assert load(folder).class_names == ("2", "9", "10")
    (folder / "nodes.csv").write_text("id,label\na,10\nb,9\nc,x\nd,2\n")
    assert load(folder).class_names == ("10", "2", "9", "x")


def test_a_class_of_many_digits_is_a_number_like_others(folder: Path) -> None:
    long = "9" * 5000
    (folder / "nodes.csv").write_text(f"id,label\na,{long}\nb,10\nc,9\n")
    (folder / "edges.csv").write_text("a,b\n")
    assert load_folder(folder).class_names == ("9", "10", long)


def test_weights_that_sum_to_infinity_are_an_error_with_their_file(folder: Path) -> None:
    (folder / "nodes.csv").write_text("id,label\na,x\nb,y\n")
    (folder / "edges.csv").write_text("a,b,1e308\na,b,1.5e308\n")
    with pytest.raises(UserError, match=r"edges\.csv: the weights of parallel edges sum to infinity"):
        load_folder(folder)


def test_no_column_split_means_no_split(folder: Path) -> None:
    (folder / "nodes.csv").write_text(without_columns(NODES, 2, 3))
    assert load(folder).split is None
    (folder / "nodes.csv").write_text(re.sub("train|val|test", "", NODES))
    assert load(folder).split is None


def test_weights_of_edges_are_kept(folder: Path) -> None:
    (folder / "edges.csv").write_text("source,target,weight\na,b,0.5\nc,d,2\n")
    _, _, weight = load(folder).graph.edges()
    assert weight is not None
    assert weight.tolist() == [0.5, 2.0]


def test_a_list_without_edges_is_a_graph_without_edges(folder: Path) -> None:
    (folder / "edges.csv").write_text("source,target\n")
    assert load(folder).graph.num_edges == 0


# ---------------------------------------------------------------- features in a file


@pytest.mark.parametrize("dtype", ["float64", "float32", "int16", "bool"])
@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_features_may_stand_in_a_file(kind: str, dtype: str, folder: Path) -> None:
    (folder / "nodes.csv").write_text(ONLY_LABELS)
    matrix = np.array([[0, 1, 0], [1, 1, 0], [0, 0, 0], [1, 0, 1]], dtype=dtype)
    if kind == "npy":
        np.save(folder / "features.npy", matrix)
    else:
        sparse.save_npz(folder / "features.npz", sparse.csc_array(matrix))
    data = load(folder)
    assert data.features.to_dense().tolist() == matrix.astype(float).tolist()
    assert data.features.nnz == 5
    assert data.notes == ()


def test_without_features_each_node_is_its_own(folder: Path) -> None:
    (folder / "nodes.csv").write_text(ONLY_LABELS)
    data = load(folder)
    np.testing.assert_array_equal(data.features.to_dense().numpy(), np.eye(4))
    assert data.notes == ("no features given: each node has itself as its only feature (the 4 x 4 identity)",)


def _npz(folder: Path, matrix: Any) -> None:
    sparse.save_npz(folder / "features.npz", matrix)


def _damaged_csr(folder: Path) -> None:
    matrix = sparse.csr_array(np.eye(4))
    matrix.indices[0] = 9
    _npz(folder, matrix)


@pytest.mark.parametrize(
    ("write", "file", "message"),
    [
        (
            lambda f: np.save(f / "features.npy", np.eye(3)),
            "npy",
            "it has 3 rows, but nodes.csv lists 4 nodes",
        ),
        (lambda f: _npz(f, sparse.eye_array(5, format="csr")), "npz", "it has 5 rows, but nodes.csv lists 4"),
        (lambda f: np.save(f / "features.npy", np.ones(4)), "npy", "expected one two-dimensional array"),
        (lambda f: np.save(f / "features.npy", np.full((4, 2), 1j)), "npy", "expected real numbers"),
        (lambda f: np.save(f / "features.npy", np.full((4, 2), "x")), "npy", "expected real numbers"),
        (
            lambda f: np.save(f / "features.npy", np.array([[1, 2], [3, 4], [5, np.nan], [7, 8]])),
            "npy",
            r"row 2, column 1 \(from 0\) is nan; expected finite",
        ),
        (
            lambda f: np.save(f / "features.npy", np.diag([0, 1e39, 0, 0])),
            "npy",
            "row 1, column 1 .* is 1e\\+39",
        ),
        (lambda f: _npz(f, sparse.csr_array(np.diag([1, np.inf, 1, 1]))), "npz", "row 1, column 1 .* is inf"),
        (
            lambda f: np.save(f / "features.npy", np.array([[{}]] * 4), allow_pickle=True),
            "npy",
            "without pickles",
        ),
        (lambda f: (f / "features.npy").write_bytes(b""), "npy", "expected a matrix written by numpy.save"),
        (
            lambda f: (f / "features.npy").write_bytes(b"1,2\n3,4\n"),
            "npy",
            "expected a matrix written by numpy",
        ),
        (
            lambda f: np.savez(f / "features.npz", x=np.eye(4)),
            "npz",
            "expected a matrix written by scipy.sparse",
        ),
        (
            lambda f: (f / "features.npz").write_bytes(b"PK\x03\x04"),
            "npz",
            "expected a matrix written by scipy",
        ),
        (lambda f: (f / "features.npz").mkdir(), "npz", "expected a matrix written by scipy"),
        (_damaged_csr, "npz", "expected a matrix written by scipy"),
    ],
)
def test_a_wrong_features_file_is_named(write: Any, file: str, message: str, folder: Path) -> None:
    (folder / "nodes.csv").write_text(ONLY_LABELS)
    write(folder)
    with pytest.raises(UserError, match=message) as error:
        load(folder)
    assert str(error.value).startswith(f"{folder / 'features'}.{file}: ")


def test_an_archive_under_the_name_of_an_array_is_refused(folder: Path) -> None:
    (folder / "nodes.csv").write_text(ONLY_LABELS)
    np.savez(folder / "features.npz", x=np.eye(4))
    (folder / "features.npz").rename(folder / "features.npy")
    with pytest.raises(UserError, match="expected one two-dimensional array"):
        load(folder)


def test_features_come_from_one_place(folder: Path) -> None:
    np.save(folder / "features.npy", np.eye(4))
    with pytest.raises(UserError, match=r"the columns of nodes\.csv and features\.npy; keep one"):
        load(folder)
    (folder / "nodes.csv").write_text(ONLY_LABELS)
    _npz(folder, sparse.eye_array(4, format="csr"))
    with pytest.raises(UserError, match=r"features\.npy and features\.npz; keep one"):
        load(folder)


# ---------------------------------------------------------------- wrong tables


@pytest.mark.parametrize(
    ("text", "where", "message"),
    [
        ("", "", "it is empty; expected a heading line"),
        (" \n\n", "", "it is empty"),
        ("id,label\n", "", "it has a heading but no nodes"),
        ("id,colour\na,red\n", ":1", "expected a column 'label' in the heading, got: id, colour"),
        ("\na,red\nb,blue\n", ":2", "expected a column 'id' in the heading, got: a, red"),
        ("id,label,x,x\na,r,1,2\n", ":1", "column 4 of the heading repeats the name 'x'"),
        ("id,label,\na,r,1\n", ":1", "column 3 of the heading has no name"),
        (NODES + "a,red,,0,0\n", ":6", "node 'a' is on line 2 already; ids are unique"),
        (NODES + ",red,,0,0\n", ":6", "this node has no id"),
        (NODES + "e,red,,0\n", ":6", "expected 5 cells, as in the heading, got 4"),
        (NODES + "e,red,,0,0,1\n", ":6", "expected 5 cells, as in the heading, got 6"),
        (NODES.replace("-1", "tall"), ":4", "feature 'height' is 'tall'; expected a finite number"),
        (NODES.replace("2e1", ""), ":3", "feature 'weight' is ''; expected a finite number"),
        (NODES.replace("2e1", "nan"), ":3", "feature 'weight' is 'nan'; expected a finite number"),
        (NODES.replace("2e1", "-inf"), ":3", "feature 'weight' is '-inf'; expected a finite number"),
        (NODES.replace("2e1", "1e39"), ":3", "feature 'weight' is '1e39'; expected a finite number"),
        (
            NODES.replace("val", "dev"),
            ":3",
            "split is 'dev'; expected train, val, validation, test or nothing",
        ),
        (NODES.replace("c,,,", "c,,test,"), ":4", "node 'c' is in the split's part 'test' but has no label"),
        (NODES.replace("train", ""), "", "the column 'split' names no training node"),
        (NODES.replace("blue", "red"), "", "every label is 'red'; a classifier needs at least two classes"),
        (without_columns(re.sub("red|blue", "", NODES), 2, 3), "", "no node has a label"),
        (NODES + 'e,"red,,0,0\n', ":6", "expected comma-separated values"),
        (NODES + 'e,"r"d,,0,0\n', ":6", "expected comma-separated values"),
        (NODES.encode() + b"e,r\xffd,,0,0\n", ":6", "byte 0xff is not UTF-8; save the file as UTF-8"),
    ],
)
def test_a_wrong_table_of_nodes_is_an_error_with_its_line(
    text: str | bytes, where: str, message: str, folder: Path
) -> None:
    (folder / "nodes.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError) as error:
        load(folder)
    assert str(error.value).startswith(f"{folder / 'nodes.csv'}{where}: {message}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (EDGES + "d,x\n", 6, "edge names node 'x', which nodes.csv does not list; add it or remove the edge"),
        (EDGES + "\n# more\ny,a\n", 8, "edge names node 'y', which nodes.csv does not list"),
        (EDGES + "d\n", 6, "dangling edge"),
        ("a,b,1\nb,c,heavy\n", 2, "heavy"),
    ],
)
def test_a_wrong_edge_is_an_error_with_its_line(text: str, line: int, message: str, folder: Path) -> None:
    (folder / "edges.csv").write_text(text)
    with pytest.raises(UserError, match=re.escape(message)) as error:
        load(folder)
    assert (error.value.file, error.value.line) == (str(folder / "edges.csv"), line)


@pytest.mark.parametrize("name", ["nodes.csv", "edges.csv"])
def test_a_missing_or_empty_file_is_named(name: str, folder: Path) -> None:
    (folder / name).write_text("")
    with pytest.raises(UserError) as error:
        load(folder)
    assert error.value.file == str(folder / name)
    (folder / name).unlink()
    with pytest.raises(UserError, match="No such file") as error:
        load(folder)
    assert error.value.file == str(folder / name)


def test_what_is_no_folder_is_named(folder: Path) -> None:
    with pytest.raises(UserError, match=r"nodes\.csv: expected a folder with .*; this is a file"):
        load_folder(folder / "nodes.csv")
    with pytest.raises(UserError, match=r"gone: expected a folder with .*; this is not there"):
        load_folder(folder / "gone")


# ---------------------------------------------------------------- the example


def test_the_example_is_what_its_page_says() -> None:
    club = load(ROOT / "examples" / "graph_folder")
    assert (club.num_nodes, club.num_features, club.class_names) == (14, 3, ("poetry", "sport"))
    assert [club.node_ids[node] for node in np.flatnonzero(club.labels == -1)] == ["gus", "nils"]
    assert club.split is not None
    assert club.split.sizes == (4, 2, 4)
    assert club.graph.isolated_nodes().size == 0


@pytest.mark.parametrize("page", ["examples/graph_folder/README.md", "docs/data.md"])
def test_the_python_of_the_pages_runs(
    page: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, page, "exec"), {})
    assert capsys.readouterr().out
