"""A store opened: the same graph and data as went in, and a clear refusal of every damage."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from layerlab.errors import UserError
from layerlab.graph import Graph, NodeDataset, SparseMatrix, Split, load, parts
from layerlab.graph.sources import load_graph
from layerlab.graph.store import StoredFeatures, open_store, save_dataset
from layerlab.graph.store.layout import ArrayFile, _fingerprint
from layerlab.lab.arrays import is_mapped

KINDS = [(directed, weighted) for directed in (False, True) for weighted in (False, True)]


def data_of(directed: bool, weighted: bool, nodes: int = 30, columns: int = 20) -> NodeDataset:
    generator = np.random.default_rng(3)
    ends = generator.integers(0, nodes - 1, (2, 4 * nodes))
    weight = generator.random(4 * nodes) if weighted else None
    return NodeDataset(
        "made",
        Graph.from_edges(*ends, num_nodes=nodes, weight=weight, directed=directed),
        SparseMatrix.from_dense(
            torch.tensor(generator.standard_normal((nodes, columns)), dtype=torch.float32)
        ),
        generator.integers(-1, 3, nodes),
        ("a", "b", "c"),
        tuple(f"n{at}é" for at in range(nodes)),
        None,
        "made for a test",
    )


@pytest.fixture
def store(tmp_path: Path) -> Path:
    save_dataset(data_of(True, True), tmp_path / "store")
    return tmp_path / "store"


@pytest.mark.parametrize(("directed", "weighted"), KINDS)
def test_what_went_in_comes_out(directed: bool, weighted: bool, tmp_path: Path) -> None:
    data = data_of(directed, weighted)
    known = np.flatnonzero(data.labels >= 0)
    data = replace(data, split=Split(known[:3], known[3:5], known[5:]))
    save_dataset(data, tmp_path / "store")
    found = open_store(tmp_path / "store")
    assert found.graph == data.graph and found.graph.notes == data.graph.notes
    assert found.graph.indptr.dtype == data.graph.indptr.dtype
    assert found.graph.indices.dtype == data.graph.indices.dtype
    assert found.graph.transpose() == data.graph.transpose()
    assert found.graph.num_self_loops == data.graph.num_self_loops > 0
    assert np.array_equal(found.degrees, data.graph.degrees())
    for direction in ("in", "out"):
        assert np.array_equal(found.graph.degrees(direction), data.graph.degrees(direction))
    for loops in (False, True):
        one, other = (graph.normalized_adjacency(loops) for graph in (found.graph, data.graph))
        assert torch.equal(one.values, other.values)
        assert torch.equal(one.col, other.col) and torch.equal(one.crow, other.crow)
    assert np.array_equal(found.labels, data.labels) and found.class_names == data.class_names
    assert tuple(found.node_ids) == data.node_ids and found.node_ids[-1] == data.node_ids[-1]
    assert found.split is not None
    for part in ("train", "validation", "test"):
        assert np.array_equal(getattr(found.split, part), getattr(data.split, part))
    assert found.features is not None and found.features.shape == (30, 20) and found.features.blocks == 2
    wanted = torch.tensor([7, 0, 29, 7])
    assert torch.equal(found.features.rows(wanted), data.feature_matrix.rows(wanted).to_dense())
    loaded = load(tmp_path / "store")
    assert torch.equal(loaded.feature_matrix.to_dense(), data.feature_matrix.to_dense())
    assert load_graph(tmp_path / "store") == data.graph == Graph.open(tmp_path / "store")


def test_nothing_large_is_copied_and_nothing_can_be_written(store: Path) -> None:
    found = open_store(store)
    graph = found.graph
    for array in (graph.indices, graph.weights, graph.transpose().indices, found.labels):
        assert array is not None and is_mapped(array)
    assert found.features is not None and is_mapped(found.features.block(0))
    with pytest.raises(ValueError, match="read-only"):
        graph.indices[0] = 1
    column = graph.adjacency().col
    assert column.data_ptr() == graph.indices.ctypes.data
    before = (store / "indices.npy").read_bytes()
    column[0] = 29
    assert (store / "indices.npy").read_bytes() == before


def test_a_graph_is_the_same_in_runs_of_any_length(monkeypatch: pytest.MonkeyPatch) -> None:
    for directed, weighted in KINDS:
        whole = data_of(directed, weighted).graph
        with monkeypatch.context() as patch:
            patch.setattr(parts, "_ENTRIES", 5)
            pieces = Graph(whole.num_nodes, directed, whole.indptr, whole.indices, whole.weights)
            assert len(list(pieces._parts())) > 5
            looped, degrees = pieces.with_self_loops(), (pieces.degrees("in"), pieces.degrees("out"))
            operator = pieces.normalized_adjacency()
            assert pieces.num_self_loops == whole.num_self_loops
            assert np.array_equal(pieces.isolated_nodes(), whole.isolated_nodes())
        assert looped == whole.with_self_loops()
        assert np.array_equal(degrees[0], whole.degrees("in")) and np.array_equal(
            degrees[1], whole.degrees("out")
        )
        assert torch.equal(operator.values, whole.normalized_adjacency().values)


def test_a_fingerprint_follows_the_content(store: Path, tmp_path: Path) -> None:
    save_dataset(data_of(True, True), tmp_path / "again")
    save_dataset(data_of(True, False), tmp_path / "other")
    prints = [open_store(path).fingerprint for path in (store, tmp_path / "again", tmp_path / "other")]
    assert prints[0] == prints[1] != prints[2]


def _manifest(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def damage(store: Path) -> None:
        content = json.loads((store / "store.json").read_text())
        del content["fingerprint"]
        change(content)
        content["fingerprint"] = _fingerprint(content)
        (store / "store.json").write_text(json.dumps(content))

    return damage


def _cut(store: Path) -> None:
    content = (store / "indices.npy").read_bytes()
    (store / "indices.npy").write_bytes(content[:-4])


def _longer(store: Path) -> None:
    with (store / "labels.npy").open("ab") as stream:
        stream.write(b"1234")


def _flip(name: str) -> Callable[[Path], None]:
    def damage(store: Path) -> None:
        content = bytearray((store / name).read_bytes())
        content[-1] ^= 1
        (store / name).write_bytes(content)

    return damage


def _foreign(store: Path) -> None:
    np.save(store / "features" / "000.npy", np.load(store / "features" / "000.npy").astype(">f4"))


def _object(store: Path) -> None:
    np.save(store / "labels.npy", np.array([{}] * 30, dtype=object), allow_pickle=True)


def _header(store: Path) -> None:
    content = (store / "labels.npy").read_bytes()
    (store / "labels.npy").write_bytes(content.replace(b"}", b"(", 1))


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "version": (_manifest(lambda m: m.update(version=2)), "is of version 2, this layerlab reads version 1"),
    "byte order": (
        _manifest(lambda m: m.update(byte_order="big")),
        "byte order 'big', this machine's is 'little'",
    ),
    "format": (_manifest(lambda m: m.update(format="zip")), "expected the manifest of a graph store"),
    "count": (_manifest(lambda m: m.update(num_nodes=31)), "has shape"),
    "negative": (_manifest(lambda m: m.update(num_nodes=-1)), "is unknown"),
    "blocks": (_manifest(lambda m: m.update(columns=10**15, width=1)), "is not among its files"),
    "text": (_manifest(lambda m: m.update(num_nodes="30")), "'num_nodes' is '30'"),
    "outside": (
        _manifest(lambda m: m["files"].update({"../x.npy": m["files"]["labels.npy"]})),
        "holds 'int32'",
    ),
    "missing entry": (
        _manifest(lambda m: m["files"].pop("indices.npy")),
        "'indices.npy' is not among its files",
    ),
    "classes": (
        _manifest(lambda m: m.update(class_names=["a"])),
        "expected labels from -1 to 0, got -1 to 2",
    ),
    "no json": (lambda store: (store / "store.json").write_text("{"), "it is no JSON"),
    "edited": (
        lambda store: (store / "store.json").write_text(
            (store / "store.json").read_text().replace("made for", "Made for")
        ),
        "it is not what was written",
    ),
    "cut": (_cut, "cut short"),
    "longer": (_longer, "too long"),
    "flipped": (_flip("weights.npy"), "checksum"),
    "flipped features": (_flip("features/001.npy"), "checksum"),
    "offsets": (_flip("indptr.npy"), "the offsets do not rise"),
    "foreign": (_foreign, "expected float32"),
    "object": (_object, "expected int32"),
    "gone": (lambda store: (store / "features" / "001.npy").unlink(), "cannot be read"),
    "header": (_header, "no array of numpy"),
    "text file": (lambda store: (store / "labels.npy").write_text("no"), "no array of numpy"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_refused(name: str, store: Path) -> None:
    damage, message = DAMAGE[name]
    damage(store)
    with pytest.raises(UserError, match=message) as caught:
        open_store(store)
    assert str(store) in str(caught.value) and "\n" not in str(caught.value)


def test_a_large_store_is_verified_on_request(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _flip("weights.npy")(store)
    monkeypatch.setattr("layerlab.graph.store.opened._VERIFIED_UP_TO", 100)
    assert open_store(store).num_nodes == 30
    with pytest.raises(UserError, match="checksum"):
        open_store(store, verify=True)


def test_what_is_no_store_and_what_is_there_already(store: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected a graph store"):
        open_store(tmp_path)
    with pytest.raises(UserError, match="is there already"):
        save_dataset(data_of(True, True), store)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_rows_and_matrices_of_features_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    features = StoredFeatures((np.eye(3, dtype=np.float32),))
    for wrong in (torch.tensor([3]), torch.tensor([-1]), torch.tensor([0.0]), torch.tensor([[0]])):
        with pytest.raises(UserError, match="expected"):
            features.rows(wrong)
    assert torch.equal(features.to_sparse().to_dense(), torch.eye(3))
    monkeypatch.setattr("layerlab.graph.store.features.SMALL", 8)
    with pytest.raises(UserError, match="mini-batches"):
        features.to_sparse()


def test_a_store_without_features_or_labels(tmp_path: Path) -> None:
    data = data_of(False, False)
    bare = replace(
        data, labels=np.full(30, -1), class_names=(), features=SparseMatrix.from_dense(torch.zeros(30, 0))
    )
    save_dataset(bare, tmp_path / "store")
    found = open_store(tmp_path / "store")
    assert found.features is None and found.split is None and found.num_classes == 0
    assert torch.equal(found.dataset(need_labels=False).feature_matrix.to_dense(), torch.eye(30))
    with pytest.raises(UserError, match="at least two classes"):
        found.dataset()


def test_a_mapped_graph_is_shared_and_not_copied(store: Path) -> None:
    graph = open_store(store).graph
    assert copy.deepcopy(graph) is graph


def test_the_size_of_an_array_does_not_overflow() -> None:
    assert ArrayFile("int64", (2**61,), "").bytes == 2**64
    assert (ArrayFile("int32", (), "").bytes, ArrayFile("float32", (3, 0), "").bytes) == (4, 0)
