"""The citation-like model: each of its properties is there, and follows the argument that asks for it."""

from __future__ import annotations

import numpy as np
import pytest

from layerlab.errors import UserError
from layerlab.graph.citation import citation_model
from layerlab.graph.components import components
from layerlab.graph.generate import block_edges
from layerlab.graph.homophily import homophily


@pytest.mark.parametrize("wanted", [0.2, 0.5, 0.9])
def test_the_homophily_is_the_one_asked_for(wanted: float) -> None:
    data = citation_model(4000, homophily=wanted, noise=0.0, apart=0.0, degree=6.0, communities=2, seed=2)
    # Popular nodes of one community meet again and again, and repeats are dropped: a little is lost within classes.
    assert abs(homophily(data.graph, data.labels).edge - wanted) < 0.03


def test_degrees_and_classes_are_unequal() -> None:
    data = citation_model(5000, classes=4, apart=0.0, noise=0.0, seed=0)
    degrees = data.graph.degrees()
    assert degrees.max() > 15 * degrees.mean()
    share = 1 / np.arange(2, 6)
    np.testing.assert_allclose(np.bincount(data.labels) / 5000, share / share.sum(), atol=1e-3)
    assert (np.diff(data.labels) != 0).mean() > 0.5


def test_nodes_apart_lie_in_small_paths() -> None:
    data = citation_model(4000, apart=0.5, degree=20.0, homophily=0.9, noise=0.0, seed=1)
    parts = components(data.graph)
    small = parts.sizes < 1000
    assert abs(parts.sizes[small].sum() / 4000 - 0.5) < 0.03
    assert abs(parts.sizes[small].mean() - 2.5) < 0.2
    assert (parts.edges[small] == parts.sizes[small] - 1).all()
    assert data.graph.degrees()[small[parts.labels]].max() <= 2
    source, target, _ = data.graph.edges()
    inside = small[parts.labels[source]]
    assert (data.labels[source] == data.labels[target])[inside].mean() > 0.8


def _between_classes(signal: float) -> float:
    """How far the classes' mean word vectors lie from each other."""
    data = citation_model(3000, classes=3, features=100, signal=signal, noise=0.0, seed=4)
    words = data.features.to_dense().numpy()
    means = np.stack([words[data.labels == kind].mean(axis=0) for kind in range(3)])
    return float(means.std(axis=0).sum())


def test_words_tell_of_the_class_as_much_as_asked() -> None:
    silent, quiet, loud = (_between_classes(signal) for signal in (0.0, 0.2, 0.6))
    assert silent < 1 < 2.5 * silent < quiet < 0.6 * loud


def test_words_tell_of_the_community_too() -> None:
    data = citation_model(
        3000, classes=2, communities=2, features=100, signal=0.6, apart=0.0, noise=0.0, seed=4
    )
    source, target, _ = data.graph.edges()
    words = data.features.to_dense().numpy()
    same = data.labels[source] == data.labels[target]
    joined = (words[source] * words[target]).sum(axis=1)[same].mean()
    generator = np.random.default_rng(0)
    members = np.flatnonzero(data.labels == 0)
    one, other = generator.permutation(members), generator.permutation(members)
    anyone = (words[one] * words[other]).sum(axis=1).mean()
    assert joined > 1.05 * anyone


def test_words_are_sets_of_the_size_asked_for() -> None:
    data = citation_model(2000, features=50_000, words=12.0, signal=0.0, seed=0)
    assert set(data.features.values.tolist()) == {1.0}
    counts = np.bincount(data.features.row.numpy(), minlength=2000)
    assert counts.min() >= 1
    # A word drawn twice counts once: Zipf's law loses a few.
    assert 9.5 < counts.mean() < 12.0
    used = np.sort(np.bincount(data.features.col.numpy()))[::-1]
    assert used[0] > 5 * used[20] > 0


def test_noise_gives_nodes_another_label_and_changes_nothing_else() -> None:
    clean, noisy = (citation_model(3000, noise=noise, seed=5) for noise in (0.0, 0.3))
    assert clean.graph == noisy.graph
    assert clean.features.to_dense().equal(noisy.features.to_dense())
    chance = (np.bincount(clean.labels) / 3000) ** 2
    assert abs((clean.labels != noisy.labels).mean() - 0.3 * (1 - chance.sum())) < 0.03


def test_a_seed_gives_one_data_set() -> None:
    one, same, other = (citation_model(400, classes=3, communities=2, seed=seed) for seed in (5, 5, 6))
    assert one.graph == same.graph
    assert one.features.to_dense().equal(same.features.to_dense())
    assert one.graph != other.graph


def test_weights_share_a_blocks_edges() -> None:
    # The block of two lies behind the other: weights follow their nodes.
    weights = np.array([*np.ones(2000), 1.0, 3.0])
    blocks = np.array([*np.ones(2000, dtype=int), 0, 0])
    _, target = block_edges(blocks, [[0, 1], [1, 0]], 1000, np.random.default_rng(0), weights=weights)
    assert set(target.tolist()) == {2000, 2001}
    assert abs((target == 2001).mean() - 0.75) < 0.06


def test_rounding_leaves_no_block() -> None:
    # Beside 10^17 the weights of the others vanish, and every draw lies on the border of its block.
    mixing = [[0, 1, 0], [1, 0, 0], [0, 0, 0]]
    weights = [1e17, 0.5, 0.5, 1.0]
    _, target = block_edges([0, 1, 1, 2], mixing, 50, np.random.default_rng(0), weights=weights)
    assert set(target.tolist()) <= {1, 2}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": 1}, "at least 2 classes"),
        ({"homophily": 1.5}, "homophily 1.5"),
        ({"communities": 0}, "got 0, 500"),
        ({"features": 0}, "got 8, 0"),
        ({"words": 0.5}, "0.5"),
        ({"signal": 1.5}, "1.5"),
        ({"apart": 1.0}, "apart from 0 to below 1"),
        ({"signal": -0.1}, "signal and noise from 0 to 1"),
        ({"noise": -0.1}, "signal and noise from 0 to 1"),
        *(({name: float("nan")}, "nan") for name in ("words", "signal", "noise", "apart")),
        ({"words": float("inf")}, "finite"),
        ({"nodes": 60, "communities": 12}, "72 communities"),
    ],
)
def test_what_cannot_be_made_is_refused(change: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        citation_model(**change)  # type: ignore[arg-type]


@pytest.mark.parametrize("weights", [[1.0], [1.0, 0.0], [1.0, -1.0], [1.0, float("nan")]])
def test_weights_that_are_none_are_refused(weights: list[float]) -> None:
    with pytest.raises(UserError, match="weight above 0"):
        block_edges([0, 1], [[0, 1], [1, 0]], 3, np.random.default_rng(0), weights=weights)


def test_communities_are_shared_out_among_the_nodes_inside() -> None:
    # A class of 16, about half of it apart: six communities need every turn.
    data = citation_model(40, classes=2, communities=6, apart=0.5, degree=2.0, seed=0)
    assert data.num_nodes == 40
