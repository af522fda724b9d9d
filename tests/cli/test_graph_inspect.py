"""`layerlab graph inspect` as a shell sees it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from layerlab.errors import UserError
from layerlab.graph import inspection

CLUB = Path(__file__).parents[2] / "examples" / "graph_folder"
Cli = Callable[..., Any]


def test_a_folder_is_inspected_in_words(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = cli("graph", "inspect", CLUB, "--depth", 4)
    assert done.status == 0
    assert "λ₂" in done.out and "depth, predicted" in done.out and "  - " in done.out
    assert list(tmp_path.iterdir()) == []  # nothing is written without being asked for


def test_json_and_report(cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "look"
    done = cli("graph", "inspect", CLUB, "--depth", 3, "--train", "--report", "--out", out, "--json")
    assert done.status == 0
    record = json.loads(done.out)
    assert record["training"]["depths"] == [1, 2, 3] and record["report"] == str(out / "report.html")
    assert "Accuracy against depth" in (out / "report.html").read_text(encoding="utf-8")
    # The same folder may be asked again, also for less or more.
    assert cli("graph", "inspect", CLUB, "--depth", 3, "--report", "--out", out).status == 0


def test_a_place_that_cannot_be_written_is_told_before_the_work(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = tmp_path / "taken"
    taken.write_text("a file")
    monkeypatch.setattr(inspection, "inspect", lambda *_, **__: pytest.fail("the work was begun"))
    refused = cli("graph", "inspect", CLUB, "--out", taken)
    assert refused.status == 2 and "expected a folder" in refused.err
    assert taken.read_text() == "a file"


def test_nothing_stays_behind_work_that_failed(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise UserError("it cannot be done")

    monkeypatch.setattr(inspection, "inspect", fail)
    refused = cli("graph", "inspect", CLUB, "--out", tmp_path / "look")
    assert refused.status == 2 and "it cannot be done" in refused.err
    assert list(tmp_path.iterdir()) == []


def test_a_bare_edge_list(cli: Cli, tmp_path: Path) -> None:
    edges = tmp_path / "friends.csv"
    edges.write_text("ann,bob\nbob,eve\neve,dan\ndan,ann\n")
    done = cli("graph", "inspect", edges, "--json")
    assert done.status == 0
    record = json.loads(done.out)
    assert record["graph"]["nodes"] == 4 and record["prediction"] is None
    assert any("bipartite" in finding for finding in record["findings"])
    refused = cli("graph", "inspect", edges, "--train")
    assert refused.status == 2 and "nothing to train on" in refused.err


def test_what_is_not_there_is_said_in_one_line(cli: Cli, tmp_path: Path) -> None:
    for argument in (tmp_path / "nowhere", "nosuchdata"):
        refused = cli("graph", "inspect", argument)
        assert refused.status == 2 and "there is no" in refused.err and refused.err.count("\n") == 1
    broken = tmp_path / "broken.csv"
    broken.write_text("0,1\n1,2,3,4\n")
    refused = cli("graph", "inspect", broken)
    assert refused.status == 2 and "broken.csv" in refused.err
