"""Mini-batches from the command line: trained, gone on with, raced, predicted with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from planted_data import Columns

from layerlab.errors import UserError
from layerlab.graph import prediction, runs
from layerlab.graph.datasets import load
from layerlab.graph.prediction import predict_run
from layerlab.graph.runs import train_run
from layerlab.graph.sampling import memory
from layerlab.graph.sampling.batching import Batching
from layerlab.graph.store import save_dataset

CLUB = Path(__file__).parents[3] / "examples" / "graph_folder"
Cli = Callable[..., Any]


def train(out: Path, batching: Batching | None = None, **options: Any) -> Any:
    options = {"overrides": {"epochs": 3, "hidden": 4}, **options}
    return train_run(str(CLUB), "gcn", out=out, batching=batching, **options)


def test_train_takes_batches_and_says_so(cli: Cli, tmp_path: Path) -> None:
    options = ("--epochs", 3, "--batch-size", 4, "--fanout", "3,2,1", "--out", tmp_path / "run")
    shown = cli("graph", "train", CLUB, *options)
    assert shown.status == 0
    assert "mini-batches of 4 nodes, fan-out 3,2,1: as asked; a full batch would take about" in shown.err
    again = cli("graph", "train", CLUB, *options, "--json")
    record = json.loads(again.out)
    assert record["settings"]["layers"] == 3
    assert record["batching"] == {"size": 4, "fanouts": [3, 2, 1], "asked": True}
    assert record["memory"]["mode"] == "mini"
    assert record["memory"]["full_batch_bytes"] > 0
    assert cli("graph", "predict", tmp_path / "run", CLUB, "--out", tmp_path / "p.csv").status == 0


def test_a_full_batch_is_the_default_and_said_where_it_is_large(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = cli("graph", "train", CLUB, "--epochs", 2, "--out", tmp_path / "run")
    assert "full batch" not in shown.err
    monkeypatch.setattr("layerlab.graph.sampling.memory.available", lambda: 10**6)
    shown = cli("graph", "train", CLUB, "--epochs", 2, "--out", tmp_path / "narrow")
    assert "full batch: it takes about" in shown.err
    record = json.loads(cli("graph", "train", CLUB, "--epochs", 2, "--out", tmp_path / "run", "--json").out)
    assert "batching" not in record
    assert record["memory"]["mode"] == "full"


def test_a_race_takes_batches(cli: Cli, tmp_path: Path) -> None:
    options = ("--batch-size", 8, "--fanout", "2,2", "--models", "gcn,sgc", "--seeds", 2, "--jobs", 1)
    shown = cli("graph", "race", CLUB, *options, "--json", "--out", tmp_path / "race")
    assert shown.status == 0
    assert shown.err == ""
    summary = json.loads(shown.out)
    assert summary["memory"]["sgc"]["batching"] == {"size": 8, "fanouts": []}
    assert summary["memory"]["sgc"]["asked"]
    assert summary["memory"]["gcn"]["batching"] == {"size": 8, "fanouts": [2, 2]}
    other = cli("graph", "race", CLUB, "--models", "gcn", "--seeds", 1, "--out", tmp_path / "race")
    assert other.status == 2  # another experiment


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--fanout", "3,x"), "such as 15,10,5; got '3,x'"),
        (("--fanout", "3,-2"), "got -2"),
        (("--protocol", "course", "--batch-size", 9, "--fanout", "2,2"), "train in full batches"),
    ],
)
def test_wrong_options_are_one_line(cli: Cli, tmp_path: Path, options: tuple[Any, ...], said: str) -> None:
    result = cli("graph", "train", "cora", *options, "--out", tmp_path / "run")
    assert result.status == 2
    (line,) = result.err.splitlines()
    assert line.startswith("error: ")
    assert said in line
    assert not (tmp_path / "run").exists()


def test_an_interrupted_run_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    batching = Batching(4, (2, 2))

    def stop(epoch: int, last: int, metrics: dict[str, float]) -> None:
        raise KeyboardInterrupt

    whole = train(tmp_path / "whole", batching)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", batching, on_epoch=stop)
    resumed = train(tmp_path / "cut", batching)
    for name in ("weights_sha256", "metrics", "curves"):
        assert resumed.meta["results"][name] == whole.meta["results"][name]


def test_what_the_estimate_chose_is_kept_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available", lambda: 1)
    assert train(tmp_path / "run").meta["config"]["batching"]["size"] == 1024
    monkeypatch.setattr(memory, "available", lambda: 10**12)
    assert train(tmp_path / "run").meta["results"]["memory"]["mode"] == "mini"
    # What a person chose is theirs to change, into another folder.
    train(tmp_path / "asked", Batching(4))
    with pytest.raises(UserError):
        train(tmp_path / "asked")


def test_large_graphs_and_stored_features_are_predicted_in_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(tmp_path / "run")
    whole = predict_run(tmp_path / "run", str(CLUB))
    monkeypatch.setattr(prediction, "_WHOLE", 1)
    blocks = predict_run(tmp_path / "run", str(CLUB))
    assert blocks.labels == whole.labels
    assert blocks.probabilities == pytest.approx(whole.probabilities, rel=1e-5)
    stored = load(CLUB)
    object.__setattr__(stored, "features", Columns(stored.features.to_dense(), 2))
    monkeypatch.setattr(prediction, "load", lambda data, need_labels: stored)
    assert predict_run(tmp_path / "run", str(CLUB)).probabilities == pytest.approx(
        whole.probabilities, rel=1e-5
    )


def test_compiled_samplers_are_looked_for() -> None:
    assert runs.are_compiled(("gcn",), samples=True)


def test_a_store_is_trained_on_and_predicted(tmp_path: Path) -> None:
    save_dataset(load(CLUB), tmp_path / "store")
    whole = train(tmp_path / "run", Batching(8, (2, 2)))
    stored = train_run(
        str(tmp_path / "store"),
        "gcn",
        out=tmp_path / "stored",
        batching=Batching(8, (2, 2)),
        overrides={"epochs": 3, "hidden": 4},
    )
    losses = [run.meta["results"]["curves"]["loss"] for run in (whole, stored)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    one, other = (predict_run(tmp_path / "stored", data) for data in (str(CLUB), str(tmp_path / "store")))
    assert other.probabilities == pytest.approx(one.probabilities, rel=1e-4)
    assert other.labels == one.labels
