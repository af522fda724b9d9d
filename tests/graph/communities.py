"""A small data set whose classes are the communities of its graph, and settings that train in a blink."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from layerlab.graph.datasets import NodeDataset, Split
from layerlab.graph.settings import Settings, settings_for
from layerlab.graph.sparse import SparseMatrix
from layerlab.graph.structure import Graph


def communities(nodes: int = 60, unlabelled: int = 0, *, split: bool = True, seed: int = 0) -> NodeDataset:
    """Two communities: neighbours mostly agree, and of a node's words every third is of its community."""
    generator = np.random.default_rng(seed)
    labels = np.arange(nodes) % 2
    source, target = [], []
    for node in range(nodes):
        others = np.flatnonzero(labels == labels[node])
        for friend in generator.choice(others[others != node], 3, replace=False):
            source.append(node)
            target.append(int(friend))
    source.append(0)
    target.append(1)
    words = np.zeros((nodes, 12), dtype=np.float32)
    for node in range(nodes):
        words[node, generator.integers(0, 8, 4)] = 1.0
        words[node, 8 + 2 * labels[node] + generator.integers(0, 2)] = 1.0
    known = labels.copy()
    known[nodes - unlabelled :] = -1
    order = generator.permutation(nodes - unlabelled)
    third = len(order) // 3
    own = Split(order[:third], order[third : 2 * third], order[2 * third :]) if split else None
    return NodeDataset(
        "communities",
        Graph.from_edges(source, target, num_nodes=nodes),
        SparseMatrix.from_dense(torch.from_numpy(words)),
        known,
        ("even", "odd"),
        tuple(map(str, range(nodes))),
        own,
        "made here",
    )


def small(model: str, **changes: Any) -> Settings:
    return replace(settings_for(model, "public", "communities"), **{"hidden": 4, "epochs": 3, **changes})
