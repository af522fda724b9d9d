"""Predicting with a run: what its model gives, on other data too; foreign weights and settings are refused."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import CLUB, edit, folder, trained

from layerlab.errors import UserError
from layerlab.graph import runs
from layerlab.graph.datasets import load
from layerlab.graph.prediction import Predictions, predict_run
from layerlab.graph.racing import race_run
from layerlab.graph.settings import MODELS
from layerlab.graph.task import build_model, normalise_rows
from layerlab.lab.files import sha256_of
from layerlab.lab.records import open_run
from layerlab.lab.trained import WEIGHTS
from layerlab.lab.weights import load_weights, write_tensors


@pytest.mark.parametrize("model", [*MODELS, "course"])
def test_predictions_are_the_models_output(tmp_path: Path, model: str) -> None:
    data = folder(tmp_path / "data")
    changes = {"course": True} if model == "course" else {}
    run = trained(tmp_path / "run", "gat" if model == "course" else model, data, heads=2, **changes)
    found = predict_run(run, data)

    dataset = load(data)
    settings, features, classes = runs._trained(open_run(run))
    twin = build_model(settings, features, len(classes))
    load_weights(twin, run / WEIGHTS)
    with torch.no_grad():
        expected = torch.softmax(twin.eval()(normalise_rows(dataset.features), dataset.graph), dim=1)
    assert found.node_ids == dataset.node_ids == tuple(f"node, {node}" for node in range(30))
    assert found.labels == tuple(dataset.class_names[k] for k in expected.argmax(1))
    np.testing.assert_allclose(found.probabilities, expected.max(1).values, rtol=1e-6)
    assert len({round(value, 4) for value in found.probabilities}) > 5

    # What was recorded in training is what the restored model does.
    right = [found.labels[k] == dataset.class_names[dataset.labels[k]] for k in dataset.split.test]
    assert sum(right) / len(right) == open_run(run).meta["results"]["metrics"]["test_accuracy"]


def test_the_file_of_predictions(tmp_path: Path) -> None:
    Predictions(("a", "b, c", 'd "e"', "f\ng"), ("x", "y, z", "", "ü"), (1.0, 0.5, 1 / 3, 0.25)).write(
        tmp_path / "out.csv"
    )
    content = (tmp_path / "out.csv").read_bytes().decode()
    assert content.startswith('id,label,probability\na,x,1.000000\n"b, c","y, z",0.500000\n')
    rows = list(csv.reader(content.splitlines(keepends=True)))
    assert rows[3] == ['d "e"', "", "0.333333"]
    assert rows[4] == ["f\ng", "ü", "0.250000"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.csv"]
    with pytest.raises(UserError, match="cannot be written"):
        Predictions((), (), ()).write(tmp_path / "nowhere" / "out.csv")


def test_labels_are_not_needed_to_predict(tmp_path: Path) -> None:
    data = folder(tmp_path / "data")
    run = trained(tmp_path / "run", data=data)
    unlabelled = folder(tmp_path / "unlabelled", labels=False)
    assert predict_run(run, unlabelled) == predict_run(run, data)
    with pytest.raises(UserError, match="no node has a label"):
        trained(tmp_path / "other", data=unlabelled)


def test_other_nodes_with_the_same_features_can_be_predicted(tmp_path: Path) -> None:
    run = trained(tmp_path / "run", data=folder(tmp_path / "data"))
    assert len(predict_run(run, folder(tmp_path / "more", nodes=44)).labels) == 44
    with pytest.raises(
        UserError, match="trained on 3 features, wide has 4; give data with the same feature columns"
    ):
        predict_run(run, folder(tmp_path / "wide", features=4))


def test_only_a_training_run_predicts(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such folder"):
        predict_run(tmp_path / "nowhere", str(CLUB))
    with pytest.raises(UserError, match=r"no run\.json"):
        predict_run(CLUB, str(CLUB))
    race_run(str(CLUB), ["mlp"], [0], out=tmp_path / "race", jobs=1, overrides={"mlp": {"epochs": 1}})
    with pytest.raises(UserError, match="expected a run of kind 'graph-train', got 'graph-race'"):
        predict_run(tmp_path / "race", str(CLUB))


def test_tampered_weights_are_refused(tmp_path: Path) -> None:
    run = trained(tmp_path / "run")
    weights = bytearray((run / WEIGHTS).read_bytes())
    weights[-1] ^= 1
    (run / WEIGHTS).write_bytes(weights)
    with pytest.raises(UserError, match="not the one that this run wrote"):
        predict_run(run, str(CLUB))


@pytest.fixture(scope="module")
def club_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("runs") / "run")


def sign(meta: dict[str, Any], run: Path) -> None:
    """What somebody does who hands on a run with weights of their own."""
    meta["results"]["weights_sha256"] = sha256_of(run / WEIGHTS)


@pytest.mark.parametrize(
    ("tensors", "expected"),
    [
        ({"convs.0.weight": torch.zeros(3, 3)}, "weights of another model"),
        ({"convs.0.weight": torch.zeros(10_000)}, "weights of another model"),
        ("nan", "not finite"),
        (None, "cannot be read"),
    ],
    ids=["missing", "shape", "nan", "no tensors"],
)
def test_weights_of_another_model_are_refused(
    tmp_path: Path, club_run: Path, tensors: Any, expected: str
) -> None:
    run = tmp_path / "run"
    shutil.copytree(club_run, run)
    if tensors == "nan":
        settings, features, classes = runs._trained(open_run(run))
        state = build_model(settings, features, len(classes)).state_dict()
        tensors = {name: torch.full_like(value, float("nan")) for name, value in state.items()}
    if tensors is None:
        (run / WEIGHTS).write_bytes(b"x" * 1000)
    else:
        write_tensors(run / WEIGHTS, tensors)
    edit(run, lambda meta: sign(meta, run))
    with pytest.raises(UserError, match=expected):
        predict_run(run, str(CLUB))


@pytest.mark.parametrize(
    "change",
    [
        lambda config: config["settings"].update(model="gin"),
        lambda config: config["settings"].update(model={"gcn": 1}),
        lambda config: config["settings"].update(hidden=99_999),
        lambda config: config["settings"].update(hidden=10**40),
        lambda config: config["settings"].update(hidden="16"),
        lambda config: config["settings"].update(layers=10**9),
        lambda config: config["settings"].update(layers=900, hidden=99_999),
        lambda config: config["settings"].update(model="sgc", steps=10**9),
        lambda config: config["settings"].update(model="gat", heads=1000, hidden=100_000),
        lambda config: config["settings"].update(dropout=[0.5]),
        lambda config: config["settings"].update(__class__="os.system"),
        lambda config: config["settings"].pop("model"),
        lambda config: config.update(settings=None),
        lambda config: config.update(settings=["gcn"]),
        lambda config: config.pop("settings"),
        lambda config: config.update(classes=[]),
        lambda config: config.update(classes="ab"),
        lambda config: config.update(classes=[1, 2]),
        lambda config: config.update(classes=["a"] * 50),
        lambda config: config.update(features="3"),
        lambda config: config.update(features=3.0),
        lambda config: config.update(features=True),
        lambda config: config.update(features=-3),
        lambda config: config.update(features=10**30),
        lambda config: config.pop("features"),
    ],
)
def test_hostile_settings_are_refused_in_one_line(
    tmp_path: Path, club_run: Path, change: Callable[[dict[str, Any]], Any]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(club_run, run)
    edit(run, lambda meta: change(meta["config"]))
    with pytest.raises(UserError) as refused:
        predict_run(run, str(CLUB))
    message = str(refused.value)
    assert "\n" not in message
    assert len(message) < 500
    assert "train" in message
