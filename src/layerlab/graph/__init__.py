"""Graphs: structure, operators, layers, models, data and the claims about them.

The names below are imported on first use: asking which data sets there are does not load torch.

>>> from layerlab import graph
>>> graph.Graph.from_edges([0, 1], [1, 2]).num_nodes
3
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from layerlab.lab.lazy import on_first_use

if TYPE_CHECKING:
    from layerlab.graph.datasets import NodeDataset, Split, load
    from layerlab.graph.interop import from_pyg, to_pyg
    from layerlab.graph.layers import Attention, GATConv, GCNConv, SGConv
    from layerlab.graph.models import GAT, GCN, MLP, SGC
    from layerlab.graph.sparse import SparseMatrix
    from layerlab.graph.structure import Graph

_HOMES = {
    "Attention": "layers",
    "GAT": "models",
    "GATConv": "layers",
    "GCN": "models",
    "GCNConv": "layers",
    "Graph": "structure",
    "MLP": "models",
    "NodeDataset": "datasets",
    "SGC": "models",
    "SGConv": "layers",
    "SparseMatrix": "sparse",
    "Split": "datasets",
    "from_pyg": "interop",
    "load": "datasets",
    "to_pyg": "interop",
}
_MODULES = (
    "convert",
    "experiments",
    "ops",
    "prediction",
    "racing",
    "reference",
    "runs",
    "settings",
    "splits",
    "task",
    "theorems",
    *set(_HOMES.values()),
)

__all__ = [
    "GAT",
    "GCN",
    "MLP",
    "SGC",
    "Attention",
    "GATConv",
    "GCNConv",
    "Graph",
    "NodeDataset",
    "SGConv",
    "SparseMatrix",
    "Split",
    "from_pyg",
    "load",
    "to_pyg",
]

__getattr__, __dir__ = on_first_use(__name__, _HOMES, _MODULES)
