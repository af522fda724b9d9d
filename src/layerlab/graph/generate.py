"""Data sets made here: graphs whose homophily, shape and difficulty are known, with features, labels and a split.

Everything is a function of its arguments and its seed, and no loop runs over pairs of nodes: a million edges take
about a second.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from layerlab.errors import UserError
from layerlab.graph.node_data import NodeDataset, Split
from layerlab.graph.sparse import SparseMatrix
from layerlab.graph.splits import few_label_split
from layerlab.graph.structure import Graph


def block_edges(
    blocks: ArrayLike,
    mixing: ArrayLike,
    edges: int,
    generator: np.random.Generator,
    *,
    weights: ArrayLike | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Edges of a stochastic block model: each joins blocks a and b with probability mixing[a, b].

    This is the multinomial form of the model: the number of draws is fixed, the pair of blocks of each is drawn
    from ``mixing``, then one node of each block, uniformly or by its weight. Reference: Holland, Laskey and
    Leinhardt, Stochastic blockmodels: first steps, Social Networks 1983; drawn edge by edge, and with weights, as in
    Karrer and Newman, Physical Review E 83, 016107, 2011.

    Args:
        blocks: (n,) block of each node, 0 … B−1.
        mixing: (B, B) symmetric, not negative; scaled to sum 1.
        edges: number of draws; repeats and self-loops among them are dropped, so slightly fewer edges may remain.
        generator: what draws.
        weights: (n,) > 0, to which a node's expected degree within its block is proportional; None: all the same.

    Returns:
        (source, target), int64, each edge once, source < target.

    Raises:
        UserError: mixing of another shape, asymmetric, negative or zero, an empty block that shall get edges, or
            weights of another shape or not above 0.

    >>> source, target = block_edges([0, 0, 1, 1], [[0, 1], [1, 0]], 20, np.random.default_rng(0))
    >>> list(zip(source.tolist(), target.tolist()))
    [(0, 2), (0, 3), (1, 2), (1, 3)]
    """
    block = np.asarray(blocks, dtype=np.int64)
    wanted = np.asarray(mixing, dtype=np.float64)
    count = wanted.shape[0]
    square = wanted.ndim == 2 and wanted.shape == (count, count)
    if not square or (wanted < 0).any() or not np.array_equal(wanted, wanted.T) or not wanted.sum() > 0:
        raise UserError(
            f"expected a symmetric mixing matrix of numbers >= 0 with a positive sum, got {wanted.tolist()}"
        )
    if block.size and not (block.min() >= 0 and block.max() < count):
        raise UserError(f"expected blocks from 0 to {count - 1}, got {block.min()} to {block.max()}")
    sizes = np.bincount(block, minlength=count)
    if (wanted[sizes == 0] > 0).any():
        raise UserError(f"block {np.flatnonzero(sizes == 0)[0]} shall get edges but has no node")
    order = np.argsort(block, kind="stable")
    first = np.cumsum(sizes) - sizes
    pairs = generator.choice(count * count, size=edges, p=(wanted / wanted.sum()).ravel())
    sides = np.divmod(pairs, count)
    if weights is None:
        places = [first[side] + (generator.random(edges) * sizes[side]).astype(np.int64) for side in sides]
    else:
        weight = np.asarray(weights, dtype=np.float64)
        if weight.shape != block.shape or not (weight > 0).all():
            raise UserError(f"expected a weight above 0 for each of {block.size} nodes, got {weight.shape}")
        below = np.concatenate([[0.0], np.cumsum(weight[order])])
        last = first + sizes
        places = []
        for side in sides:
            drawn = below[first[side]] + generator.random(edges) * (below[last[side]] - below[first[side]])
            # Rounding may carry a draw over the border of its block.
            found = np.searchsorted(below, drawn, side="right") - 1
            places.append(np.clip(found, first[side], last[side] - 1))
    ends = [order[place] for place in places]
    low, high = np.minimum(*ends), np.maximum(*ends)
    keys = np.unique((low * block.size + high)[low != high])
    return keys // max(block.size, 1), keys % max(block.size, 1)


def class_features(
    labels: NDArray[np.int64], features: int, signal: float, generator: np.random.Generator
) -> SparseMatrix:
    """Gaussian features: unit noise around class means whose pairwise distance is ``signal``.

    The mean of class c is signal / √2 times the c-th unit vector, so classes of several graphs have the same means.

    Args:
        labels: (n,) classes 0 … C−1.
        features: columns, at least C.
        signal: distance between two class means in standard deviations of the noise; 0 says nothing of the class.
        generator: what draws.

    Returns:
        (n, features), float32.

    Raises:
        UserError: fewer columns than classes, or a negative signal.
    """
    classes = int(labels.max()) + 1 if labels.size else 0
    if features < max(classes, 1) or not signal >= 0:
        raise UserError(
            f"expected at least {max(classes, 1)} features (one a class) and a signal >= 0, "
            f"got {features} features, signal {signal}"
        )
    values = generator.standard_normal((labels.size, features))
    values[np.arange(labels.size), labels] += signal / np.sqrt(2.0)
    return SparseMatrix.from_dense(torch.from_numpy(values.astype(np.float32)))


def labelled(
    name: str,
    graph: Graph,
    labels: NDArray[np.int64],
    features: SparseMatrix,
    classes: int,
    seed: int,
    source: str,
) -> NodeDataset:
    """A data set with numbered nodes and classes, and the split of `few_label_split` at ``seed``."""
    return NodeDataset(
        name,
        graph,
        features,
        labels,
        tuple(f"class {number}" for number in range(classes)),
        tuple(map(str, range(graph.num_nodes))),
        few_label_split(labels, seed),
        source,
    )


def check_sizes(nodes: int, classes: int, degree: float = 1.0, homophily: float = 0.5) -> None:
    """Refuse what no model of this module can make.

    Raises:
        UserError: a number out of range.
    """
    if classes < 2 or nodes < 4 * classes:
        raise UserError(
            f"expected at least 2 classes and 4 nodes a class, got {nodes} nodes, {classes} classes"
        )
    if not 0 <= homophily <= 1 or not 0 < degree < nodes:
        raise UserError(
            f"expected a homophily from 0 to 1 and a degree above 0 and below {nodes}, "
            f"got homophily {homophily}, degree {degree}"
        )


def _affinity(classes: int, homophily: float) -> NDArray[np.float64]:
    """Share of edge draws between each two classes: ``homophily`` within, the rest evenly between."""
    between = np.full((classes, classes), (1.0 - homophily) / (classes * (classes - 1)))
    np.fill_diagonal(between, homophily / classes)
    return between


def block_model(
    nodes: int = 1000,
    *,
    classes: int = 4,
    degree: float = 6.0,
    homophily: float = 0.8,
    features: int = 32,
    signal: float = 1.0,
    seed: int = 0,
    name: str = "block-model",
) -> NodeDataset:
    """A stochastic block model whose blocks are the classes, of equal size (to one node).

    Args:
        nodes: n, at least 4 a class.
        classes: C >= 2.
        degree: expected degree, before repeated draws are dropped.
        homophily: expected share of edges within a class; 1 / C is a graph that knows nothing of the classes.
        features: columns of the features.
        signal: see `class_features`.
        seed: of everything.
        name: of the data set.

    Returns:
        The data set, with the split of `layerlab.graph.splits.few_label_split` at the same seed.

    Raises:
        UserError: a number out of range.

    >>> data = block_model(400, classes=2, homophily=0.9, seed=1)
    >>> source, target, _ = data.graph.edges()
    >>> bool(0.87 < (data.labels[source] == data.labels[target]).mean() < 0.93)
    True
    """
    check_sizes(nodes, classes, degree, homophily)
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.arange(nodes) % classes)
    ends = block_edges(labels, _affinity(classes, homophily), round(nodes * degree / 2), generator)
    return labelled(
        name,
        Graph.from_edges(*ends, num_nodes=nodes),
        labels,
        class_features(labels, features, signal, generator),
        classes,
        seed,
        f"stochastic block model, {classes} classes, degree {degree:g}, homophily {homophily:g}, "
        f"signal {signal:g}, seed {seed}",
    )


def bipartite_model(
    nodes: int = 1000,
    *,
    classes: int = 4,
    degree: float = 6.0,
    homophily: float = 0.8,
    features: int = 32,
    signal: float = 1.0,
    seed: int = 0,
    name: str = "bipartite",
) -> NodeDataset:
    """A bipartite graph of two equal sides, each holding every class (readers and books, by subject).

    Arguments, result and errors as for `block_model`; all edges join the two sides.

    >>> data = bipartite_model(80, classes=2, degree=3.0, seed=0)
    >>> source, target, _ = data.graph.edges()
    >>> bool(((source < 40) & (target >= 40)).all())
    True
    """
    check_sizes(nodes, classes, degree, homophily)
    generator = np.random.default_rng(seed)
    half = (nodes + 1) // 2
    labels = generator.permutation(np.arange(nodes) % classes)
    affinity, none = _affinity(classes, homophily), np.zeros((classes, classes))
    blocks = labels + classes * (np.arange(nodes) >= half)
    mixing = np.block([[none, affinity], [affinity, none]])
    ends = block_edges(blocks, mixing, round(nodes * degree / 2), generator)
    return labelled(
        name,
        Graph.from_edges(*ends, num_nodes=nodes),
        labels,
        class_features(labels, features, signal, generator),
        classes,
        seed,
        f"bipartite block model, {classes} classes, degree {degree:g}, homophily {homophily:g}, "
        f"signal {signal:g}, seed {seed}",
    )


def cycle_model(
    nodes: int = 1000,
    *,
    classes: int = 4,
    features: int = 32,
    signal: float = 1.0,
    seed: int = 0,
    name: str = "cycle",
) -> NodeDataset:
    """A cycle whose classes are arcs of equal length (to one node).

    The second-largest eigenvalue of a long cycle is 1 − O(1/n²): it smooths slowly, and deep models stay useful.

    Args, Returns, Raises: as for `block_model`.

    >>> data = cycle_model(40, classes=2)
    >>> data.graph.num_edges, data.labels.tolist() == [0] * 20 + [1] * 20
    (40, True)
    """
    check_sizes(nodes, classes)
    generator = np.random.default_rng(seed)
    here = np.arange(nodes)
    labels = here * classes // nodes
    return labelled(
        name,
        Graph.from_edges(here, (here + 1) % nodes),
        labels,
        class_features(labels, features, signal, generator),
        classes,
        seed,
        f"cycle, {classes} arcs as classes, signal {signal:g}, seed {seed}",
    )


def disjoint_union(datasets: Sequence[NodeDataset], *, name: str = "union") -> NodeDataset:
    """Several data sets beside each other, without an edge between them; node i of the second follows the first's.

    Args:
        datasets: at least one; all with the same feature columns and class names, undirected and unweighted.
        name: of the union.

    Returns:
        The union; its split joins those of the parts, and is None where a part has none.

    Raises:
        UserError: no data set, or two that do not fit.

    >>> both = disjoint_union([cycle_model(40, classes=2), cycle_model(24, classes=2)])
    >>> both.num_nodes, both.graph.num_edges
    (64, 64)
    """
    if not datasets:
        raise UserError("expected at least one data set to unite, got none")
    head = datasets[0]
    for one in datasets:
        if (one.num_features, one.class_names) != (head.num_features, head.class_names):
            raise UserError(f"'{one.name}' and '{head.name}' differ in features or classes; unite like ones")
        if one.graph.directed or one.graph.weighted:
            raise UserError(f"'{one.name}' is directed or weighted; only simple graphs are united")
    offsets = np.cumsum([0, *(one.num_nodes for one in datasets)])
    ends = [
        np.concatenate(
            [one.graph.edges()[end] + offset for one, offset in zip(datasets, offsets, strict=False)]
        )
        for end in (0, 1)
    ]
    splits = [one.split for one in datasets if one.split is not None]
    split = None
    if len(splits) == len(datasets):
        parts = (
            np.concatenate(
                [getattr(one, part) + offset for one, offset in zip(splits, offsets, strict=False)]
            )
            for part in ("train", "validation", "test")
        )
        split = Split(*parts)
    return NodeDataset(
        name,
        Graph.from_edges(*ends, num_nodes=int(offsets[-1])),
        SparseMatrix.from_scipy(sparse.vstack([one.feature_matrix.to_scipy() for one in datasets])),
        np.concatenate([one.labels for one in datasets]),
        head.class_names,
        tuple(map(str, range(int(offsets[-1])))),
        split,
        "; ".join(one.source for one in datasets),
    )
