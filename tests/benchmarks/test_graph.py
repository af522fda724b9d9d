"""The benchmark's own helpers: a wrong figure in a table is worse than none."""

from __future__ import annotations

import doctest
import importlib
import json
import xml.etree.ElementTree as ET
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from layerlab.errors import UserError

ROOT = Path(__file__).parents[2]
NAMES = (
    *("figures", "floors", "gate", "page", "processes", "profiles", "runners", "sgc", "targets", "worker"),
    "workloads",
)
COMMON = ("command", "rates", "store", "timing", "words")


@pytest.fixture(scope="module")
def bench() -> dict[str, ModuleType]:
    found = {name: importlib.import_module(f"bench_common.{name}") for name in COMMON}
    own = {name: importlib.import_module(f"graph_bench.{name}") for name in NAMES}
    return {**found, **own, "drawing": importlib.import_module("bench_common.figures")}


@pytest.mark.parametrize("name", ["drawing", "floors", "timing", "words"])
def test_examples_in_the_docstrings(bench: dict[str, ModuleType], name: str) -> None:
    found = doctest.testmod(bench[name])
    assert found.attempted
    assert found.failed == 0


def test_the_random_graph_has_exactly_the_edges_asked_for(bench: dict[str, ModuleType]) -> None:
    source, target = bench["workloads"].chung_lu(400, 3000, seed=1)
    assert len({*zip(source.tolist(), target.tolist(), strict=True)}) == 3000
    assert (source < target).all()
    assert target.max() < 400
    again = bench["workloads"].chung_lu(400, 3000, seed=1)
    assert (again[0] == source).all()
    other = bench["workloads"].chung_lu(400, 3000, seed=2)
    assert (other[0] != source).any()


def test_the_random_graph_has_hubs_anywhere(bench: dict[str, ModuleType]) -> None:
    workload = bench["workloads"].power_law(20_000)
    degrees = np.diff(workload.graph.indptr)
    assert workload.sizes()["directed_edges"] == 40_000 == degrees.sum()
    assert degrees.max() > 20 * np.median(degrees)
    # Names are shuffled: half of the twenty largest would not lie among the first nodes by chance.
    assert np.median(np.argsort(degrees)[-20:]) > 0.1 * len(degrees)
    both = {tuple(pair) for pair in workload.edge_index.T.tolist()}
    assert len(both) == 40_000
    assert {(v, u) for u, v in both} == both


def test_a_ratio_lies_in_its_interval_and_turns_over(bench: dict[str, ModuleType]) -> None:
    rng = np.random.default_rng(0)
    slow, fast = rng.normal(10, 1, 25).tolist(), rng.normal(1, 0.1, 25).tolist()
    there, back = bench["timing"].ratio(slow, fast), bench["timing"].ratio(fast, slow)
    assert 8 < there["low"] < there["ratio"] < there["high"] < 12
    assert there["ratio"] == pytest.approx(1 / back["ratio"])


def test_steps_take_turns_in_blocks(bench: dict[str, ModuleType]) -> None:
    order: list[str] = []
    timed = bench["timing"].in_turn({name: lambda name=name: order.append(name) for name in "ab"}, 2, 1e-6)
    counts = timed["steps_per_block"]
    tail = order[-2 * sum(counts.values()) :]
    assert tail == 2 * (["a"] * counts["a"] + ["b"] * counts["b"])
    assert {name: len(seconds) for name, seconds in timed["seconds"].items()} == {"a": 2, "b": 2}


def test_the_gate_refuses_a_wrong_gradient(
    bench: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, runners = bench["gate"], bench["runners"]
    workload = bench["workloads"].power_law(300)
    found = gate.compare(workload, "gat", torch.float64)
    assert set(found) == {runners.WHOLE, runners.FIELD, "layerlab's outputs", "layerlab, plain torch"}
    right = runners.whole

    def wrong(workload: Any, kind: str, dtype: torch.dtype) -> Any:
        made = right(workload, kind, dtype)
        made.module.convs[0].negative_slope = 0.2001
        return made

    monkeypatch.setattr(runners, "whole", wrong)
    with pytest.raises(gate.GateError, match="differs from torch_geometric"):
        gate.compare(workload, "gat", torch.float64)


def test_the_gate_judges_the_whole_interval_of_accuracies(bench: dict[str, ModuleType]) -> None:
    gate, difference = bench["gate"], bench["timing"].difference
    same = [0.80, 0.81, 0.82, 0.81]
    gate._judge(difference(same, [0.81, 0.80, 0.82, 0.81]), "x")
    for worse in ([0.77, 0.78, 0.79, 0.781], [0.84, 0.76, 0.85, 0.79]):
        with pytest.raises(gate.GateError, match="95 % interval"):
            gate._judge(difference(worse, same), "x")


def test_the_growth_fit_covers_two_decades_of_edges(bench: dict[str, ModuleType]) -> None:
    sizes = bench["processes"].default_sizes(quick=False)
    assert (sizes[0], sizes[-1]) == (100_000, 10_000_000)
    assert max(bench["processes"].default_sizes(quick=True)) <= 200_000


def test_the_clock_counts_kernels_and_what_computes(bench: dict[str, ModuleType]) -> None:
    from layerlab.graph.kernels import operators

    profiles = bench["profiles"]
    x = torch.ones(3, 2, requires_grad=True)

    def step() -> None:
        operators.sum_columns(x.detach().numpy())
        (x.t() @ x * 2).sum().backward()

    with profiles.timed() as clock:
        step()
    assert clock.calls["kernel column_sums"] == 1
    assert clock.calls["aten::mul"] == 2  # forward and backward
    assert clock.calls["aten::matmul"] == 1
    assert clock.calls["aten::mm"] == 2  # those of the backward: the forward's is within the product
    assert clock.calls[profiles.VIEWS] >= 2
    assert all(seconds > 0 for seconds in clock.seconds.values())
    found = profiles.profile(step, 3)
    rows = {row["name"]: row["calls"] for row in found["rows"]}
    assert (rows["kernel column_sums"], rows["aten::mul"], found["kernels"]) == (1, 2, 1)
    assert found["operators"] == sum(rows.values()) - 1 - rows[profiles.VIEWS]


def test_the_profile_describes_the_way_that_is_timed(bench: dict[str, ModuleType]) -> None:
    runners, profiles = bench["runners"], bench["profiles"]
    runner = runners.field(bench["workloads"].power_law(300), "gcn")
    runner.step()
    with profiles.timed() as clock:
        runner.step()
    # The model's loss in one step: softmax, loss and gradient in a kernel of ours.
    assert clock.calls["kernel cross_entropy"] == 1
    assert clock.calls["kernel spmm"] == 4
    assert clock.calls["aten::_fused_adam_"] == 1


def test_the_empty_step_has_as_many_launches(bench: dict[str, ModuleType]) -> None:
    profiles = bench["profiles"]
    for wanted in ((15, 12), (30, 80)):
        assert profiles.launches(profiles.empty(*wanted)) == wanted
    assert profiles.launches(profiles.empty(0, 0))[1] < 12
    assert profiles.empty_step(15, 30) > 0


def test_the_floor_adds_launching_to_the_larger_of_memory_and_arithmetic(
    bench: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    floors, rates = bench["floors"], bench["rates"]
    monkeypatch.setattr(rates, "bandwidth", lambda footprint: 10.0)
    monkeypatch.setattr(rates, "arithmetic", lambda: 100.0)
    found = floors.floor(floors.Work(bytes=20, operations=1000), 7, 0.5)
    assert (found["memory_seconds"], found["arithmetic_seconds"], found["seconds"]) == (2.0, 10.0, 10.5)


def part(**more: Any) -> dict[str, Any]:
    names = ("cpu", "cores", "threads", "python", "torch", "torch_geometric", "numba", "layerlab")
    return {"environment": dict.fromkeys(names, "x"), "load_before": 0.5, **more}


def runner(seconds: float, ratio: float, ours: bool) -> dict[str, Any]:
    names = (
        *("bytes", "operations", "random_numbers", "launches", "memory_seconds", "arithmetic_seconds"),
        *("launch_seconds", "seconds"),
    )
    entry: dict[str, Any] = {
        "seconds": [seconds] * 3,
        "median_seconds": seconds,
        "times_faster": {"ratio": ratio, "low": ratio / 1.1, "high": ratio * 1.1},
    }
    if ours:
        entry["profile"] = {
            "seconds": seconds,
            "kernels": 4.0,
            "operators": 0.0,
            "rows": [{"name": "kernel spmm", "calls": 4.0, "seconds": seconds / 4}],
            "between": 3 * seconds / 4,
        }
        entry["floor"] = dict.fromkeys(names, seconds / 10)
    return entry


@pytest.fixture
def stored(bench: dict[str, ModuleType]) -> dict[str, Any]:
    names = bench["runners"]
    sizes = dict.fromkeys(("nodes", "directed_edges", "features", "features_stored", "classes", "train"), 5)
    models = {
        "gcn": {names.PEER: runner(0.070, 1.0, False), names.FIELD: runner(0.0006, 116.0, True)},
        "gat": {names.PEER: runner(0.090, 1.0, False), names.FIELD: runner(0.003, 30.0, True)},
    }
    checks: dict[str, Any] = {kind: {"float64": {"a": 1e-15}, "float32": {"a": 2e-7}} for kind in models}
    checks["gcn"]["trained"] = {
        "seeds": 2,
        "torch_geometric_with_dropout": [0.79, 0.81],
        "layerlab_with_dropout": [0.78, 0.80],
        "difference": {"mean": -0.01, "low": -0.02, "high": 0.001},
    }
    cora = part(sizes={**sizes, "degree_quantiles": {"0.5": 3.0}}, models=models, gate=checks)
    row = {"directed_edges": 100, "nodes": 10, "median_seconds": 0.1, "above_idle_bytes": 1e6}
    fit = {"exponent": 1.03, "error": 0.02, "factor": 1e-4}
    growth = part(gat={"rows": [row, {**row, "directed_edges": 1000}], "seconds": fit, "memory": fit})
    process = {"above_idle_bytes": 6.0e9, "idle_bytes": 4e8, "peak_bytes": 6.4e9}
    small = {"above_idle_bytes": 0.9e9, "idle_bytes": 4e8, "peak_bytes": 1.3e9}
    memory = part(edges=100, gat={"peer": process, "layerlab": small, "share": 0.15})
    times = {"torch_geometric": 0.2, "layerlab": 0.12}
    sgc = part(paper_seconds=0.13, median=times, test_accuracy=dict.fromkeys(times, 0.81))
    first = {"gcn, x": 20.0}
    steps = {"first": first, "tenth": {"gcn, x": 0.001}, "sum_of_first": 20.0}
    compiled = part(**{"empty cache": steps, "filled cache": steps})
    parts = {"cora": cora, "growth": growth, "memory": memory, "sgc": sgc, "compile": compiled}
    return {"quick": False, "parts": parts}


def test_the_page_has_what_was_measured(
    bench: dict[str, ModuleType], stored: dict[str, Any], tmp_path: Path
) -> None:
    bench["page"].write(stored, tmp_path)
    page = (tmp_path / "benchmarks.md").read_text(encoding="utf-8")
    assert "| GCN epoch, Cora | 100 times torch_geometric | 116 [105, 128] times | yes |" in page
    assert "| GAT epoch, Cora | 50 times torch_geometric | 30.0 [27.3, 33.0] times | **no** |" in page
    assert "| GCN epoch, Cora | under 0.700 ms | 600 µs | yes |" in page
    assert "a quarter of torch_geometric's | 0.150 of it | yes" in page
    assert "edges^1.03 (standard error 0.02)" in page
    assert "| between them |  | 2.25 ms | 75 % |" in page
    assert "smoke run" not in page
    assert "with dropout 80.0 % and 79.0 %, -1.0 [-2.0, +0.1] points (2 seeds)" in page
    assert bench["page"].goals(stored["parts"]) in page
    for figure in ("benchmarks-ratios.svg", "benchmarks-growth.svg"):
        assert f"(images/{figure})" in page
        drawn = ET.parse(tmp_path / "images" / figure).getroot()
        style = next(element.text for element in drawn if element.tag.endswith("style"))
        colours = set(json.dumps(ET.tostring(drawn, encoding="unicode")).split("var(--")[1:])
        used = {text.partition(")")[0] for text in colours}
        assert style is not None
        assert "prefers-color-scheme: dark" in style
        assert all(f"--{name}:" in style for name in used)


def test_the_page_leaves_out_what_was_not_measured(
    bench: dict[str, ModuleType], stored: dict[str, Any]
) -> None:
    del stored["parts"]["growth"], stored["parts"]["cora"]
    page = bench["page"].render({**stored, "quick": True}, set())
    assert "smoke run" in page
    assert "Growth" not in page
    assert "An epoch" not in page
    assert "## Memory" in page


def test_results_are_kept_part_by_part(bench: dict[str, ModuleType], tmp_path: Path) -> None:
    store = bench["store"]
    file = tmp_path / "new" / "graph.json"
    store.Store(file, "first", False, "graph").put("cora", {"a": 1})
    store.Store(file, "second", False, "graph").put("memory", {"b": 2})
    assert store.read(file, "graph")["parts"] == {"cora": {"a": 1}, "memory": {"b": 2}}
    assert store.read(file, "graph")["command"] == "second"
    file.write_text('{"rounds": 100}', encoding="utf-8")
    with pytest.raises(UserError, match="expected results of this benchmark"):
        store.read(file, "graph")
