"""Graph convolutions: thin modules over the operators of `layerlab.graph.ops`.

Every layer takes ``(x, graph)``: ``x`` is a tensor or a `SparseMatrix` of features, ``graph`` a `Graph`, or a
`SparseMatrix` that is used as the operator as it stands (rows receive). A `Graph` is immutable and remembers its
normalised adjacency, so nothing is normalised twice and nothing can go stale. An operator may be rectangular, as those
of a receptive field are: its rows are then the first of its columns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias, overload

import torch
from torch import Tensor, nn

from layerlab.errors import UserError
from layerlab.graph import ops
from layerlab.graph.attention import attend, coefficients_of
from layerlab.graph.convolution import Activation, convolve
from layerlab.graph.sparse import SparseMatrix
from layerlab.graph.structure import Graph

GraphLike: TypeAlias = Graph | SparseMatrix | Sequence[SparseMatrix]


def _operator(graph: Graph | SparseMatrix, x: Tensor | SparseMatrix, self_loops: bool = True) -> SparseMatrix:
    """The propagation operator for ``x``: the normalised adjacency in x's dtype, on x's device."""
    if isinstance(graph, Graph):
        operator = graph.normalized_adjacency(self_loops=self_loops, dtype=x.dtype)
        operator = operator if operator.device == x.device else operator.to(device=x.device)
    elif isinstance(graph, SparseMatrix):
        operator = graph
    else:
        raise UserError(
            f"expected a Graph or a SparseMatrix, got {type(graph).__name__}; see Graph.from_edges"
        )
    if x.shape[0] != operator.shape[1]:
        raise UserError(f"the graph has {operator.shape[1]} nodes, the features {x.shape[0]} rows")
    return operator


def neighbourhoods(graph: Graph, dtype: torch.dtype = torch.float32) -> SparseMatrix:
    """Who attends to whom: row i holds the senders of node i, itself included. Attention uses its pattern alone."""
    return graph.with_self_loops().transpose().adjacency(dtype=dtype)


def per_layer(graph: GraphLike, depth: int) -> Sequence[Graph | SparseMatrix]:
    """What each of ``depth`` layers gets: the same graph, or one operator each (see `layerlab.graph.field`)."""
    if isinstance(graph, (Graph, SparseMatrix)):
        return [graph] * depth
    if not isinstance(graph, Sequence):
        raise UserError(f"expected a Graph, a SparseMatrix or one a layer, got {type(graph).__name__}")
    if len(graph) != depth:
        raise UserError(f"expected one operator for each of {depth} layers, got {len(graph)}")
    return graph


def _check_features(x: Tensor | SparseMatrix, expected: int) -> None:
    if not isinstance(x, (Tensor, SparseMatrix)):
        raise UserError(f"expected features as a tensor or a SparseMatrix, got {type(x).__name__}")
    if len(x.shape) != 2 or x.shape[1] != expected:
        raise UserError(f"expected features of shape (nodes, {expected}), got {tuple(x.shape)}")


def _glorot(fan_out: int, fan_in: int, rows: int, columns: int) -> nn.Parameter:
    bound = math.sqrt(6.0 / (fan_in + fan_out))
    return nn.Parameter(torch.empty(rows, columns).uniform_(-bound, bound))


def _positive(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise UserError(f"expected {name} >= 1, got {size}")


class GCNConv(nn.Module):
    r"""Graph convolution, ``out = P X W^T + b`` with ``P = D^-1/2 (A + I) D^-1/2``.

    Reference: Kipf and Welling, Semi-Supervised Classification with Graph Convolutional Networks, ICLR 2017, eq. 8.
    Glorot-uniform weights, zero bias.

    Args:
        in_features: columns of ``x``.
        out_features: columns of the output.
        bias: whether to add b.
        self_loops: whether P contains the self-loops.

    Shapes:
        x ``(n, in_features)``, dense or sparse, float32 or float64; output ``(n, out_features)``.

    Raises:
        UserError: the features do not fit the layer or the graph.

    >>> _ = torch.manual_seed(0)
    >>> GCNConv(3, 2)(torch.ones(4, 3), Graph.from_edges([0, 1, 2], [1, 2, 3])).shape
    torch.Size([4, 2])
    """

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, self_loops: bool = True
    ) -> None:
        super().__init__()
        _positive(in_features=in_features, out_features=out_features)
        self.in_features, self.out_features, self.self_loops = in_features, out_features, self_loops
        self.weight = _glorot(out_features, in_features, out_features, in_features)
        self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None

    def forward(
        self,
        x: Tensor | SparseMatrix,
        graph: Graph | SparseMatrix,
        *,
        activation: Activation | None = None,
        p: float = 0.0,
    ) -> Tensor:
        """The output; ``activation`` and, in training, dropout with probability ``p`` are applied to ``x`` first."""
        _check_features(x, self.in_features)
        operator = _operator(graph, x, self.self_loops)
        return convolve(
            x, operator, self.weight, self.bias, activation=activation, p=p, training=self.training
        )

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, self_loops={self.self_loops}"


class Attention(NamedTuple):
    """The coefficients of a `GATConv` and the edges they belong to, self-loops included.

    ``coefficients[e, h]`` is the weight that node ``target[e]`` gives to the message of node ``source[e]`` in head
    h; over the edges of one target they sum to 1.
    """

    source: Tensor
    target: Tensor
    coefficients: Tensor


class GATConv(nn.Module):
    r"""Graph attention, ``out_i = sum over j in N(i) of alpha_ij W x_j`` per head, plus bias.

    ``alpha_ij = softmax over j in N(i) of LeakyReLU(a_target . W x_i + a_source . W x_j)``, which equals the papers'
    ``LeakyReLU(a . [W x_i || W x_j])`` without building the concatenation. N(i) are the nodes with an edge to i, and
    i itself. Edge weights are not used.

    Reference: Veličković et al., Graph Attention Networks, ICLR 2018. Glorot-uniform weights, zero bias.

    Args:
        in_features: columns of ``x``.
        out_features: columns of the output per head.
        heads: number of heads.
        concat: concatenate the heads (``heads * out_features`` columns) or average them (``out_features``).
        attention: one attention vector "per-head" (the paper) or one "shared" by all heads (the course notebook).
        dropout: probability of dropping a normalised coefficient in training.
        negative_slope: of the LeakyReLU.
        bias: whether to add one.

    Shapes:
        x ``(n, in_features)``, dense or sparse; output ``(n, heads * out_features)`` or ``(n, out_features)``.

    >>> _ = torch.manual_seed(0)
    >>> graph = Graph.from_edges([0, 1], [1, 2])
    >>> out, attention = GATConv(3, 2, heads=4)(torch.ones(3, 3), graph, return_attention=True)
    >>> out.shape, attention.coefficients.shape
    (torch.Size([3, 8]), torch.Size([7, 4]))
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        heads: int = 1,
        concat: bool = True,
        attention: Literal["per-head", "shared"] = "per-head",
        dropout: float = 0.0,
        negative_slope: float = 0.2,
        bias: bool = True,
    ) -> None:
        super().__init__()
        _positive(in_features=in_features, out_features=out_features, heads=heads)
        if attention not in ("per-head", "shared"):
            raise UserError(f"expected attention 'per-head' or 'shared', got {attention!r}")
        if not 0.0 <= dropout < 1.0:
            raise UserError(f"expected a dropout probability in [0, 1), got {dropout}")
        self.in_features, self.out_features, self.heads = in_features, out_features, heads
        self.concat, self.attention = concat, attention
        self.dropout, self.negative_slope = dropout, negative_slope
        vectors = heads if attention == "per-head" else 1
        self.weight = _glorot(heads * out_features, in_features, heads * out_features, in_features)
        self.att_target = _glorot(vectors, out_features, vectors, out_features)
        self.att_source = _glorot(vectors, out_features, vectors, out_features)
        self.bias = (
            nn.Parameter(torch.zeros(heads * out_features if concat else out_features)) if bias else None
        )

    @overload
    def forward(
        self,
        x: Tensor | SparseMatrix,
        graph: Graph | SparseMatrix,
        return_attention: Literal[False] = False,
        *,
        activation: Activation | None = None,
        p: float = 0.0,
    ) -> Tensor: ...

    @overload
    def forward(
        self,
        x: Tensor | SparseMatrix,
        graph: Graph | SparseMatrix,
        return_attention: Literal[True],
        *,
        activation: Activation | None = None,
        p: float = 0.0,
    ) -> tuple[Tensor, Attention]: ...

    def forward(
        self,
        x: Tensor | SparseMatrix,
        graph: Graph | SparseMatrix,
        return_attention: bool = False,
        *,
        activation: Activation | None = None,
        p: float = 0.0,
    ) -> Tensor | tuple[Tensor, Attention]:
        """The output, and on request the coefficients before dropout.

        ``activation`` and, in training, dropout with probability ``p`` are applied to ``x`` first.
        """
        _check_features(x, self.in_features)
        if isinstance(graph, Graph):
            graph = neighbourhoods(graph, x.dtype).to(device=x.device)
        pattern = _operator(graph, x).pattern
        z = convolve(x, None, self.weight, activation=activation, p=p, training=self.training)
        vectors = (self.att_target, self.att_source)
        # The mean of one head is that head.
        flat = self.concat or self.heads == 1
        out = attend(
            *(pattern, z, *vectors, self.bias if flat else None),
            heads=self.heads,
            negative_slope=self.negative_slope,
            p=self.dropout,
            training=self.training,
        )
        if not flat:
            out = out.view(-1, self.heads, self.out_features).mean(1)
            out = out if self.bias is None else out + self.bias
        if not return_attention:
            return out
        coefficients = coefficients_of(
            pattern, z, *vectors, heads=self.heads, negative_slope=self.negative_slope
        )
        return out, Attention(pattern.col.long(), pattern.row.long(), coefficients)

    def extra_repr(self) -> str:
        return (
            f"{self.in_features}, {self.out_features}, heads={self.heads}, concat={self.concat}, "
            f"attention={self.attention!r}, dropout={self.dropout}"
        )


class SGConv(nn.Module):
    r"""Simplified graph convolution, ``out = P^K X W^T + b``: one linear layer and K propagations.

    Reference: Wu et al., Simplifying Graph Convolutional Networks, ICML 2019. ``torch.nn.Linear``'s default weights.

    Propagation does not depend on the weights, so a training loop calls `precompute` once and passes its result with
    ``graph=None``. Nothing is cached inside the layer: a cache that ignores a new input gives wrong answers silently.
    With a graph the linear layer comes first, ``P^K (X W^T) + b``: propagating classes costs less than features, which
    stay sparse.

    Args:
        in_features: columns of ``x``.
        out_features: columns of the output.
        steps: K >= 0.
        bias: whether to add b.

    >>> _ = torch.manual_seed(0)
    >>> graph, x, layer = Graph.from_edges([0, 1], [1, 2]), torch.eye(3), SGConv(3, 2, steps=2)
    >>> torch.allclose(layer(x, graph), layer(layer.precompute(x, graph), None))
    True
    """

    def __init__(self, in_features: int, out_features: int, steps: int = 2, bias: bool = True) -> None:
        super().__init__()
        _positive(in_features=in_features, out_features=out_features)
        if steps < 0:
            raise UserError(f"expected steps >= 0, got {steps}")
        self.steps = steps
        self.linear = nn.Linear(in_features, out_features, bias=bias)

    def precompute(self, x: Tensor | SparseMatrix, graph: Graph | SparseMatrix) -> Tensor:
        """``P^K X``, ``(n, in_features)``: dense, since K steps fill the rows up."""
        _check_features(x, self.linear.in_features)
        return ops.propagate(_operator(graph, x), x, self.steps)

    def forward(self, x: Tensor | SparseMatrix, graph: GraphLike | None) -> Tensor:
        """With a graph, or one operator a step, x are features; with None, x is the result of `precompute`."""
        _check_features(x, self.linear.in_features)
        weight, bias = self.linear.weight, self.linear.bias
        operators = [] if graph is None else per_layer(graph, self.steps)
        first = _operator(operators[0], x) if operators else None
        out = convolve(x, first, weight, bias if len(operators) < 2 else None)
        for position, operator in enumerate(operators[1:], 2):
            out = ops.spmm(_operator(operator, out), out, bias if position == len(operators) else None)
        return out

    def extra_repr(self) -> str:
        return f"steps={self.steps}"
