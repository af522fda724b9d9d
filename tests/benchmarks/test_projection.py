"""The projection benchmark's own helpers: a gate that lets errors through is worse than none."""

from __future__ import annotations

import dataclasses
import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from layerlab.projection.certificate import certify
from layerlab.projection.pairs import Histogram

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def bench() -> dict[str, ModuleType]:
    found = {
        name: importlib.import_module(f"projection_bench.{name}")
        for name in ("draws", "gate", "lines", "page", "races", "worker")
    }
    return {**found, "script": importlib.import_module("projection")}


def test_the_gate_passes_what_agrees(bench: dict[str, ModuleType]) -> None:
    found = bench["gate"].check_all(200)
    assert set(found["rows"]) == {"signs", "real", "complex", "kerdock"}
    assert found["largest"] <= 1e-13


def test_the_gate_stops_what_differs(bench: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    gate = bench["gate"]

    def slightly_less(vectors: torch.Tensor) -> Any:
        found = certify(vectors)
        first = dataclasses.replace(found.nearest[0], cosine=found.nearest[0].cosine * (1 - 1e-9))
        return dataclasses.replace(found, nearest=(first, *found.nearest[1:]))

    monkeypatch.setattr(gate, "certify", slightly_less)
    with pytest.raises(gate.GateError, match="differs from the reference"):
        gate.check_all(200)

    def other_pairs(vectors: torch.Tensor) -> Any:
        found = certify(vectors)
        moved = dataclasses.replace(found.nearest[0], first=0, second=1)
        return dataclasses.replace(found, nearest=(moved, *found.nearest[1:]))

    monkeypatch.setattr(gate, "certify", other_pairs)
    with pytest.raises(gate.GateError, match="differs from the reference"):
        gate.check_all(200)

    def other_counts(vectors: torch.Tensor) -> Any:
        found = certify(vectors)
        counts = np.roll(found.histogram.counts, 1)
        return dataclasses.replace(found, histogram=Histogram(found.histogram.edges, counts))

    monkeypatch.setattr(gate, "certify", other_counts)
    with pytest.raises(gate.GateError, match="histogram"):
        gate.check_all(200)


def test_the_reference_knows_a_cube(bench: dict[str, ModuleType]) -> None:
    cosines = bench["gate"].reference(torch.tensor([[1, 1, 1], [1, 1, -1], [-5, 5, 5]]))
    assert np.abs(cosines - np.array([[3, 1, 1], [1, 3, -1], [1, -1, 3]]) / 3).max() < 1e-15


def test_shares_count_the_operations_of_the_half(
    bench: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    races = bench["races"]
    seconds = {
        races.SIGNS: [0.5],
        races.REAL: [4.0],
        races.PLAIN: [3.0],
        races.WHOLE: [8.0],
        races.PRODUCTS: [2.0],
        races.SQUARE: [1.0],
    }
    monkeypatch.setattr(races.timing, "in_turn", lambda steps, rounds: {"seconds": seconds})
    found = races.certify(700, 16, 1)
    surplus = found["block_operations"] / found["half_operations"]
    # 700 vectors: two squares of 350 and a block of 350 x 350 beside them
    assert found["block_operations"] == 2 * 16 * 3 * 350**2
    assert found["half_operations"] == 700 * 699 * 16
    assert found["rows"][races.REAL]["share"]["ratio"] == pytest.approx(0.5 / surplus)
    assert found["rows"][races.SIGNS]["share"]["ratio"] == pytest.approx(4 / surplus)
    assert found["block_rate"] == pytest.approx(found["block_operations"] / 2)
    square = 2 * 700**2 * 16
    assert found["rows"][races.REAL]["share_of_square"]["ratio"] == pytest.approx(
        found["half_operations"] / 4 / (square / 1)
    )


def test_whole_product(bench: dict[str, ModuleType]) -> None:
    vectors = torch.randn(50, 7, generator=torch.Generator().manual_seed(0))
    assert bench["races"].whole(vectors) == pytest.approx(certify(vectors).coherence, abs=1e-6)


def test_worker_and_page(bench: dict[str, ModuleType], tmp_path: Path) -> None:
    around = {
        "environment": {"cpu": "x", "cores": 2, "threads": 2, "python": "3", "torch": "2", "layerlab": "0"},
        "load_before": 0.1,
    }
    parts = {
        "gate": {"largest": 0.0, "rows": {"signs": 0.0}},
        "certify": bench["races"].certify(300, 16, 2),
        "ways": bench["races"].ways(64, 64, 2),
        "kerdock": bench["worker"].kerdock(16, 1_000, torch.get_num_threads()),
        "frames": {"rows": bench["lines"].found(1)},
        "draws": {"costs": bench["draws"].costs((2_048,), 4, 1), **bench["draws"].rates(20, 12, 256, 0.5)},
    }
    assert parts["kerdock"]["lines"] == 144
    assert parts["kerdock"]["file_bytes"] == {"int8": 128 + 144 * 16, "float32": 128 + 4 * 144 * 16}
    assert parts["kerdock"]["cosines"].keys() == {"-0.25", "0", "0.25"}
    stored = json.loads(
        json.dumps({"quick": True, "parts": {name: {**around, **part} for name, part in parts.items()}})
    )
    bench["page"].write(stored, tmp_path)
    page = (tmp_path / "benchmarks-projection.md").read_text(encoding="utf-8")
    assert "smoke run" in page
    assert "144 lines at 0.25 | yes" in page
    assert "10^9 pairs measured | 1.0" in page
    assert page.count("**no**") >= 1
    assert "packed bits" in page
    # One start each finds most of them, and none is below what is published.
    above = [row["above"] for row in parts["frames"]["rows"]]
    assert len(above) == 10 and min(above) > -1e-6 and sorted(above)[5] < 0.05
    assert "| 28 lines of R^7 | 0.33333333 |" in page
    # Ten statements; of Li's sparse map nothing is stated.
    assert "| 8 of 8 | yes |" in page and "sparse, density 0.0625" in page
    assert set(bench["script"].PARTS) == set(parts)
