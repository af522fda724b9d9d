"""Fetching published sets, from a server on this machine and from a folder."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from archives import pets

from layerlab.errors import UserError
from layerlab.lab.locks import lock_folder
from layerlab.segmentation import download as module
from layerlab.segmentation.download import download, get
from layerlab.segmentation.known import KNOWN, Archive, KnownImages, find


class Server:
    """Serves the files of a folder; can break off, refuse, or ignore where a request begins."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.asked, self.break_after, self.ranges = folder, [], None, True
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.http.server_port}"
        self.asked: list[str | None]
        self.break_after: int | None

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        self.asked.append(request.headers.get("Range"))
        path = self.folder / request.path.lstrip("/")
        if not path.is_file():
            request.send_error(404)
            return
        content = path.read_bytes()
        start = int((self.asked[-1] or "bytes=0-")[6:-1]) if self.ranges else 0
        if start >= len(content):
            request.send_error(416)
            return
        request.send_response(206 if start else 200)
        request.send_header("Content-Length", str(len(content) - start))
        request.end_headers()
        request.wfile.write(content[start : self.break_after])


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("LAYERLAB_DATA", str(tmp_path / "cache"))
    folder = tmp_path / "published"
    folder.mkdir()
    pets(folder)
    served = Server(folder)
    thread = threading.Thread(target=served.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield served
    served.http.shutdown()
    thread.join()
    served.http.server_close()


def known(server: Server) -> KnownImages:
    """The pets at the server, with the sums of what is there."""

    def at(name: str) -> Archive:
        path = server.folder / name
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        return Archive(f"{server.address}/{name}", digest, "this test")

    return replace(KNOWN["pets"], images=at("images.tar.gz"), masks=at("annotations.tar.gz"), size=1)


def test_a_set_is_fetched_once_and_nothing_else_stays(server: Server, tmp_path: Path) -> None:
    told: list[str] = []
    shares: list[float] = []
    got = get(known(server), say=told.append, progress=lambda share, _: shares.append(share))
    assert got.fetched
    assert got.converted is not None
    assert got.converted.pairs == 2
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == ["pets"]
    assert sorted(path.name for path in got.path.iterdir()) == ["classes.json", "images", "masks"]
    assert [words.partition(" ")[0] for words in told] == ["fetching", "fetching", "converting"]
    assert max(shares) == pytest.approx(1.0)
    asked = len(server.asked)
    assert not get(known(server)).fetched
    assert len(server.asked) == asked


def test_a_local_copy_serves_and_stays(server: Server) -> None:
    got = get(known(server), source=server.folder)
    assert got.fetched
    assert server.asked == []
    assert len(list(server.folder.iterdir())) == 2


def test_what_broke_off_is_gone_on_with(server: Server, tmp_path: Path) -> None:
    server.break_after = 1000
    with pytest.raises(UserError, match=r"ended after 1,000 of [\d,]+ bytes; run this again"):
        get(known(server))
    server.break_after = None
    assert get(known(server)).fetched
    assert server.asked == [None, "bytes=1000-", None]


def test_a_server_that_begins_anew_is_followed(server: Server, tmp_path: Path) -> None:
    content = (server.folder / "images.tar.gz").read_bytes()
    (tmp_path / "a.part").write_bytes(b"x" * 500)
    server.ranges = False
    download(f"{server.address}/images.tar.gz", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == content
    assert not (tmp_path / "a.part").exists()


def test_a_part_that_is_too_long_is_thrown_away(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.part").write_bytes(b"x" * 10**6)
    with pytest.raises(UserError, match="run this again"):
        download(f"{server.address}/images.tar.gz", tmp_path / "a")
    download(f"{server.address}/images.tar.gz", tmp_path / "a")


def test_another_archive_than_the_published_one_is_refused(server: Server, tmp_path: Path) -> None:
    wanted = known(server)
    (server.folder / "annotations.tar.gz").write_bytes(b"something else")
    with pytest.raises(UserError, match=r"SHA-256 .* as this test states it.* it was removed"):
        get(wanted)
    assert not (tmp_path / "cache" / "pets").exists()
    assert not list((tmp_path / "cache").rglob("annotations*"))
    with pytest.raises(UserError, match="SHA-256"):
        get(wanted, source=server.folder)
    assert (server.folder / "annotations.tar.gz").is_file()


def test_without_a_stated_sum_it_is_said(server: Server) -> None:
    told: list[str] = []
    wanted = known(server)
    get(replace(wanted, masks=replace(wanted.masks, sha256="")), say=told.append)
    assert any("nobody well known states a checksum of annotations.tar.gz" in words for words in told)


def test_no_network_no_file_no_space(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = known(server)
    missing = replace(wanted, images=replace(wanted.images, address=f"{server.address}/none.tgz"))
    with pytest.raises(UserError, match=r"answers 404 .*--source"):
        get(missing)
    with pytest.raises(UserError, match=r"none.tgz: expected the published archive here; download it from"):
        get(missing, source=server.folder)
    closed = replace(wanted, images=replace(wanted.images, address="http://127.0.0.1:9/a.tgz"))
    with pytest.raises(UserError, match=r"could not reach .*--source"):
        get(closed)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 10**6))
    with pytest.raises(UserError, match=r"expected 3 MB of free space .* got 1 MB"):
        get(wanted)


def test_a_full_disk_leaves_no_half_set(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "convert", full)
    with pytest.raises(UserError, match="No space left on device"):
        get(known(server))
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["pets-archives"]


def test_what_is_in_the_way_is_not_overwritten(server: Server, tmp_path: Path) -> None:
    (tmp_path / "cache" / "pets").mkdir(parents=True)
    with pytest.raises(UserError, match="in the way"):
        get(known(server))


def test_what_is_known() -> None:
    assert find("flowers17").images.name == "17flowers.tgz"
    assert all(len(each.images.sha256) == 64 and each.images.stated_by for each in KNOWN.values())
    with pytest.raises(UserError, match="pets, flowers17, flowers102; got 'cats'"):
        find("cats")


@pytest.mark.skipif(sys.platform == "win32", reason="there is no flock on Windows")
def test_two_processes_do_not_write_into_one_archive(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock_folder, "__defaults__", (0.0,))
    folder = tmp_path / "cache" / "pets-archives"
    folder.mkdir(parents=True)
    held = "import sys; from pathlib import Path; from layerlab.lab.locks import lock_folder; "
    held += "lock = lock_folder(Path(sys.argv[1])); print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", held, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(
            UserError, match=r"pets-archives: another process .* set LAYERLAB_DATA to another"
        ):
            get(known(server))
        assert server.asked == []
        other.communicate()
    assert get(known(server)).fetched


def test_who_comes_second_takes_what_the_first_has_made(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = known(server)

    def at_once(*given: Any, **options: Any) -> Any:
        # The other is faster in all.
        monkeypatch.setattr(module, "convert", convert)
        get(there, source=server.folder)
        return convert(*given, **options)

    convert = module.convert
    monkeypatch.setattr(module, "convert", at_once)
    get(there, source=server.folder)
    assert there.is_here
    assert [path.name for path in there.path.parent.iterdir()] == ["pets"]
