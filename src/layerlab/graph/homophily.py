"""Homophily: whether neighbours share their class more often than chance would have it, and what that says."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from layerlab.errors import UserError
from layerlab.graph.structure import Graph

UNKNOWN = -1


@dataclass(frozen=True)
class Homophily:
    """Measures of how the classes lie on a graph's edges; NaN where one is not defined.

    Attributes:
        edge: share of edges whose ends have one class.
        node: mean over nodes of the share of its neighbours that have its class.
        class_insensitive: excess over the classes' shares, averaged over classes; from 0 to 1.
        adjusted: ``edge`` set to 0 at what the degrees alone make expected and to 1 at perfect agreement; negative
            when neighbours agree less often than chance.
        informativeness: share of the entropy of a node's class that one neighbour's class removes; from 0 to 1.
            A heterophilous graph can have much of it: a neighbour of class a may mean class b.
        expected: ``edge`` of a random graph with the same degrees.
        edges: edges measured: both ends labelled, self-loops left out.
        unlabelled_edges: other edges, of which an end has no label.
    """

    edge: float
    node: float
    class_insensitive: float
    adjusted: float
    informativeness: float
    expected: float
    edges: int
    unlabelled_edges: int

    @property
    def standard_error(self) -> float:
        """Standard error of ``edge`` around ``expected`` if the classes had nothing to do with the edges."""
        return math.sqrt(self.expected * (1 - self.expected) / self.edges) if self.edges else math.nan

    @property
    def kind(self) -> str:
        """ "homophilous", "heterophilous", "neutral" (no more than chance) or "unknown" (not measurable).

        Chance is an adjusted homophily within 0.05 of 0, or an edge homophily within two standard errors of the
        expected one.
        """
        if math.isnan(self.adjusted):
            return "unknown"
        chance = abs(self.edge - self.expected) <= 2 * self.standard_error
        if chance or abs(self.adjusted) <= 0.05:
            return "neutral"
        return "homophilous" if self.adjusted > 0 else "heterophilous"

    def words(self) -> str:
        """What the measures say to a person who chooses a model."""
        if self.kind == "unknown":
            return "homophily cannot be measured: no edge joins two labelled nodes of a graph with two or more classes"
        share = f"{self.edge:.0%} of the edges join nodes of one class, where chance would give {self.expected:.0%}"
        tells = f"a neighbour's class tells {self.informativeness:.0%} of a node's own"
        if self.kind == "homophilous":
            return f"homophilous: {share}; averaging over neighbours strengthens the classes"
        if self.kind == "heterophilous":
            return (
                f"heterophilous: {share}; {tells}; averaging over neighbours blurs the classes: keep a node's own "
                "features beside its neighbours' (concatenation, skip connections), and try a model without edges"
            )
        if self.informativeness > 0.05:
            return (
                f"neither homophilous nor heterophilous: {share}; but {tells}, which a trained model can use"
            )
        return f"no homophily: {share}; {tells}: the edges say little of the classes, try a model without edges first"

    def to_dict(self) -> dict[str, float | int | str | None]:
        """The measures for JSON, None for NaN; with ``kind`` and ``words``."""
        numbers = {
            name: None if isinstance(value, float) and math.isnan(value) else value
            for name, value in asdict(self).items()
        }
        return {**numbers, "kind": self.kind, "words": self.words()}


def homophily(graph: Graph, labels: ArrayLike) -> Homophily:
    """Edge, node, class-insensitive and adjusted homophily, and label informativeness.

    With E the edges between labelled nodes, m their number, C_k the labelled nodes of class k (K classes that
    occur, n labelled nodes), d_v degrees in E and D_k = sum of d_v over C_k::

        edge               h = #{(u, v) in E : y_u = y_v} / m
        node               mean over v with d_v > 0 of #{u in N(v) : y_u = y_v} / d_v
        class-insensitive  1/(K − 1) sum_k max(0, h_k − |C_k| / n),   h_k = share of C_k's edge ends that meet C_k
        adjusted           (h − e) / (1 − e),   e = sum_k D_k² / (2m)²
        informativeness    2 − H(both ends' classes) / H(one end's class),   H the entropy over edges

    References: Pei et al., Geom-GCN, ICLR 2020 (node); Lim et al., Large scale learning on non-homophilous graphs,
    NeurIPS 2021 (class-insensitive); Platonov et al., Characterizing graph datasets for node classification:
    homophily-heterophily dichotomy and beyond, NeurIPS 2023 (adjusted, informativeness).

    Args:
        graph: weights are ignored; an arc counts as an edge whatever its direction; self-loops are left out.
        labels: (n,) integers, -1 where unknown: such nodes and their edges are left out.

    Returns:
        The measures; NaN without an edge between labelled nodes, or with fewer than two classes.

    Raises:
        UserError: labels of another shape or type, or below -1.

    >>> path = Graph.from_edges([0, 1, 2], [1, 2, 3])
    >>> h = homophily(path, [0, 0, 1, 1])
    >>> round(h.edge, 3), h.node, round(h.class_insensitive, 3), round(h.adjusted, 3)
    (0.667, 0.75, 0.333, 0.333)
    """
    classes = np.asarray(labels)
    if classes.shape != (graph.num_nodes,) or (classes.size and classes.dtype.kind not in "iu"):
        raise UserError(
            f"expected one whole-number label for each of {graph.num_nodes} nodes, "
            f"got shape {classes.shape}, {classes.dtype}"
        )
    if classes.size and classes.min() < UNKNOWN:
        raise UserError(f"expected labels from -1 (unknown) on, got {classes.min()}")
    known = classes != UNKNOWN
    names, position = np.unique(classes[known], return_inverse=True)
    compact = np.full(classes.size, -1)
    compact[known] = position
    counted = _count(graph, compact, names.size)
    if not counted.edges or names.size < 2:
        nan = math.nan
        return Homophily(nan, nan, nan, nan, nan, nan, counted.edges, counted.left_out)
    return _measure(counted, compact, names.size)


@dataclass(frozen=True, eq=False)
class _Counts:
    """What is counted over the edges.

    Attributes:
        edges: between labelled nodes, loops left out.
        left_out: other edges that are no loops.
        agree: edges within a class.
        degree: (n) counted edges of each node.
        agreeing: (n) of these within its class.
        joint: (classes, classes) ordered pairs of ends.
    """

    edges: int
    left_out: int
    agree: int
    degree: NDArray[np.int64]
    agreeing: NDArray[np.int64]
    joint: NDArray[np.int64]


def _count(graph: Graph, classes: NDArray[np.int64], count: int) -> _Counts:
    """One pass over the graph, a few million entries at a time."""
    n = classes.size
    degree, agreeing = np.zeros((2, n), dtype=np.int64)
    joint = np.zeros(count * count, dtype=np.int64)
    edges = left_out = agree = 0
    for source, target in graph.entries():
        # An undirected edge is stored at both of its ends: once is enough.
        proper = source != target if graph.directed else source < target
        source, target = source[proper], target[proper]
        labelled = (classes[source] >= 0) & (classes[target] >= 0)
        left_out += int(labelled.size - labelled.sum())
        source, target = source[labelled], target[labelled]
        one, other = classes[source], classes[target]
        same = one == other
        edges += source.size
        agree += int(same.sum())
        for ends in (source, target):
            degree += np.bincount(ends, minlength=n)
            agreeing += np.bincount(ends[same], minlength=n)
        joint += np.bincount(one * count + other, minlength=joint.size)
        joint += np.bincount(other * count + one, minlength=joint.size)
    return _Counts(edges, left_out, agree, degree, agreeing, joint.reshape(count, count))


def _measure(counted: _Counts, classes: NDArray[np.int64], count: int) -> Homophily:
    m, degree, agreeing = counted.edges, counted.degree, counted.agreeing
    # Ordered pairs of classes over both directions: symmetric, with the degree shares as margins.
    joint = counted.joint / (2 * m)
    margin = joint.sum(axis=1)
    sizes = np.bincount(classes[classes >= 0], minlength=count)
    within = np.divide(np.diag(joint), margin, out=np.zeros(count), where=margin > 0)
    excess = np.maximum(within - sizes / sizes.sum(), 0.0)
    edge, expected = counted.agree / m, float((margin**2).sum())
    one = _entropy(margin)
    return Homophily(
        edge=edge,
        node=float((agreeing[degree > 0] / degree[degree > 0]).mean()),
        class_insensitive=float(excess.sum()) / (count - 1),
        adjusted=(edge - expected) / (1 - expected) if expected < 1 else math.nan,
        informativeness=max(0.0, 2 - _entropy(joint.ravel()) / one) if one > 0 else math.nan,
        expected=expected,
        edges=m,
        unlabelled_edges=counted.left_out,
    )


def _entropy(shares: NDArray[np.float64]) -> float:
    positive = shares[shares > 0]
    return float(-(positive * np.log(positive)).sum())
