"""The conversion of tables: the same graph as in memory, whatever the file looks like; and every refusal."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from layerlab.errors import UserError
from layerlab.graph import Graph
from layerlab.graph.folder import load_folder
from layerlab.graph.store import convert as module
from layerlab.graph.store import ends, rows
from layerlab.graph.store.convert import convert

FEW = settings(derandomize=True, deadline=None, max_examples=40)


@st.composite
def listed(draw: st.DrawFn) -> dict[str, Any]:
    """Edges over ids with gaps or text, repeats, loops, both directions; weights few enough to repeat."""
    text = draw(st.booleans())
    names = ["x", "a b", "é", '"q"', "7.0", "007"] if text else [0, 3, 4, 70, 200, -2]
    pairs = draw(st.lists(st.tuples(st.sampled_from(names), st.sampled_from(names)), max_size=25))
    weights = draw(st.none() | st.lists(st.sampled_from([0.5, 2.0, -1.25, 0.0]), min_size=25, max_size=25))
    return {
        "pairs": pairs,
        "weights": weights,
        "directed": draw(st.booleans()),
        "kind": draw(st.integers(0, 3)),
    }


def write_edges(folder: Path, case: dict[str, Any]) -> Path:
    """The same edges as CSV with or without a heading, as TSV or as Parquet."""
    pairs, weights, kind = case["pairs"], case["weights"], case["kind"]
    if kind == 3:
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns = {"src": [u for u, _ in pairs], "dst": [v for _, v in pairs]}
        kept = pa.int64() if all(isinstance(u, int) for pair in pairs for u in pair) else pa.string()
        table = {name: pa.array(column, kept) for name, column in columns.items()}
        if weights:
            table["weight"] = pa.array(weights[: len(pairs)], pa.float64())
        pq.write_table(pa.table(table), folder / "edges.parquet")
        return folder / "edges.parquet"
    mark = "\t" if kind == 2 else ","
    lines = [mark.join(["source", "target", *(["weight"] if weights else [])])] if kind else ["# a comment"]

    def cell(value: object) -> str:
        text = str(value)
        return '"' + text.replace('"', '""') + '"' if '"' in text else text

    for at, (u, v) in enumerate(pairs):
        lines.append(mark.join([cell(u), cell(v), *([repr(weights[at])] if weights else [])]))
    file = folder / ("edges.tsv" if kind == 2 else "edges.csv")
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def in_memory(case: dict[str, Any]) -> tuple[Graph, list[str]]:
    pairs, weights = case["pairs"], case["weights"]
    names = sorted({name for pair in pairs for name in pair})
    at = {name: place for place, name in enumerate(names)}
    source, target = ([at[pair[end]] for pair in pairs] for end in (0, 1))
    weight = weights[: len(pairs)] if weights else None
    graph = Graph.from_edges(source, target, weight=weight, num_nodes=len(names), directed=case["directed"])
    return graph, [str(name) for name in names]


@FEW
@given(listed())
@example({"pairs": [], "weights": None, "directed": False, "kind": 1})
@example({"pairs": [], "weights": [1.0], "directed": True, "kind": 3})
def test_a_store_is_the_graph_of_the_same_file(case: dict[str, Any]) -> None:
    if case["kind"] == 0 and not case["pairs"]:
        return  # an empty file without a heading is no edge list
    expected, names = in_memory(case)
    with tempfile.TemporaryDirectory() as folder:
        file = write_edges(Path(folder), case)
        found = convert(file, Path(folder) / "store", directed=case["directed"])
        assert found.graph == expected
        assert found.graph.notes == expected.notes
        assert list(found.node_ids) == names
        assert found.graph.transpose() == expected.transpose()
        assert np.array_equal(found.degrees, expected.degrees())
        assert found.graph.num_self_loops == expected.num_self_loops
        assert {path.name for path in Path(folder).iterdir()} == {file.name, "store"}


@pytest.mark.parametrize(("directed", "weighted"), [(False, True), (True, False), (True, True)])
def test_rows_are_the_same_in_many_runs_and_threads(
    directed: bool, weighted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(5)
    pairs = generator.zipf(1.7, (600, 2)) % 90 + 10
    weights = generator.integers(1, 4, 600) / 2 if weighted else None
    case = {"pairs": pairs.tolist(), "weights": weights, "directed": directed, "kind": 1}
    if weights is not None:
        case["weights"] = weights.tolist()
    file = write_edges(tmp_path, case)
    monkeypatch.setattr(rows, "_LEAST", 1)
    monkeypatch.setattr(rows, "_PIECE", 37)
    monkeypatch.setattr(module, "LEAST_MEMORY", 1)
    monkeypatch.setattr("layerlab.lab.kernels.threads.SMALL", 0)
    monkeypatch.setattr("torch.get_num_threads", lambda: 3)
    connect = module.connect
    monkeypatch.setattr(module, "connect", lambda memory, spill: connect(1 << 28, spill))
    seen: list[str] = []
    found = convert(
        file, tmp_path / "store", directed=directed, memory=3000, progress=lambda _, words: seen.append(words)
    )
    assert found.graph == in_memory(case)[0] and found.graph.notes == in_memory(case)[0].notes
    assert "sorting rows, part 2 of" in " ".join(seen)


def make_tables(folder: Path, *, text: bool = False) -> None:
    generator = np.random.default_rng(2)
    ids = [f"n{at}" for at in range(20)] if text else [3 * at for at in range(20)]
    order = generator.permutation(20)
    lines = ["ID,label,split,f1,f2"]
    for at in order:
        label = "" if at % 5 == 4 else f"c{at % 3}"
        split = "" if not label else ["train", "VAL", "test", ""][at % 4]
        lines.append(f"{ids[at]},{label},{split},{at / 7:.5f},{-at}")
    (folder / "nodes.csv").write_text("\n".join(lines) + "\n")
    pairs = generator.integers(0, 20, (60, 2))
    edges = "".join(f"{ids[u]},{ids[v]}\n" for u, v in pairs)
    (folder / "edges.csv").write_text(edges)


def as_parquet(file: Path) -> Path:
    import pyarrow.csv
    import pyarrow.parquet as pq

    pq.write_table(pyarrow.csv.read_csv(file), file.with_suffix(".parquet"))
    return file.with_suffix(".parquet")


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("parquet", [False, True])
def test_a_node_table_out_of_order_is_the_folder_of_the_same_files(
    text: bool, parquet: bool, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    make_tables(tmp_path / "data", text=text)
    expected = load_folder(tmp_path / "data")
    nodes = tmp_path / "data" / "nodes.csv"
    found = convert(
        tmp_path / "data" / "edges.csv", tmp_path / "store", nodes=as_parquet(nodes) if parquet else nodes
    ).dataset()
    assert found.graph == expected.graph and found.graph.notes == expected.graph.notes
    assert tuple(found.node_ids) == expected.node_ids
    assert np.array_equal(found.labels, expected.labels) and found.class_names == expected.class_names
    assert found.split is not None and expected.split is not None
    for part in ("train", "validation", "test"):
        assert np.array_equal(getattr(found.split, part), getattr(expected.split, part))
    assert np.array_equal(found.feature_matrix.to_dense(), expected.feature_matrix.to_dense())


@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<i2", "F"])
def test_features_of_any_real_type_come_in_blocks(
    dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("layerlab.graph.store.nodes._ROWS", 7)
    (tmp_path / "edges.csv").write_text("".join(f"{at},{(at + 1) % 20}\n" for at in range(20)))
    matrix = np.arange(20 * 35).reshape(20, 35)
    given = np.asfortranarray(matrix.astype("f4")) if dtype == "F" else matrix.astype(dtype)
    np.save(tmp_path / "f.npy", given)
    found = convert(tmp_path / "edges.csv", tmp_path / "store", features=tmp_path / "f.npy")
    assert found.features is not None and found.features.blocks == 3
    whole = np.concatenate([found.features.block(at) for at in range(3)], axis=1)
    assert whole.dtype == np.float32 and np.array_equal(whole, matrix)


@pytest.mark.parametrize("name", ["ann's", "edges[1]", "edges*", "edges?"])
def test_no_letter_of_a_path_means_something_to_the_engine(name: str, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = tmp_path / name
    folder.mkdir()
    (tmp_path / "edges1").mkdir()
    for place, content in ((folder, "0,1\n1,2\n"), (tmp_path / "edges1", "0,1\n")):
        (place / "edges1.csv").write_text(content)
    (folder / f"{name}.csv").write_text("0,1\n1,2\n2,3\n")
    pq.write_table(pa.table({"source": [0], "target": [1]}), folder / f"{name}.parquet")
    for edges, count in (("edges1.csv", 2), (f"{name}.csv", 3), (f"{name}.parquet", 1)):
        assert convert(folder / edges, folder / f"store of {edges}").graph.num_edges == count


def refuse(tmp_path: Path, message: str, **given: Any) -> None:
    with pytest.raises(UserError, match=message) as caught:
        convert(tmp_path / given.pop("edges", "edges.csv"), tmp_path / "store", **given)
    assert "\n" not in str(caught.value) and not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1,2\n3\n", "edges.csv:2: a dangling edge|edges.csv:2: expected 2 columns"),
        ("1,2\n3,4,5\n", "edges.csv:2: expected 2 columns"),
        ("1,2\n3,\n", "edges.csv:2: the target of this edge is empty"),
        ("1,2,0.5\n3,4,x\n", "edges.csv:2: expected a finite number as weight, got 'x'"),
        ("1,2,0.5\n3,4,inf\n", "edges.csv:2: expected a finite number as weight, got 'inf'"),
        ("1,2,0.5\n3,4,1_0\n", "edges.csv:2: expected a finite number as weight, got '1_0'"),
        ("1,2,1e308\n1,2,1.5e308\n", "sum to infinity"),
        ("", "the file is empty"),
        ("a,b,c,d\n", "got 4 columns"),
    ],
)
def test_bad_edges_are_refused_with_file_and_line(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "edges.csv").write_text(content)
    refuse(tmp_path, message)


NODES = "id,label,split\n1,a,train\n2,b,val\n3,,\n"


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ("id,label\n1,a\n2,b\n", "edge names node '3', which nodes.csv does not list"),
        ("id,label\n1,a\n2,b\nx,c\n", "edge names node '3', which nodes.csv does not list"),
        ("id,label\n1,a\n2,b\n9000000000,c\n", "edge names node '3', which nodes.csv does not list"),
        ("id,label\n1,a\n2,b\n1,c\n", "node '1' is listed more than once"),
        ("id,label\n1,a\n,b\n3,c\n", "a node has no id"),
        ("label,f\na,1\n", "expected a column 'id' in the heading, got: label, f"),
        ("id,label,LABEL\n1,a,b\n", "expected the column 'label' once"),
        ("id,label\n", "it has a heading but no nodes"),
        (NODES.replace("val", "dev"), "split is 'dev'; expected train"),
        (NODES.replace("3,,", "3,,test"), "node '3' is in the split's part 'test' but has no label"),
        (NODES.replace("train", "test"), "names no training node"),
        ("id,label,f\n1,a,1\n2,b,nan\n3,c,2\n", "feature 'f' of row 1"),
        ("id,label,f\n1,a,1\n2,b,1e39\n3,c,2\n", "feature 'f' of row 1"),
        ("id,label,f\n1,a,1\n2,b,word\n3,c,2\n", "feature 'f' of row 1"),
        ("id,label\n1,a\n2\n", "nodes.csv:3: expected 2 columns"),
    ],
)
def test_bad_node_tables_are_refused(nodes: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "edges.csv").write_text("1,2\n2,3\n")
    (tmp_path / "nodes.csv").write_text(nodes)
    refuse(tmp_path, message, nodes=tmp_path / "nodes.csv")


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.zeros((2, 2)), "it has 2 rows, but there are 3 nodes"),
        (np.zeros(3), "got float64 of shape"),
        (np.zeros((3, 1), dtype=complex), "got complex128"),
        (np.array([["a"]] * 3), "expected a matrix of real numbers"),
        (np.array([[{}]] * 3, dtype=object), "without pickles"),
        (np.array([[1.0], [np.nan], [0.0]]), "row 1, column 0 .* is nan"),
        (np.array([[1.0], [0.0], [1e300]]), r"row 2, column 0 .* is 1e\+300"),
        (np.array([[1.0], [0.0], [np.inf]], dtype=np.float16), "row 2, column 0 .* is inf"),
        (None, "without pickles"),
    ],
)
def test_foreign_features_are_refused(matrix: Any, message: str, tmp_path: Path) -> None:
    (tmp_path / "edges.csv").write_text("1,2\n2,3\n")
    if matrix is None:
        (tmp_path / "f.npy").write_bytes(b"PK\x03\x04 no array")
    else:
        np.save(tmp_path / "f.npy", matrix, allow_pickle=True)
    refuse(tmp_path, message, features=tmp_path / "f.npy")


def test_more_classes_than_a_manifest_takes_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("layerlab.graph.store.nodes._MOST_CLASSES", 2)
    (tmp_path / "edges.csv").write_text("1,2\n2,3\n")
    (tmp_path / "nodes.csv").write_text("id,label\n1,a\n2,b\n3,c\n")
    refuse(tmp_path, "nodes.csv: expected at most 2 classes, got more", nodes=tmp_path / "nodes.csv")
    (tmp_path / "nodes.csv").write_text("id,label\n1,a\n2,b\n3,a\n")
    made = convert(tmp_path / "edges.csv", tmp_path / "store", nodes=tmp_path / "nodes.csv")
    assert made.class_names == ("a", "b")


def test_other_refusals(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "edges.csv").write_text("1,2\n2,3\n")
    np.save(tmp_path / "f.npy", np.zeros((3, 1)))
    (tmp_path / "nodes.csv").write_text("id,label,f\n1,a,1\n2,b,2\n3,c,3\n")
    refuse(
        tmp_path, "features come from one place", nodes=tmp_path / "nodes.csv", features=tmp_path / "f.npy"
    )
    refuse(tmp_path, "it is not there", edges="no.csv")
    refuse(tmp_path, "at least 64 MB of memory, got 1 MB", memory=1 << 20)
    pq.write_table(pa.table({"source": [0.5], "target": [1.5]}), tmp_path / "real.parquet")
    refuse(tmp_path, "column 'source' holds DOUBLE", edges="real.parquet")
    pq.write_table(pa.table({"a": [1], "b": [1]}), tmp_path / "names.parquet")
    refuse(tmp_path, "expected columns 'source', 'target'", edges="names.parquet")
    (tmp_path / "torn.parquet").write_bytes((tmp_path / "real.parquet").read_bytes()[:-9])
    refuse(tmp_path, "cannot be read as a table", edges="torn.parquet")
    (tmp_path / "store").mkdir()
    with pytest.raises(UserError, match="is there already"):
        convert(tmp_path / "edges.csv", tmp_path / "store")


def test_an_engine_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "edges.csv").write_text("1,2\n")
    monkeypatch.setitem(__import__("sys").modules, "duckdb", None)
    refuse(tmp_path, r'pip install "layerlab\[store\]"')


def interrupted(at: str, how: type[BaseException]) -> Any:
    def progress(share: float, words: str) -> None:
        if words.startswith(at):
            raise how

    return progress


@pytest.mark.parametrize("at", ["reading edges", "sorting rows", "writing features"])
def test_an_interrupted_conversion_goes_on_with_what_is_finished(
    at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_tables(tmp_path)
    files = (tmp_path / "edges.csv", tmp_path / "store")
    expected = convert(files[0], tmp_path / "other", nodes=tmp_path / "nodes.csv").fingerprint
    with pytest.raises(KeyboardInterrupt):
        convert(*files, nodes=tmp_path / "nodes.csv", progress=interrupted(at, KeyboardInterrupt))
    assert (tmp_path / ".store.converting").is_dir() and not (tmp_path / "store").exists()
    calls: list[str] = []
    for name in ("write_nodes", "write_ends"):
        original = getattr(module, name)

        def watched(*given: Any, name: str = name, original: Any = original, **more: Any) -> Any:
            calls.append(name)
            return original(*given, **more)

        monkeypatch.setattr(module, name, watched)
    found = convert(*files, nodes=tmp_path / "nodes.csv")
    assert found.fingerprint == expected and not (tmp_path / ".store.converting").exists()
    done = {
        "reading edges": ["write_ends"],
        "sorting rows": [],
        "writing features": ["write_nodes", "write_ends"],
    }
    assert calls == done[at]


def test_bad_tables_leave_nothing_behind(tmp_path: Path) -> None:
    make_tables(tmp_path)
    (tmp_path / "bad.csv").write_text("a\n1\n")
    with pytest.raises(UserError):
        convert(tmp_path / "bad.csv", tmp_path / "store")
    assert [path.name for path in tmp_path.glob(".*")] == []


@pytest.mark.parametrize("change", ["damaged", "newer", "record"])
def test_what_does_not_fit_any_more_is_done_again(change: str, tmp_path: Path) -> None:
    make_tables(tmp_path)
    files = (tmp_path / "edges.csv", tmp_path / "store")
    with pytest.raises(KeyboardInterrupt):
        convert(*files, progress=interrupted("sorting rows", KeyboardInterrupt))
    work = tmp_path / ".store.converting"
    if change == "damaged":
        content = bytearray((work / "source.npy").read_bytes())
        content[-1] ^= 1
        (work / "source.npy").write_bytes(content)
    elif change == "newer":
        files[0].write_text("0,1\n")
        os.utime(files[0], ns=(1, 1))
    else:
        (work / "phases.json").write_text("{")
    found = convert(*files)
    assert found.graph == convert(files[0], tmp_path / "other").graph


def test_two_of_a_time_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "edges.csv").write_text("1,2\n")

    def held(path: Path) -> None:
        raise UserError("another process of layerlab is working in this folder", file=path)

    monkeypatch.setattr(module, "lock_folder", held)
    refuse(tmp_path, "another process")


def test_text_that_appears_late_makes_all_ids_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "edges.csv").write_text("1,2\n2,3\n" * 40000 + "2,x\n")
    found = convert(tmp_path / "edges.csv", tmp_path / "store")
    assert list(found.node_ids) == ["1", "2", "3", "x"]
    assert ends.NotWholeError.__doc__ is not None
