"""Attention's bounds against dense Jacobians: fused and not, with masks, shared heads, at any cost."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (what everyone calls it)
from torch import Tensor

from layerlab.gradflow.bounds import attention as rules_attention
from layerlab.gradflow.bounds.attention import attention_gain
from layerlab.gradflow.bounds.combination import Bound, bound
from layerlab.gradflow.bounds.gains import gain
from layerlab.gradflow.evaluation import Call
from layerlab.gradflow.flow import record
from layerlab.graph.attention import attend
from layerlab.graph.structure import Graph


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def jacobian_norm(function: Any, x: Tensor) -> float:
    state = torch.get_rng_state()
    torch.default_generator.manual_seed(0)
    jacobian = torch.autograd.functional.jacobian(function, x)
    torch.set_rng_state(state)
    return float(torch.linalg.matrix_norm(jacobian.reshape(-1, x.numel()), 2))


def bound_of(function: Any, x: Tensor) -> Bound:
    flow = record(Call.of(function, x, None, None, 0), gain)
    assert all(o.note.scope != "unknown" for o in flow.operations)
    return bound(flow.operations, flow.source, stop=flow.sink)


MASK = torch.tensor([[True, False, True, True, False]] * 4)
SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "scaled": {"scale": 2.0},
    "causal": {"is_causal": True},
    "boolean mask": {"attn_mask": MASK},
    "added mask": {"attn_mask": draw(2, 1, 4, 5, seed=9)},
    "nothing to look at": {"attn_mask": torch.cat([MASK[:3], torch.zeros(1, 5, dtype=torch.bool)])},
}


@pytest.mark.parametrize("cost", ["exact", "frobenius", "traces"])
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("size", [0.3, 1.0, 3.0])
def test_no_jacobian_exceeds_its_bound(
    settings: dict[str, Any], size: float, cost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if cost != "exact":
        monkeypatch.setattr(rules_attention, "_EXACT", 0.0)
    if cost == "traces":
        monkeypatch.setattr(rules_attention, "_FROBENIUS", 0.0)
    q, k, v = (size * draw(2, 2, n, 3, seed=seed) + seed for seed, n in enumerate((4, 5, 5)))
    for function, x in (
        (lambda q: F.scaled_dot_product_attention(q, k, v, **settings), q),
        (lambda k: F.scaled_dot_product_attention(q, k, v, **settings), k),
        (lambda v: F.scaled_dot_product_attention(q, k, v, **settings), v),
        (lambda k: F.scaled_dot_product_attention(q, k, 2 * k, **settings), k),
    ):
        found = bound_of(function, x)
        assert found.scope == "these inputs"
        assert jacobian_norm(function, x) <= found.value * (1 + 1e-9)


def test_of_queries_and_values_it_is_exact() -> None:
    q, k, v = (draw(1, 2, n, 3, seed=seed) for seed, n in enumerate((4, 5, 5)))
    for function, x in (
        (lambda q: F.scaled_dot_product_attention(q, k, v), q),
        (lambda v: F.scaled_dot_product_attention(q, k, v), v),
    ):
        assert bound_of(function, x).value == pytest.approx(jacobian_norm(function, x), rel=1e-9)


def test_a_mask_made_from_the_input() -> None:
    q, k, v = (draw(2, 2, 4, 3, seed=seed) for seed in range(3))

    def function(mask: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)

    for mask in (draw(4, 4), draw(2, 1, 4, 4)):
        assert jacobian_norm(function, mask) <= bound_of(function, mask).value * (1 + 1e-9)


def test_heads_that_share_keys() -> None:
    q, k = draw(1, 4, 4, 3), draw(1, 2, 5, 3, seed=1)

    def function(k: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, torch.sin(k), enable_gqa=True)

    assert jacobian_norm(function, k) <= bound_of(function, k).value * (1 + 1e-9)


def test_dropout_in_attention() -> None:
    def function(x: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(x, x, x, dropout_p=0.5)

    x = draw(1, 2, 4, 3)
    assert jacobian_norm(function, x) <= bound_of(function, x).value * (1 + 1e-9)


def test_it_grows_with_the_inputs() -> None:
    """Not globally Lipschitz: one query between two keys far apart; the slope is that of a softmax times their size."""
    for size in (1.0, 10.0, 100.0):
        key = torch.tensor([[size], [-size]]).double()
        found = attention_gain(torch.zeros(1, 1), key, key, 1.0)
        assert found.query == pytest.approx(size**2)


def test_the_three_costs_agree_on_one_dimension(monkeypatch: pytest.MonkeyPatch) -> None:
    """With d = e = 1 and k = v a covariance is a variance: all three are exact but for the guard against rounding."""
    q, k = draw(4, 1), draw(5, 1, seed=1)
    exact = attention_gain(q, k, k, 1.0)
    monkeypatch.setattr(rules_attention, "_EXACT", 0.0)
    frobenius = attention_gain(q, k, k, 1.0)
    monkeypatch.setattr(rules_attention, "_FROBENIUS", 0.0)
    traces = attention_gain(q, k, k, 1.0)
    for name in ("query", "key", "value", "score"):
        values = [getattr(found, name) for found in (exact, frobenius, traces)]
        assert values == pytest.approx([values[0]] * 3, rel=1e-6)


@pytest.mark.parametrize("p", [0.0, 0.5])
@pytest.mark.parametrize("slope", [0.2, -1.5])
@pytest.mark.parametrize("size", [0.5, 3.0])
def test_attention_on_a_graph(p: float, slope: float, size: float) -> None:
    graph = Graph.from_edges([0, 1, 2, 3, 4, 0], [1, 2, 3, 4, 5, 3])
    pattern = graph.normalized_adjacency(dtype=torch.float64).pattern
    target, source = draw(2, 3, seed=1), draw(2, 3, seed=2)

    def function(z: Tensor) -> Tensor:
        return attend(
            pattern,
            z,
            target,
            source,
            draw(6, seed=3),
            heads=2,
            negative_slope=slope,
            p=p,
            training=True,
        )

    for seed in range(3):
        z = size * draw(6, 6, seed=10 + seed)
        found = bound_of(function, z)
        assert found.scope == "these inputs"
        assert jacobian_norm(function, z) <= found.value * (1 + 1e-9)
        assert math.isfinite(found.value)


def test_cheaper_bounds_are_weaker_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(5):
        q, k, v = (draw(n, 3, seed=3 * seed + i) for i, n in enumerate((4, 6, 6)))
        found = [attention_gain(q, k, v, 1.0).query]
        with monkeypatch.context() as patch:
            patch.setattr(rules_attention, "_EXACT", 0.0)
            found.append(attention_gain(q, k, v, 1.0).query)
            patch.setattr(rules_attention, "_FROBENIUS", 0.0)
            found.append(attention_gain(q, k, v, 1.0).query)
        assert found == sorted(found)
        assert found[1] <= 3**0.5 * found[0] * (1 + 1e-6)


def test_one_key_taken_alone_leaves_nothing_but_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules_attention, "_EXACT", 0.0)
    q, k = 1e6 * draw(4, 3), draw(5, 3, seed=1)
    found = attention_gain(q, k, k, 1.0)
    assert 0 < found.query < 1e-4
