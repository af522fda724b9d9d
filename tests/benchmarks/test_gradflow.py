"""The gradient-flow benchmark's own helpers: a gate that lets errors through is worse than none."""

from __future__ import annotations

import dataclasses
import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from layerlab.gradflow.profiling import Profile
from layerlab.gradflow.profiling import profile as measured

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def bench() -> dict[str, ModuleType]:
    names = ("gate", "models", "page", "peers", "reference", "watching", "worker")
    found = {name: importlib.import_module(f"gradflow_bench.{name}") for name in names}
    return {**found, "script": importlib.import_module("gradflow")}


def test_the_reference_is_the_derivative_between_the_points(bench: dict[str, ModuleType]) -> None:
    matrix = bench["reference"].matrix
    torch.manual_seed(0)
    first, last = torch.nn.Linear(3, 4), torch.nn.Linear(4, 2)
    model = torch.nn.Sequential(first, torch.nn.ReLU(inplace=True), last).double()
    x = torch.randn(5, 3, dtype=torch.float64)
    step = matrix(model, x, "0", "output", 5)
    slopes = (first(x) > 0).double()
    assert torch.allclose(step, last.weight[None] * slopes[:, None])
    whole = matrix(model, x, "input", "output", 5)
    assert torch.allclose(whole, step @ first.weight)
    assert torch.allclose(
        matrix(model, x, "1", "2:input", 5), torch.eye(4, dtype=torch.float64).expand(5, 4, 4)
    )


@pytest.mark.parametrize("name", ["mlp", "decoder"])
def test_the_gate_passes_what_agrees(bench: dict[str, ModuleType], name: str) -> None:
    found = bench["gate"].check(name)
    assert max(found["largest"].values()) <= 1e-10
    assert all(count > 0 for count in found["compared"].values())


@pytest.mark.parametrize("what", ["largest", "smallest"])
@pytest.mark.parametrize("where", ["jacobian", "product"])
def test_the_gate_stops_what_differs(
    bench: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch, what: str, where: str
) -> None:
    def off(*args: Any, **kwargs: Any) -> Profile:
        found = measured(*args, **kwargs)
        layer = found.layers[2]
        ends = getattr(layer, where)
        # 2e-6 of the value: of a logarithm added, of a value multiplied.
        wrong = getattr(ends, what)
        wrong = wrong + 2e-6 if where == "product" else wrong * (1 + 2e-6)
        changed = dataclasses.replace(layer, **{where: dataclasses.replace(ends, **{what: wrong})})
        return dataclasses.replace(found, layers=(*found.layers[:2], changed, *found.layers[3:]))

    monkeypatch.setattr(bench["gate"], "profile", off)
    with pytest.raises(bench["gate"].GateError, match=r"differs by 2\.0e-06"):
        bench["gate"].check("mlp")


def test_all_sides_find_the_same_value(bench: dict[str, ModuleType]) -> None:
    peers, size = bench["peers"], bench["models"].Size(1, 16, 2, 6)
    modules, x = bench["models"].pieces(size)
    for module in modules.values():
        dense = torch.autograd.functional.jacobian(module, x).reshape(96, 96)
        assert torch.allclose(peers.formed(module, x, 96), dense, atol=1e-5)
        assert torch.allclose(peers.formed(module, x, 10), dense[:10], atol=1e-5)
        exact = float(torch.linalg.matrix_norm(dense.double(), 2))
        assert float(peers.ours(module, x, 1e-4, 190).largest.value[0]) == pytest.approx(exact, rel=1e-5)
        other = peers.power(module, x, 1e-3)
        assert other["value"] == pytest.approx(exact, rel=1e-3)
        assert other["residual"] <= 1e-3


def test_the_cost_of_a_profile_is_taken_apart(
    bench: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    script = bench["script"]
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    size = {"layers": 1, "width": 16, "heads": 2, "tokens": 4}
    found = script.ask(
        script.WORKER, {"task": "whole", "model": "encoder", "size": size, "threads": 1, "forwards": 3}
    )
    assert sum(found["parts"].values()) == pytest.approx(found["seconds"])
    assert all(seconds > 0 for seconds in found["parts"].values())
    assert sum(found["product_seconds"].values()) < found["seconds"]
    assert min(found["products"].values()) > 4
    assert found["forwards_floor"] > 1
    assert found["peak_bytes"] >= found["idle_bytes"] > 0


def test_a_smoke_run_writes_results_and_a_page(
    bench: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    results = tmp_path / "gradflow.json"
    command = ["gradflow.py", "--quick", "--only", "jacobians,power,monitor", "--threads", "1"]
    monkeypatch.setattr(sys, "argv", [*command, "--results", str(results)])
    assert bench["script"].main() == 0
    page = (tmp_path / "benchmarks-gradflow.md").read_text(encoding="utf-8")
    for text in ("smoke run", "to 1e-6 relative", "## The gate", "times cheaper", "## The monitor"):
        assert text in page
    assert "## A whole profile" not in page
    assert (tmp_path / "images" / "benchmarks-jacobians.svg").exists()


def test_nothing_is_timed_when_the_gate_stops(
    bench: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def stop(names: list[str]) -> None:
        raise bench["gate"].GateError("mlp: sigma_max differs")

    results = tmp_path / "gradflow.json"
    monkeypatch.setattr(bench["gate"], "check_all", stop)
    monkeypatch.setattr(sys, "argv", ["gradflow.py", "--quick", "--only", "power", "--results", str(results)])
    assert bench["script"].main() == 1
    assert not results.exists()
