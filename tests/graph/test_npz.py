"""The archive: everything comes back, and nothing in a hostile file is believed or run."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from layerlab.errors import UserError
from layerlab.graph.npz import from_npz, to_npz
from layerlab.graph.structure import Graph


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "graph.npz"


def arrays(**changes: object) -> dict:
    stored = {
        "format": np.array("layerlab-graph"),
        "version": np.array(1),
        "num_nodes": np.array(3),
        "directed": np.array(True),
        "source": np.array([0, 1], np.int32),
        "target": np.array([1, 2], np.int32),
        "notes": np.array(["a note"]),
        "weight": np.array([0.5, 2.0]),
        **changes,
    }
    return {name: value for name, value in stored.items() if value is not None}


def test_the_format_is_what_it_is(file: Path) -> None:
    # Written by hand: a change of the format that old files would not survive must show here.
    np.savez(file, **arrays())
    g = from_npz(file)
    assert g == Graph.from_edges([0, 1], [1, 2], weight=[0.5, 2.0], directed=True)
    assert g.notes == ("a note",)


def test_the_same_graph_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        to_npz(Graph.from_edges([0, 1], [1, 2]), tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.npz", "b.npz"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": None}, "not a graph saved by layerlab"),
        ({"format": np.array("something else")}, "not a graph saved by layerlab"),
        ({"version": None}, "written in version None"),
        ({"version": np.array(2)}, "written in version 2 of the format, and this layerlab reads version 1"),
        ({"num_nodes": None}, "damaged: 'num_nodes' is missing"),
        ({"num_nodes": np.array(3.0)}, "damaged: 'num_nodes' is missing or of a wrong type"),
        ({"num_nodes": np.array([3])}, "damaged: 'num_nodes' is missing or of a wrong type"),
        ({"num_nodes": np.array(-1)}, "damaged: num_nodes must be an integer"),
        ({"num_nodes": np.array(2)}, "damaged: target of edge 1 is 2"),
        ({"directed": None}, "damaged: 'directed' is missing"),
        ({"source": None}, "damaged: 'source' is missing"),
        ({"source": np.array([0.0, 1.0])}, "damaged: 'source' is missing or of a wrong type"),
        ({"source": np.array([0, -1])}, "damaged: source of edge 1 is -1"),
        ({"target": np.array([1])}, "damaged: source and target must be of one length"),
        ({"target": None}, "damaged: 'target' is missing"),
        ({"notes": None}, "damaged: 'notes' is missing"),
        ({"weight": np.array([0.5, np.nan])}, "damaged: weight of edge 1 is nan"),
        ({"weight": np.array([0.5])}, "damaged: weight must have one number an edge"),
    ],
)
def test_archives_that_hold_no_graph(file: Path, changes: dict, message: str) -> None:
    np.savez(file, **arrays(**changes))
    with pytest.raises(UserError) as caught:
        from_npz(file)
    assert message in str(caught.value)
    assert caught.value.file == str(file)


class Payload:
    """Unpickled, it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_is_refused_and_not_run(file: Path, tmp_path: Path) -> None:
    trace = tmp_path / "it-ran"
    bomb = Payload(trace)
    pickle.loads(pickle.dumps(bomb))
    assert trace.exists()  # the payload works ...
    trace.unlink()

    hostile = np.empty(2, dtype=object)
    hostile[:] = [bomb, 1]
    for name in ("source", "weight", "format", "notes"):
        np.savez(file, **arrays(**{name: hostile}))
        with pytest.raises(
            UserError, match="expected a graph saved by layerlab, but it is damaged or something else"
        ):
            from_npz(file)
    file.write_bytes(pickle.dumps(bomb))
    with pytest.raises(
        UserError, match="expected a graph saved by layerlab, but it is damaged or something else"
    ):
        from_npz(file)
    assert not trace.exists()  # ... and was not run


def test_what_is_no_archive(file: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        from_npz(file)
    with pytest.raises(UserError, match="cannot be read"):
        from_npz(tmp_path)
    plain = io.BytesIO()
    np.save(plain, np.arange(3))
    for content in (b"", b"words", b"PK\x03\x04", b"PK\x05\x06" + bytes(18), plain.getvalue()):
        file.write_bytes(content)
        with pytest.raises(UserError, match="graph saved by layerlab"):
            from_npz(file)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("format", "layerlab-graph")
        archive.writestr("source.npy", "no array")
    with pytest.raises(UserError):
        from_npz(file)


def test_every_damage_is_a_plain_refusal(file: Path) -> None:
    to_npz(Graph.from_edges([0, 1, 2], [1, 2, 2], weight=[0.5, 2.0, 1.0]), file)
    whole = file.read_bytes()
    with zipfile.ZipFile(file) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    rng = np.random.default_rng(0)

    def damaged(content: bytes) -> bytes:
        changed = bytearray(content)
        for at in rng.integers(0, len(content), rng.integers(1, 4)):
            changed[at] = rng.integers(0, 256)
        return bytes(changed[: rng.integers(1, len(content))] if rng.random() < 0.2 else changed)

    refused = 0
    for trial in range(300):
        if trial % 2:
            file.write_bytes(damaged(whole))
        else:  # a sound archive around a damaged array, which no checksum gives away
            name = list(parts)[rng.integers(len(parts))]
            with zipfile.ZipFile(file, "w") as archive:
                for other, content in parts.items():
                    archive.writestr(other, damaged(content) if other == name else content)
        try:
            from_npz(file)  # a changed time stamp does no harm
        except UserError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 150


def test_an_array_larger_than_any_memory(file: Path) -> None:
    np.savez(file, **arrays())
    with zipfile.ZipFile(file) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    # As long as the padding before it: the header keeps its length.
    parts["source.npy"] = parts["source.npy"].replace(b"(2,), }" + b" " * 15, b"(1000000000000000,), }")
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    with pytest.raises(UserError, match=r"holds 4000000\.0 GB of arrays"):
        from_npz(file)
