"""Lanczos' quadrature of many columns at once, against one column at a time with a basis that is kept orthogonal."""

from __future__ import annotations

import numpy as np
import pytest

from layerlab.graph.depth import decay
from layerlab.graph.generate import block_model
from layerlab.graph.limit import Limit
from layerlab.graph.matrices import propagation
from layerlab.graph.products import Product
from layerlab.graph.quadrature import measured, quadrature
from layerlab.graph.structure import Graph

STEPS = 20


def _slow(matrix: np.ndarray, start: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
    norm = np.linalg.norm(start)
    if norm == 0:
        return np.zeros(1), np.zeros(1)
    basis, diagonal, off = [start / norm], [], []
    for step in range(min(steps, start.size)):
        image = matrix @ basis[-1]
        diagonal.append(basis[-1] @ image)
        for _ in range(2):
            for vector in basis:
                image = image - vector * (vector @ image)
        size = np.linalg.norm(image)
        if step + 1 == min(steps, start.size) or size < 1e-12:
            break
        off.append(size)
        basis.append(image / size)
    values, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(off, 1) + np.diag(off, -1))
    return values, norm**2 * vectors[0] ** 2


def _graphs() -> dict[str, Graph]:
    generator = np.random.default_rng(0)
    a, b = generator.integers(0, 60, 300), generator.integers(0, 90, 300)
    union_from = np.concatenate([a, np.arange(200, 259), [300, 301]])
    union_to = np.concatenate([60 + b, np.arange(201, 260), [301, 302]])
    weight = generator.uniform(0.01, 10.0, 300)
    return {
        "block": block_model(150, seed=1).graph,
        "bipartite": Graph.from_edges(a, 60 + b, num_nodes=150),
        "weighted": Graph.from_edges(a, b, weight=weight, num_nodes=90),
        "components, isolated nodes": Graph.from_edges(union_from, union_to, num_nodes=310),
        "star": Graph.from_edges(np.zeros(40, dtype=int), np.arange(1, 41)),
        "pairs": Graph.from_edges(np.arange(0, 40, 2), np.arange(1, 40, 2)),
    }


@pytest.mark.parametrize("self_loops", [True, False])
@pytest.mark.parametrize("name", list(_graphs()))
@pytest.mark.parametrize("block", [1 << 26, 700])
def test_sums_are_those_of_the_slow_twin(
    name: str, self_loops: bool, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("layerlab.graph.quadrature._BLOCK", block)
    monkeypatch.setattr("layerlab.graph.products._ROWS", 64)
    graph = _graphs()[name]
    matrix, limit = propagation(graph, self_loops), Limit(graph, self_loops)
    x = np.random.default_rng(2).standard_normal((graph.num_nodes, 5))
    x[:, 3] = 0.0
    start = limit.off(x)
    nodes, weights = quadrature(Product(matrix), limit, start, STEPS)
    np.testing.assert_allclose(weights.sum(axis=0), (start**2).sum(axis=0), rtol=1e-12)
    assert np.abs(nodes).max() <= 1 + 1e-12
    for column in range(5):
        values, shares = _slow(matrix.toarray(), start[:, column], STEPS)
        scale = shares.sum()
        for power in range(2 * STEPS):
            mine = (nodes[:, column] ** power * weights[:, column]).sum()
            assert mine == pytest.approx((values**power * shares).sum(), rel=1e-9, abs=1e-13 * scale)
    energy, distance = measured(Product(matrix), limit, start, 10)
    for k in range(11):
        assert energy[k] == pytest.approx(
            ((1 - nodes) * nodes ** (2 * k) * weights).sum(), rel=1e-9, abs=1e-20
        )
        assert distance[k] ** 2 == pytest.approx((nodes ** (2 * k) * weights).sum(), rel=1e-9, abs=1e-20)


def test_the_limit_does_not_come_back_through_rounding() -> None:
    # With one vector at a time and nothing taken out, 40 steps found 1.3e-12 of the weight at 0.767 and 2e-19 at 0.833,
    # where no eigenvector is: the limit, which has eigenvalue 1, on its way back.
    generator = np.random.default_rng(0)
    ends = generator.integers(0, 700, (2, 2800))
    graph = Graph.from_edges(*ends, weight=generator.uniform(0.01, 10, 2800), num_nodes=700)
    x = generator.standard_normal((700, 40)) + 5
    exact = decay(graph, x, self_loops=False)
    found = decay(graph, x, self_loops=False, dense_up_to=0)
    assert (exact.method, found.method) == ("dense", "probes")
    assert found.rate <= exact.rate + 1e-9
    limit = Limit(graph, self_loops=False)
    nodes, _ = quadrature(Product(propagation(graph, False)), limit, limit.off(x), 200)
    off = exact.eigenvalues[np.abs(exact.eigenvalues) < 1 - 1e-9]
    assert nodes.max() <= off.max() + 1e-9
