"""What is trained on: Cora, PubMed, and seeded power-law graphs of any size."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerlab.graph import Graph, NodeDataset, SparseMatrix, load
from layerlab.graph.settings import Settings, settings_for
from layerlab.graph.task import normalise_rows

# ogbn-arxiv's sizes: nodes, undirected edges, features, classes, training nodes.
ARXIV_NODES, ARXIV_EDGES, FEATURES, CLASSES, ARXIV_TRAIN = 169_343, 1_166_243, 128, 40, 90_941
# Weight of the node of rank r: (r + 1) ** -EXPONENT, which gives degrees a tail of exponent 1 + 1 / EXPONENT = 2.5,
# and ogbn-arxiv's largest degree (13,161) to a few per cent.
EXPONENT = 2 / 3
QUANTILES = (0.01, 0.25, 0.5, 0.75, 0.99, 0.999, 1.0)


@dataclass(frozen=True)
class Workload:
    """One data set with the models that are trained on it.

    Args:
        name: for results and pages.
        graph: undirected.
        features: ``(nodes, features)``; a `SparseMatrix` (rows normalised) or a tensor.
        labels: ``(nodes,)`` int64.
        train: positions of the training nodes.
        settings: "gcn" and "gat" -> their settings.
        dataset: the data set as layerlab trains on it, None for generated graphs.
    """

    name: str
    graph: Graph
    features: SparseMatrix | Tensor
    labels: Tensor
    train: Tensor
    settings: dict[str, Settings]
    dataset: NodeDataset | None = field(default=None, repr=False)

    @property
    def classes(self) -> int:
        return int(self.labels.max()) + 1

    @cached_property
    def dense(self) -> Tensor:
        """The features as torch_geometric's users have them."""
        return self.features.to_dense() if isinstance(self.features, SparseMatrix) else self.features

    @cached_property
    def edge_index(self) -> Tensor:
        """``(2, directed edges)`` int64."""
        source, target, _ = self.graph.edges()
        both = np.stack([np.concatenate([source, target]), np.concatenate([target, source])])
        return torch.from_numpy(both)

    def sizes(self) -> dict[str, Any]:
        degrees = np.diff(self.graph.indptr)
        return {
            "nodes": self.graph.num_nodes,
            "directed_edges": int(self.graph.indices.size),
            "features": int(self.features.shape[1]),
            "features_stored": self.features.nnz
            if isinstance(self.features, SparseMatrix)
            else self.features.numel(),
            "classes": self.classes,
            "train": len(self.train),
            "degree_quantiles": {f"{q:g}": float(np.quantile(degrees, q)) for q in QUANTILES},
        }


def named(name: str) -> Workload:
    """Cora or PubMed with their public split; UserError where the data are not here."""
    data = load(name)
    assert data.split is not None
    return Workload(
        name,
        data.graph,
        normalise_rows(data.features),
        torch.tensor(data.labels),
        torch.tensor(data.split.train),
        {kind: settings_for(kind, "public", name) for kind in ("gcn", "gat")},
        data,
    )


def chung_lu(nodes: int, edges: int, seed: int = 0) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """A random graph with power-law degrees: exactly ``edges`` different pairs u < v, no self-loop.

    Chung and Lu's model in its edge-by-edge form: both ends of an edge are drawn with probability proportional to
    their weights; loops and repeats are drawn again. Names are shuffled, so that hubs lie anywhere.
    """
    rng = np.random.default_rng(seed)
    weights = np.arange(1, nodes + 1) ** -EXPONENT
    bounds = np.cumsum(weights) / weights.sum()
    names = rng.permutation(nodes)
    pairs = np.empty(0, np.int64)
    while len(pairs) < edges:
        wanted = int(1.3 * (edges - len(pairs))) + 16
        # The last bound is 1 up to rounding.
        u, v = (np.minimum(np.searchsorted(bounds, rng.random(wanted)), nodes - 1) for _ in range(2))
        new = (np.minimum(u, v) * nodes + np.maximum(u, v))[u != v]
        pairs = np.unique(np.concatenate([pairs, new]))
    pairs = rng.choice(pairs, edges, replace=False)
    u, v = names[pairs // nodes], names[pairs % nodes]
    return np.minimum(u, v), np.maximum(u, v)


def power_law(edges: int, seed: int = 0, scale_name: str | None = None) -> Workload:
    """A `chung_lu` graph of ``edges`` undirected edges with ogbn-arxiv's mean degree, features, classes and share of
    training nodes; features are standard normal, labels uniform.
    """
    nodes = round(edges * ARXIV_NODES / ARXIV_EDGES)
    source, target = chung_lu(nodes, edges, seed)
    rng = np.random.default_rng((seed, 1))
    features = torch.from_numpy(rng.standard_normal((nodes, FEATURES), dtype=np.float32))
    labels = torch.from_numpy(rng.integers(0, CLASSES, nodes))
    labels[:CLASSES] = torch.arange(CLASSES)
    train = np.sort(rng.permutation(nodes)[: round(nodes * ARXIV_TRAIN / ARXIV_NODES)])
    settings = {
        "gcn": Settings("gcn"),
        "gat": Settings("gat", hidden=16, heads=8, dropout=0.6),
    }
    graph = Graph.from_edges(source, target, num_nodes=nodes)
    return Workload(
        scale_name or f"power law, {2 * edges:,} edges",
        graph,
        features,
        labels,
        torch.from_numpy(train),
        settings,
    )
