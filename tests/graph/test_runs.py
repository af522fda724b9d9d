"""Training into a folder: trained once, resumed to the bit; and what is refused."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_runs import CLUB, FAST, edit, folder, trained

from layerlab.errors import UserError
from layerlab.graph import runs
from layerlab.graph.prediction import predict_run
from layerlab.graph.runs import slug, train_run
from layerlab.lab.records import open_run
from layerlab.lab.trained import WEIGHTS


def test_a_data_sets_name_becomes_a_folders_name() -> None:
    assert slug("cora") == "cora"
    assert slug("data/my graph: v2/") == "my-graph-v2"
    assert slug("/") == "data"
    assert slug(".") == Path.cwd().name.replace(" ", "-")


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
