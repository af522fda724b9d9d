"""Runs on disk: trained once, resumed to the bit, predicted with, raced and widened; and what is refused."""

from __future__ import annotations

import csv
import json
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from layerlab.errors import UserError
from layerlab.graph import runs
from layerlab.graph.datasets import load
from layerlab.graph.runs import WEIGHTS, Predictions, predict_run, race_run, slug, train_run
from layerlab.graph.settings import MODELS
from layerlab.graph.task import build_model, normalise_rows
from layerlab.lab.records import open_run
from layerlab.lab.weights import load_weights, write_tensors

CLUB = Path(__file__).parents[2] / "examples" / "graph_folder"
FAST = {"epochs": 6, "hidden": 3}


def folder(
    path: Path, *, nodes: int = 30, split: str = "train,val,test", features: int = 3, labels: bool = True
) -> str:
    """A data set's folder: two rings, features that tell them apart, and ids with commas."""
    path.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    words = split.split(",") if split else [""]
    with (path / "nodes.csv").open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(["id", "label", "split", *(f"f{k}" for k in range(features))])
        for node in range(nodes):
            label = ("left", "right")[node % 2]
            numbers = generator.random(features) + 2 * (node % 2)
            row = [
                f"node, {node}",
                label if labels else "",
                words[(node // 2) % len(words)] if labels else "",
            ]
            table.writerow([*row, *(f"{value:.3f}" for value in numbers)])
    with (path / "edges.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(
            [(f"node, {node}", f"node, {(node + 2) % nodes}") for node in range(nodes)]
        )
    return str(path)


def trained(path: Path, model: str = "gcn", data: str | Path = CLUB, **changes: Any) -> Path:
    train_run(str(data), model, out=path, overrides={**FAST, **changes})
    return path


def edit(run: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change what run.json says."""
    file = run / "run.json"
    meta = json.loads(file.read_text(encoding="utf-8"))
    change(meta)
    file.write_text(json.dumps(meta), encoding="utf-8")


# --------------------------------------------------------------------- training


def test_a_run_is_kept_with_its_results(tmp_path: Path) -> None:
    seen: list[tuple[int, int, dict[str, float]]] = []
    run = train_run(
        str(CLUB),
        "gcn",
        out=tmp_path / "deep" / "run",
        seed=3,
        overrides=FAST,
        command=["layerlab", "graph", "train", "a b"],
        on_epoch=lambda *arguments: seen.append(arguments),
    )
    assert {entry.name for entry in run.path.iterdir()} == {"run.json", WEIGHTS}
    meta = open_run(run.path, runs.TRAIN_KIND).meta
    assert meta["command"] == "layerlab graph train 'a b'"
    config, results = meta["config"], meta["results"]
    assert (config["data"], config["protocol"], config["seed"]) == ("graph_folder", "public", 3)
    assert (config["settings"]["hidden"], config["settings"]["epochs"]) == (3, 6)
    assert config["classes"] == ["poetry", "sport"]
    assert results["epochs"] == 6
    assert results["parameters"] == 3 * 3 + 3 + 3 * 2 + 2
    best = results["best_epoch"] - 1
    assert results["metrics"]["validation_accuracy"] == max(results["curves"]["validation_accuracy"])
    for name, values in results["curves"].items():
        assert values[best] == pytest.approx(results["metrics"][name], abs=5e-7)
    assert [(epoch, total) for epoch, total, _ in seen] == [(epoch, 6) for epoch in range(1, 7)]


def test_without_a_split_of_its_own_a_data_set_is_split_at_random(tmp_path: Path) -> None:
    data = folder(tmp_path / "data", split="")
    run = train_run(data, "mlp", out=tmp_path / "run", overrides={"epochs": 1})
    assert run.meta["config"]["protocol"] == "random"


def test_a_finished_run_is_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = trained(tmp_path / "run")
    before = {entry.name: entry.read_bytes() for entry in run.iterdir()}
    (run / "checkpoint.safetensors").write_bytes(b"left by a kill between the last two steps")
    with monkeypatch.context() as patch:
        patch.setattr(runs, "fit", lambda *_, **__: pytest.fail("trained again"))
        again = train_run(str(CLUB), "gcn", out=run, overrides=FAST, command=["another", "command"])
    assert again.meta["results"] == json.loads(before["run.json"])["results"]
    assert {entry.name: entry.read_bytes() for entry in run.iterdir()} == before


@pytest.mark.parametrize(
    "harm",
    [
        lambda run: (run / WEIGHTS).unlink(),
        lambda run: (run / WEIGHTS).write_bytes(b"damaged"),
        lambda run: edit(run, lambda meta: meta["results"].pop("metrics")),
        lambda run: edit(run, lambda meta: meta.update(results=[1])),
    ],
    ids=["no weights", "damaged weights", "no metrics", "no results"],
)
def test_a_damaged_finished_run_is_trained_again(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    run = trained(tmp_path / "run")
    weights = (run / WEIGHTS).read_bytes()
    harm(run)
    with pytest.raises(UserError, match="run its training command again"):
        predict_run(run, str(CLUB))
    trained(run)
    assert (run / WEIGHTS).read_bytes() == weights
    predict_run(run, str(CLUB))


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C as a terminal has it; a shell's background job begins with it switched off."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("model", ["gcn", "gat"])
@pytest.mark.parametrize("stop", [1, 4])
def test_an_interrupted_run_goes_on_to_the_same_bytes(tmp_path: Path, model: str, stop: int) -> None:
    whole = trained(tmp_path / "whole", model)

    def interrupt(epoch: int, *_: Any) -> None:
        if epoch == stop:
            signal.raise_signal(signal.SIGINT)

    out = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        train_run(str(CLUB), model, out=out, overrides=FAST, on_epoch=interrupt)
    assert "results" not in open_run(out).meta
    assert not (out / WEIGHTS).exists()
    with pytest.raises(UserError, match="not finished; run its command again"):
        predict_run(out, str(CLUB))

    epochs: list[int] = []
    run = train_run(
        str(CLUB), model, out=out, overrides=FAST, on_epoch=lambda epoch, *_: epochs.append(epoch)
    )
    assert epochs == list(range(stop + 1, 7)), "it did not go on from the checkpoint"
    assert (out / WEIGHTS).read_bytes() == (whole / WEIGHTS).read_bytes()
    assert run.meta["results"]["curves"] == open_run(whole).meta["results"]["curves"]
    assert {entry.name for entry in out.iterdir()} == {"run.json", WEIGHTS}


@pytest.mark.parametrize(
    ("model", "options", "named"),
    [
        ("gcn", {"seed": 1}, "config.seed is 0 there and 1 here"),
        ("gcn", {"overrides": {**FAST, "dropout": 0.1}}, "config.settings.dropout is 0.5 there and 0.1 here"),
        ("gcn", {"protocol": "random", "overrides": FAST}, "config.protocol"),
        ("sgc", {"overrides": FAST}, "config.settings.model|config.settings"),
    ],
)
def test_a_folder_with_another_run_is_refused(
    tmp_path: Path, model: str, options: dict[str, Any], named: str
) -> None:
    run = trained(tmp_path / "run")
    before = {entry.name: entry.read_bytes() for entry in run.iterdir()}
    with pytest.raises(UserError, match=named) as refused:
        train_run(str(CLUB), model, out=run, **{"overrides": FAST, **options})
    assert "choose another --out, or remove the folder" in str(refused.value)
    assert {entry.name: entry.read_bytes() for entry in run.iterdir()} == before


def test_changed_data_are_another_run(tmp_path: Path) -> None:
    data = folder(tmp_path / "data")
    trained(tmp_path / "run", data=data)
    edges = tmp_path / "data" / "edges.csv"
    edges.write_text(edges.read_text(encoding="utf-8") + '"node, 0","node, 7"\n', encoding="utf-8")
    with pytest.raises(UserError, match=r"config\.fingerprint"):
        trained(tmp_path / "run", data=data)


@pytest.mark.parametrize(
    ("model", "options", "expected"),
    [
        ("gin", {}, "unknown model 'gin'"),
        ("gcn", {"protocol": "mine"}, "unknown protocol 'mine'"),
        ("gcn", {"protocol": "course"}, "use --protocol random"),
        ("gcn", {"seed": -1}, "seed >= 0"),
        ("gcn", {"overrides": {"epochs": 0}}, "setting epochs"),
    ],
)
def test_what_cannot_be_trained_leaves_no_folder(
    tmp_path: Path, model: str, options: dict[str, Any], expected: str
) -> None:
    with pytest.raises(UserError, match=expected):
        train_run(str(CLUB), model, out=tmp_path / "run", **options)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept", encoding="utf-8")
    for out in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(UserError, match="choose another --out"):
            train_run(str(CLUB), "gcn", out=out, overrides=FAST)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("kept", encoding="utf-8")
    with pytest.raises(UserError, match=r"found 'thesis\.txt'"):
        train_run(str(CLUB), "gcn", out=tmp_path / "full", overrides=FAST)
    assert [entry.name for entry in (tmp_path / "full").iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("ask", [lambda run: trained(run), lambda run: predict_run(run, str(CLUB))])
@pytest.mark.parametrize(
    ("harm", "expected"),
    [
        (lambda file: file.write_bytes(b""), "damaged"),
        (lambda file: file.write_bytes(b'{"format": "layerlab-run"'), "damaged"),
        (
            lambda file: edit(file.parent, lambda meta: meta.update(format_version=99)),
            "format version 1, got 99",
        ),
        (
            lambda file: edit(file.parent, lambda meta: meta.update(config=3)),
            "'config' is missing or damaged",
        ),
        (lambda file: edit(file.parent, lambda meta: meta.update(format="?")), "expected a run of layerlab"),
    ],
    ids=["empty", "cut off", "version", "field", "format"],
)
def test_a_damaged_record_is_refused(
    tmp_path: Path, ask: Callable[[Path], Any], harm: Callable[[Path], Any], expected: str
) -> None:
    run = trained(tmp_path / "run", epochs=1)
    weights = (run / WEIGHTS).read_bytes()
    harm(run / "run.json")
    with pytest.raises(UserError, match=expected) as refused:
        ask(run)
    assert "run.json" in str(refused.value)
    assert (run / WEIGHTS).read_bytes() == weights


# ------------------------------------------------------------------- predicting


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
    meta["results"]["weights_sha256"] = runs._sha256(run / WEIGHTS)


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


# ----------------------------------------------------------------------- racing

QUICK = dict.fromkeys(MODELS, FAST)


def raced(
    out: Path, models: list[str], seeds: Any, **options: Any
) -> tuple[Any, dict[str, Any], list[tuple[str, int]]]:
    seen: list[tuple[str, int]] = []
    run, summary = race_run(
        str(options.pop("data", CLUB)),
        models,
        seeds,
        out=out,
        jobs=1,
        overrides=QUICK,
        on_cell=lambda cell: seen.append((cell["contestant"], cell["seed"])),
        **options,
    )
    return run, summary, seen


def test_a_race_compares_on_the_same_seeds(tmp_path: Path) -> None:
    run, summary, _ = raced(tmp_path / "race", ["gcn", "mlp"], range(3), protocol="random")
    cells = run.read_cells()
    assert set(cells) == {f"{model}-000{seed}" for model in ("gcn", "mlp") for seed in range(3)}
    assert summary["seeds"] == [0, 1, 2]
    assert (summary["data"], summary["protocol"], summary["metric"]) == (
        "graph_folder",
        "random",
        "test_accuracy",
    )
    scores = {
        model: [cells[f"{model}-000{s}"]["metrics"]["test_accuracy"] for s in range(3)]
        for model in ("gcn", "mlp")
    }
    for model, values in scores.items():
        assert summary["contestants"][model]["values"] == values
        assert summary["contestants"][model]["mean"] == pytest.approx(np.mean(values))
        assert summary["losses"][model]["values"] == [
            cells[f"{model}-000{s}"]["metrics"]["test_loss"] for s in range(3)
        ]
    (pair,) = summary["differences"]
    assert (pair["left"], pair["right"], pair["n"]) == ("gcn", "mlp", 3)
    assert pair["mean"] == pytest.approx(np.mean(scores["gcn"]) - np.mean(scores["mlp"]))
    assert open_run(run.path, runs.RACE_KIND).meta["results"]["contestants"] == summary["contestants"]
    # A cell is what a training run of its own would be.
    alone = train_run(str(CLUB), "gcn", out=tmp_path / "alone", protocol="random", seed=2, overrides=FAST)
    assert alone.meta["results"]["metrics"] == cells["gcn-0002"]["metrics"]


def test_a_race_is_widened_and_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[str, int]] = []
    run_cell = runs.cells_of

    def counting(*arguments: Any, **options: Any) -> Any:
        cell = run_cell(*arguments, **options)

        def counted(model: str, seed: int) -> Any:
            ran.append((model, seed))
            return cell(model, seed)

        return counted

    monkeypatch.setattr(runs, "cells_of", counting)
    out = tmp_path / "race"
    _, first, _ = raced(out, ["gcn"], range(2))
    assert ran == [("gcn", 0), ("gcn", 1)]
    ran.clear()
    _, wider, seen = raced(out, ["mlp", "gcn"], range(3))
    assert sorted(ran) == [("gcn", 2), ("mlp", 0), ("mlp", 1), ("mlp", 2)]
    assert sorted(seen) == [(model, seed) for model in ("gcn", "mlp") for seed in range(3)]
    assert list(wider["contestants"]) == ["mlp", "gcn"]
    assert wider["contestants"]["gcn"]["values"][:2] == first["contestants"]["gcn"]["values"]
    ran.clear()
    _, narrow, _ = raced(out, ["gcn"], range(2))
    assert ran == []
    assert narrow == first


def test_without_a_test_part_models_are_compared_on_validation(tmp_path: Path) -> None:
    data = folder(tmp_path / "data", split="train,val")
    run, summary, _ = raced(tmp_path / "race", ["gcn", "mlp"], range(2), data=data)
    assert summary["metric"] == "validation_accuracy"
    cells = run.read_cells()
    assert all("test_accuracy" not in cell["metrics"] for cell in cells.values())
    assert summary["contestants"]["gcn"]["values"] == [
        cells[f"gcn-000{seed}"]["metrics"]["validation_accuracy"] for seed in range(2)
    ]


def test_one_seed_has_no_interval(tmp_path: Path) -> None:
    run, summary, _ = raced(tmp_path / "race", ["gcn", "mlp"], [4])
    entry = summary["contestants"]["gcn"]
    assert entry["n"] == 1
    assert np.isnan(entry["sd"])
    assert run.meta["results"]["contestants"]["gcn"]["low"] is None


@pytest.mark.parametrize(
    ("models", "seeds", "options", "expected"),
    [
        (["gin", "gcn"], [0], {}, "unknown model 'gin'; expected one of gcn, gat, sgc, mlp"),
        (["gcn", "gcn"], [0], {}, "each model and each seed once"),
        ([], [0], {}, "at least one model"),
        (["gcn"], [], {}, "one seed"),
        (["gcn"], [1, 1], {}, "each model and each seed once"),
        (["gcn"], [0, -1], {"protocol": "random"}, "seed >= 0, got -1"),
        (["gcn"], [0], {"protocol": "mine"}, "unknown protocol"),
        (["gcn"], [0], {"protocol": "course"}, "use --protocol random"),
        (["gcn"], [0], {"overrides": {"gnc": {}}}, "unknown model 'gnc'"),
        (["gcn"], [0], {"overrides": {"gcn": {"hidden": 0}}}, "setting hidden"),
    ],
)
def test_what_cannot_be_raced_leaves_no_folder(
    tmp_path: Path, models: list[str], seeds: list[int], options: dict[str, Any], expected: str
) -> None:
    with pytest.raises(UserError, match=expected):
        race_run(str(CLUB), models, seeds, out=tmp_path / "race", jobs=1, **options)
    assert list(tmp_path.iterdir()) == []


def test_a_race_of_other_settings_is_another_race(tmp_path: Path) -> None:
    raced(tmp_path / "race", ["mlp"], [0])
    with pytest.raises(UserError, match=r"config\.settings\.gat\.epochs is 6 there and 1000 here"):
        race_run(str(CLUB), ["mlp"], [0], out=tmp_path / "race", jobs=1)
    with pytest.raises(UserError, match=r"config\.protocol"):
        raced(tmp_path / "race", ["mlp"], [0], protocol="random")


def test_a_data_sets_name_becomes_a_folders_name() -> None:
    assert slug("cora") == "cora"
    assert slug("data/my graph: v2/") == "my-graph-v2"
    assert slug("/") == "data"
    assert slug(".") == Path.cwd().name.replace(" ", "-")
