"""Where a process stands among those that train together, and what is wrong when they do not meet."""

from __future__ import annotations

import socket

import pytest

from layerlab.errors import UserError
from layerlab.lab.rendezvous import Place, joined, place

BASE = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


def test_where_a_process_stands() -> None:
    assert place({}) is None
    assert place({"WORLD_SIZE": "1", "RANK": "0", "MASTER_PORT": "x"}) is None
    assert place({**BASE, "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}) == Place(1, 2, 0, 1)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"MASTER_PORT": None, "MASTER_ADDR": None}, "expected MASTER_ADDR, MASTER_PORT beside"),
        ({"WORLD_SIZE": None}, "expected WORLD_SIZE beside"),
        ({"RANK": None}, "expected RANK beside"),
        ({"RANK": "one"}, "whole numbers"),
        ({"RANK": "2"}, "RANK from 0 to 1"),
        ({"LOCAL_RANK": "3"}, "LOCAL_RANK below"),
    ],
)
def test_a_wrong_place_is_one_line(changes: dict[str, str | None], said: str) -> None:
    given = {name: value for name, value in {**BASE, **changes}.items() if value is not None}
    with pytest.raises(UserError, match=said) as caught:
        place(given)
    assert "torchrun" in str(caught.value)


def test_a_taken_port_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        for name, value in {**BASE, "RANK": "0", "MASTER_PORT": str(other.getsockname()[1])}.items():
            monkeypatch.setenv(name, value)
        found = place()
        assert found is not None
        with pytest.raises(UserError, match="is taken by another program; choose another"), joined(found):
            pass
