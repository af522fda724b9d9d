from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from layerlab.errors import UserError
from layerlab.projection.archive import check_name, read, write
from layerlab.projection.codebooks import codebook
from layerlab.projection.rows import Rows


@pytest.mark.parametrize(
    ("request_", "dtype"),
    [
        ({"dim": 16, "coherence": 0.25}, np.int8),
        ({"dim": 20, "count": 100, "construction": "kerdock"}, np.int8),
        ({"dim": 3, "count": 5}, np.float64),
        ({"dim": 3, "count": 5, "field": "complex", "construction": "random-lines"}, np.complex128),
    ],
)
def test_a_codebook_comes_back(request_: dict[str, object], dtype: type, tmp_path: Path) -> None:
    found = codebook(**request_)  # type: ignore[arg-type]
    path = tmp_path / "codes.npz"
    write(path, found.made, found.to_dict())
    stored = read(path)
    assert stored.record == found.to_dict()
    assert stored.name == "vectors"
    assert stored.vectors.dtype == dtype
    with np.load(path, allow_pickle=False) as archive:
        rows = torch.from_numpy(archive["vectors"])
    rows = rows.to(found.vectors.dtype)
    torch.testing.assert_close(rows / torch.linalg.vector_norm(rows, dim=1, keepdim=True), found.vectors)


def test_the_same_codebook_gives_the_same_bytes_and_replaces_whole_files(tmp_path: Path) -> None:
    path, other = tmp_path / "codes.npz", tmp_path / "other.npz"
    found = codebook(16, 20, construction="kerdock")
    write(path, found.made, {"a": 1})
    path.write_bytes(b"old")
    for file in (path, other):
        write(file, found.made, {"a": 1})
    assert path.read_bytes() == other.read_bytes()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["codes.npz", "other.npz"]


def test_an_interrupted_writing_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "codes.npz"
    path.write_bytes(b"old")
    found = codebook(16, 20, construction="kerdock")
    whole = found.made.stored

    def broken(made: object) -> Iterator[np.ndarray]:
        yield from whole()
        raise KeyboardInterrupt

    monkeypatch.setattr(type(found.made), "stored", broken)
    with pytest.raises(KeyboardInterrupt):
        write(path, found.made, {})
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_vectors_of_others_are_read(tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((6, 4))
    np.save(tmp_path / "a.npy", x)
    np.savez(tmp_path / "b.npz", codes=x, labels=np.arange(6))
    np.savez(tmp_path / "c.npz", other=x[:2], vectors=x)
    save_file({"w": torch.from_numpy(x)}, tmp_path / "d.safetensors")
    np.savetxt(tmp_path / "e.csv", x, delimiter=",", header="a,b,c,d", comments="")
    np.savetxt(tmp_path / "f.txt", x)
    (tmp_path / "g.csv").write_text(
        "\ufeff" + "\n\n".join(";".join(map(repr, row)) for row in x.tolist()), "utf-8"
    )
    for path in sorted(tmp_path.iterdir()):
        found = read(path)
        np.testing.assert_allclose(np.asarray(found.vectors), x, rtol=1e-12)
        assert found.record is None
        assert tuple(read(path, columns=True).vectors.shape) == (4, 6)
    assert isinstance(read(tmp_path / "a.npy").vectors, np.memmap)
    assert read(tmp_path / "c.npz", "other").vectors.shape == (2, 4)


def test_a_codebook_without_its_version_is_read(tmp_path: Path) -> None:
    write(tmp_path / "codes.npz", codebook(dim=8, count=8).made, {"a": 1})
    with np.load(tmp_path / "codes.npz") as archive:
        arrays = {name: archive[name] for name in archive.files if name != "version"}
    np.savez(tmp_path / "other.npz", **arrays)
    assert read(tmp_path / "other.npz").record == {"a": 1}


def test_a_codebook_of_another_version_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "codes.npz", codebook(dim=8, count=8).made, {"a": 1})
    with np.load(tmp_path / "codes.npz") as archive:
        arrays = {**{name: archive[name] for name in archive.files}, "version": np.array("2")}
    np.savez(tmp_path / "later.npz", **arrays)
    with pytest.raises(UserError, match=r"later\.npz: expected a codebook of format version 1, got '2'"):
        read(tmp_path / "later.npz")


def test_the_byte_order_of_another_machine_is_read(tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((6, 4))
    np.save(tmp_path / "a.npy", x.astype(">f8"))
    rows = Rows(read(tmp_path / "a.npy").vectors)
    assert torch.equal(rows.numbers(1, 3), torch.from_numpy(x[1:3]))
    assert torch.equal(rows.unit_of(np.array([0, 5])), Rows(x).unit_of(np.array([0, 5])))


def test_files_that_hold_no_vectors_are_refused_in_a_line(tmp_path: Path) -> None:
    x = np.ones((3, 2))
    np.savez(tmp_path / "two.npz", a=x, b=x)
    np.savez(tmp_path / "flat.npz", a=x[0], b=x[1])
    np.save(tmp_path / "line.npy", x[0])
    np.save(tmp_path / "object.npy", np.array([{}], dtype=object), allow_pickle=True)
    (tmp_path / "pickled.npy").write_bytes(pickle.dumps(x))
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04")
    (tmp_path / "broken.safetensors").write_bytes(b"\0" * 20)
    (tmp_path / "word.csv").write_text("1,2\n3,x\n")
    (tmp_path / "hole.csv").write_text("1,2\n3,\n")
    (tmp_path / "ragged.csv").write_text("a,b\n1,2\n3\n")
    (tmp_path / "empty.csv").write_text("a,b\n")
    (tmp_path / "endless.csv").write_text("1,2\n" + "3" * 200_000 + ",4\n")
    (tmp_path / "x.pt").write_bytes(b"")
    with (tmp_path / "endless.npy").open("wb") as stream:
        header = {"descr": "<f8", "fortran_order": False, "shape": (2**62, 2**62)}
        np.lib.format.write_array_header_1_0(stream, header)
    for name, words in {
        "two.npz": "several arrays could hold the vectors: a 3 x 2, b 3 x 2; choose one with --array NAME",
        "flat.npz": "no array with two dimensions",
        "line.npy": "got an array of shape",
        "object.npy": "damaged or something else",
        "pickled.npy": "damaged or something else",
        "endless.npy": "damaged or something else",
        "broken.npz": "damaged or something else",
        "broken.safetensors": "cannot be read",
        "word.csv": r"word\.csv:2: expected numbers only, got 'x' in column 2",
        "hole.csv": r"hole\.csv:2: expected numbers only, got '' in column 2",
        "ragged.csv": r"ragged\.csv:3: expected 2 numbers as in the first row, got 1",
        "empty.csv": "there are none",
        "endless.csv": "cannot be read as rows of numbers .field larger",
        "x.pt": r"got the suffix '\.pt'",
        "absent.npy": "there is no such file",
    }.items():
        with pytest.raises(UserError, match=words) as caught:
            read(tmp_path / name)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="there is no array 'c'; there are a 3 x 2, b 3 x 2"):
        read(tmp_path / "two.npz", "c")


def test_a_name_that_cannot_be_written_is_told_before(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"written as \.npz, got the name 'codes\.csv'"):
        check_name(tmp_path / "codes.csv")
    with pytest.raises(UserError, match="its folder is not there"):
        check_name(tmp_path / "nowhere" / "codes.npz")
    check_name(tmp_path / "codes.npz")
