"""Runs on disk: atomic, resumable, and closed to names that leave the folder."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from layerlab.errors import UserError
from layerlab.lab import files, records
from layerlab.lab.json_files import write_json

CONFIG = {"data": "cora", "seeds": [0, 1], "lr": 0.01}


def new_run(folder: Path, **changes: object) -> records.RunFolder:
    return records.create_run(folder, "race", ["layerlab", "graph", "race"], {**CONFIG, **changes})


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_written_files_have_the_users_usual_mode(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")
    files.write_atomic(tmp_path / "atomic", b"")
    assert stat.S_IMODE((tmp_path / "atomic").stat().st_mode) == stat.S_IMODE(
        (tmp_path / "plain").stat().st_mode
    )


def test_a_new_run_says_what_was_asked_and_where(tmp_path: Path) -> None:
    run = records.create_run(
        tmp_path / "a" / "run", "race", ["layerlab", "--out", "my run"], {"seeds": (0, 1)}
    )
    meta = json.loads((tmp_path / "a" / "run" / "run.json").read_text(encoding="utf-8"))
    assert meta == run.meta
    assert (meta["format"], meta["format_version"], meta["kind"]) == ("layerlab-run", 1, "race")
    assert meta["command"] == "layerlab --out 'my run'"
    assert meta["config"] == {"seeds": [0, 1]}
    assert meta["created"].endswith("+00:00")
    assert "results" not in meta


def test_cells_are_kept_when_the_same_run_is_asked_for_again(tmp_path: Path) -> None:
    first = new_run(tmp_path / "run")
    first.write_cell("gcn.seed-1", {"accuracy": 0.8})
    first.write_cell("gat.seed-1", {"accuracy": float("nan")})
    (tmp_path / "run" / "cells" / f".gcn.json.00000000{'.tmp~'}").write_bytes(
        b"{"
    )  # a killed process's leftover
    again = new_run(tmp_path / "run")
    assert again.meta == first.meta
    assert list(again.read_cells().items()) == [
        ("gat.seed-1", {"accuracy": None}),
        ("gcn.seed-1", {"accuracy": 0.8}),
    ]


def test_results_are_added_and_may_be_replaced(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    run.finish({"mean": 0.5})
    run.finish({"mean": 0.6})
    opened = records.open_run(tmp_path / "run", "race")
    assert opened.meta["results"] == {"mean": 0.6}
    assert opened.meta == run.meta
    assert opened.meta["config"] == CONFIG


@pytest.mark.parametrize(
    "key",
    ["", ".", "..", "../x", "a/b", "a\\b", "/etc/x", ".hidden", "a b", "é", "a\n", "a\0", "x" * 121, "-a"],
)
def test_no_cell_leaves_its_folder(tmp_path: Path, key: str) -> None:
    run = new_run(tmp_path / "run")
    before = snapshot(tmp_path)
    with pytest.raises(UserError, match="cell name"):
        run.write_cell(key, {})
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("content", ["{", "[1]", ""])
def test_a_damaged_cell_is_named_with_the_mend(tmp_path: Path, content: str) -> None:
    run = new_run(tmp_path / "run")
    run.write_cell("good", {})
    (tmp_path / "run" / "cells" / "bad.json").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=r"bad\.json.*remove that file"):
        run.read_cells()


@pytest.mark.parametrize("change", [('"x": 1', '"x": 2'), ('"x"', '"y"'), ('"checksum"', '"other"')])
def test_a_changed_cell_is_told(tmp_path: Path, change: tuple[str, str]) -> None:
    run = new_run(tmp_path / "run")
    run.write_cell("good", {"x": 1, "z": (0.1, float("nan"))})
    assert run.read_cells() == {"good": {"x": 1, "z": [0.1, None]}}
    file = tmp_path / "run" / "cells" / "good.json"
    # Laid out anew it is the same.
    file.write_text(json.dumps(json.loads(file.read_text())))
    assert run.read_cell("good")["x"] == 1
    file.write_text(file.read_text().replace(*change))
    with pytest.raises(UserError, match=r"good\.json.*changed since it was written; remove that file"):
        run.read_cells()


def test_another_config_is_refused_and_what_differs_is_named(tmp_path: Path) -> None:
    new_run(tmp_path / "run").write_cell("a", {"x": 1})
    before = snapshot(tmp_path)
    with pytest.raises(UserError, match=r"config\.lr is 0\.01 there and 0\.02 here.*--out"):
        new_run(tmp_path / "run", lr=0.02)
    with pytest.raises(UserError, match=r"config\.extra is null there and 1 here"):
        new_run(tmp_path / "run", extra=1)
    with pytest.raises(UserError, match='kind is "race" there and "train" here'):
        records.create_run(tmp_path / "run", "train", "layerlab", CONFIG)
    assert snapshot(tmp_path) == before


def test_a_null_entry_equals_a_missing_one(tmp_path: Path) -> None:
    """None and absence mean the same to a config: a default that was added later must not forbid resuming."""
    new_run(tmp_path / "run")
    assert new_run(tmp_path / "run", later_option=None).meta["config"] == CONFIG


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(UserError, match=r"thesis\.txt.*--out"):
        new_run(tmp_path)
    assert snapshot(tmp_path) == {"thesis.txt": b"years of work"}
    with pytest.raises(UserError, match="it is a file"):
        new_run(tmp_path / "thesis.txt")
    with pytest.raises(UserError, match="cannot be made"):
        new_run(tmp_path / "thesis.txt" / "run")


def test_a_leftover_of_a_killed_start_does_not_block_the_next(tmp_path: Path) -> None:
    (tmp_path / ".run.json.0badcafe.tmp~").write_bytes(b"{")
    assert new_run(tmp_path).meta["config"] == CONFIG


def test_nothing_is_left_when_the_first_record_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", refuse)
    with pytest.raises(UserError, match="No space left"):
        new_run(tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes into read-only folders too"
)
def test_a_read_only_folder_is_a_user_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(UserError, match="--out"):
            new_run(tmp_path / "run")
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 2, "layerlab": "9.9"}, r"format version 1, got 2 \(written by layerlab 9\.9\)"),
        ({"format": "other"}, "expected a run of layerlab"),
        ({"config": []}, "'config' is missing or damaged"),
        ({"kind": None}, "'kind' is missing or damaged"),
    ],
)
def test_a_foreign_or_damaged_run_is_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    run = new_run(tmp_path / "run")
    write_json(tmp_path / "run" / "run.json", {**run.meta, **change})
    with pytest.raises(UserError, match=message):
        records.open_run(tmp_path / "run")
    with pytest.raises(UserError, match=message):
        new_run(tmp_path / "run")


def test_opening_what_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path, message in (("nowhere", "no such folder"), ("file", "it is a file"), (".", r"no run\.json")):
        with pytest.raises(UserError, match=message):
            records.open_run(tmp_path / path)
    new_run(tmp_path / "run")
    with pytest.raises(UserError, match="expected a run of kind 'train', got 'race'"):
        records.open_run(tmp_path / "run", "train")
