"""torch_geometric's layers on sampled batches, in the forms in which its users have them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from layerlab.graph.field import Field
from layerlab.graph.interop import to_pyg
from layerlab.graph.sparse import Pattern, SparseMatrix
from scale_bench.plain import Subgraph


class Peer(nn.Module):
    """torch_geometric's convolutions with the weights of one of our models, wired as its examples are.

    Args:
        model: a GCN or GAT of layerlab.
        kind: "gcn" or "gat".
        given: whether the operators come with self-loops and normalised values, so that the layers add nothing.
    """

    def __init__(self, model: nn.Module, kind: str, *, given: bool) -> None:
        super().__init__()
        self.kind = kind
        self.convs = nn.ModuleList(to_pyg(conv) for conv in model.convs)  # type: ignore[arg-type, union-attr]
        for conv in self.convs if given else ():
            if kind == "gcn":
                conv.normalize = False
            conv.add_self_loops = False
        self.activation = functional.relu if kind == "gcn" else functional.elu
        self.p = float(model.dropout)  # type: ignore[arg-type]

    def _between(self, x: Tensor, layer: int) -> Tensor:
        return functional.dropout(self.activation(x) if layer else x, self.p, self.training)

    def on_subgraph(self, x: Tensor, part: Subgraph) -> Tensor:
        """A loader's batch: every layer normalises anew, and is trimmed to what the next ones read."""
        from torch_geometric.utils import trim_to_layer

        edges = part.edge_index
        for layer, conv in enumerate(self.convs):
            x, edges, _ = trim_to_layer(layer, part.nodes_per_hop, part.edges_per_hop, x, edges)
            x = conv(self._between(x, layer), edges)
        return x[: part.nodes_per_hop[0]]

    def untrimmed(self, x: Tensor, part: Subgraph) -> Tensor:
        """The same, every layer on all edges."""
        for layer, conv in enumerate(self.convs):
            x = conv(self._between(x, layer), part.edge_index)
        return x[: part.nodes_per_hop[0]]

    def on_edges(self, x: Tensor, forms: list[tuple[Tensor, Tensor, int]]) -> Tensor:
        """The blocks as lists of edges with values; rows trimmed after each layer."""
        for layer, (conv, (edges, values, rows)) in enumerate(zip(self.convs, forms, strict=True)):
            h = self._between(x, layer)
            x = (conv(h, edges, values) if self.kind == "gcn" else conv(h, edges))[:rows]
        return x

    def on_matrices(self, x: Tensor, matrices: list[Tensor]) -> Tensor:
        """A GCN on the blocks as torch's compressed rows, rows x columns: a product a layer, nothing to trim."""
        for layer, (conv, matrix) in enumerate(zip(self.convs, matrices, strict=True)):
            x = conv(self._between(x, layer), matrix)
        return x


def edges_of(field: Field) -> list[tuple[Tensor, Tensor, int]]:
    """Each operator of a field as (edge_index, values, rows)."""
    return [
        (torch.stack([block.col.long(), block.row.long()]), block.values, block.shape[0])
        for block in field.operators
    ]


def matrices_of(field: Field) -> list[Tensor]:
    """Each operator of a field as a torch matrix of compressed rows."""
    return [_matrix(block) for block in field.operators]


def _matrix(block: SparseMatrix) -> Tensor:
    return torch.sparse_csr_tensor(block.crow, block.col, block.values, block.shape)


def trained_step(net: nn.Module, forward: Any, labels: Tensor, optimizer: torch.optim.Optimizer) -> float:
    """zero_grad, forward, cross-entropy, backward, Adam."""
    optimizer.zero_grad(set_to_none=True)
    loss = functional.cross_entropy(forward(), labels)
    loss.backward()
    optimizer.step()
    return float(loss.detach())


def fresh(block: SparseMatrix) -> SparseMatrix:
    """The same operator without what its pattern has kept."""
    return SparseMatrix(Pattern(block.crow, block.col, block.shape), block.values)
