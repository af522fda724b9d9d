"""The depth benchmark: two lists of ten, a record that holds together, and a page that says what the record says."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from layerlab.graph.depth_training import DepthCurve
from layerlab.lab.json_files import read_json

from ..loading import program

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    return program("benchmarks/depth.py")


@pytest.fixture(scope="module")
def record(bench: ModuleType) -> dict[str, Any]:
    stored: dict[str, Any] = read_json(bench.RESULTS)
    return stored


def test_two_lists_of_ten_that_share_no_graph(bench: ModuleType) -> None:
    assert len(bench.FIRST) == len(bench.SECOND) == 10
    assert not set(bench.FIRST) & set(bench.SECOND)
    source = inspect.getsource(bench)
    seeds = re.findall(r"seed=(\d+)", source)
    assert len(seeds) == len(set(seeds)) == 18


def test_the_record_is_whole_and_of_this_predictor(bench: ModuleType, record: dict[str, Any]) -> None:
    assert list(record["graphs"]) == [*bench.FIRST, *bench.SECOND]
    assert {"cpu", "torch", "threads"} <= set(record["environment"])
    assert (record["penalty"], record["halvings"], record["smoothing"]) == (
        *(bench.PENALTY, bench.HALVINGS, bench.SMOOTHING),
    )
    for found in record["graphs"].values():
        curve = found["curve"]
        again = DepthCurve(
            tuple(curve["depths"]), np.array(curve["validation"]), np.array(curve["test"], dtype=float)
        )
        assert again.validation.shape == (bench.SPLITS, 32)
        assert again.distance(found["prediction"]["best"]) == found["distance"]
        at = again.depths.index(found["prediction"]["best"])
        assert found["lost"] == pytest.approx(again.mean.max() - again.mean[at])


def test_the_page_says_what_the_record_says(bench: ModuleType, record: dict[str, Any]) -> None:
    page = (ROOT / "docs" / "depth.md").read_text(encoding="utf-8")
    for names in (bench.SECOND, bench.FIRST):
        for name in names:
            found = record["graphs"][name]
            row = next(
                line for line in page.split("### The second list")[1].splitlines() if f"| {name} |" in line
            )
            cells = [cell.strip() for cell in row.strip("|").split("|")]
            hit = "yes" if found["distance"] <= 1 else "no"
            wanted = [name, str(found["prediction"]["best"]), str(found["curve"]["best"])]
            assert [*cells[:3], *cells[-2:]] == [*wanted, f"{found['lost']:.3f}", hit]
        hits = sum(record["graphs"][name]["distance"] <= 1 for name in names)
        assert f"{hits} of 10" in page


def test_an_unknown_graph_is_refused(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["depth.py", "atlantis"])
    with pytest.raises(SystemExit):
        bench.main()
    assert "unknown: atlantis" in capsys.readouterr().err


def test_results_of_other_code_are_noticed(
    bench: ModuleType, record: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    found = record["graphs"]["cycle"]
    assert bench.compare({"cycle": found})
    wrong = found | {"prediction": found["prediction"] | {"best": 3}}
    assert not bench.compare({"cycle": wrong})
    assert "today's, " in capsys.readouterr().out
