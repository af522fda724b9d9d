"""Planetoid's files (Yang, Cohen and Salakhutdinov 2016, "Revisiting semi-supervised learning...").

Seven files make a data set: ``allx`` and ``ally`` hold features and one-hot labels of all nodes but the test
nodes, ``tx`` and ``ty`` those of the test nodes in the order of ``test.index``, ``y`` the labels of the
training nodes (the first of ``ally``), ``graph`` the neighbours of each node. ``x`` repeats the first rows of
``allx`` and is not read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from layerlab.errors import UserError
from layerlab.graph.node_data import UNKNOWN, NodeDataset, Split
from layerlab.graph.sparse import SparseMatrix
from layerlab.graph.structure import Graph
from layerlab.graph.unpickle import loads

PARTS = ("y", "tx", "ty", "allx", "ally", "graph", "test.index")
VALIDATION_NODES = 500

# SHA-256 of each file that is read; nothing is unpickled before it has been compared.
SHA256 = {
    "citeseer": {
        "y": "8ba87e515d8e3ee3cf52f6d2c5b86aa73f11ecad825a808455209ec26cd54924",
        "tx": "539a8906a2da97628d212f2fdd668c109a8b3f0d36574b59e5d3fd5b5303da21",
        "ty": "55e5bd1ba1e733a04598753ad1a8d57957f4b8f89e74519f41f4f4938767e4ce",
        "allx": "2ac30345d95c9ec933a817ee0bdd6a5f077f8c184a20e696910192d534414668",
        "ally": "f704b2d986dde6c2669934de1f3ae5696a6cf9455c0f6b2646a2d135ea0a1c95",
        "graph": "d79a4ef9d3e7169aee8946145f6b7306e35bc79bffad26346cfb94e10e9912a7",
        "test.index": "2af990671580b6b2df5d158d1038f8292e30c9cd821b5453f399659b25b723d4",
    },
    "pubmed": {
        "y": "e6c807633307a07ed659249006536a147c7999c797f11a2560752990181b41b3",
        "tx": "4eb5f5d0f30f26497eb0ac6ac9719d09c67e284f1ed0385c93f3ef27a671da3d",
        "ty": "ee2e0d4819d9fbcc403689c3bf2e49face401b605932f093bc58ab6461130fdd",
        "allx": "508e538e2abdccdd54c4d3e9f49d638b4af7107d85845f66ddea5a5152658b7e",
        "ally": "0c37bbe3b5014ec365e9d393cf4791925e5ed94fb194305d74f064a8d7b50f0e",
        "graph": "5b89f0036ca22909471f1e6558eb42fa06e0c730a577bde5b058b40638f81dc9",
        "test.index": "b101d421688bbaecbd82e8a18f1e282378d6830f3a37666f28ebc47f844341b5",
    },
}


def check_sha256(content: bytes, expected: str, *, file: str) -> bytes:
    """The same bytes, once their SHA-256 is the expected one.

    Raises:
        UserError: it is another.
    """
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise UserError(
            f"expected SHA-256 {expected}, got {found}: damaged, or not the published file; fetch it again",
            file=file,
        )
    return content


def _matrix(loaded: Any, *, file: str) -> sparse.csr_array:
    if not sparse.issparse(loaded):
        raise UserError(f"expected a sparse matrix of features, got {type(loaded).__name__}", file=file)
    return loaded


def _classes(loaded: Any, *, file: str) -> NDArray[np.int64]:
    if not isinstance(loaded, np.ndarray) or loaded.ndim != 2 or loaded.shape[1] == 0:
        raise UserError(f"expected a nodes x classes array of labels, got {type(loaded).__name__}", file=file)
    known = loaded.sum(axis=1) > 0
    # An all-zero row is a node without a label, not a node of class 0.
    return np.where(known, loaded.argmax(axis=1), UNKNOWN).astype(np.int64)


def _edges(loaded: Any, *, file: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    if not isinstance(loaded, dict):
        raise UserError(f"expected a dictionary of neighbour lists, got {type(loaded).__name__}", file=file)
    try:
        neighbours = [np.asarray(targets, dtype=np.int64).reshape(-1) for targets in loaded.values()]
        nodes = np.array(list(loaded), dtype=np.int64)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"expected node numbers as neighbours ({error})", file=file) from error
    source = np.repeat(nodes, [targets.size for targets in neighbours])
    return source, np.concatenate([*neighbours, np.zeros(0, dtype=np.int64)])


def _test_index(content: bytes, first: int, count: int, *, file: str) -> NDArray[np.int64]:
    try:
        index = np.array(content.split(), dtype=np.int64)
    except (ValueError, OverflowError) as error:
        raise UserError(f"expected one node number a line ({error})", file=file) from error
    # `first` is the number of nodes in allx: test nodes come after those.
    if index.size != count or np.unique(index).size != count or not count or index.min() != first:
        raise UserError(
            f"expected {count} different node numbers from {first} on, one a row of tx; got {index.size}",
            file=file,
        )
    return index


def assemble(name: str, files: Mapping[str, bytes], *, source: str) -> NodeDataset:
    """Put a data set together from the contents of its seven files.

    Test nodes take the places that ``test.index`` gives them. Where that leaves gaps (15 in CiteSeer), the
    missing nodes have no features and their label is unknown; they are in no part of the split. Self-loops
    are dropped, as in the papers' counts. Training nodes are those of ``y``, the next 500 validate. Planetoid
    names no classes and no nodes, so both are called by their numbers.

    Args:
        name: the data set's name, as in ``ind.NAME.allx``.
        files: content of each of `PARTS`.
        source: one line on where the files came from.

    Raises:
        UserError: a file is hostile, malformed, or does not fit the others.
    """

    def called(part: str) -> str:
        return f"ind.{name}.{part}"

    def loaded(part: str) -> Any:
        return loads(files[part], file=called(part))

    known_features = _matrix(loaded("allx"), file=called("allx"))
    test_features = _matrix(loaded("tx"), file=called("tx"))
    known_labels = _classes(known_one_hot := loaded("ally"), file=called("ally"))
    test_labels = _classes(test_one_hot := loaded("ty"), file=called("ty"))
    train_labels = _classes(loaded("y"), file=called("y"))
    first = known_features.shape[0]
    if (
        known_features.shape[1] != test_features.shape[1]
        or known_one_hot.shape[1] != test_one_hot.shape[1]
        or known_labels.size != first
        or test_labels.size != test_features.shape[0]
        or not np.array_equal(train_labels, known_labels[: train_labels.size])
    ):
        raise UserError(
            f"the files ind.{name}.* do not belong together: their shapes differ; fetch them again"
        )
    test = _test_index(files["test.index"], first, test_labels.size, file=called("test.index"))
    nodes = int(test.max()) + 1

    labels = np.full(nodes, UNKNOWN, dtype=np.int64)
    labels[:first] = known_labels
    labels[test] = test_labels
    placing = sparse.csr_array(
        (np.ones(test.size), (test - first, np.arange(test.size))), (nodes - first, test.size)
    )
    features = sparse.vstack([known_features, placing @ test_features], format="csr")

    edge_source, edge_target = _edges(loaded("graph"), file=called("graph"))
    proper = edge_source != edge_target
    graph = Graph.from_edges(edge_source[proper], edge_target[proper], num_nodes=nodes)
    notes = [f"{loops} self-loops dropped"] if (loops := np.unique(edge_source[~proper]).size) else []
    if missing := nodes - first - test.size:
        notes.append(f"{missing} nodes have neither features nor a label")
    train = np.arange(train_labels.size)
    return NodeDataset(
        name=name,
        graph=graph,
        features=SparseMatrix.from_scipy(features),
        labels=labels,
        class_names=tuple(f"class {number}" for number in range(known_one_hot.shape[1])),
        node_ids=tuple(map(str, range(nodes))),
        split=Split(train, train.size + np.arange(VALIDATION_NODES), test),
        source=source,
        notes=tuple(notes),
    )
