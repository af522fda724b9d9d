"""Counts are those of the formulas, and the exponent is told from its neighbours."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from random_heads import measured

from layerlab.attention.ops import projected_attention
from layerlab.attention.theorems import LINEAR_COST, LOW_RANK_COST, PROJECTION_COST, SOFTMAX_COST
from layerlab.attention.theorems.costs import Cost
from layerlab.attention.theorems.counting import count, growth
from layerlab.claims import Claim

SIZES = [2**j for j in range(6, 13)]


@pytest.mark.parametrize(
    ("polynomial", "degree", "exponent"),
    [
        (lambda n: 7 * n + 900, 1, 1.0),
        (lambda n: 3 * n * n + 5 * n + 10**6, 2, 2.0),
        (lambda n: 2 * n**3 + n, 3, 3.0),
        (lambda n: n * n.bit_length(), 1, 1.1),
        (lambda n: n * n, 1, 2.0),
        (lambda n: 5 * n + 3, 2, -float("inf")),
        (lambda n: 1000, 1, -float("inf")),
        (lambda n: 1000 + (n == 128), 1, -float("inf")),
        (lambda n: n // 64, 1, 1.0),
    ],
)
def test_lower_terms_do_not_move_the_exponent(polynomial: Any, degree: int, exponent: float) -> None:
    found = growth(SIZES, [polynomial(n) for n in SIZES], degree).exponent
    assert found == pytest.approx(exponent, abs=0.1 if exponent == 1.1 else 1e-12)


def test_the_interval_of_the_fitted_slope_is_that_of_least_squares() -> None:
    counts = [3 * n * n + 500 * n for n in SIZES]
    found = growth(SIZES, counts, 2)
    x, y = torch.tensor(SIZES).double().log2(), torch.tensor(counts).double().log2()
    design = torch.stack([x, torch.ones_like(x)], 1)
    solved = torch.linalg.lstsq(design, y[:, None]).solution
    assert found.fitted == pytest.approx(float(solved[0]), rel=1e-12)
    residual = y - (design @ solved)[:, 0]
    deviation = float((residual @ residual / 5 / ((x - x.mean()) @ (x - x.mean()))).sqrt())
    # Student's t with 5 degrees of freedom: P(|t| > 28.477) = 1e-6.
    assert found.high - found.fitted == pytest.approx(28.477 * deviation, rel=1e-3)
    assert found.fitted - found.low == pytest.approx(found.high - found.fitted)


def test_operations_are_those_of_the_formulas() -> None:
    n, d, e, k = 96, 5, 7, 3
    q, v, f = torch.empty(n, d), torch.empty(n, e), torch.empty(n, k)
    assert count("operations", lambda: (q @ q.T).softmax(-1) @ v) == 2 * n * n * (d + e)
    assert count("operations", lambda: (f @ (f.T @ v)) / (f @ f.sum(0)[:, None])) == 4 * n * k * e + 2 * n * k


def test_bytes_are_the_peak_and_not_the_sum() -> None:
    x = torch.empty(1000)

    def run() -> torch.Tensor:
        y = x + 1
        y = y + 1
        return y[:10].view(5, 2)

    # Two of the three results are alive at once; a view is no memory.
    assert count("bytes", run) == 8000
    assert count("bytes", lambda: x.view(10, 100)) == 0
    assert count("bytes", lambda: x.add_(1)) == 0
    assert count("bytes", run) == 8000


def test_what_is_named_in_a_call_is_taken_as_named() -> None:
    x, y = torch.ones(1000), torch.empty(1000)
    assert count("bytes", lambda: x.sum(0, dtype=torch.float64)) == 8
    assert count("bytes", lambda: torch.add(x, 1, out=y)) == 0


def test_counting_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    x = torch.ones(3, 3)
    count("operations", lambda: x @ x)
    assert capsys.readouterr().out == ""


def test_counting_leaves_nothing_behind() -> None:
    x = torch.ones(3, requires_grad=True)
    count("bytes", lambda: x * 2)
    assert torch.is_grad_enabled()
    assert (x * 2).requires_grad


@pytest.mark.parametrize(
    ("n", "k", "d", "e"), [(256, 4, 128, 128), (256, 16, 16, 16), (9, 5, 64, 3), (64, 1, 1, 9)]
)
def test_the_shipped_projection_takes_no_more_than_the_claim_says(n: int, k: int, d: int, e: int) -> None:
    q, keys, v, c = (
        torch.zeros(1, 1, n, d),
        torch.zeros(1, 1, n, d),
        torch.zeros(1, 1, n, e),
        torch.zeros(k, n),
    )
    taken = count("operations", lambda: projected_attention(q, keys, v, c, c))
    assert taken <= 4 * n * k * (d + e)


@pytest.mark.parametrize(
    "claim", [LINEAR_COST, SOFTMAX_COST, LOW_RANK_COST, PROJECTION_COST], ids=lambda c: c.id
)
def test_what_cannot_be_counted_has_its_reason(claim: Claim) -> None:
    assert "no size z" in str(measured(claim, Cost("operations", "z")).unmet)
    assert "too few" in str(measured(claim, Cost("operations", "n", doublings=3)).unmet)
    nothing = measured(claim, Cost("operations", "n"), run=lambda **sizes: lambda: None)
    assert nothing.unmet == "no operations were counted"
    matrix = torch.empty(9, 9, device="meta")
    once = measured(
        claim, Cost("operations", "n"), run=lambda n, **sizes: lambda: n > 1024 and matrix @ matrix
    )
    assert once.unmet == "no operations were counted"


def test_a_cost_just_above_its_exponent_is_seen() -> None:
    def run(n: int, **sizes: int) -> Any:
        # n^1 and a thousandth of n^2.
        rows = torch.empty(n, 1000, device="meta")
        few = torch.empty(n, max(n // 1000, 1), device="meta")
        return lambda: (rows.T @ rows[:, :1], few @ few[:1].T)

    assert measured(LINEAR_COST, Cost("operations", "n"), run=run).verdict == "violated"
    fitted = measured(LINEAR_COST, Cost("bytes", "n")).slack_reason
    assert "99.9999 % interval" in fitted
    assert "bytes at n = 1,024" in fitted
    assert "at 65,536" in fitted


def test_a_cost_with_lower_terms_keeps_its_exponent() -> None:
    def run(n: int, **sizes: int) -> Any:
        rows = torch.empty(n, 3, device="meta")
        return lambda: (rows @ rows.T, rows.T @ rows)

    assert measured(SOFTMAX_COST, Cost("operations", "n"), run=run).verdict == "holds"
