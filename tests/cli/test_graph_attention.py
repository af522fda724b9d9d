"""`layerlab graph attention` as a shell sees it: tables, JSON, the page, and refusals in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest

CLUB = Path(__file__).parents[2] / "examples" / "graph_folder"
Cli = Callable[..., Any]


@pytest.fixture
def run(tmp_path: Path, cli: Cli) -> Path:
    folder = tmp_path / "gat"
    arguments = ("graph", "train", CLUB, "--model", "gat", "--epochs", 3, "--out", folder)
    assert cli(*arguments).status == 0
    return folder


def cells(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if "│" in line]


def test_the_tables_and_sentences_are_those_of_the_record(cli: Cli, run: Path) -> None:
    record = json.loads(cli("graph", "attention", run, CLUB, "--top", 2, "--json").out)
    shown = cli("graph", "attention", run, CLUB, "--top", 2)
    assert (shown.status, shown.err) == (0, "")
    rows = cells(shown.out)
    heads = [(layer["layer"], head) for layer in record["layers"] for head in layer["heads"]]
    assert [row[0] for row in rows[:9]] == [f"{layer}.{head['head']}" for layer, head in heads]
    third = heads[2][1]
    assert rows[2][1:5] == [f"{third[key]:.3f}" for key in ("entropy", "moved", "itself", "uniform")]
    degree = third["degree"]
    assert rows[2][5] == f"{degree['value']:+.2f} ({degree['low']:+.2f} to {degree['high']:+.2f})"
    edges = [
        (layer["layer"], kind, edge)
        for layer in record["layers"]
        for kind in ("most", "least")
        for edge in layer[kind]
    ]
    assert len(edges) == 8
    layer, kind, edge = edges[-1]
    assert rows[-1] == [
        *(str(layer), kind, edge["source"], edge["source_class"] or "-", edge["target"]),
        *(edge["target_class"] or "-", f"{edge['coefficient']:.3f}", f"{edge['lift']:.2f}"),
    ]
    sentences = [line[4:] for line in shown.out.splitlines() if line.startswith("  - ")]
    assert sentences == record["findings"]
    assert f"  note: {record['notes'][0]}" in shown.out


def test_json_alone_on_standard_output(cli: Cli, run: Path) -> None:
    shown = cli("graph", "attention", run, CLUB, "--json")
    record = json.loads(shown.out)
    assert shown.err == ""
    assert set(record) == {
        *("data", "fingerprint", "nodes", "measured", "edges", "part", "accuracy", "layers", "uniform"),
        *("findings", "notes"),
    }


def test_the_report_has_the_figures(
    cli: Cli, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shown = cli("graph", "attention", run, CLUB, "--report")
    page = tmp_path / "runs" / "attention-gat" / "report.html"
    assert f"report: {page.relative_to(tmp_path)}" in shown.err
    html = unescape(page.read_text(encoding="utf-8"))
    for words in (
        "The attention of a GAT on graph_folder",
        "Entropy of the nodes' attention in layer 1",
        "Spread of the coefficients",
        "With a mean in place of attention",
        "The weight and the sender's degree",
        "Mean weight of an edge",
        "all edges between labelled nodes are within a class",
        "The edges that layer 2 trusts least",
        "<code>hana</code>",
    ):
        assert words in html, words
    again = json.loads(cli("graph", "attention", run, CLUB, "--out", tmp_path / "there", "--json").out)
    assert again["report"] == str(tmp_path / "there" / "report.html")
    kept = json.loads((tmp_path / "there" / "run.json").read_text(encoding="utf-8"))
    assert kept["results"]["findings"] == again["findings"]
    assert kept["kind"] == "graph-attention"


def test_names_are_no_marks(cli: Cli, run: Path, tmp_path: Path) -> None:
    """An id that looks like a link within the page, or like a mark, is shown as it is."""
    folder = tmp_path / "club"
    folder.mkdir()
    for name in ("nodes.csv", "edges.csv"):
        text = (CLUB / name).read_text(encoding="utf-8")
        (folder / name).write_text(
            text.replace("hana", "[a](#b)").replace("igor", "**`c`**"), encoding="utf-8"
        )
    assert cli("graph", "attention", run, folder, "--top", 100, "--out", tmp_path / "r", "--json").status == 0
    html = (tmp_path / "r" / "report.html").read_text(encoding="utf-8")
    assert "<code>[a](#b)</code>" in html
    assert "<code>**ʼcʼ**</code>" in html


def test_a_folder_of_another_report_is_refused(cli: Cli, run: Path, tmp_path: Path) -> None:
    assert cli("graph", "attention", run, CLUB, "--out", tmp_path / "r", "--json").status == 0
    shown = cli("graph", "attention", run, CLUB, "--out", tmp_path / "r", "--top", 3, "--json")
    assert (shown.status, shown.out) == (2, "")
    assert "config.top is 5 there and 3 here" in shown.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nowhere",), "expected the folder of a run, but there is no such folder"),
        (("{run}",), "give the folder after the run"),
        (("{run}", "cora"), "the model was trained on 3 features, cora has 1433"),
    ],
)
def test_what_is_refused(cli: Cli, run: Path, arguments: tuple[str, ...], words: str) -> None:
    shown = cli("graph", "attention", *(word.format(run=run) for word in arguments))
    assert (shown.status, shown.out) == (2, "")
    (line,) = shown.err.splitlines()
    assert line.startswith("error: ")
    assert words in line
