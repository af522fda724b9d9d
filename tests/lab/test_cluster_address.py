"""Where a race is to run: what is refused before anything is written. Needs no Ray."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from layerlab.errors import UserError
from layerlab.lab.cluster import address, remote
from layerlab.lab.cluster.address import check_reachable, cluster_address
from layerlab.lab.cluster.executor import opened

CLUB = Path(__file__).parents[2] / "examples" / "graph_folder"


@pytest.fixture(autouse=True)
def no_cluster_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("RAY_USE_TLS", raising=False)


@contextmanager
def answering(words: bytes) -> Iterator[str]:
    """A server that says the same to everybody; its address."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            # Whoever has heard enough hangs up.
            with connection, suppress(ConnectionError):
                connection.recv(1_024)
                connection.sendall(words)
                connection.recv(1_024)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        thread.join(10)


def closed_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


def test_what_is_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cluster_address("ray") is None
    assert cluster_address("ray://head") == "ray://head:10001"
    assert cluster_address("ray://[fe80::1]:77") == "ray://[fe80::1]:77"
    for named, found in (("local", None), (" ", None), ("auto", "auto"), ("10.0.0.1:6379", "10.0.0.1:6379")):
        monkeypatch.setenv("RAY_ADDRESS", named)
        assert cluster_address("ray") == found
    monkeypatch.setenv("RAY_ADDRESS", "ray://head")
    assert cluster_address("ray") == "ray://head:10001"
    assert cluster_address("ray://other:1") == "ray://other:1"


@pytest.mark.parametrize("on", ["", "Ray", "cluster", "head:10001", "rays://head"])
def test_other_places_are_refused(on: str) -> None:
    with pytest.raises(UserError, match=r"expected --on local, ray or ray://HOST:PORT, got"), opened(on):
        pass


@pytest.mark.parametrize(
    "on", ["ray://", "ray://:1", "ray://head:0", "ray://head:70000", "ray://a b", "ray://head:x"]
)
def test_what_is_no_address_is_refused(on: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"--on: expected HOST:PORT or ray://HOST:PORT, got"):
        cluster_address(on)
    monkeypatch.setenv("RAY_ADDRESS", on)
    with pytest.raises(UserError, match="RAY_ADDRESS: expected"):
        cluster_address("ray")


def test_a_port_without_a_server_is_told_with_what_to_do() -> None:
    port = closed_port()
    with pytest.raises(
        UserError, match=rf"no Ray can be reached at ray://{port} \(Connection refused\); expected the"
    ):
        check_reachable(f"ray://{port}")
    with pytest.raises(UserError, match=rf"at {port} .*use --on ray://HOST:10001"):
        check_reachable(port)


@pytest.mark.parametrize("words", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x00\x00", b""])
def test_what_is_no_ray_is_told(words: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address, "_PATIENCE", 0.5)
    message = r"what answers at ray://\S+ is no Ray" if len(words) > 4 else r"at ray://\S+ \(no answer\)"
    with answering(words) as place, pytest.raises(UserError, match=message):
        check_reachable(f"ray://{place}")


def test_what_speaks_as_ray_does_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(b"\x00\x00\x06\x04\x00\x00\x00\x00\x00") as place:
        check_reachable(f"ray://{place}")
    monkeypatch.setenv("RAY_USE_TLS", "1")
    with answering(b"") as place:
        check_reachable(place)
    check_reachable("auto")
    check_reachable("anyscale://somewhere")


@pytest.fixture
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)


@pytest.fixture
def unconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Ray that is installed, and must not be asked to connect."""
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: False))


@pytest.mark.usefixtures("without_ray")
@pytest.mark.parametrize("on", ["ray", "ray://127.0.0.1:1"])
def test_without_ray_the_install_is_named_and_nothing_is_made(
    cli: Callable[..., Any], tmp_path: Path, on: str
) -> None:
    done = cli("graph", "race", CLUB, "--models", "sgc", "--out", tmp_path / "run", "--on", on)
    assert (done.status, done.out) == (2, "")
    assert done.err == (
        "error: a race on a cluster needs Ray, which is not installed; install it with: "
        'pip install "layerlab[ray]"\n'
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("unconnected")
def test_an_unreachable_cluster_is_one_line_and_nothing_is_made(
    cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = closed_port()
    command = ["graph", "race", CLUB, "--models", "sgc", "--out", tmp_path / "run", "--on"]
    monkeypatch.setenv("RAY_ADDRESS", port)
    for done in (cli(*command, "ray"), cli(*command, f"ray://{port}")):
        assert (done.status, done.out) == (2, "")
        assert done.err.startswith("error: no Ray can be reached at ")
        assert done.err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_the_functions_that_are_sent_bring_their_code_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions, call = remote.functions()
    here = versions()
    assert set(here) == set(remote.COMPARED)
    assert all(here.values())
    assert "+" not in str(here["torch"])
    assert remote.differences(here, here) == ""
    payload = b"cos\ngetcwd\n."
    monkeypatch.chdir(tmp_path)
    assert call(here, str(tmp_path / "none"), payload) == (True, str(tmp_path))
    assert call(here, "/", payload) == (True, "/")
    assert call({**here, "torch": "1.0"}, "/", payload) == (False, here)
    # Code in a module of ours would be sent by its name, and layerlab may be missing there.
    assert "<locals>" in versions.__qualname__
    assert "<locals>" in call.__qualname__
    assert remote.differences({"layerlab": None}, here).startswith("no layerlab (here ")
