"""A data set small enough to read, and when two data sets are the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from layerlab.graph import Graph
from layerlab.graph.node_data import NodeDataset, Split
from layerlab.graph.sparse import SparseMatrix


def small(**changes: Any) -> NodeDataset:
    parts: dict[str, Any] = {
        "name": "small",
        "graph": Graph.from_edges([0, 1, 2], [1, 2, 3], num_nodes=5),
        "features": SparseMatrix.from_dense(torch.tensor([[1.0, 0], [0, 0.5], [0, 0], [2, 3], [0, 0]])),
        "labels": [0, 1, 1, 0, -1],
        "class_names": ("a", "b"),
        "node_ids": ("p", "q", "r", "s", "é"),
        "split": Split([0], [1], [3, 2]),
        "source": "made up",
        "notes": ("one", "two"),
    }
    return NodeDataset(**{**parts, **changes})


def same(one: NodeDataset, other: NodeDataset) -> None:
    assert one.graph == other.graph
    assert torch.equal(one.features.crow, other.features.crow)
    assert torch.equal(one.features.col, other.features.col)
    assert torch.equal(one.features.values, other.features.values)
    assert one.features.shape == other.features.shape
    np.testing.assert_array_equal(one.labels, other.labels)
    for name in ("name", "class_names", "node_ids", "source", "notes"):
        assert getattr(one, name) == getattr(other, name)
    assert (one.split is None) == (other.split is None)
    if one.split is not None and other.split is not None:
        for part in ("train", "validation", "test"):
            np.testing.assert_array_equal(getattr(one.split, part), getattr(other.split, part))
