"""The models of the papers: GCN, GAT, SGC, and an MLP that sees no graph.

Each takes ``(x, graph)`` and returns logits ``(n, classes)``; ``x`` may be sparse, and then stays sparse. ``graph`` may
also be one operator a layer, as `layerlab.graph.field.receptive_field` gives them.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import cast

from torch import Tensor, nn

from layerlab.errors import UserError
from layerlab.graph.convolution import Activation, convolve
from layerlab.graph.layers import GATConv, GCNConv, GraphLike, SGConv, per_layer
from layerlab.graph.sparse import SparseMatrix
from layerlab.graph.structure import Graph


def _check_depth(layers: int) -> None:
    if layers < 1:
        raise UserError(f"expected layers >= 1, got {layers}")


def _through(
    convs: nn.ModuleList,
    x: Tensor | SparseMatrix,
    graph: GraphLike,
    activation: Activation,
    p: float,
) -> Tensor:
    """Dropout, convolution, activation, dropout, convolution, ..."""
    out = x
    for position, (conv, operator) in enumerate(zip(convs, per_layer(graph, len(convs)), strict=True)):
        out = conv(out, operator, activation=activation if position else None, p=p)
    return cast(Tensor, out)


class GCN(nn.Module):
    """Dropout, `GCNConv`, ReLU, ..., dropout, `GCNConv` (Kipf and Welling, ICLR 2017).

    Args:
        in_features: columns of ``x``.
        hidden: width of the hidden layers.
        classes: columns of the output.
        layers: number of convolutions; 1 is logistic regression on propagated features.
        dropout: before every convolution.
    """

    def __init__(
        self, in_features: int, hidden: int, classes: int, *, layers: int = 2, dropout: float = 0.5
    ) -> None:
        super().__init__()
        _check_depth(layers)
        widths = [in_features, *[hidden] * (layers - 1), classes]
        self.convs = nn.ModuleList(GCNConv(a, b) for a, b in pairwise(widths))
        self.dropout = dropout

    @property
    def first_layer(self) -> nn.Module:
        """The layer that reads the features: its parameters are those that "L2 on the first layer only" means."""
        return self.convs[0]

    def forward(self, x: Tensor | SparseMatrix, graph: GraphLike) -> Tensor:
        return _through(self.convs, x, graph, "relu", self.dropout)


class GAT(nn.Module):
    """Dropout, `GATConv` (heads concatenated), ELU, ..., dropout, `GATConv` (heads averaged) (Veličković et al., 2018).

    Args:
        in_features: columns of ``x``.
        hidden: features per head of the hidden layers.
        classes: columns of the output.
        heads: heads of the hidden layers.
        out_heads: heads of the last layer.
        layers: number of convolutions.
        dropout: before every convolution.
        attention_dropout: on the coefficients; the same as ``dropout`` when None.
    """

    def __init__(
        self,
        in_features: int,
        hidden: int,
        classes: int,
        *,
        heads: int = 8,
        out_heads: int = 1,
        layers: int = 2,
        dropout: float = 0.6,
        attention_dropout: float | None = None,
    ) -> None:
        super().__init__()
        _check_depth(layers)
        drop = dropout if attention_dropout is None else attention_dropout
        widths = [in_features, *[hidden * heads] * (layers - 1)]
        self.convs = nn.ModuleList(GATConv(width, hidden, heads, dropout=drop) for width in widths[:-1])
        self.convs.append(GATConv(widths[-1], classes, out_heads, concat=False, dropout=drop))
        self.dropout = dropout

    @property
    def first_layer(self) -> nn.Module:
        """The layer that reads the features: its parameters are those that "L2 on the first layer only" means."""
        return self.convs[0]

    def forward(self, x: Tensor | SparseMatrix, graph: GraphLike) -> Tensor:
        return _through(self.convs, x, graph, "elu", self.dropout)


class SGC(nn.Module):
    """Logistic regression on ``P^K X`` (Wu et al., ICML 2019).

    Args:
        in_features: columns of ``x``.
        classes: columns of the output.
        steps: K.
    """

    def __init__(self, in_features: int, classes: int, *, steps: int = 2) -> None:
        super().__init__()
        self.conv = SGConv(in_features, classes, steps)

    @property
    def first_layer(self) -> nn.Module:
        """The layer that reads the features: its parameters are those that "L2 on the first layer only" means."""
        return self.conv

    def precompute(self, x: Tensor | SparseMatrix, graph: Graph | SparseMatrix) -> Tensor:
        """``P^K X``, to be passed to `forward` with ``graph=None``."""
        return self.conv.precompute(x, graph)

    def forward(self, x: Tensor | SparseMatrix, graph: GraphLike | None) -> Tensor:
        """``graph`` None: x is the result of `precompute`."""
        out: Tensor = self.conv(x, graph)
        return out


class MLP(nn.Module):
    """The control that sees no edge: dropout, linear, ReLU, ..., dropout, linear.

    Args:
        in_features: columns of ``x``.
        hidden: width of the hidden layers.
        classes: columns of the output.
        layers: number of linear layers.
        dropout: before every linear layer.
    """

    def __init__(
        self, in_features: int, hidden: int, classes: int, *, layers: int = 2, dropout: float = 0.5
    ) -> None:
        super().__init__()
        _check_depth(layers)
        widths = [in_features, *[hidden] * (layers - 1), classes]
        self.linears = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.dropout = dropout

    @property
    def first_layer(self) -> nn.Module:
        """The layer that reads the features: its parameters are those that "L2 on the first layer only" means."""
        return self.linears[0]

    def forward(self, x: Tensor | SparseMatrix, graph: GraphLike | None = None) -> Tensor:
        """``graph`` is accepted, so that every model is called alike, and ignored."""
        out = x
        for position, linear in enumerate(cast(Iterable[nn.Linear], self.linears)):
            activation: Activation | None = "relu" if position else None
            out = convolve(
                *(out, None, linear.weight, linear.bias),
                activation=activation,
                p=self.dropout,
                training=self.training,
            )
        return cast(Tensor, out)
