"""The race of skip connections: its arms, that they are pairs, what it concludes, and that a kill changes nothing."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Generator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from shapes import Shapes

from layerlab.errors import UserError
from layerlab.lab.records import open_run
from layerlab.lab.report.page import render
from layerlab.segmentation import summary
from layerlab.segmentation.arms import arms, chosen, comparisons, label
from layerlab.segmentation.cases import groups, read_cases
from layerlab.segmentation.experiments import metrics_of, race_run, trained_folder, under_way
from layerlab.segmentation.inspection.race_page import race_page
from layerlab.segmentation.runs import open_trained
from layerlab.segmentation.settings import Settings
from layerlab.segmentation.task import build_model

TINY = Settings(widths=(2, 4, 4), size=16, batch=4, epochs=2, learning_rate=0.02, patience=None)


def run_race(out: Path, **changes: Any) -> dict[str, Any]:
    given = {"arms": ["all"], "seeds": [0, 1], "jobs": 1, **changes}
    return race_run(Shapes(test=2), TINY, out=out, **given)[1]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("race") / "shapes"
    run_race(out)
    return out


# ------------------------------------------------------------------------------------------------------------ arms


def test_four_levels_have_nine_arms_and_no_network_twice() -> None:
    found = arms(4)
    assert len(found) == len(set(found.values())) == 9
    assert found["only-1"] == ("zero", "concatenate", "zero")
    assert found["without-1"] == ("concatenate", "zero", "concatenate")
    assert arms(2) == {"on": ("concatenate",), "off": ("off",), "zero": ("zero",)}


def test_arms_of_a_seed_begin_equal_where_their_parameters_agree() -> None:
    values = {}
    for name, skips in arms(3).items():
        torch.manual_seed(7)
        values[name] = build_model(replace(TINY, skips=skips), 1, 3).state_dict()
    for name in ("zero", "only-0", "only-1"):
        assert all(torch.equal(values[name][key], value) for key, value in values["on"].items())
    shared = [key for key, value in values["off"].items() if value.shape == values["on"][key].shape]
    assert len(shared) == len(values["off"]) - 2
    assert all(torch.equal(values["off"][key], values["on"][key]) for key in shared)


def test_comparisons_are_of_arms_that_are_there() -> None:
    assert [pair[:2] for pair in comparisons(arms(3))] == [
        ("on", "off"),
        ("on", "zero"),
        ("zero", "off"),
        ("only-0", "zero"),
        ("only-1", "zero"),
        ("on", "only-1"),
        ("on", "only-0"),
    ]
    assert comparisons(arms(3))[-2][2] == "what is lost without level 0"
    assert [pair[:2] for pair in comparisons(arms(2))] == [("on", "off"), ("on", "zero"), ("zero", "off")]
    assert [pair[:2] for pair in comparisons(arms(4))][-2:] == [("on", "without-1"), ("on", "without-2")]
    assert comparisons({}) == []
    assert comparisons(chosen(["on", "without-2"], 4))[0][:2] == ("on", "without-2")
    assert label("without-2") == "all but level 2"


@pytest.mark.parametrize(
    ("names", "came"), [(["on", "of"], "'of'"), ([], "at least one"), (["on", "all"], "once")]
)
def test_arms_that_are_not_there_are_refused(names: list[str], came: str) -> None:
    with pytest.raises(UserError, match=came):
        chosen(names, 3)
    with pytest.raises(UserError, match="one level"):
        chosen(["on"], 1)


# --------------------------------------------------------------------------------------------------------- the race


def test_a_race_holds_every_cell_with_its_run(finished: Path) -> None:
    run = open_run(finished, "segmentation-race")
    cells = run.read_cells()
    assert len(cells) == 5 * 2
    for cell in cells.values():
        trained = open_trained(trained_folder(finished, cell["contestant"], cell["seed"]))
        results = trained.run.meta["results"]
        assert trained.model.skips == tuple(run.meta["results"]["arms"][cell["contestant"]])
        assert cell["metrics"] == metrics_of(results)
        assert cell["metrics"]["validation_iou"] == results["measures"]["validation"]["mean_iou"]
        assert cell["metrics"]["test_dice_per_image"] == results["measures"]["test"]["mean_dice_per_image"]
        norms = cell["curves"]["stem_gradient"]
        assert cell["metrics"]["stem_gradient"] == pytest.approx(math.sqrt(norms[0] * norms[1]))
        assert not under_way(finished, f"{cell['contestant']}-{cell['seed']:04d}")
    digests = {(cell["seed"], cell["fingerprint"]) for cell in cells.values()}
    assert len(digests) == 2, "one split a seed, the same for all arms"


def test_results_are_the_statistics_of_the_cells(finished: Path) -> None:
    run = open_run(finished)
    cells, results = run.read_cells(), run.meta["results"]
    values = {
        arm: [cells[f"{arm}-{seed:04d}"]["metrics"]["validation_boundary_iou"] for seed in (0, 1)]
        for arm in arms(3)
    }
    pair = next(p for p in results["differences"] if (p["left"], p["right"]) == ("on", "off"))
    found = pair["metrics"]["validation_boundary_iou"]
    assert found["mean"] == pytest.approx(np.subtract(values["on"], values["off"]).mean())
    assert results["contestants"]["zero"]["metrics"]["validation_boundary_iou"]["values"] == values["zero"]
    parts = [cells[f"off-{seed:04d}"]["measures"]["validation"] for seed in (0, 1)]
    assert results["confusion"]["off"] == np.sum([part["confusion"] for part in parts], axis=0).tolist()
    bins = results["calibration"]["off"]
    assert sum(entry[0] for entry in bins) == sum(part["pixels"] for part in parts)
    right = sum(entry[0] * entry[2] for entry in bins if entry[0])
    assert right == pytest.approx(sum(np.trace(part["confusion"]) for part in parts))
    assert results["classes"]["on"]["iou"][0] == pytest.approx(
        np.mean([cells[f"on-{seed:04d}"]["measures"]["validation"]["iou"][0] for seed in (0, 1)])
    )


def test_a_race_goes_on_where_it_was_cut_off_with_the_same_numbers(finished: Path, tmp_path: Path) -> None:
    half = tmp_path / "half"
    run_race(half, arms=["on", "off"], seeds=[0])
    seen: list[str] = []
    again = run_race(half, on_cell=lambda cell: seen.append(cell["contestant"]))
    whole = open_run(finished).meta["results"]
    assert len(seen) == 10 and again["differences"] == whole["differences"]
    # A cell whose record is lost is taken from its own run, and not trained again.
    weights = trained_folder(half, "on", 0) / "model.safetensors"
    (half / "cells" / "on-0000.json").unlink()
    before = weights.stat().st_mtime_ns
    assert run_race(half)["differences"] == whole["differences"] and weights.stat().st_mtime_ns == before


def test_data_that_changed_meanwhile_are_noticed(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "race"
    shutil.copytree(finished, out)
    run = open_run(out)
    cell = run.read_cell("off-0001")
    assert isinstance(cell["fingerprint"], str)
    run.write_cell("off-0001", {**cell, "fingerprint": "0" + cell["fingerprint"]})
    with pytest.raises(UserError, match="different pixels"):
        run_race(out)


def test_another_setting_does_not_resume_a_race(finished: Path) -> None:
    with pytest.raises(UserError, match="epochs"):
        race_run(Shapes(test=2), replace(TINY, epochs=3), arms=["on"], seeds=[0], out=finished, jobs=1)


# -------------------------------------------------------------------------------------------------------- conclusion


def verdict(on: list[float], off: list[float]) -> dict[str, Any]:
    def cell(arm: str, seed: int, value: float) -> dict[str, Any]:
        part = {name: [value] for name in summary.BY_CLASS} | {
            f"mean_{name}": value for name in summary.BY_CLASS
        }
        part |= {"images": [1], "confusion": [[1]], "calibration": [[1, 0.5, 1.0]]}
        return {
            "contestant": arm,
            "seed": seed,
            "parameters": 1,
            "step_seconds": 1.0,
            "seconds": 1.0,
            "measures": {"validation": part},
            "metrics": {"validation_iou": value},
        }

    cells = {
        f"{arm}-{seed}": cell(arm, seed, value)
        for arm, values in (("on", on), ("off", off))
        for seed, value in enumerate(values)
    }
    found: dict[str, Any] = summary.summarised(cells, ["all"], chosen(["on", "off"], 3))["verdict"]
    return found


def test_the_verdict_comes_out_either_way() -> None:
    better, worse = [0.80, 0.81, 0.79], [0.70, 0.71, 0.70]
    holds, refuted = verdict(better, worse), verdict(worse, better)
    assert holds["kind"] == "holds" and refuted["kind"] == "refuted"
    assert "0.800 with and 0.703 without" in holds["sentence"] and "0.78 and 0.68" in holds["sentence"]
    assert "better without" in refuted["sentence"] and "−0.09" in refuted["sentence"]
    open_ = verdict([0.8, 0.7, 0.6], [0.7, 0.8, 0.6])
    assert open_["kind"] == "measured" and "holds 0" in open_["sentence"] and "1 of 3" in open_["sentence"]
    single = verdict([0.8], [0.2])
    assert single["kind"] == "measured" and "One seed" in single["sentence"]


def test_images_are_grouped_without_repeats() -> None:
    names = [f"{index:02d}" for index in range(14)]
    with_skips = {name: 0.1 * place for place, name in enumerate(names)}
    without = {**with_skips, "13": 0.2, "12": 1.3, "08": 0.79}
    found = groups(with_skips, without)
    assert [name for group, name in found if group == "worst"] == names[:6]
    assert [name for group, name in found if group == "helped"] == ["13", "08"]
    assert [name for group, name in found if group == "harmed"] == ["12"]


def test_the_cases_are_the_predictions_of_both_arms(finished: Path) -> None:
    cases = read_cases(finished)
    cells = open_run(finished).read_cells()
    scores = {entry["name"]: entry["iou"] for entry in cells["on-0000"]["images"]}
    assert [case.name for case in cases if case.group == "worst"] == [
        entry["name"] for entry in cells["on-0000"]["images"]
    ][:6]
    data = Shapes(test=2)
    net = open_trained(trained_folder(finished, "off", 0)).model
    for case in cases:
        image, mask = data.read(list(data.names).index(case.name))
        assert np.array_equal(case.target, mask) and case.iou[0] == scores[case.name]
        with torch.inference_mode():
            expected = net(torch.from_numpy(image).permute(2, 0, 1)[None].half().float()).argmax(1)[0].numpy()
        assert (case.predictions[1] == expected).mean() > 0.99


# ----------------------------------------------------------------------------------------------------------- the page


def test_the_page_tells_verdict_levels_and_pictures(finished: Path) -> None:
    run = open_run(finished)
    html = render(race_page(run))
    assert run.meta["results"]["verdict"]["sentence"].split(";")[0] in html
    for words in ("level 0, the finest", "zero control − without", "boundary IoU", "Reliability", "disc"):
        assert words in html
    levels = html[html.index("What each level") :].partition("</table>")[0]
    assert "–" not in levels and levels.count(" to ") == 4
    assert html.count("data:image/png;base64,") >= 4 * len(read_cases(finished))


def test_a_page_of_two_arms_and_one_seed_has_no_intervals(tmp_path: Path) -> None:
    run, results = race_run(Shapes(), TINY, arms=["off", "zero"], seeds=[3], out=tmp_path / "race", jobs=1)
    assert results["verdict"] == {} and results["class_differences"] == [] and read_cases(run.path) == []
    assert results["differences"][0]["metrics"]["validation_iou"]["low"] is None
    assert "Level by level" not in render(race_page(run))
    json.dumps(results, allow_nan=False)


def test_an_unfinished_race_has_no_page(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "race"
    shutil.copytree(finished, out)
    meta = json.loads((out / "run.json").read_text())
    del meta["results"]
    (out / "run.json").write_text(json.dumps(meta))
    with pytest.raises(UserError, match="not finished"):
        race_page(open_run(out))
    (out / "cases.safetensors").write_bytes(b"torn")
    with pytest.raises(UserError, match=r"cases\.safetensors"):
        read_cases(out)


# -------------------------------------------------------------------------------------------------------- elsewhere


class Elsewhere:
    """An executor that runs cells here; of what it is asked to look at, the n-th look sees other things."""

    def __init__(self, blind: int | None, blinding: Callable[[], object]) -> None:
        self.blind, self.blinding, self.looks = blind, blinding, 0

    def check(self, look: Callable[[], object]) -> None:
        if self.looks == self.blind:
            self.blinding()
        self.looks += 1
        look()

    def run(self, run_cell: Any, cells: Mapping[str, tuple[str, int]]) -> Generator[Any, None, None]:
        for key, cell in cells.items():
            yield key, run_cell(*cell)


def test_another_machine_must_see_the_images_and_the_run_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_there(out: str, blind: int | None, blinding: Callable[[], object]) -> None:
        elsewhere = Elsewhere(blind, blinding)
        run_race(tmp_path / out, arms=["on"], seeds=[0], workers=elsewhere)
        assert elsewhere.looks == 2

    run_there("run", None, lambda: None)
    assert set(open_run(tmp_path / "run").read_cells()) == {"on-0000"}

    def no_mark() -> None:
        (mark,) = [entry for entry in tmp_path.iterdir() if entry.is_file()]
        mark.write_text("")

    with pytest.raises(UserError, match="is another folder here"):
        run_there("none", 1, no_mark)
    read = Shapes.read
    with pytest.raises(UserError, match="the images of shapes are others than where the race began"):
        run_there("none", 0, lambda: monkeypatch.setattr(Shapes, "read", lambda self, i: read(self, 11 - i)))
    assert [entry.name for entry in tmp_path.iterdir()] == ["run"]
