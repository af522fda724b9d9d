"""Correctness first: what is timed at scale, against slow twins and torch_geometric on a small graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_common.command import GateError
from torch import Tensor, nn
from torch.nn import functional

from layerlab.graph import ops
from layerlab.graph.field import Field, receptive_field
from layerlab.graph.layers import neighbourhoods
from layerlab.graph.model_loss import ModelLoss
from layerlab.graph.sampling import Inputs, Sampler, infer, reference
from layerlab.graph.sparse import SparseMatrix
from layerlab.graph.store import Store, open_store
from layerlab.graph.structure import Graph
from layerlab.graph.task import build_model
from scale_bench import batches, peers, places, plain, watched
from scale_bench.generate import Shape

SHAPE = Shape(nodes=3_000, edges=40_000, classes=7, columns=20, train=600, validation=200)
# Of the largest number of each tensor, in float32: sums of some hundred numbers in another order.
ALLOWED = 2e-5


def check_all() -> dict[str, Any]:
    """Compare everything; raises `GateError` where something differs."""
    made = places.tables(SHAPE)
    out = places.folder() / "store-gate"
    places.forget(out)
    watched.command(*places.conversion(made, out), threads=1)
    store = open_store(out, verify=True)
    rows = {"store against the edges in memory": stored(store, made)}
    rows |= sampled(store)
    for kind in ("gcn", "gat"):
        rows |= layers(store, kind)
    rows["one propagation against a dense product"] = propagated(store)
    for name, value in rows.items():
        if not value <= ALLOWED:
            raise GateError(f"{name}: differs by {value:.1e}, allowed {ALLOWED:.0e}")
    places.forget(out, made)
    return {"largest": max(rows.values()), "allowed": ALLOWED, "rows": rows}


def stored(store: Store, made: Path) -> float:
    """The store's graph, features and labels against those of the tables, read another way; they must be equal."""
    import pyarrow.parquet as pq

    edges, nodes = (pq.read_table(made / f"{name}.parquet").to_pydict() for name in ("edges", "nodes"))
    ids = np.array(nodes["id"])
    position = np.empty(len(ids), np.int64)
    position[ids] = np.arange(len(ids))
    expected = Graph.from_edges(
        *(position[np.array(edges[end])] for end in ("source", "target")), num_nodes=len(ids)
    )
    same = store.graph == expected
    assert store.features is not None
    features = np.load(made / "features.npy")
    same = same and np.array_equal(store.features.rows(torch.arange(len(ids))).numpy(), features)
    names = [int(store.class_names[label]) for label in store.labels]
    same = same and names == nodes["label"]
    return 0.0 if same else float("inf")


def sampled(store: Store) -> dict[str, float]:
    """Our sampler to the bit with its slow twin; the numpy sampler by what a sample must be."""
    operator = store.graph.normalized_adjacency()
    nodes = torch.arange(0, store.num_nodes, 50)
    sampler = Sampler(operator, batches.FANOUTS)
    found, slow = sampler.field(nodes, 3), reference.sample_field(operator, nodes, batches.FANOUTS, 3)
    rows = {"our sampler against its slow twin": 0.0 if _same(found, slow) else float("inf")}
    whole = receptive_field(operator, nodes, 2)
    all_of_it = Sampler(operator, (-1, -1)).field(nodes, 3)
    rows["all neighbours against the receptive field"] = 0.0 if _same(all_of_it, whole) else float("inf")
    rows["the numpy sampler"] = 0.0 if _plain_is_right(store.graph, nodes.numpy()) else float("inf")
    return rows


def _same(a: Field, b: Field) -> bool:
    return torch.equal(a.inputs, b.inputs) and all(
        torch.equal(x.col, y.col)
        and torch.equal(x.crow.long(), y.crow.long())
        and torch.equal(x.values, y.values)
        for x, y in zip(a.operators, b.operators, strict=True)
    )


def _plain_is_right(graph: Graph, seeds: np.ndarray[Any, Any]) -> bool:
    """Each node of a hop has as many neighbours as it should, each once, and all are neighbours."""
    part = plain.PlainSampler(graph.indptr, graph.indices, batches.FANOUTS).sample(seeds)
    source, target = (part.nodes[end] for end in part.edge_index.numpy())
    pairs = target.astype(np.int64) * graph.num_nodes + source
    if len(np.unique(pairs)) < len(pairs) or len(np.unique(part.nodes)) < len(part.nodes):
        return False
    rows = np.repeat(np.arange(graph.num_nodes), np.diff(graph.indptr))
    if not np.isin(pairs, rows.astype(np.int64) * graph.num_nodes + graph.indices).all():
        return False
    counts = np.bincount(part.edge_index[1].numpy(), minlength=len(part.nodes))
    begin, degrees = 0, np.diff(graph.indptr)[part.nodes]
    for fanout, hop in zip(batches.FANOUTS, part.nodes_per_hop, strict=False):
        here = slice(begin, begin + hop)
        if not np.array_equal(counts[here], np.minimum(degrees[here], fanout)):
            return False
        begin += hop
    return True


def layers(store: Store, kind: str) -> dict[str, float]:
    """Loss and gradients of ours against torch_geometric's in each form, dropout off; inference against the model."""
    dataset = store.dataset()
    inputs, labels = Inputs(dataset.features), torch.from_numpy(dataset.labels.copy())
    graph = dataset.graph
    operator = graph.normalized_adjacency() if kind == "gcn" else neighbourhoods(graph)
    settings = batches.SETTINGS[kind]
    torch.manual_seed(0)
    model = build_model(settings, dataset.num_features, dataset.num_classes)
    for module in model.modules():
        if hasattr(module, "dropout"):
            module.dropout = 0.0
    nodes = torch.arange(0, graph.num_nodes, 40)
    field = Sampler(operator, batches.FANOUTS, scaled=kind == "gcn").field(nodes, 1)
    x = inputs.rows(field.inputs)
    ModelLoss(model, x, field.operators).backward(labels[nodes])
    expected = _gradients(model)
    found = {}
    net = peers.Peer(model, kind, given=True)
    forms = {"edges": lambda: net.on_edges(x, peers.edges_of(field))}
    if kind == "gcn":
        forms["matrices"] = lambda: net.on_matrices(x, peers.matrices_of(field))
    for name, forward in forms.items():
        net.zero_grad()
        functional.cross_entropy(forward(), labels[nodes]).backward()
        found[f"{kind}: torch_geometric on our blocks as {name}, gradients"] = _difference(
            _gradients(net), expected
        )
    # With every neighbour drawn, a loader's subgraph gives the whole graph's output. A GCN needs a hop more, and no
    # trimming: torch_geometric counts degrees within what it is given.
    loader = peers.Peer(model, kind, given=False).eval()
    hops = len(batches.FANOUTS) + (kind == "gcn")
    part = plain.PlainSampler(graph.indptr, graph.indices, (10**6,) * hops).sample(nodes.numpy())
    read = inputs.rows(torch.from_numpy(part.nodes))
    with torch.no_grad():
        whole = model.eval()(inputs.rows(torch.arange(graph.num_nodes)), graph)[nodes]
        ours = infer(model, inputs, graph, nodes, entries=5_000)
        theirs = loader.untrimmed(read, part) if kind == "gcn" else loader.on_subgraph(read, part)
    found[f"{kind}: inference layer by layer against the model"] = _difference([ours], [whole])
    found[f"{kind}: torch_geometric on a whole subgraph against the model"] = _difference([theirs], [whole])
    return found


def propagated(store: Store) -> float:
    """A sparse product against a dense one in float64."""
    operator = store.graph.normalized_adjacency()
    x = torch.randn(store.num_nodes, 16, generator=torch.Generator().manual_seed(0))
    exact = _dense(operator) @ x.double()
    return _difference([ops.spmm(operator, x)], [exact])


def _dense(operator: SparseMatrix) -> Tensor:
    return operator.to_dense().double()


def _gradients(net: nn.Module) -> list[Tensor]:
    """Of all parameters, by a key that does not depend on names and shapes, flat."""
    found = [
        (p.numel(), round(float(p.detach().double().sum()), 4), p.grad.detach().flatten())
        for p in net.parameters()
        if p.grad is not None
    ]
    return [gradient for *_, gradient in sorted(found, key=lambda entry: entry[:2])]


def _difference(found: list[Tensor], expected: list[Tensor]) -> float:
    """The largest difference, of the largest number of each tensor or a hundredth of the largest of all."""
    if len(found) != len(expected):
        return float("inf")
    least = 1e-2 * max(float(b.abs().max()) for b in expected)
    return max(
        float((a.double() - b.double()).abs().max()) / max(float(b.abs().max()), least)
        for a, b in zip(found, expected, strict=True)
    )
