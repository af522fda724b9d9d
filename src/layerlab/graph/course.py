"""The course notebook's variants of GCN and GAT, which differ from the papers' in several details.

Facts of the protocol: the GCN's bias is added before propagation and its input is not dropped out; the GAT shares one
attention vector among all heads, its weights have no bias, and its hidden width is divided by the heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from layerlab.graph import ops
from layerlab.graph.convolution import convolve
from layerlab.graph.layers import GATConv, GraphLike, per_layer
from layerlab.graph.sparse import SparseMatrix
from layerlab.graph.structure import Graph


class CourseGCN(nn.Module):
    """``P (relu-dropout(P (X W1 + b1)) W2 + b2)`` with torch's default linear layers.

    Args:
        in_features: columns of ``x``.
        hidden: width of the hidden layer.
        classes: columns of the output.
        dropout: after the ReLU.
    """

    def __init__(self, in_features: int, hidden: int, classes: int, *, dropout: float = 0.5) -> None:
        super().__init__()
        self.first = nn.Linear(in_features, hidden)
        self.second = nn.Linear(hidden, classes)
        self.dropout = dropout

    @property
    def first_layer(self) -> nn.Module:
        """The layer that reads the features: its parameters are those that "L2 on the first layer only" means."""
        return self.first

    def forward(self, x: Tensor | SparseMatrix, graph: GraphLike) -> Tensor:
        if isinstance(graph, Graph):
            graph = graph.normalized_adjacency(dtype=x.dtype)
        inner, outer = cast(Sequence[SparseMatrix], per_layer(graph, 2))
        hidden = ops.spmm(inner, convolve(x, None, self.first.weight, self.first.bias))
        hidden = convolve(
            *(hidden, None, self.second.weight, self.second.bias),
            activation="relu",
            p=self.dropout,
            training=self.training,
        )
        return ops.spmm(outer, hidden)


class CourseGAT(nn.Module):
    """Dropout, heads with a shared attention vector, ELU, dropout, one averaged head.

    Args:
        in_features: columns of ``x``.
        hidden: features per head (the course has 16 / 8 = 2).
        classes: columns of the output.
        heads: of the hidden layer.
        dropout: on features and coefficients.
    """

    def __init__(
        self, in_features: int, hidden: int, classes: int, *, heads: int = 8, dropout: float = 0.5
    ) -> None:
        super().__init__()
        self.first = GATConv(in_features, hidden, heads, attention="shared", dropout=dropout, bias=False)
        self.second = GATConv(
            heads * hidden, classes, 1, concat=False, attention="shared", dropout=dropout, bias=False
        )
        self.dropout = dropout
        for conv in (self.first, self.second):
            # The notebook's projections and attention vector are torch linear layers with their default weights:
            # uniform within 1 / sqrt(inputs), the attention vector having 2 x width inputs.
            nn.init.uniform_(conv.weight, -(conv.in_features**-0.5), conv.in_features**-0.5)
            bound = (2 * conv.out_features) ** -0.5
            nn.init.uniform_(conv.att_target, -bound, bound)
            nn.init.uniform_(conv.att_source, -bound, bound)

    @property
    def first_layer(self) -> nn.Module:
        """The layer that reads the features: its parameters are those that "L2 on the first layer only" means."""
        return self.first

    def forward(self, x: Tensor | SparseMatrix, graph: GraphLike) -> Tensor:
        inner, outer = per_layer(graph, 2)
        hidden = self.first(x, inner, p=self.dropout)
        out: Tensor = self.second(hidden, outer, activation="elu", p=self.dropout)
        return out
