"""The attention benchmark's own helpers: a gate that lets errors through is worse than none."""

from __future__ import annotations

import doctest
import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

ROOT = Path(__file__).parents[2]
NAMES = ("contestants", "figures", "floors", "gate", "goals", "growth", "page", "races", "worker")


@pytest.fixture(scope="module")
def bench() -> dict[str, ModuleType]:
    found = {name: importlib.import_module(f"attention_bench.{name}") for name in NAMES}
    return {
        **found,
        "command": importlib.import_module("bench_common.command"),
        "script": importlib.import_module("attention"),
    }


@pytest.mark.parametrize("name", ["floors", "growth", "races"])
def test_examples_in_the_docstrings(bench: dict[str, ModuleType], name: str) -> None:
    found = doctest.testmod(bench[name])
    assert found.attempted
    assert found.failed == 0


@pytest.mark.parametrize("mode", ["bidirectional", "causal"])
@pytest.mark.parametrize("n", [1, 63, 64, 65, 300])
def test_the_plain_form_is_linear_attention(bench: dict[str, ModuleType], mode: str, n: int) -> None:
    contestants = bench["contestants"]
    parts = [x.double() for x in contestants.inputs(n, heads=2)]
    found = contestants.of_mode(mode)[contestants.PLAIN](*parts)
    torch.testing.assert_close(found, bench["gate"].twin(*parts, mode), rtol=1e-11, atol=1e-13)


def test_a_cache_gives_the_softmax_over_all_tokens(bench: dict[str, ModuleType]) -> None:
    contestants = bench["contestants"]
    q, k, v = contestants.inputs(50)
    cache = contestants.Cache(k[:, :, :-1], v[:, :, :-1])
    expected = torch.softmax(q[:, :, -1:] @ k.mT / 8, -1) @ v
    for attend in (cache.fused, cache.matmul):
        cache.k[:, :, -1] = 0.0
        torch.testing.assert_close(attend(*(x[:, :, -1:] for x in (q, k, v))), expected, rtol=1e-4, atol=1e-6)
    assert cache.bytes == 2 * 50 * 8 * 64 * 4


def test_the_gate_passes_what_agrees(bench: dict[str, ModuleType]) -> None:
    found = bench["gate"].check_all(True, 200, 150)
    assert found["largest"] <= 5e-6
    assert max(row["float64"] for row in found["rows"].values() if "float64" in row) <= 1e-13
    assert {"causal, n = 63", "bidirectional, 34 rows of n = 200", "a token after 150"} <= set(found["rows"])


def louder(q: Tensor, k: Tensor, v: Tensor, right: Any) -> Tensor:
    return right(q, k, v) * (1 + 1e-4)


def looking_ahead(q: Tensor, k: Tensor, v: Tensor, right: Any) -> Tensor:
    return torch.cat([right(q, k, v)[:, :, 1:], right(q, k, v)[:, :, :1]], 2)


def forgetful(q: Tensor, k: Tensor, v: Tensor, right: Any) -> Tensor:
    return right(q, k.detach(), v) + 0 * k.sum()


@pytest.mark.parametrize("mode", ["bidirectional", "causal"])
@pytest.mark.parametrize("wrong", [louder, looking_ahead, forgetful])
def test_the_gate_stops_what_differs(
    bench: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch, mode: str, wrong: Any
) -> None:
    contestants = bench["contestants"]
    honest = contestants.of_mode

    def of_mode(asked: str) -> dict[str, Any]:
        made = honest(asked)
        if asked == mode:
            right = made[contestants.OURS]
            made[contestants.OURS] = lambda q, k, v: wrong(q, k, v, right)
        return made

    monkeypatch.setattr(contestants, "of_mode", of_mode)
    with pytest.raises(bench["command"].GateError, match=f"{mode}.* differs by"):
        bench["gate"].check_all(True, 200, 150)


def test_the_gate_stops_a_state_that_forgets(
    bench: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    contestants = bench["contestants"]
    honest = contestants.state_after
    monkeypatch.setattr(contestants, "state_after", lambda k, v: honest(k[:, :, 1:], v[:, :, 1:]))
    with pytest.raises(bench["command"].GateError, match="a token after 150"):
        bench["gate"].check_all(True, 200, 150)


def test_the_crossover_is_where_ours_is_faster_from_then_on(bench: dict[str, ModuleType]) -> None:
    crossover = bench["races"].crossover
    lengths = [16, 32, 64, 128]
    assert crossover(lengths, [1, 1, 1, 1], [2, 2, 2, 2]) == {"length": 16.0}
    # Faster once before it is for good: not there.
    found = crossover(lengths, [1, 1, 1, 1], [2, 0.5, 2, 4])["length"]
    assert found == pytest.approx(2**5.5)
    assert crossover(lengths, [1, 1, 1, 1], [2, 2, 2, 0.9]) == {"length": None}


def test_workers_tell_time_and_memory(bench: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    growth = bench["growth"]
    trained = growth.ask(
        growth.WORKER,
        {"task": "training", "mode": "causal", "runner": "layerlab", "n": 8192, "threads": 1},
    )
    assert trained["array_bytes"] == 8192 * 8 * 64 * 4
    # The result and three gradients, at the least.
    assert trained["above_idle_bytes"] >= 3.9 * trained["array_bytes"]
    request = {"task": "causal", "n": 32_768, "piece": 4096, "runs": 1, "threads": 1}
    whole, pieces = (growth.ask(growth.WORKER, {**request, "form": form}) for form in ("whole", "pieces"))
    assert whole["last"] == pytest.approx(pieces["last"], rel=1e-3)
    assert len(pieces["seconds"]) == 1
    # Of q, k, v and the result the whole holds 268 MB, the pieces an eighth.
    assert whole["peak_bytes"] - pieces["peak_bytes"] > 150e6


def asked(sizes_off: float = 1.0) -> Any:
    """A worker whose times and memory are 1 ms + 1 µs a token and 1 kB a token; the longest takes longer."""

    def ask(worker: str, request: dict[str, Any]) -> dict[str, Any]:
        n = request["n"]
        seconds = (1e-3 + 1e-6 * n) * (sizes_off if n == 1 << 20 else 1.0)
        sizes = {
            "above_idle_bytes": 1000 * n,
            "idle_bytes": 2e8,
            "peak_bytes": 2e8 + 1000 * n,
            "array_bytes": 1000,
        }
        return {"n": n, "form": request.get("form"), "seconds": [seconds], "median_seconds": seconds, **sizes}

    return ask


def test_growth_is_fitted_and_the_longest_held_against_it(
    bench: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    growth, goals = bench["growth"], bench["goals"]
    monkeypatch.setattr(growth, "ask", asked(1.2))
    monkeypatch.setattr(growth, "_available", lambda: 1 << 50)
    told: list[str] = []
    part = growth.long([1 << 17, 1 << 18, 1 << 19], 1 << 20, 2, told.append)
    assert part["forms"]["whole"]["off_the_line"] == pytest.approx(0.2)
    assert part["line"]["slope"] == pytest.approx(1e-6)
    table = goals.table({"long": part, "memory": growth.memory([8192, 16_384], 8192, 2, told.append)})
    assert table.count("on the line of shorter ones, to 15 % | +20.0 % | **no** |") == 2
    assert table.count("linear: n^1.05 at most | n^1.000 ± 0.000 | yes") == 2
    assert "whole, memory above q, k, v | under 4 GB | 1.05 GB | yes" in table
    monkeypatch.setattr(growth, "_available", lambda: 1 << 30)
    part = growth.long([1 << 17, 1 << 18], 1 << 20, 2, told.append)
    assert list(part["forms"]) == ["pieces"]
    assert "left out, it needs 11 GB of free memory" in told[-1]


def test_goals_are_held_against_the_faster_peer(bench: dict[str, ModuleType]) -> None:
    goals, names = bench["goals"], bench["contestants"]

    def row(seconds: float) -> dict[str, Any]:
        times = {"ratio": seconds / 1e-4, "low": 1.0, "high": 2.0}
        return {"median_seconds": seconds, "times_slower_than_ours": times}

    runners = {names.OURS: row(1e-4), names.SOFTMAX: row(0.02), names.MATMUL: row(0.009)}
    parts = {"decode": {"rows": [{"n": 65_536, "runners": runners}]}}
    ((label, times, goal),) = goals.ratios(parts)
    assert (label, goal) == ("one token after 65,536, against matrix products", 100.0)
    assert times["ratio"] == pytest.approx(90.0)
    runners[names.SOFTMAX] = row(0.008)
    ((label, times, _),) = goals.ratios(parts)
    assert (label, times["ratio"]) == ("one token after 65,536", pytest.approx(80.0))
    rows = {names.OURS: row(1e-4), names.SOFTMAX: row(3e-3), names.WHOLE_SOFTMAX: row(5e-3)}
    parts = {"forward": {"n": 9, "modes": dict.fromkeys(names.MODES, rows)}}
    found = {label: (times["ratio"], goal) for label, times, goal in goals.ratios(parts)}
    assert found["causal, forward, 9 tokens, against all keys"] == (pytest.approx(50.0), 40.0)
    assert found["causal, forward, 9 tokens, against causal"] == (pytest.approx(30.0), 40.0)


def test_a_smoke_run_writes_results_and_a_page(
    bench: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(bench["growth"], "ask", asked())
    monkeypatch.setattr(bench["growth"], "_available", lambda: 1 << 50)
    results = tmp_path / "attention.json"
    monkeypatch.setattr(sys, "argv", ["attention.py", "--quick", "--threads", "1", "--results", str(results)])
    threads = torch.get_num_threads()
    try:
        assert bench["script"].main() == 0
    finally:
        torch.set_num_threads(threads)
    page = (tmp_path / "benchmarks-attention.md").read_text(encoding="utf-8")
    titles = ("Goals", "Forward, n = 512", "Forward and backward, n = 256", "Floors", "From which length on")
    for title in (*titles, "One token", "Memory of a training step", "Very long sequences", "The gate"):
        assert f"## {title}\n" in page
    assert "smoke run" in page
    for name in ("lengths", "ratios"):
        assert f"images/benchmarks-attention-{name}.svg" in page
        assert (tmp_path / "images" / f"benchmarks-attention-{name}.svg").exists()


def test_nothing_is_timed_when_the_gate_stops(
    bench: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def stop(*args: Any) -> None:
        raise bench["command"].GateError("causal differs")

    results = tmp_path / "attention.json"
    monkeypatch.setattr(bench["gate"], "check_all", stop)
    monkeypatch.setattr(
        sys,
        "argv",
        ["attention.py", "--quick", "--only", "forward", "--threads", "1", "--results", str(results)],
    )
    assert bench["script"].main() == 1
    assert not results.exists()


def test_a_floor_is_at_the_best_rates_of_the_run(bench: dict[str, ModuleType]) -> None:
    def floor(operations: float, exponentials: float) -> dict[str, Any]:
        rates = {"operations_per_second": operations, "exponentials_per_second": exponentials}
        seconds = {
            "memory_seconds": 0.5,
            "arithmetic_seconds": 9.0,
            "exponential_seconds": 9.0,
            "seconds": 18.0,
        }
        return {"operations": 8, "exponentials": 6, **rates, **seconds}

    stored = {"a": {"rows": [{"floor": floor(4.0, 1.0)}]}, "b": {"floor": floor(2.0, 3.0)}}
    found = bench["floors"].at_best_rates(stored)
    for one in (found["a"]["rows"][0]["floor"], found["b"]["floor"]):
        assert (one["arithmetic_seconds"], one["exponential_seconds"], one["seconds"]) == (2.0, 2.0, 4.0)
    assert stored["b"]["floor"]["seconds"] == 18.0
