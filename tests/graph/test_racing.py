"""Racing into a folder: the same seeds for all, widened and not run again; and what is refused."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_runs import CLUB, FAST, folder

from layerlab.errors import UserError
from layerlab.graph import racing
from layerlab.graph.racing import race_run
from layerlab.graph.runs import train_run
from layerlab.graph.settings import MODELS
from layerlab.lab.records import open_run

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
    assert open_run(run.path, racing.RACE_KIND).meta["results"]["contestants"] == summary["contestants"]
    # A cell is what a training run of its own would be.
    alone = train_run(str(CLUB), "gcn", out=tmp_path / "alone", protocol="random", seed=2, overrides=FAST)
    assert alone.meta["results"]["metrics"] == cells["gcn-0002"]["metrics"]


def test_a_race_is_widened_and_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[str, int]] = []
    run_cell = racing.cells_of

    def counting(*arguments: Any, **options: Any) -> Any:
        cell = run_cell(*arguments, **options)

        def counted(model: str, seed: int) -> Any:
            ran.append((model, seed))
            return cell(model, seed)

        return counted

    monkeypatch.setattr(racing, "cells_of", counting)
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


class Elsewhere:
    """An executor on a machine whose data are in another state."""

    def __init__(self, change: Callable[[], object]) -> None:
        self.change = change

    def check(self, look: Callable[[], object]) -> None:
        self.change()
        pickle.loads(pickle.dumps(look))()

    def run(self, run_cell: Any, cells: Mapping[str, tuple[str, int]]) -> Generator[Any, None, None]:
        for key, cell in cells.items():
            yield key, pickle.loads(pickle.dumps(run_cell))(*cell)


def test_another_machine_must_have_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = Path(folder(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)

    def raced_there(out: str, change: Callable[[], object]) -> set[str]:
        workers = Elsewhere(change)
        run, _ = race_run("data", ["mlp"], [0], out=Path(out), overrides=QUICK, workers=workers)
        return set(run.read_cells())

    assert raced_there("run", lambda: None) == {"mlp-0000"}
    nodes = data / "nodes.csv"
    with pytest.raises(
        UserError, match=rf"{data} is another one than where the race began; copy that one here"
    ):
        raced_there("other", lambda: nodes.write_text(nodes.read_text().replace("left", "up")))
    with pytest.raises(UserError, match=rf"there is no {data} here; copy the data to the same path"):
        raced_there("none", lambda: shutil.rmtree(data))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["run"]
