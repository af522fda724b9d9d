"""Measures of attention: known values at the extremes, agreement with scipy, and intervals that hold what they say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import entropy, spearmanr

from layerlab.graph.attention_measures import SHARES, Edges, Head, lift, measure_heads, rank_correlations
from layerlab.graph.generate import block_model
from layerlab.graph.layers import neighbourhoods
from layerlab.graph.structure import Graph


def edges_of(graph: Graph) -> Edges:
    pattern = neighbourhoods(graph).pattern
    return Edges(pattern.col.long().numpy(), pattern.row.long().numpy(), graph.num_nodes)


def softmax(scores: np.ndarray, edges: Edges) -> np.ndarray:
    weights = np.exp(scores)
    return weights / np.bincount(edges.target, weights, edges.num_nodes)[edges.target]


def measured(
    coefficients: np.ndarray, edges: Edges, labels: np.ndarray | None = None, replicates: int = 2
) -> Head:
    unknown = np.full(edges.num_nodes, -1)
    (head,) = measure_heads(
        coefficients[:, None], edges, unknown if labels is None else labels, replicates=replicates
    )
    return head


RANDOM = block_model(120, classes=2, degree=6.0, homophily=0.7, seed=1)
TWO = Graph.from_edges([0, 0, 0, 1, 5], [1, 2, 3, 2, 0], num_nodes=8)


def test_uniform_attention_has_all_the_entropy_there_is() -> None:
    edges = edges_of(RANDOM.graph)
    # As float32 has it: 1/3 is not exact, and that must not be taken for a preference.
    head = measured(softmax(np.zeros(len(edges.source)), edges).astype(np.float32).astype(float), edges)
    assert head.entropy == pytest.approx(1, abs=1e-7)
    assert head.quantiles == pytest.approx((1,) * len(SHARES), abs=1e-6)
    assert head.divergence == pytest.approx(0, abs=1e-6)
    assert head.moved == pytest.approx(0, abs=1e-7)
    assert head.largest == pytest.approx(head.uniform) == pytest.approx(head.itself)
    assert math.isnan(head.degree.value)
    assert not head.degree.found


def test_one_hot_attention_has_none() -> None:
    edges = edges_of(TWO)
    first = np.r_[True, edges.target[1:] != edges.target[:-1]].astype(float)
    head = measured(first, edges)
    assert (head.entropy, head.quantiles, head.largest) == (0.0, (0.0,) * len(SHARES), 1.0)
    sizes = edges.sizes[edges.sizes > 1]
    assert sizes.tolist() == [5, 3, 3, 2, 2]
    assert head.divergence == pytest.approx(np.log(sizes).mean())
    assert head.moved == pytest.approx(1 - (1 / sizes).mean())
    # Only node 0 comes first in its own neighbourhood.
    assert head.itself == pytest.approx(1 / 5)
    assert head.uniform == pytest.approx((1 / 5 + 2 / 3 + 2 / 2) / 5)


def test_the_spread_is_that_of_every_node_by_itself() -> None:
    edges = edges_of(TWO)
    coefficients = softmax(np.random.default_rng(0).standard_normal(len(edges.source)), edges)
    head = measured(coefficients, edges)
    # Nodes 4, 6 and 7 have no neighbour: nothing to choose from.
    rows = [coefficients[edges.target == node] for node in (0, 1, 2, 3, 5)]
    shares = [entropy(row) / math.log(len(row)) for row in rows]
    assert head.entropy == pytest.approx(np.mean(shares))
    assert head.quantiles[0] == pytest.approx(min(shares))
    assert head.quantiles[10] == pytest.approx(np.median(shares))
    assert head.divergence == pytest.approx(
        np.mean([entropy(row, np.full(len(row), 1 / len(row))) for row in rows])
    )
    assert head.moved == pytest.approx(np.mean([abs(row - 1 / len(row)).sum() / 2 for row in rows]))
    assert head.largest == pytest.approx(np.mean([row.max() for row in rows]))
    own = (edges.source == edges.target) & (edges.sizes[edges.target] > 1)
    assert head.itself == pytest.approx(coefficients[own].mean())


def test_without_any_edge_nothing_is_measured() -> None:
    head = measured(np.ones(3), edges_of(Graph.from_edges([], [], num_nodes=3)), np.array([0, 1, 0]))
    assert math.isnan(head.entropy)
    assert math.isnan(head.degree.value)
    assert (head.quantiles, head.agreement) == ((), None)


def test_the_correlation_is_spearmans() -> None:
    edges = edges_of(RANDOM.graph)
    generator = np.random.default_rng(3)
    left = np.round(generator.standard_normal((2, len(edges.source))), 1)
    right = left[0] + 2 * np.round(generator.standard_normal(len(edges.source)), 1)
    found = rank_correlations(edges, left, right, replicates=2)
    for values, correlation in zip(left, found, strict=True):
        assert correlation.value == pytest.approx(spearmanr(values, right).statistic, abs=1e-12)


def test_a_replicate_repeats_an_edge_as_often_as_its_two_ends() -> None:
    edges = edges_of(RANDOM.graph)
    generator = np.random.default_rng(3)
    left, right = generator.integers(0, 9, (2, len(edges.source))).astype(float)
    (found,) = rank_correlations(edges, left[None], right, replicates=2, seed=7)
    draws, values = np.random.default_rng(7), []
    for _ in range(2):
        counts = np.bincount(draws.integers(0, 120, 120), minlength=120)
        times = counts[edges.source] * counts[edges.target]
        values.append(spearmanr(np.repeat(left, times), np.repeat(right, times)).statistic)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(values, (0.025, 0.975))), abs=1e-12)


def test_the_lift_and_the_degree_are_those_of_the_messages() -> None:
    # Directed: 0 is heard by 1, 2 and 3; 1 by 2. A self-loop of the user's is no further reach.
    graph = Graph.from_edges([0, 0, 0, 1, 3], [1, 2, 3, 2, 3], directed=True)
    edges = edges_of(graph)
    assert list(zip(edges.source, edges.target, strict=True)) == [
        *((0, 0), (0, 1), (1, 1), (0, 2), (1, 2), (2, 2), (0, 3), (3, 3))
    ]
    coefficients = np.array([1.0, 0.75, 0.25, 0.5, 0.25, 0.25, 0.5, 0.5])
    assert lift(coefficients, edges).tolist() == [1.0, 1.5, 0.5, 1.5, 0.75, 0.75, 1.0, 1.0]
    (degree,) = measure_heads(coefficients[:, None], edges, np.full(4, -1), replicates=2)
    proper = [1.5, 1.5, 0.75, 1.0]
    assert degree.degree.value == pytest.approx(spearmanr(proper, [3, 3, 1, 3]).statistic)


def test_planted_agreement_is_found() -> None:
    edges, labels = edges_of(RANDOM.graph), RANDOM.labels
    generator = np.random.default_rng(5)
    same = labels[edges.source] == labels[edges.target]
    head = measured(softmax(0.5 * same + generator.standard_normal(len(same)), edges), edges, labels, 100)
    assert head.agreement is not None
    assert head.agreement.found
    assert 0.1 < head.agreement.low < head.agreement.value < head.agreement.high < 0.6
    assert head.agreeing > 1.1 * head.disagreeing
    proper = edges.source != edges.target
    lifts = lift(softmax(0.5 * same, edges), edges)
    exact = measured(softmax(0.5 * same, edges), edges, labels)
    assert exact.agreeing == pytest.approx(lifts[proper & same].mean())
    assert exact.disagreeing == pytest.approx(lifts[proper & ~same].mean())


@pytest.mark.parametrize("permuted", [True, False], ids=["permuted labels", "labels in clusters"])
def test_where_there_is_none_it_is_seldom_found(permuted: bool) -> None:
    """Scores of the senders that know nothing of the labels: 95 per cent intervals may miss 0 in 1 of 20."""
    edges = edges_of(RANDOM.graph)
    found = 0
    for seed in range(20):
        generator = np.random.default_rng(seed)
        labels = generator.permutation(RANDOM.labels) if permuted else RANDOM.labels
        scores = generator.standard_normal(120)[edges.source]
        head = measured(softmax(scores, edges), edges, labels, 60)
        assert head.agreement is not None
        found += head.agreement.found
    # Four or more of 20 have a probability of 0.016 at one in twenty.
    assert found <= 3


def test_planted_preference_for_hubs_is_found() -> None:
    edges = edges_of(RANDOM.graph)
    degree = edges.sizes - 1.0
    noise = np.random.default_rng(2).standard_normal(len(edges.source))
    liked = measured(softmax(0.2 * degree[edges.source] + noise, edges), edges, None, 60).degree
    shunned = measured(softmax(-0.2 * degree[edges.source] + noise, edges), edges, None, 60).degree
    assert liked.low > 0.1
    assert shunned.high < -0.1
    assert liked.found
    assert shunned.found


def test_edges_without_two_known_labels_do_not_count() -> None:
    edges, labels = edges_of(RANDOM.graph), RANDOM.labels.copy()
    labels[::3] = -1
    generator = np.random.default_rng(5)
    coefficients = softmax(generator.standard_normal(len(edges.source)), edges)
    head = measured(coefficients, edges, labels)
    known = (edges.source != edges.target) & (labels[edges.source] >= 0) & (labels[edges.target] >= 0)
    same = labels[edges.source] == labels[edges.target]
    assert head.agreement is not None
    expected = spearmanr(lift(coefficients, edges)[known], same[known]).statistic
    assert head.agreement.value == pytest.approx(expected)
    assert head.agreeing == pytest.approx(lift(coefficients, edges)[known & same].mean())
    assert head.disagreeing == pytest.approx(lift(coefficients, edges)[known & ~same].mean())
    assert measured(coefficients, edges).agreement is None


def test_too_few_edges_give_no_interval() -> None:
    graph = Graph.from_edges([0, 2], [1, 1], num_nodes=40, directed=True)
    edges = edges_of(graph)
    coefficients = np.where(edges.source == 2, 0.5, np.where(edges.source == 0, 0.2, 0.3))
    coefficients[edges.target != 1] = 1.0
    head = measured(coefficients, edges, np.r_[0, 0, 1, np.zeros(37, int)], 40)
    assert head.agreement is not None
    assert head.agreement.value == pytest.approx(-1)
    assert math.isnan(head.agreement.low)
    assert not head.agreement.found


def test_every_draw_is_reported() -> None:
    edges, seen = edges_of(RANDOM.graph), []
    coefficients = softmax(np.zeros(len(edges.source)), edges)[:, None]
    measure_heads(coefficients, edges, RANDOM.labels, replicates=3, on_replicate=lambda: seen.append(1))
    assert len(seen) == 6
