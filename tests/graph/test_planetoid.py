"""Planetoid's files: the restricted unpickler, the assembly, and the published facts."""

from __future__ import annotations

import os
import pickle
import random
import warnings
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from layerlab.errors import UserError
from layerlab.graph.datasets import load
from layerlab.graph.known import KNOWN
from layerlab.graph.node_data import NodeDataset
from layerlab.graph.planetoid import PARTS, SHA256, assemble, check_sha256
from layerlab.graph.unpickle import loads

ROOT = Path(__file__).parents[2]


def pickled(value: object) -> bytes:
    return pickle.dumps(value, protocol=4)


# ---------------------------------------------------------------- the unpickler


@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<i4", "|u1", "|b1", "<i8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_come_out_as_numpy_reads_them(dtype: str, order: Any) -> None:
    array = np.array(np.arange(6).reshape(2, 3) % 2 + 0, dtype=dtype, order=order)
    read = loads(pickled(array), file="a")
    assert read.dtype == array.dtype
    np.testing.assert_array_equal(read, pickle.loads(pickled(array)))


def test_sparse_matrices_and_neighbour_lists_come_out_whole() -> None:
    matrix = sparse.csr_matrix(np.array([[0, 2.0, 0], [1, 0, 3]], dtype=np.float32))
    np.testing.assert_array_equal(loads(pickled(matrix), file="m").toarray(), matrix.toarray())
    neighbours = defaultdict(list, {0: [1, 2], 2: [0]})
    assert loads(pickle.dumps(neighbours, protocol=2), file="g") == {0: [1, 2], 2: [0]}


def test_the_spelling_of_python_2_is_read() -> None:
    # As Python 2 and an old numpy wrote it: text strings for bytes, old module names. 0.5 and -2 in float32.
    old = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x00cnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x02\x85"
        b"cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        b"U\x08\x00\x00\x00?\x00\x00\x00\xc0tb."
    )
    assert loads(old, file="old").tolist() == [0.5, -2.0]
    assert loads(b"\x80\x02ccollections\ndefaultdict\nc__builtin__\nlist\n\x85R.", file="old") == {}


class _Calls:
    """Pickles as a call of ``function`` with ``arguments``."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def _named(module: str, name: str, argument: str) -> bytes:
    """A protocol-4 pickle that calls ``module.name(argument)``; in protocol 4 a name may have dots."""

    def text(value: str) -> bytes:
        return b"X" + len(value).to_bytes(4, "little") + value.encode()

    return b"\x80\x04" + text(module) + text(name) + b"\x93" + text(argument) + b"\x85R."


def _hostile(kind: str, victim: Path) -> bytes:
    write = f"open({str(victim)!r}, 'w').close()"
    if kind == "os.system":
        return pickled(_Calls(os.system, f'echo x > "{victim}"'))
    if kind == "eval":
        return pickled(_Calls(eval, write))
    if kind == "exec, protocol 0":
        return pickle.dumps(_Calls(exec, write), protocol=0)
    if kind == "numpy runstring":
        return pickled(_Calls(np.testing.runstring, write, {}))
    if kind == "numpy memmap":
        return pickled(_Calls(np.memmap, str(victim), "uint8", "w+", 0, (4,)))
    if kind == "numpy method by a dotted name":
        # numpy.ndarray.tofile(array, path): a method of a class that is on the list.
        return pickled(_Calls(np.ndarray.tofile, np.zeros(3), str(victim)))
    if kind == "inside a neighbour list":
        return pickled(defaultdict(list, {0: [1, _Calls(eval, write)]}))
    assert kind == "inside a sparse matrix"
    matrix = sparse.csr_matrix(np.eye(2))
    matrix.data = _Calls(eval, write)  # type: ignore[assignment]
    return pickled(matrix)


HOSTILE = {
    "os.system": "'posix.system'" if os.name == "posix" else "'nt.system'",
    "eval": "'builtins.eval'",
    "exec, protocol 0": "instruction",
    "numpy runstring": "runstring'",
    "numpy memmap": "memmap'",
    "numpy method by a dotted name": "'",
    "inside a neighbour list": "'builtins.eval'",
    "inside a sparse matrix": "'builtins.eval'",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_pickle_is_refused_and_runs_nothing(kind: str, tmp_path: Path) -> None:
    victim = tmp_path / "harmed"
    content = _hostile(kind, victim)
    with pytest.raises(UserError, match=r"^ind\.x\.graph: refused: .*") as refusal:
        loads(content, file="ind.x.graph")
    assert HOSTILE[kind] in str(refusal.value)
    assert not victim.exists()
    # The same bytes do harm where pickles are trusted: the test above would have seen it.
    pickle.loads(content)
    assert victim.exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("numpy", "ndarray.tofile"),
        ("numpy", "load"),
        ("builtins", "list.__class__"),
        ("collections", "namedtuple"),
        ("collections.defaultdict", "list"),
        ("_codecs", "encode"),
        ("copyreg", "_reconstructor"),
        ("layerlab.graph.unpickle", "_Array"),
    ],
)
def test_only_the_exact_names_are_served(module: str, name: str) -> None:
    with pytest.raises(UserError, match="refused") as refusal:
        loads(_named(module, name, "x"), file="f")
    assert f"'{module}.{name}'" in str(refusal.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        # Bytes taken for pointers: with numpy's own ndarray this is memory that an attacker chose.
        (pickled(np.array([object()], dtype=object)[:0]), "type 'O8'"),
        (pickled(np.zeros(2, dtype=[("a", "f4"), ("b", "i4")])), "type 'V8'"),
        (pickled(np.array(["x"])), "type 'U1'"),
        # BUILD sets attributes on whatever stands before it: here on a class, for the next reader to trip.
        (b"\x80\x02cnumpy\nndarray\nN}U\x05valueNs\x86b.", "__setstate__"),
        (b"\x80\x02c__builtin__\nlist\nN}U\x06appendNs\x86b.", "list"),
        # A part numbered 4,000,000,000: the machine would make room for as many.
        (b"\x80\x02Nr\x00\x28\x6b\xee.", "numbers its parts wrongly"),
        (b"\x80\x02cscipy.sparse.csr\ncsr_matrix\n)\x81.", "without content"),
        (b"\x80\x02cscipy.sparse.csr\ncsr_matrix\n)\x81}b.", "not arrays"),
        (b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n)R.", "without content"),
        (b"", ""),
        (b"\x80\x02", ""),
        (b"not a pickle", ""),
        (b"\x80\x63N.", "unsupported pickle protocol"),
        (b"\x80\x02X\xff\xff\xff\x7f.", "remain"),  # a text of two thousand million characters
        (b"P123\n.", "PERSID"),
        (b"\x80\x02\x82\x01.", "EXT1"),
        (b"\x80\x05\x97.", "NEXT_BUFFER"),
    ],
)
def test_a_malformed_pickle_is_an_error_of_one_line(content: bytes, reason: str) -> None:
    with pytest.raises(UserError, match=r"^f: ") as error:
        loads(content, file="f")
    assert reason in str(error.value)
    assert "\n" not in str(error.value)
    assert loads(pickled(np.arange(3)), file="g").tolist() == [0, 1, 2]  # and the reader is as it was


def test_a_sparse_matrix_that_points_outside_itself_is_refused() -> None:
    matrix = sparse.csr_matrix(np.eye(3))
    matrix.indices[1] = 7
    with pytest.raises(UserError, match="damaged"):
        loads(pickled(matrix), file="m")


def test_no_cut_and_no_flipped_byte_gives_anything_but_a_user_error() -> None:
    content = pickled(sparse.csr_matrix(np.eye(4, dtype=np.float32)))
    for length in range(len(content)):
        with pytest.raises(UserError):
            loads(content[:length], file="cut")
    generator = random.Random(0)
    refused = 0
    for _ in range(2000):
        damaged = bytearray(content)
        for _ in range(generator.randint(1, 3)):
            damaged[generator.randrange(len(damaged))] = generator.randrange(256)
        try:
            loads(bytes(damaged), file="flipped")
        except UserError:
            refused += 1
    assert refused > 500


# ---------------------------------------------------------------- the assembly


def small_files(**changes: object) -> dict[str, bytes]:
    """A data set of 510 known nodes, 4 test nodes in shuffled order and two gaps among them."""
    known, labels = 510, np.arange(510) % 3
    one_hot = np.eye(3, dtype=np.int32)
    parts: dict[str, object] = {
        "allx": sparse.csr_matrix(np.arange(known * 2, dtype=np.float32).reshape(known, 2)),
        "ally": one_hot[labels],
        "y": one_hot[labels[:6]],
        "tx": sparse.csr_matrix(np.array([[1, 0], [0, 2], [3, 0], [4, 5]], dtype=np.float32)),
        "ty": one_hot[[2, 1, 0, 2]],
        "graph": defaultdict(list, {0: [1, 1, 0], 1: [0], 2: [515], 511: [511], 513: [3]}),
        "test.index": b"515\n510\n513\n512\n",
        **changes,
    }
    return {part: value if isinstance(value, bytes) else pickled(value) for part, value in parts.items()}


def test_test_nodes_take_their_places_and_gaps_stay_unknown() -> None:
    data = assemble("x", small_files(), source="here")
    dense = data.features.to_dense()
    assert data.num_nodes == 516
    assert dense[509].tolist() == [1018, 1019]
    assert dense[510:].tolist() == [[0, 2], [0, 0], [4, 5], [3, 0], [0, 0], [1, 0]]
    assert data.labels[510:].tolist() == [1, -1, 2, 0, -1, 2]
    assert data.split is not None
    assert data.split.train.tolist() == [0, 1, 2, 3, 4, 5]
    assert data.split.validation.tolist() == list(range(6, 506))
    assert data.split.test.tolist() == [510, 512, 513, 515]
    source, target, _ = data.graph.edges()
    assert list(zip(source.tolist(), target.tolist(), strict=True)) == [(0, 1), (2, 515), (3, 513)]
    assert data.notes == ("2 self-loops dropped", "2 nodes have neither features nor a label")
    assert (data.source, data.class_names) == ("here", ("class 0", "class 1", "class 2"))


def test_a_node_without_a_label_is_not_of_class_0() -> None:
    one_hot = np.eye(3, dtype=np.int32)[np.arange(510) % 3]
    one_hot[508] = 0
    assert assemble("x", small_files(ally=one_hot), source="here").labels[507:510].tolist() == [0, -1, 2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tx": sparse.csr_matrix(np.ones((4, 3), dtype=np.float32))}, "do not belong together"),
        ({"ty": np.eye(3, dtype=np.int32)}, "do not belong together"),
        ({"y": np.eye(3, dtype=np.int32)[[2, 2]]}, "do not belong together"),
        ({"allx": np.zeros((2, 2))}, r"^ind\.x\.allx: expected a sparse matrix"),
        ({"ally": [1, 2]}, r"^ind\.x\.ally: expected a nodes x classes array"),
        ({"graph": [1, 2]}, r"^ind\.x\.graph: expected a dictionary"),
        ({"graph": {0: ["a"]}}, r"^ind\.x\.graph: expected node numbers"),
        ({"graph": {0: [9999]}}, "9999"),
        ({"test.index": b"515 510 513"}, r"^ind\.x\.test\.index: expected 4 different"),
        ({"test.index": b"515 510 513 513"}, r"^ind\.x\.test\.index: expected 4 different"),
        ({"test.index": b"515 510 513 3"}, r"^ind\.x\.test\.index: expected 4 different"),
        ({"test.index": b"515 510 513 x"}, r"^ind\.x\.test\.index: expected one node number a line"),
    ],
)
def test_files_that_do_not_fit_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        assemble("x", small_files(**changes), source="here")


def test_the_sum_is_compared() -> None:
    expected = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    assert check_sha256(b"hello", expected, file="f") == b"hello"
    with pytest.raises(UserError, match=r"^f: expected SHA-256 2cf24dba.*, got .*fetch it again"):
        check_sha256(b"hellO", expected, file="f")


# ---------------------------------------------------------------- the published files, where they are at hand


def published(name: str) -> NodeDataset:
    folder = Path(os.environ.get("LAYERLAB_TEST_PLANETOID", ROOT.parent / "shared" / "data" / "planetoid"))
    if not (folder / f"ind.{name}.graph").is_file():
        pytest.skip("Planetoid's files are not here: set LAYERLAB_TEST_PLANETOID to their folder")
    files = {part: (folder / f"ind.{name}.{part}").read_bytes() for part in PARTS}
    for part, expected in SHA256.get(name, {}).items():
        check_sha256(files[part], expected, file=part)
    return assemble(name, files, source="files")


@pytest.mark.parametrize(
    ("name", "isolated", "unknown", "nonzeros"), [("citeseer", 48, 15, 105_165), ("pubmed", 0, 0, 988_031)]
)
def test_published_facts(name: str, isolated: int, unknown: int, nonzeros: int) -> None:
    data, known = published(name), KNOWN[name]
    assert (data.num_nodes, data.graph.num_edges) == (known.nodes, known.edges)
    assert (data.num_features, data.num_classes) == (known.features, known.classes)
    assert data.features.nnz == nonzeros
    assert data.graph.num_self_loops == 0
    assert data.graph.isolated_nodes().size == isolated
    assert data.split is not None
    assert data.split.sizes == known.split_sizes
    assert set(np.bincount(data.labels[data.split.train])) == {20}
    missing = np.flatnonzero(data.labels == -1)
    assert missing.size == unknown
    assert not np.isin(
        missing, np.concatenate([data.split.train, data.split.validation, data.split.test])
    ).any()
    assert not np.isin(missing, data.features.row.numpy()).any()


def _profile(data: NodeDataset) -> list[tuple[float, float, int]]:
    """Of each node: degree, number of words, and the size of its class, which is different for each class."""
    sizes = np.bincount(data.labels)
    assert len(set(sizes.tolist())) == data.num_classes
    words = np.bincount(data.features.row.numpy(), minlength=data.num_nodes)
    return list(zip(data.graph.degrees().tolist(), words.tolist(), sizes[data.labels].tolist(), strict=True))


def test_cora_of_the_package_is_planetoids_cora() -> None:
    # The two releases number nodes, words and classes differently; what does not depend on numbers must
    # agree.
    theirs, ours = published("cora"), load("cora")
    their_nodes, our_nodes = _profile(theirs), _profile(ours)
    assert Counter(our_nodes) == Counter(their_nodes)
    for data, nodes in ((theirs, their_nodes), (ours, our_nodes)):
        source, target, _ = data.graph.edges()
        edges = Counter(tuple(sorted((nodes[u], nodes[v]))) for u, v in zip(source, target, strict=True))
        if data is theirs:
            expected = edges
    assert edges == expected
    assert ours.split is not None
    assert theirs.split is not None
    for part in ("train", "validation", "test"):
        mine = Counter(our_nodes[node] for node in getattr(ours.split, part))
        assert mine == Counter(their_nodes[node] for node in getattr(theirs.split, part)), part
    their_words = np.bincount(theirs.features.col.numpy(), minlength=theirs.num_features)
    assert sorted(np.bincount(ours.features.col.numpy()).tolist()) == sorted(their_words.tolist())


@pytest.mark.parametrize("name", ["citeseer", "pubmed"])
def test_torch_geometric_reads_the_same(name: str) -> None:
    io = pytest.importorskip("torch_geometric.io", reason="torch_geometric is in the extra 'test'")
    ours = published(name)
    folder = os.environ.get("LAYERLAB_TEST_PLANETOID", str(ROOT.parent / "shared" / "data" / "planetoid"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = io.read_planetoid_data(folder, name)
    known = ours.labels >= 0
    np.testing.assert_array_equal(ours.labels[known], theirs.y.numpy()[known])
    np.testing.assert_array_equal(ours.features.to_dense().numpy(), theirs.x.numpy())
    assert ours.split is not None
    for part, mask in (
        ("train", theirs.train_mask),
        ("validation", theirs.val_mask),
        ("test", theirs.test_mask),
    ):
        np.testing.assert_array_equal(getattr(ours.split, part), np.flatnonzero(mask.numpy()))
    source, target, _ = ours.graph.edges()
    mine = set(zip(source.tolist(), target.tolist(), strict=True))
    assert mine == {(u, v) for u, v in theirs.edge_index.T.tolist() if u < v}
