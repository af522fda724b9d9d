"""Who trains: torch_geometric's layers and layerlab's, each on the form of the data that it wants.

A runner has a loss (forward pass) and a step: zero_grad, forward pass, loss on the training nodes, backward pass, Adam.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from graph_bench.workloads import Workload
from layerlab.graph import SparseMatrix
from layerlab.graph.field import receptive_field
from layerlab.graph.layers import neighbourhoods
from layerlab.graph.model_loss import ModelLoss
from layerlab.graph.task import NodeTask, build_model, parts_for
from layerlab.lab import optimizing

PEER, PEER_SPARSE = "torch_geometric", "torch_geometric, sparse adjacency"
WHOLE, FIELD = "layerlab, whole graph", "layerlab, receptive field"


@dataclass(frozen=True)
class Runner:
    """A model with its data and its optimizer."""

    name: str
    module: nn.Module
    loss: Callable[[], Tensor]
    optimizer: torch.optim.Optimizer
    backward: Callable[[], float] | None = None
    """Loss and gradients in one, for a model that is stepped as `layerlab.lab.training.fit` does it."""

    def backpropagate(self) -> float:
        """The loss, and its gradients in the parameters."""
        if self.backward is not None:
            return self.backward()
        loss = self.loss()
        loss.backward()
        return float(loss.detach())

    def step(self) -> None:
        if self.backward is None:
            self.optimizer.zero_grad()
            self.loss().backward()
            self.optimizer.step()
        else:
            optimizing.zero_grad(self.optimizer)
            self.backward()
            optimizing.step(self.optimizer)


class Peer(nn.Module):
    """torch_geometric's layers with our weights, wired as its examples are."""

    def __init__(self, model: nn.Module, kind: str, normalize: bool = True) -> None:
        from layerlab.graph import to_pyg

        super().__init__()
        self.convs = nn.ModuleList(to_pyg(conv) for conv in model.convs)  # type: ignore[arg-type, union-attr]
        for conv in self.convs if kind == "gcn" else ():
            # GCNConv normalises anew at every call unless told otherwise; its examples for a fixed graph cache.
            conv.cached, conv.normalize = normalize, normalize
        self.activation = nn.functional.relu if kind == "gcn" else nn.functional.elu
        self.p = model.dropout

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        for position, conv in enumerate(self.convs):
            x = self.activation(x) if position else x
            x = conv(nn.functional.dropout(x, self.p, self.training), edges)
        return x


def new_model(workload: Workload, kind: str, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return build_model(workload.settings[kind], workload.features.shape[1], workload.classes)


def _adam(module: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(module.parameters(), lr=0.01, weight_decay=5e-4, fused=True)


def _entropy(workload: Workload, logits: Callable[[], Tensor]) -> Callable[[], Tensor]:
    labels = workload.labels[workload.train]
    # For both sides: the backward of `logits[train]` takes several times longer.
    return lambda: nn.functional.cross_entropy(logits().index_select(0, workload.train), labels)


def peer(workload: Workload, kind: str, dtype: torch.dtype = torch.float32, seed: int = 0) -> Runner:
    """torch_geometric as its users have it: dense features, a list of edges; GCN's normalisation cached."""
    module = Peer(new_model(workload, kind, seed), kind).to(dtype)
    x, edges = workload.dense.to(dtype), workload.edge_index
    return Runner(PEER, module, _entropy(workload, lambda: module(x, edges)), _adam(module))


def peer_sparse(workload: Workload, kind: str, dtype: torch.dtype = torch.float32) -> Runner:
    """torch_geometric's GCN with a normalised adjacency as torch's CSR matrix: its faster form, a product a layer."""
    module = Peer(new_model(workload, kind), kind, normalize=False).to(dtype)
    operator = workload.graph.normalized_adjacency(dtype=dtype)
    csr = torch.sparse_csr_tensor(operator.crow, operator.col, operator.values, operator.shape)
    x = workload.dense.to(dtype)
    return Runner(PEER_SPARSE, module, _entropy(workload, lambda: module(x, csr)), _adam(module))


def whole(workload: Workload, kind: str, dtype: torch.dtype = torch.float32, seed: int = 0) -> Runner:
    """layerlab's model on the whole graph; features sparse where they are."""
    module = new_model(workload, kind, seed).to(dtype)
    x = workload.features.to(dtype=dtype)
    return Runner(WHOLE, module, _entropy(workload, lambda: module(x, workload.graph)), _adam(module))


def field(workload: Workload, kind: str, dtype: torch.dtype = torch.float32) -> Runner:
    """layerlab on what the training nodes' outputs depend on, stepped as `layerlab graph train` does it.

    A data set in float32 is the task of its training; else this is put together from the same parts.
    """
    if dtype == torch.float32 and workload.dataset is not None:
        task = NodeTask(workload.dataset, parts_for(workload.dataset, "public", 0), workload.settings[kind])
        torch.manual_seed(0)
        module = task.build()
        (batch,) = task.batches(1)
        return Runner(
            FIELD,
            module,
            lambda: task.loss(module, batch),
            task.optimizer(module),
            lambda: task.backward(module, batch),
        )
    module = new_model(workload, kind).to(dtype)
    operator = (
        workload.graph.normalized_adjacency(dtype=dtype)
        if kind == "gcn"
        else neighbourhoods(workload.graph, dtype)
    )
    part = receptive_field(operator, workload.train, 2)
    x, labels = rows_of(workload.features.to(dtype=dtype), part.inputs), workload.labels[workload.train]
    loss = ModelLoss(module, x, part.operators)
    return Runner(FIELD, module, lambda: loss(labels), _adam(module), lambda: loss.backward(labels))


def rows_of(features: SparseMatrix | Tensor, nodes: Tensor) -> SparseMatrix | Tensor:
    return features.rows(nodes) if isinstance(features, SparseMatrix) else features.index_select(0, nodes)


def contestants(workload: Workload, kind: str, dtype: torch.dtype = torch.float32) -> list[Runner]:
    """All that can run this workload, torch_geometric's first form first."""
    makers = [peer, *([peer_sparse] if kind == "gcn" else []), whole, field]
    return [make(workload, kind, dtype) for make in makers]
