"""Processes that train together: what they say, whose errors are whose, and that they learn what one would."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from rank_talks import learn

from layerlab.errors import UserError
from layerlab.lab.distributed import Place, joined, place

from ..ranks import in_ranks

TALKS = Path(__file__).with_name("rank_talks.py")


def test_what_processes_say_to_each_other(tmp_path: Path) -> None:
    heard = in_ranks(3, TALKS, "talk", str(tmp_path))
    assert [h["share"] for h in heard] == [[[0, 2], [0, 0]], [[2, 4], [0, 0]], [[4, 7], [0, 1]]]
    assert len({h["own"] for h in heard}) == 3
    for rank, h in enumerate(heard):
        assert h["sums"] == [3.0, 3.0]
        assert h["mean"] == 1.0
        assert h["any"] == [True, False]
        assert [text.strip() for text in h["texts"]] == ["", "é", "éé"]
        assert h["first"] == {"rank": 0, "nan": None}
        assert h["total"] == [0.0, 6.0, 12.0]
        assert h["gradient"] == [6.0, 6.0, 6.0]
        assert h["common"] == heard[0]["common"] != h["own"]
        assert h["note"] == ["from the first", rank == 0, False]
        one, all_, first, data, nothing = h["errors"]
        assert one == "rank 1 of 3: wrong file"
        assert all_ == first == "wrong file"
        assert "different data" in data
        assert "ranks 0, 1 " in data
        assert "rank 2 " in data
        assert nothing == "nothing"
        assert h["alone"] == f"rank {rank} of 3: wrong file"


def test_two_processes_learn_what_one_does_and_go_on_after_ctrl_c(tmp_path: Path) -> None:
    alone = learn(None)
    file = str(tmp_path / "checkpoint")
    found, other = in_ranks(2, TALKS, "learn_thrice", file)
    assert found == other
    interrupted, resumed, undisturbed = found
    assert interrupted == "interrupted"
    # To the bit; more than two processes do it to rounding (docs/decisions/0018-several-processes.md).
    assert resumed == undisturbed
    assert resumed["weights"] == pytest.approx(alone["weights"], rel=1e-4, abs=1e-6)
    for mine, theirs in zip(resumed["history"], alone["history"], strict=True):
        assert mine == pytest.approx(theirs, rel=1e-5)
    # Another number of processes is another run.
    with pytest.raises(UserError, match="other settings"):
        learn(None, file)


def test_a_dead_process_is_told_from_a_mistake() -> None:
    (survivor,) = in_ranks(2, TALKS, "lose", lost=1)
    assert survivor["raised"][0] == "LostPeerError"
    assert "go on where it stopped" in survivor["raised"][1]


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
