"""P^K x: both methods against each other and against known powers, what is refused, and what is cheaper."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from layerlab.errors import UserError
from layerlab.graph import powers
from layerlab.graph.powers import costs, power
from layerlab.graph.structure import Graph

METHODS = ("multiply", "spectral")
EPSILON = 2.0**-52


def random_graph(seed: int, nodes: int = 60, edges: int = 120, weighted: bool = False) -> Graph:
    """With isolated nodes, self-loops and several components, as they fall."""
    generator = np.random.default_rng(seed)
    source, target = generator.integers(0, nodes, (2, edges))
    weight = generator.uniform(0.01, 10.0, edges) if weighted else None
    return Graph.from_edges(source, target, num_nodes=nodes, weight=weight)


def ring(nodes: int) -> Graph:
    return Graph.from_edges(np.arange(nodes), (np.arange(nodes) + 1) % nodes)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("self_loops", [False, True])
@pytest.mark.parametrize("K", [0, 1, 2, 3, 10])
def test_power_is_the_dense_matrix_power(method: Any, self_loops: bool, K: int) -> None:
    graph = random_graph(1, weighted=True)
    x = np.random.default_rng(2).standard_normal((60, 4))
    dense = graph.normalized_adjacency(self_loops, dtype=torch.float64).to_dense().numpy()
    expected = np.linalg.matrix_power(dense, K) @ x
    found = power(graph, x, K, method, self_loops=self_loops)
    assert np.abs(found - expected).max() < (K + 4) * 60 * EPSILON * np.linalg.norm(x)


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.integers(0, 2**32), st.integers(0, 400), st.booleans(), st.booleans())
def test_both_methods_agree_within_rounding(seed: int, K: int, weighted: bool, self_loops: bool) -> None:
    graph = random_graph(seed, nodes=30, edges=seed % 60, weighted=weighted)
    x = np.random.default_rng(seed).standard_normal((30, 2))
    one, other = (power(graph, x, K, method, self_loops=self_loops) for method in METHODS)
    assert np.linalg.norm(one - other) <= 2 * (K + 4) * 30 * EPSILON * np.linalg.norm(x)


@pytest.mark.parametrize("K", [10**6, 10**6 + 1])
def test_a_huge_power_of_a_bipartite_graph_oscillates(K: int) -> None:
    graph = ring(6)
    x = np.array([1.0, 0, 0, 0, 0, 0])
    even = np.array([1, 0, 1, 0, 1, 0]) / 3
    expected = even if K % 2 == 0 else 1 / 3 - even
    # The eigenvalues ±1 may be off by n ε, their powers by K n ε.
    found = power(graph, x, K, self_loops=False)
    assert np.abs(found - expected).max() < K * 6 * EPSILON


def test_a_huge_power_of_a_disconnected_graph_is_the_limit_of_each_part() -> None:
    # A triangle, an edge (with loops: P = 1/2 everywhere) and an isolated node.
    graph = Graph.from_edges([0, 1, 2, 3], [1, 2, 0, 4], num_nodes=6)
    found = power(graph, np.eye(6), 10**6, "spectral")
    expected = np.zeros((6, 6))
    expected[:3, :3], expected[3:5, 3:5], expected[5, 5] = 1 / 3, 1 / 2, 1
    assert np.abs(found - expected).max() < 1e6 * 6 * EPSILON


@pytest.mark.parametrize("method", METHODS)
def test_power_zero_is_the_identity_to_the_last_bit_and_a_copy(method: Any) -> None:
    x = np.random.default_rng(0).standard_normal((60, 3))
    found = power(random_graph(3), x, 0, method)
    assert np.array_equal(found, x)
    assert not np.shares_memory(found, x)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(0,), (0, 3), (0, 0)])
def test_no_nodes(method: Any, shape: tuple[int, ...]) -> None:
    assert power(Graph.from_edges([], [], num_nodes=0), np.zeros(shape), 3, method).shape == shape


@pytest.mark.parametrize("method", METHODS)
def test_no_columns_and_no_edges(method: Any) -> None:
    assert power(ring(5), np.zeros((5, 0)), 3, method).shape == (5, 0)
    bare = Graph.from_edges([], [], num_nodes=2)
    assert power(bare, np.ones(2), 3, method).tolist() == [1.0, 1.0]
    assert power(bare, np.ones(2), 3, method, self_loops=False).tolist() == [0.0, 0.0]


def test_every_form_of_operator_and_features_gives_the_same() -> None:
    graph = random_graph(4)
    matrix = graph.normalized_adjacency(dtype=torch.float64)
    x = np.random.default_rng(5).standard_normal((60, 2))
    expected = power(graph, x, 5, "multiply")
    for form in (matrix, matrix.to_scipy(), matrix.to_scipy().tocoo(), matrix.to_dense().numpy()):
        assert np.array_equal(power(form, x, 5, "multiply"), expected)
    tensor = power(graph, torch.from_numpy(x), 5, "multiply")
    assert isinstance(tensor, torch.Tensor)
    assert tensor.dtype is torch.float64
    assert np.array_equal(tensor.numpy(), expected)
    assert np.array_equal(power(graph, x[:, 0].copy(), 5, "multiply"), expected[:, 0])
    single = power(matrix.to(dtype=torch.float32), torch.from_numpy(x).float(), 5, "spectral")
    assert single.dtype is torch.float64
    assert np.abs(single.numpy() - expected).max() < 1e-5


ASYMMETRIC = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 0.5], [0.0, 0.0, 0.0]])


def test_a_matrix_that_is_not_symmetric_is_multiplied_and_never_decomposed() -> None:
    assert power(ASYMMETRIC, np.array([1.0, 2.0, 4.0]), 2).tolist() == [2.0, 0.0, 0.0]
    assert power(ASYMMETRIC, np.array([1.0, 2.0, 4.0]), 10**4).tolist() == [0.0, 0.0, 0.0]
    with pytest.raises(UserError, match=r"entry \(0, 1\) is 1 and \(1, 0\) is 0; use method='multiply'"):
        power(ASYMMETRIC, np.ones(3), 2, "spectral")
    directed = Graph.from_edges([0, 1, 2], [1, 2, 0], directed=True)
    assert power(directed, np.array([1.0, 0, 0]), 4, self_loops=False).tolist() == [0.0, 1.0, 0.0]
    with pytest.raises(UserError, match="needs a symmetric matrix"):
        power(directed, np.ones(3), 4, "spectral")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.eye(2), np.ones(2), -1), "expected K as a whole number >= 0, got -1"),
        ((np.eye(2), np.ones(2), 1.0), "expected K as a whole number >= 0, got 1.0"),
        ((np.eye(2), np.ones(2), True), "expected K as a whole number >= 0, got True"),
        (
            (np.eye(2), np.ones(2), 1, "fast"),
            "unknown method 'fast'; expected one of auto, multiply, spectral",
        ),
        ((np.ones((2, 3)), np.ones(2), 1), r"expected a square matrix, got shape \(2, 3\)"),
        ((np.eye(2), np.ones(3), 1), r"expected 2 rows of real numbers, got shape \(3,\)"),
        ((np.eye(2), np.ones((2, 1, 1)), 1), r"expected 2 rows of real numbers, got shape \(2, 1, 1\)"),
        ((np.eye(2), [1.0, 2.0], 1), "expected features as an array or a tensor, got list"),
        ((np.eye(2), np.array([1.0, np.nan]), 1), "features that are finite"),
        ((np.diag([1.0, np.inf]), np.ones(2), 1), "a matrix of finite numbers"),
        ((np.eye(2) * 1j, np.ones(2), 1), "real numbers"),
        (([[1.0]], np.ones(1), 1), "expected a Graph, a SparseMatrix, .* got list"),
    ],
)
def test_wrong_input_is_named(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        power(*arguments)


@pytest.mark.parametrize("method", METHODS)
def test_a_result_beyond_float64_is_no_result(method: Any) -> None:
    with pytest.raises(UserError, match="beyond float64"):
        power(2.0 * np.eye(2), np.ones(2), 2000, method)


def test_the_spectral_method_refuses_what_does_not_fit_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(powers, "SPECTRAL_UP_TO", 5)
    with pytest.raises(UserError, match="it serves up to 5 rows: use method='multiply'"):
        power(ring(6), np.ones(6), 2, "spectral")
    assert math.isinf(costs(6, 12, 1, 2).spectral)
    assert np.isfinite(power(ring(6), np.ones(6), 10**3)).all()


# ------------------------------------------------------------------------------------------------- the costs


def test_auto_takes_the_method_that_the_costs_name(monkeypatch: pytest.MonkeyPatch) -> None:
    called = []
    shipped = powers.decompose
    monkeypatch.setattr(powers, "decompose", lambda matrix: called.append(matrix.shape) or shipped(matrix))
    x = np.ones((60, 2))
    for K in (1, 10**5):
        called.clear()
        power(random_graph(6), x, K)
        expected = costs(60, 2 * 120, 2, K).best
        assert bool(called) == (expected == "spectral"), K
    assert [costs(60, 240, 2, K).best for K in (1, 10**5)] == ["multiply", "spectral"]


def test_costs_grow_as_the_formulas_say() -> None:
    base = costs(1000, 10**6, 100, 10)
    assert costs(1000, 10**6, 100, 20).multiply == pytest.approx(2 * base.multiply)
    assert costs(1000, 10**6, 100, 20).spectral == base.spectral
    assert costs(1000, 2 * 10**6, 100, 10).multiply == pytest.approx(2 * base.multiply, rel=0.01)
    assert costs(1000, 2 * 10**6, 100, 10).spectral == base.spectral
    assert costs(2000, 10**6, 1, 10).spectral == pytest.approx(
        8 * costs(1000, 10**6, 1, 10).spectral, rel=0.01
    )
    assert math.isinf(costs(10, 10, 1, 1, symmetric=False).spectral)
    assert costs(10, 10, 1, 0).multiply == 0.0
