"""Where a race is to run, as a person names it, and whether anything answers there."""

from __future__ import annotations

import os
import re
import socket

from layerlab.errors import UserError

LOCAL, RAY = "local", "ray"
CLIENT = "ray://"

_CLIENT_PORT = 10_001  # Ray's own default
_PATIENCE = 5.0
# How every connection of gRPC begins: HTTP/2's preface and an empty frame of settings (RFC 9113, 3.4). A server answers
# with its own settings; their frame has the type 4 in its fourth byte.
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
_SETTINGS = 4


def cluster_address(on: str) -> str | None:
    """What Ray is to connect to; None for a Ray of one's own.

    Args:
        on: "ray" (the cluster of the variable RAY_ADDRESS, if it is set) or ``ray://HOST:PORT``.

    Raises:
        UserError: neither of them, or not an address.

    >>> cluster_address("ray://10.0.0.1")
    'ray://10.0.0.1:10001'
    """
    if on == RAY:
        named = os.environ.get("RAY_ADDRESS", "").strip()
        return None if named in ("", "local") else _whole(named, "RAY_ADDRESS")
    if on.startswith(CLIENT):
        return _whole(on, "--on")
    raise UserError(f"expected --on {LOCAL}, {RAY} or {CLIENT}HOST:PORT, got {on!r}")


def _whole(address: str, where: str) -> str:
    """The address with its port, if it is a host's."""
    if not _is_host(address):
        return address
    client = address.startswith(CLIENT)
    found = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^:/\[\]\s]+)(?::(\d{1,5}))?", address.removeprefix(CLIENT))
    port = 0 if found is None else int(found[2] or (_CLIENT_PORT if client else 0))
    if found is None or not 0 < port < 65_536:
        raise UserError(f"{where}: expected HOST:PORT or {CLIENT}HOST:PORT, got {address!r}")
    return f"{CLIENT if client else ''}{found[1]}:{port}"


def _is_host(address: str) -> bool:
    """Other addresses ("auto", those of another scheme) are left to Ray."""
    return address.startswith(CLIENT) or (address != "auto" and "://" not in address)


def check_reachable(address: str) -> None:
    """That something at the address speaks as a Ray would; left alone, Ray would try for minutes.

    Raises:
        UserError: nothing answers, or something else does.
    """
    if not _is_host(address):
        return
    host, _, port = address.removeprefix(CLIENT).rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE) as connection:
            # With Ray's own TLS the first word is another one.
            if os.environ.get("RAY_USE_TLS", "0") in ("", "0"):
                connection.sendall(_PREFACE)
                if not _answers(connection):
                    raise UserError(f"what answers at {address} is no Ray; {mend(address)}")
    except OSError as error:
        why = "no answer" if isinstance(error, TimeoutError) else error.strerror or str(error)
        raise UserError(f"no Ray can be reached at {address} ({why}); {mend(address)}") from None


def _answers(connection: socket.socket) -> bool:
    head = b""
    while len(head) < 4 and (more := connection.recv(4 - len(head))):
        head += more
    return len(head) == 4 and head[3] == _SETTINGS


def mend(address: str) -> str:
    """What to do where no cluster is found at an address."""
    if address.startswith(CLIENT):
        return (
            "expected the port of Ray's client server (10001 unless the head was started with another); "
            "is the cluster up, and is the port open?"
        )
    return "is the cluster up? from a machine that is not of it, use --on ray://HOST:10001"
