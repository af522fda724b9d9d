"""A generated data set like those of citations: heavy-tailed degrees, word features, small components."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from layerlab.errors import UserError
from layerlab.graph.generate import block_edges, check_sizes, labelled
from layerlab.graph.node_data import NodeDataset
from layerlab.graph.sparse import SparseMatrix
from layerlab.graph.structure import Graph


def _topic_words(
    topics: NDArray[np.int64], features: int, words: float, generator: np.random.Generator
) -> SparseMatrix:
    """Which words a node has: every word from one of its topics, by Zipf's law in the topic's own order.

    Args:
        topics: (n, 20) a node's topics, from which each of its words draws one.
    """
    drawn = 1 + generator.poisson(words - 1, size=topics.shape[0])
    node = np.repeat(np.arange(topics.shape[0]), drawn)
    ranks = np.arange(1, features + 1, dtype=np.float64)
    rank = generator.choice(features, size=node.size, p=(1 / ranks) / (1 / ranks).sum())
    topic = topics[node, generator.integers(topics.shape[1], size=node.size)]
    orders = np.stack([generator.permutation(features) for _ in range(topics.max() + 1)])
    cells = np.unique(node * features + orders[topic, rank])
    ones = np.ones(cells.size, dtype=np.float32)
    shape = (topics.shape[0], features)
    return SparseMatrix.from_scipy(
        sparse.csr_array((ones, (cells // features, cells % features)), shape=shape)
    )


def _small_components(
    nodes: NDArray[np.int64], labels: NDArray[np.int64], homophily: float, generator: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Paths over ``nodes``, of geometric lengths (2.5 nodes in the mean), mostly within a class if homophilous."""
    mixed = np.where(generator.random(nodes.size) < homophily, labels, generator.permutation(labels))
    order = nodes[np.argsort(mixed, kind="stable")]
    joined = np.flatnonzero(generator.random(max(order.size - 1, 0)) < 0.6)
    return order[joined], order[joined + 1]


def citation_model(
    nodes: int = 2000,
    *,
    classes: int = 6,
    communities: int = 8,
    degree: float = 4.0,
    homophily: float = 0.8,
    features: int = 500,
    words: float = 18.0,
    signal: float = 0.3,
    apart: float = 0.1,
    noise: float = 0.05,
    seed: int = 0,
    name: str = "citation-model",
) -> NodeDataset:
    """A graph like those of citations: unequal degrees and classes, communities, word features, small components.

    Degree-corrected block model with expected degrees from a power law of exponent 2.5. Class c has a share of nodes
    proportional to 1 / (c + 2) and several communities, which keep four of five of the class's edges. A node is a
    set of words: each is drawn by Zipf's law from a background common to all or, as often as ``signal`` says, from
    the topic of the class or of the community. Some nodes lie outside, in paths of a few nodes.

    References: Karrer and Newman, Physical Review E 83, 016107, 2011 (the graph); Blei, Ng and Jordan, Latent
    Dirichlet allocation, JMLR 2003 (words from topics).

    Args:
        nodes: n, at least 4 a class.
        classes: C >= 2.
        communities: of each class, at least 1.
        degree: expected degree, before repeated draws are dropped.
        homophily: expected share of edges within a class, before ``noise``.
        features: words there are.
        words: expected number of words drawn for a node, at least 1; words drawn twice count once.
        signal: share of the words that tell of class or community, in steps of 0.05; 0 says nothing.
        apart: share of nodes in small components, from 0 to below 1.
        noise: share of nodes whose label is another node's instead, from 0 to 1.
        seed: of everything.
        name: of the data set.

    Returns:
        The data set, with the split of `layerlab.graph.splits.few_label_split` at the same seed.

    Raises:
        UserError: a number out of range, or a class with fewer nodes than communities.

    >>> data = citation_model(600, classes=3, communities=2, noise=0.0, seed=1)
    >>> degrees = data.graph.degrees()
    >>> bool(degrees.max() > 5 * degrees.mean()), np.bincount(data.labels).tolist()
    (True, [277, 185, 138])
    """
    check_sizes(nodes, classes, degree, homophily)
    if not (communities >= 1 and features >= 1 and 1 <= words < np.inf):
        raise UserError(
            "expected communities, features and words of at least 1, and finite, "
            f"got {communities}, {features}, {words}"
        )
    if not (0 <= signal <= 1 and 0 <= noise <= 1 and 0 <= apart < 1):
        raise UserError(
            "expected a signal and noise from 0 to 1 and a share apart from 0 to below 1, "
            f"got {signal}, {noise}, {apart}"
        )
    generator = np.random.default_rng(seed)
    share = 1 / (np.arange(classes) + 2)
    share /= share.sum()
    labels = generator.permutation(np.searchsorted(np.cumsum(share), (np.arange(nodes) + 0.5) / nodes))
    # Every community its turn, so that all are of one size within a class.
    block = np.empty(nodes, dtype=np.int64)
    outside = generator.random(nodes) < apart
    for kind in range(classes):
        for part in (outside, ~outside):
            members = np.flatnonzero((labels == kind) & part)
            block[members] = kind * communities + np.arange(members.size) % communities
    inside = np.flatnonzero(~outside)
    if np.unique(block[inside]).size < classes * communities:
        raise UserError(
            f"expected a node in each of {classes * communities} communities, {nodes} nodes do not do; give more"
        )
    weights = (1 - generator.random(nodes)) ** (-1 / 1.5)
    # Draws between classes fall to each by its share; within one, four of five stay in the community.
    between = np.outer(share, share)
    np.fill_diagonal(between, 0.0)
    one, all_of = np.eye(communities) / communities, np.full((communities, communities), communities**-2.0)
    mixing = homophily * np.kron(np.diag(share), 0.8 * one + 0.2 * all_of)
    mixing += (1 - homophily) * np.kron(between / between.sum(), all_of)
    ends = block_edges(
        block[inside], mixing, round(inside.size * degree / 2), generator, weights=weights[inside]
    )
    paths = _small_components(np.flatnonzero(outside), labels[outside], homophily, generator)
    telling = round(20 * signal)
    topics = np.zeros((nodes, 20), dtype=np.int64)
    topics[:, :telling:2] = 1 + labels[:, None]
    topics[:, 1:telling:2] = 1 + classes + block[:, None]
    words_of = _topic_words(topics, features, words, generator)
    wrong = generator.random(nodes) < noise
    given = np.where(wrong, generator.permutation(labels), labels)
    return labelled(
        name,
        Graph.from_edges(
            *(np.concatenate([inside[a], b]) for a, b in zip(ends, paths, strict=True)), num_nodes=nodes
        ),
        given,
        words_of,
        classes,
        seed,
        f"citation model, {classes} classes of {communities} communities, degree {degree:g}, homophily {homophily:g}, "
        f"{features} words, {words:g} a node, signal {signal:g}, {apart:g} apart, noise {noise:g}, seed {seed}",
    )
