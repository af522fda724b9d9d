"""``layerlab graph convert`` and what takes its store."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    labels = np.arange(40) % 2
    rows = [
        f"{at},{'ab'[labels[at]]},{['train', 'val', 'test', 'test'][at // 2 % 4]},{labels[at]},1"
        for at in range(40)
    ]
    (tmp_path / "nodes.csv").write_text("\n".join(["id,label,split,x,y", *rows]) + "\n")
    ends = generator.integers(0, 40, (150, 2))
    (tmp_path / "edges.csv").write_text("".join(f"{u},{v}\n" for u, v in ends))
    return tmp_path


def test_a_store_is_made_and_every_command_takes_it(tables: Path, cli: Callable[..., Any]) -> None:
    made = cli(
        "graph",
        "convert",
        "edges.csv",
        "--nodes",
        "nodes.csv",
        "--out",
        "store",
        "--memory",
        "100MB",
        "--json",
    )
    assert made.status == 0, made
    record = json.loads(made.out)
    assert record["nodes"] == 40 and record["features"] == 2 and record["classes"] == ["a", "b"]
    assert len(record["fingerprint"]) == 32 and record["bytes"] > 500
    looked = cli("graph", "inspect", "store", "--depth", "2", "--json")
    assert looked.status == 0 and json.loads(looked.out)["graph"]["edges"] == record["edges"], looked
    trained = cli("graph", "train", "store", "--model", "mlp", "--epochs", "60", "--out", "run", "--json")
    assert trained.status == 0 and json.loads(trained.out)["metrics"]["test_accuracy"] == 1.0, trained
    predicted = cli("graph", "predict", "run", "store", "--out", "p.csv")
    assert predicted.status == 0 and (tables / "p.csv").read_text().splitlines()[1].startswith("0,a,"), (
        predicted
    )
    raced = cli(
        "graph", "race", "store", "--models", "mlp", "--seeds", "1", "--jobs", "1", "--out", "race", "--json"
    )
    assert raced.status == 0, raced


def test_what_it_says(tables: Path, cli: Callable[..., Any]) -> None:
    made = cli("graph", "convert", "edges.csv", "--nodes", "nodes.csv", "--out", "store", "--directed")
    assert made.status == 0 and "Graph(40 nodes, " in made.out and "2 features, 2 classes" in made.out
    assert "layerlab graph inspect store" in made.err
    again = cli("graph", "convert", "edges.csv", "--out", "store")
    assert again.status == 2 and "is there already" in again.err
    wrong = cli("graph", "convert", "edges.csv", "--out", "other", "--memory", "much")
    assert wrong.status == 2 and "500MB or 2GB" in wrong.err
    little = cli("graph", "convert", "edges.csv", "--out", "other", "--memory", "0.5kib")
    assert little.status == 2 and "at least 64 MB" in little.err


def test_an_interrupt_says_how_to_go_on(
    tables: Path, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("layerlab.graph.store.convert.write_rows", stop)
    made = cli("graph", "convert", "edges.csv", "--out", "store")
    assert made.status == 130 and "run the same command to go on" in made.err
