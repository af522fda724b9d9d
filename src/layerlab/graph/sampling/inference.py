"""The output of a trained model on a whole graph, layer by layer, in blocks of rows.

A batch of nodes reads most of a graph within three steps, so inference batch by batch computes the same hidden rows
over and over. Layer by layer, each is computed once, with all its neighbours; at any time there are the activations
before and after one layer's product or propagation, and a block.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, cast

import numpy as np
import torch
from torch import Tensor, nn

from layerlab.errors import UserError
from layerlab.graph import ops
from layerlab.graph.attention import attend
from layerlab.graph.convolution import Activation, convolve
from layerlab.graph.layers import GATConv, GCNConv, neighbourhoods
from layerlab.graph.models import GAT, GCN, MLP, SGC
from layerlab.graph.sampling.inputs import Inputs
from layerlab.graph.sampling.neighbours import ALL, Sampler
from layerlab.graph.sampling.room import Room, room
from layerlab.graph.sparse import Pattern, SparseMatrix, expect_nodes
from layerlab.graph.structure import Graph

# Entries and rows of a block.
ENTRIES, ROWS = 1 << 20, 1 << 16


def infer(
    model: nn.Module,
    inputs: Inputs,
    graph: Graph,
    nodes: Tensor | None = None,
    *,
    entries: int = ENTRIES,
    memory: int | None = None,
) -> Tensor:
    """What ``model(x, graph)`` has at ``nodes``, in evaluation mode, without gradients.

    Args:
        model: a GCN, GAT, SGC or MLP of this package.
        inputs: the features.
        graph: the graph.
        nodes: ``(k,)`` integers; None: all of them.
        entries: how many of the operator's entries a block holds at most, where a row has no more.
        memory: bytes to reckon with; activations that take much of it are kept in a temporary file. None asks the
            machine.

    Returns:
        ``(k, classes)``.

    Raises:
        UserError: a model of another kind, features or nodes that are not the graph's, or no room for activations.

    >>> _ = torch.manual_seed(0)
    >>> graph, x = Graph.from_edges([0, 1], [1, 2]), SparseMatrix.from_dense(torch.eye(3))
    >>> model = GCN(3, 4, 2).eval()
    >>> torch.allclose(infer(model, Inputs(x), graph), model(x, graph))
    True
    """
    if inputs.shape[0] != graph.num_nodes:
        raise UserError(f"the graph has {graph.num_nodes} nodes, the features {inputs.shape[0]} rows")
    if nodes is not None:
        expect_nodes(nodes, graph.num_nodes)
    wanted = torch.arange(graph.num_nodes) if nodes is None else nodes
    with torch.no_grad(), room(memory) as rooms:
        passes = _Passes(rooms, inputs, entries)
        if type(model) is MLP:
            return passes.of_mlp(model, wanted)
        if type(model) is GCN:
            return passes.of_gcn(model, graph.normalized_adjacency(), wanted)
        if type(model) is GAT:
            return passes.of_gat(model, neighbourhoods(graph), wanted)
        if type(model) is SGC:
            return passes.of_sgc(model, graph.normalized_adjacency(), wanted)
    raise UserError(f"expected a GCN, GAT, SGC or MLP, got {type(model).__name__}; train in full batches")


class _Passes:
    """One inference: where its arrays are, what it reads, how large a block is."""

    def __init__(self, rooms: Room, inputs: Inputs, entries: int) -> None:
        self.rooms, self.inputs, self.entries = rooms, inputs, entries
        self.size = inputs.shape[0]

    def of_gcn(self, model: GCN, operator: SparseMatrix, wanted: Tensor) -> Tensor:
        h: Tensor | None = None
        convs = cast(list[GCNConv], list(model.convs))
        for conv in convs:
            # Of the three arrays that a layer reads or makes, no more than two are there at a time.
            z, h = self._product(h, conv.weight, "relu"), None
            h = self._propagated(operator, z, conv.bias, wanted if conv is convs[-1] else None)
            del z
        assert h is not None
        return h

    def of_sgc(self, model: SGC, operator: SparseMatrix, wanted: Tensor) -> Tensor:
        linear, steps = model.conv.linear, model.conv.steps
        h = self._product(None, linear.weight, None)
        for step in range(steps):
            last = step == steps - 1
            h = self._propagated(operator, h, linear.bias if last else None, wanted if last else None)
        return h if steps else h[wanted] + (0 if linear.bias is None else linear.bias)

    def of_gat(self, model: GAT, pattern: SparseMatrix, wanted: Tensor) -> Tensor:
        h: Tensor | None = None
        convs = cast(list[GATConv], list(model.convs))
        sampler = Sampler(pattern, [ALL], scaled=False)
        for conv in convs:
            z, h = self._product(h, conv.weight, "elu"), None
            rows = wanted if conv is convs[-1] else torch.arange(self.size)
            width = conv.heads * conv.out_features if conv.concat else conv.out_features
            h = self.rooms.array(len(rows), width)
            for here in self._blocks(pattern, rows):
                field = sampler.field(rows[here], 0)
                h[here] = _attended(conv, field.operators[0], z[field.inputs])
            del z
        assert h is not None
        return h

    def of_mlp(self, model: MLP, wanted: Tensor) -> Tensor:
        return torch.cat([_through(model, self.inputs.rows(rows)) for rows in wanted.split(ROWS)])

    def _product(self, h: Tensor | None, weight: Tensor, activation: Literal["relu", "elu"] | None) -> Tensor:
        """``act(h) W^T``; of the features where h is None, which take no activation."""
        z = self.rooms.array(self.size, len(weight))
        act: Activation | None = None if h is None else activation
        for start in range(0, self.size, ROWS):
            here = slice(start, min(start + ROWS, self.size))
            x = self.inputs.rows(torch.arange(here.start, here.stop)) if h is None else h[here]
            z[here] = convolve(x, None, weight, activation=act)
        return z

    def _propagated(
        self, operator: SparseMatrix, z: Tensor, bias: Tensor | None, wanted: Tensor | None
    ) -> Tensor:
        """``P z + b``, or the wanted rows of it."""
        rows = torch.arange(self.size) if wanted is None else wanted
        out = self.rooms.array(len(rows), z.shape[1])
        for here in self._blocks(operator, rows):
            block = _run(operator, here) if wanted is None else operator.rows(rows[here])
            out[here] = ops.spmm(block, z, bias)
        return out

    def _blocks(self, operator: SparseMatrix, rows: Tensor) -> Iterator[slice]:
        """The rows in runs of about as many entries."""
        crow = operator.pattern.arrays[0]
        counts = np.cumsum(crow[rows.numpy() + 1].astype(np.int64) - crow[rows.numpy()])
        start = 0
        while start < len(rows):
            before = counts[start - 1] if start else 0
            stop = int(np.searchsorted(counts, before + self.entries, side="right"))
            stop = min(max(stop, start + 1), start + ROWS, len(rows))
            yield slice(start, stop)
            start = stop


def _through(model: MLP, x: Tensor | SparseMatrix) -> Tensor:
    """What `MLP.forward` does in evaluation, whatever mode the model is in."""
    h = x
    for position, linear in enumerate(cast(list[nn.Linear], list(model.linears))):
        h = convolve(h, None, linear.weight, linear.bias, activation="relu" if position else None)
    return cast(Tensor, h)


def _run(operator: SparseMatrix, rows: slice) -> SparseMatrix:
    """Rows side by side, over the operator's own memory."""
    crow = operator.crow[rows.start : rows.stop + 1]
    entries = slice(int(crow[0]), int(crow[-1]))
    pattern = Pattern(crow - crow[0], operator.col[entries], (rows.stop - rows.start, operator.shape[1]))
    return SparseMatrix(pattern, operator.values[entries])


def _attended(conv: GATConv, operator: SparseMatrix, z: Tensor) -> Tensor:
    """What `GATConv.forward` does after its product, in evaluation."""
    flat = conv.concat or conv.heads == 1
    out = attend(
        *(operator, z, conv.att_target, conv.att_source, conv.bias if flat else None),
        heads=conv.heads,
        negative_slope=conv.negative_slope,
    )
    if flat:
        return out
    out = out.view(len(out), conv.heads, -1).mean(1)
    return out if conv.bias is None else out + conv.bias
