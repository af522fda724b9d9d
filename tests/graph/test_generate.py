"""Generated data sets: what was asked for is what comes, the same for the same seed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from layerlab.errors import UserError
from layerlab.graph.components import components
from layerlab.graph.generate import (
    bipartite_model,
    block_edges,
    block_model,
    class_features,
    cycle_model,
    disjoint_union,
)
from layerlab.graph.homophily import homophily
from layerlab.graph.node_data import NodeDataset
from layerlab.graph.structure import Graph


@pytest.mark.parametrize("wanted", [0.0, 0.1, 0.25, 0.7, 1.0])
@pytest.mark.parametrize("make", [block_model, bipartite_model])
def test_the_homophily_is_the_one_asked_for(make: Callable[..., NodeDataset], wanted: float) -> None:
    data = make(4000, homophily=wanted, degree=8.0, seed=3)
    got = homophily(data.graph, data.labels)
    # 16,000 draws: four standard errors; dropped repeats move it by less.
    assert abs(got.edge - wanted) < 4 * np.sqrt(max(wanted * (1 - wanted), 1e-12) / 16_000) + 2e-3
    assert abs(data.graph.num_edges / 16_000 - 1) < 0.02


def test_classes_are_of_equal_size_and_in_no_order() -> None:
    data = block_model(1001, classes=3, seed=0)
    assert np.bincount(data.labels).tolist() == [334, 334, 333]
    assert (np.diff(data.labels) != 0).mean() > 0.5


def test_a_seed_gives_one_data_set() -> None:
    one, same, other = (block_model(200, seed=seed) for seed in (5, 5, 6))
    assert one.graph == same.graph
    assert one.features.to_dense().equal(same.features.to_dense())
    assert one.graph != other.graph


def test_the_bipartite_model_is_bipartite_and_each_side_holds_every_class() -> None:
    data = bipartite_model(301, classes=3, seed=1)
    source, target, _ = data.graph.edges()
    assert source.max() < 151 <= target.min()
    assert components(data.graph).bipartite.all()
    assert all(np.unique(side).size == 3 for side in (data.labels[:151], data.labels[151:]))


def test_the_cycle_is_one_with_arcs() -> None:
    data = cycle_model(50, classes=3, seed=0)
    assert (data.graph.degrees() == 2).all()
    assert components(data.graph).count == 1
    assert (np.diff(data.labels) >= 0).all()
    assert np.ptp(np.bincount(data.labels)) <= 1


def test_the_signal_is_the_distance_of_the_means() -> None:
    labels = np.arange(60_000) % 3
    values = class_features(labels, 5, 2.0, np.random.default_rng(0)).to_dense().numpy()
    means = np.stack([values[labels == c].mean(axis=0) for c in range(3)])
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert abs(np.linalg.norm(means[a] - means[b]) - 2.0) < 0.05
    assert abs((values - means[labels]).std() - 1.0) < 0.01


def test_the_union_keeps_every_part() -> None:
    parts = [block_model(100, seed=1), cycle_model(60, seed=2), bipartite_model(80, seed=3)]
    union = disjoint_union(parts)
    source, target, _ = union.graph.edges()
    for one, start in zip(parts, (0, 100, 160), strict=True):
        inside = (source >= start) & (source < start + one.num_nodes)
        part = Graph.from_edges(source[inside] - start, target[inside] - start, num_nodes=one.num_nodes)
        assert part == one.graph
        rows = slice(start, start + one.num_nodes)
        assert union.features.to_dense()[rows].equal(one.features.to_dense())
        assert union.labels[rows].tolist() == one.labels.tolist()
        assert one.split is not None
        assert union.split is not None
        assert set(one.split.test + start) <= set(union.split.test)
    assert union.graph.num_edges == sum(one.graph.num_edges for one in parts)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: block_model(10, classes=4), "4 nodes a class"),
        (lambda: block_model(homophily=1.2), "homophily 1.2"),
        (lambda: block_model(degree=0.0), "degree above 0"),
        (lambda: block_model(features=3), "at least 4 features"),
        (lambda: block_model(signal=-1.0), "signal >= 0"),
        (lambda: cycle_model(classes=1), "at least 2 classes"),
        (lambda: disjoint_union([]), "at least one data set"),
        (lambda: disjoint_union([cycle_model(classes=2), cycle_model(classes=3)]), "differ"),
        (lambda: block_edges([0], [[1, 0], [0, 1]], 3, np.random.default_rng(0)), "block 1 shall get edges"),
        (lambda: block_edges([0, 1], [[1, 0], [1, 1]], 3, np.random.default_rng(0)), "symmetric"),
        (lambda: block_edges([0, 1], [[0, 0], [0, 0]], 3, np.random.default_rng(0)), "positive sum"),
        (lambda: block_edges([0, 2], [[1, 0], [0, 1]], 3, np.random.default_rng(0)), "blocks from 0 to 1"),
    ],
)
def test_what_cannot_be_made_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()
