"""The estimator benchmark's own helpers: functions that are what they say, rivals that pay, a gate that stops."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def bench() -> dict[str, ModuleType]:
    names = ("functions", "gate", "ours", "overhead", "page", "races", "rivals")
    return {name: importlib.import_module(f"estimators_bench.{name}") for name in names}


def sample(problem: Any, n: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    if problem.kind == "gaussian":
        return torch.randn(n, problem.size, generator=generator, dtype=torch.float64)
    drawn = torch.randint(0, problem.values, (n, problem.size), generator=generator)
    return drawn if problem.kind == "categories" else drawn.double()


def test_every_function_is_the_same_each_time_it_is_made(bench: dict[str, ModuleType]) -> None:
    problems = bench["functions"].PROBLEMS
    assert len({p.name for p in problems}) == 10
    for problem in problems:
        x = sample(problem, 7)
        values = problem.make()(x)
        assert values.shape == (7,) and values.dtype == torch.float64
        assert torch.equal(values, problem.make()(x))
        # A batch is its rows.
        assert torch.allclose(values[3:4], problem.make()(x[3:4]))


def test_known_optima(bench: dict[str, ModuleType]) -> None:
    f = bench["functions"]
    ones = torch.ones(1, 32, dtype=torch.float64)
    assert f.onemax()(ones).item() == f.leading_ones()(ones).item() == f.trap()(ones).item() == 32
    assert f.trap()(torch.zeros(1, 32)).item() == 24  # where the slope leads
    assert f.rosenbrock()(torch.ones(1, 10)).item() == 0
    almost = torch.ones(1, 32, dtype=torch.float64)
    almost[0, 5] = 0
    assert f.leading_ones()(almost).item() == 5


def test_cuts_clauses_and_colours_by_hand(bench: dict[str, ModuleType]) -> None:
    f = bench["functions"]
    x = sample(f.PROBLEMS[3], 1)
    cut = f.max_cut()
    # Complementing all nodes leaves every cut; all nodes on one side cut nothing.
    assert cut(x).item() == pytest.approx(cut(1 - x).item()) and cut(torch.zeros(1, 40)).item() == 0
    assert f.colouring()(torch.zeros(1, 40, dtype=torch.int64)).item() < -100
    shuffled = torch.tensor([2, 0, 3, 1])[sample(f.PROBLEMS[7], 1)]
    assert f.colouring()(shuffled).item() == f.colouring()(sample(f.PROBLEMS[7], 1)).item()
    # A random assignment satisfies seven of eight clauses on average.
    values = f.max_sat()(sample(f.PROBLEMS[4], 2000))
    assert values.mean().item() == pytest.approx(215 * 7 / 8, abs=1)


def test_no_rival_spends_more_or_less_than_its_budget(bench: dict[str, ModuleType]) -> None:
    rivals = bench["rivals"]
    for problem in (bench["functions"].PROBLEMS[0], bench["functions"].PROBLEMS[8]):
        small = replace(problem, budget=150)
        for name in ("random search", "simulated annealing"):
            curve = rivals.spend(name, small, seed=3)
            assert len(curve) == 150 and curve == sorted(curve)
            assert curve == rivals.spend(name, small, seed=3)


def test_what_is_counted_is_what_was_evaluated(bench: dict[str, ModuleType]) -> None:
    seen = 0

    def f(x: torch.Tensor) -> torch.Tensor:
        nonlocal seen
        seen += len(x)
        return x.sum(1)

    counted = bench["rivals"].Counted(f, 10)
    counted(torch.ones(8, 3))
    with pytest.raises(bench["rivals"].SpentError):
        counted(torch.ones(8, 3))
    assert seen == len(counted.curve) == 10


@pytest.mark.parametrize("name", ["layerlab", "plain REINFORCE"])
def test_our_curve_has_the_evaluations_that_were_made(bench: dict[str, ModuleType], name: str) -> None:
    problem = replace(bench["functions"].PROBLEMS[0], budget=200)
    curve = bench["ours"].run(problem, name, 1)
    assert 0 < len(curve) <= 200 and curve == sorted(curve)


def test_the_gate_knows_closed_forms_and_bias(bench: dict[str, ModuleType]) -> None:
    found = bench["gate"].check_all(400)
    assert found["largest"] < 1e-10
    assert {name for name, row in found["bias"].items() if row["biased"]} == {
        "straight-through",
        "gumbel-softmax",
    }


def test_the_gate_stops_a_wrong_closed_form(
    bench: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = bench["gate"]
    stated = gate.variance.one_bit
    monkeypatch.setattr(
        gate.variance, "one_bit", lambda *a: {k: v * (1 + 1e-9) for k, v in stated(*a).items()}
    )
    with pytest.raises(gate.GateError, match="differ from closed forms"):
        gate.check_all(100)


def test_the_overhead_covers_every_family(bench: dict[str, ModuleType]) -> None:
    overhead = bench["overhead"]
    rows = overhead.measure(3)
    assert {row["family"] for row in rows} == set(overhead.families())
    assert all(row["floor_seconds"] > 0 and row["operations"] > 5 for row in rows)


def stored(races: ModuleType, rows: list[dict[str, Any]]) -> dict[str, Any]:
    around = {
        "environment": {"cpu": "c", "cores": 2, "threads": 2, "python": "3", "torch": "2", "layerlab": "0"},
        "load_before": 0.1,
    }
    return {
        "quick": False,
        "parts": {
            "optimise": {**around, **races.stored(rows)},
            "policy": {
                **around,
                "rows": [
                    {"seed": 1, "mean_return": 470.0, "seconds": 5.0, "steps": 900, "solved": False},
                    {"seed": 2, "mean_return": 500.0, "seconds": 7.0, "steps": 900, "solved": True},
                ],
            },
        },
    }


def test_the_page_tells_who_is_better(bench: dict[str, ModuleType]) -> None:
    def row(problem: Any, optimiser: str, seed: int, best: float) -> dict[str, Any]:
        return {
            "problem": problem.name,
            "optimiser": optimiser,
            "seed": seed,
            "best": best,
            "evaluations": problem.budget,
            "curve": [0.0, best],
        }

    problems = bench["functions"].PROBLEMS
    rows = [
        row(p, name, seed, (5.0 if name == "layerlab" else 5.0 + worse) + 0.1 * seed * (name == "layerlab"))
        for p, worse in zip(problems, [-1, 1, *[0] * 8], strict=True)
        for name in ("layerlab", "plain REINFORCE")
        for seed in range(4)
    ]
    page = bench["page"].render(stored(bench["races"], rows))
    lines = {line.split(",")[0].strip("| "): line for line in page.splitlines() if ", 5,000 |" in line}
    assert lines["OneMax"].rstrip(" |").endswith("+") and lines["LeadingOnes"].rstrip(" |").endswith("−")
    assert "| 9 of 10 | **no** |" in page and "| 1 of 2 | **no** |" in page
    curves = stored(bench["races"], rows)["parts"]["optimise"]["curves"]
    assert curves["OneMax"]["plain REINFORCE"] == [0.0, 4.0] and "<svg" in bench["page"]._figure(rows, curves)
