"""The segmentation benchmark's own helpers: a gate that lets errors through is worse than none."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def bench() -> dict[str, ModuleType]:
    found = {
        name: importlib.import_module(f"segmentation_bench.{name}")
        for name in ("contestants", "gate", "page", "races", "worker")
    }
    return {**found, "script": importlib.import_module("segmentation")}


def test_the_gate_passes_what_agrees(bench: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench["gate"], "BATCHES", 2)
    found = bench["gate"].check_all(32)
    assert found["largest"] <= found["allowed"]
    assert {"logits, prepared", "gradients, ours", "logits, MONAI, five levels"} < set(found["rows"])


def test_the_gate_stops_what_differs(bench: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    gate = bench["gate"]
    monkeypatch.setattr(gate, "BATCHES", 1)
    convolution = importlib.import_module("layerlab.segmentation.kernels.convolution")
    right = convolution.weight_gradient

    def slightly_more(x: Tensor, gradient: Tensor) -> Tensor:
        return right(x, gradient) * 1.01

    with monkeypatch.context() as patched:
        patched.setattr(convolution, "weight_gradient", slightly_more)
        with pytest.raises(gate.GateError, match="the convolution's kernel"):
            gate.check_all(32)
    fast = gate.prepared
    monkeypatch.setattr(gate, "prepared", lambda net: lambda x: fast(net)(x) + 1e-2)
    with pytest.raises(gate.GateError, match="logits, prepared: differs"):
        gate.check_all(32)


def test_work_counts_convolutions(bench: dict[str, ModuleType]) -> None:
    conv = torch.nn.Conv2d(3, 4, 3, padding=1)
    x = torch.rand(2, 3, 8, 8)
    predicted = bench["races"].work(conv, x, training=False)
    assert predicted == {"operations": 2 * 3 * 4 * 9 * 64, "bytes": 4 * (3 + 4) * 64}
    # The gradient of the weight costs as much again; of the images none is taken.
    trained = bench["races"].work(conv, x, training=True)
    assert trained == {"operations": 2 * predicted["operations"], "bytes": 3 * predicted["bytes"]}


def test_the_large_image_is_predicted_whole(bench: dict[str, ModuleType]) -> None:
    worker = bench["worker"]
    torch.manual_seed(0)
    model = torch.nn.Conv2d(3, 5, 1)
    pixels = worker.pixels_of(50)
    mask = worker.mask_of(model, pixels, worker.Tiling(32))
    with torch.no_grad():
        expected = model(torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255).argmax(1)[0]
    assert (mask == expected.numpy()).all()
    assert len(set(mask.ravel().tolist())) > 1


def test_the_page_tells_what_was_measured(bench: dict[str, ModuleType], tmp_path: Path) -> None:
    around = {
        "environment": {"cpu": "x", "cores": 2, "threads": 2, "python": "3", "torch": "2", "layerlab": "0"},
        "load_before": 0.1,
    }
    races = bench["races"]
    size = {"images": 2, "side": 16}
    parts: dict[str, Any] = {
        "gate": {"allowed": 1e-4, "kinked": 1e-3, "batches": 4, "rows": {"ours": 1e-6}},
        "training": {**size, **races.training((4, 8), 2, 16, 2)},
        "prediction": {**size, **races.prediction((4, 8), 2, 16, 2)},
        "large": {
            "side": 10_000,
            "tile": 256,
            "classes": 11,
            "seconds": 9.0,
            "image_bytes": 1,
            "peak_bytes": 3_100_000_000,
            "above_idle_bytes": 1,
        },
    }
    assert set(parts["training"]["rows"]) == {races.PLAIN, races.ALONE, races.OURS, races.KEEPING}
    for name, goal in (("training", 1.31), ("prediction", 1.49)):
        for row in parts[name]["rows"].values():
            row["times"] = {"ratio": goal, "low": goal, "high": goal}
    stored = json.loads(
        json.dumps({"quick": True, "parts": {name: {**around, **part} for name, part in parts.items()}})
    )
    bench["page"].write(stored, tmp_path)
    page = (tmp_path / "benchmarks-segmentation.md").read_text(encoding="utf-8")
    assert "smoke run" in page
    assert "1.31 [1.31, 1.31] | yes" in page
    assert "1.49 [1.49, 1.49] | **no**" in page
    assert "3.10 GB | **no**" in page
    assert set(parts) < set(bench["script"].PARTS)
