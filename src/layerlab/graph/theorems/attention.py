"""The claim about the coefficients of graph attention (homework 4, question 3.4.1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from layerlab.claims import Claim, Falsifier, Measurement, rounding
from layerlab.graph.layers import Attention, GATConv
from layerlab.graph.structure import Graph
from layerlab.graph.theorems import subjects

Attend: TypeAlias = Callable[[GATConv, Tensor, Graph], Attention]

_IN, _OUT, _HEADS = 5, 3, 2


def _shipped_attention(layer: GATConv, x: Tensor, graph: Graph) -> Attention:
    _, attention = layer(x, graph, return_attention=True)
    return attention


def _softmax_over_sources(layer: GATConv, x: Tensor, graph: Graph) -> Attention:
    """Broken: the right scores, normalised over the edges that leave a node, not those that reach it."""
    source, target, _ = _shipped_attention(layer, x, graph)
    weights = _edge_scores(layer, x, source, target).exp()
    return Attention(source, target, weights / _sum_by(source, weights, graph.num_nodes)[source])


def _no_leaky_relu(layer: GATConv, x: Tensor, graph: Graph) -> Attention:
    """Broken: without the nonlinearity the receiving node's half cancels in the softmax."""
    source, target, _ = _shipped_attention(layer, x, graph)
    weights = _edge_scores(layer, x, source, target, negative_slope=1.0).exp()
    return Attention(source, target, weights / _sum_by(target, weights, graph.num_nodes)[target])


def _swapped_halves(layer: GATConv, x: Tensor, graph: Graph) -> Attention:
    """Broken: the concatenation the other way round, [W h_j ‖ W h_i]."""
    with torch.no_grad():
        swapped = layer.att_source.clone(), layer.att_target.clone()
        layer.att_target.copy_(swapped[0])
        layer.att_source.copy_(swapped[1])
    return _shipped_attention(layer, x, graph)


def _edge_scores(
    layer: GATConv, x: Tensor, source: Tensor, target: Tensor, negative_slope: float = 0.2
) -> Tensor:
    z = (x @ layer.weight.t()).view(-1, _HEADS, _OUT)
    scores = (z * layer.att_target).sum(2)[target] + (z * layer.att_source).sum(2)[source]
    return torch.nn.functional.leaky_relu(scores, negative_slope)


def _sum_by(node: Tensor, values: Tensor, nodes: int) -> Tensor:
    return values.new_zeros(nodes, values.shape[1]).index_add(0, node, values)


def _random_layer(kind: Literal["per-head", "shared"], generator: np.random.Generator) -> GATConv:
    # The layer draws its initial weights from torch's global generator, which is not ours to move; they are
    # replaced by our own.
    with torch.random.fork_rng(devices=[]):
        layer = GATConv(_IN, _OUT, heads=_HEADS, attention=kind).double()
    with torch.no_grad():
        for parameter in (layer.weight, layer.att_target, layer.att_source):
            parameter.copy_(torch.from_numpy(generator.standard_normal(tuple(parameter.shape))))
    return layer


def _neighbourhoods(graph: Graph) -> tuple[np.ndarray, np.ndarray]:
    """(receiver i, sender j) of every pair with j in N(i): the edges j → i, and (i, i)."""
    nodes = np.arange(graph.num_nodes, dtype=np.int64)
    sender = np.concatenate([np.repeat(nodes, np.diff(graph.indptr)), nodes])
    receiver = np.concatenate([graph.indices.astype(np.int64), nodes])
    # A node that has a self-loop would be in its own neighbourhood twice.
    pairs = np.unique(receiver * graph.num_nodes + sender)
    return pairs // graph.num_nodes, pairs % graph.num_nodes


def _by_definition(z: Tensor, receiver: np.ndarray, sender: np.ndarray, a: Tensor) -> np.ndarray:
    """softmax over j ∈ N(i) of LeakyReLU(aᵀ [z_i ‖ z_j]), every concatenation built, pair by pair."""
    numbers = z.numpy()
    scores = np.concatenate([numbers[receiver], numbers[sender]], axis=1) @ a.numpy()
    scores = np.where(scores > 0, scores, 0.2 * scores)
    highest = np.full(len(numbers), -np.inf)
    np.maximum.at(highest, receiver, scores)
    weights = np.exp(scores - highest[receiver])
    return np.asarray(weights / np.bincount(receiver, weights=weights)[receiver])


def _measure_gat_coefficients(
    graph: Graph, generator: np.random.Generator, *, attend: Attend = _shipped_attention
) -> Measurement:
    """Largest deviation from the definition, and of a row sum from 1, over heads and kinds of attention."""
    if graph.num_nodes == 0:
        return Measurement.unmet_because("the graph has no node")
    receiver, sender = _neighbourhoods(graph)
    shape = (graph.num_nodes, graph.num_nodes)
    deviations, magnitude = [], 0.0
    for kind in ("per-head", "shared"):
        layer = _random_layer(kind, generator)
        x = torch.from_numpy(generator.standard_normal((graph.num_nodes, _IN)))
        with torch.no_grad():
            terms = x.abs() @ layer.weight.abs().t()
            vectors = layer.att_target.abs() + layer.att_source.abs()
            magnitude = max(magnitude, float((terms.view(-1, _HEADS, _OUT) * vectors).sum(2).max()))
            blocks = layer.weight.split(_OUT)
            halves = layer.att_target.expand(_HEADS, _OUT), layer.att_source.expand(_HEADS, _OUT)
            definitions = [
                _by_definition(x @ block.t(), receiver, sender, torch.cat([a_target, a_source]))
                for block, a_target, a_source in zip(blocks, *halves, strict=True)
            ]
            source, target, coefficients = attend(layer, x, graph)
        ends = (target.numpy(), source.numpy())
        for head, definition in enumerate(definitions):
            # The conversion adds up what stands at one place, so an edge returned twice shows.
            found = sp.coo_array((coefficients[:, head].numpy(), ends), shape=shape).tocsr()
            expected = sp.csr_array((definition, (receiver, sender)), shape=shape)
            deviations.append(np.abs((found - expected).data).max(initial=0.0))
            deviations.append(np.abs(found.sum(axis=1) - 1).max())
    longest = int(np.bincount(receiver).max())
    # An error of δ in a score moves a coefficient by at most the factor e^(2δ) ≈ 1 + 2δ.
    slack = rounding("float64", _IN + 2 * _OUT + longest, scale=1.0, condition=1.0 + 2.0 * magnitude)
    return Measurement(np.max(deviations), bound=0.0, slack=slack)


GAT_COEFFICIENTS = Claim(
    id="graph.gat-coefficients",
    title="GATConv's split scores give the attention of the definition",
    source="Homework 4, question 3.4.1; Veličković et al., Graph Attention Networks (ICLR 2018), equation 3",
    statement=(
        "α_ij = softmax over j ∈ N(i) of LeakyReLU(aᵀ [W h_i ‖ W h_j]); with a = [a_l ‖ a_r] the score is"
        " LeakyReLU(a_l · W h_i + a_r · W h_j); Σ_j α_ij = 1, and α_ij = 0 outside N(i);"
        " measured: max |α − definition| over nodes and heads, and max |Σ_j α_ij − 1|"
    ),
    hypotheses=(
        "the graph has at least one node, and may be directed: N(i) are the nodes with an edge to i",
        "i itself belongs to N(i), so no neighbourhood is empty",
    ),
    relation="==",
    extreme="least",
    measure=_measure_gat_coefficients,
    subjects={
        "single-node": lambda: subjects.bare(1),
        "path-9": lambda: subjects.path(9),
        "star-20": lambda: subjects.star(20),
        "complete-8": lambda: subjects.complete(8),
        "directed": subjects.directed,
        "mixed": subjects.mixed,
        "random-150": lambda: subjects.erdos_renyi(150, 0.05),
        "cora": subjects.cora,
    },
    falsifiers={
        "wrong-axis": Falsifier(
            "softmax over the edges that leave a node",
            lambda: subjects.path(9),
            replaces={"attend": _softmax_over_sources},
        ),
        "no-leaky-relu": Falsifier(
            "LeakyReLU left out", lambda: subjects.star(20), replaces={"attend": _no_leaky_relu}
        ),
        "swapped-halves": Falsifier(
            "[W h_j ‖ W h_i] in place of [W h_i ‖ W h_j]",
            lambda: subjects.path(9),
            replaces={"attend": _swapped_halves},
        ),
    },
)
