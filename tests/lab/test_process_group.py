"""Processes that train together: what they say, whose errors are whose, and that they learn what one would."""

from __future__ import annotations

from pathlib import Path

import pytest
from rank_talks import learn

from layerlab.errors import UserError

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
