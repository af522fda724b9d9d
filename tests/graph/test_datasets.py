"""Loading by name: Cora in the package, what the others say, and a data set whose parts fit together."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_dataset import small

from layerlab.errors import UserError
from layerlab.graph import archive
from layerlab.graph.datasets import load
from layerlab.graph.known import KNOWN, find
from layerlab.graph.node_data import Split
from layerlab.graph.sparse import SparseMatrix
from layerlab.lab.cache import cache_folder

from ..loading import program

ROOT = Path(__file__).parents[2]


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
    script = program("scripts/build_cora.py")
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
        ({"labels": [0.9, 1.0, 0.0, 0.0, 0.0]}, "one whole-number label a node, .* got shape .*, float64"),
        ({"labels": [[0], [1], [0], [0], [0]]}, r"one whole-number label a node, .* got shape \(5, 1\)"),
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
