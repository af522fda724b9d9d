"""The claims about graphs. Each takes a `Graph`; ``docs/theory/graph.md`` has the proofs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

import numpy as np
import scipy.linalg
import scipy.sparse as sp
import scipy.sparse.linalg
import torch
from torch import Tensor

from layerlab.claims import Claim, Falsifier, Measurement, rounding
from layerlab.graph import reference
from layerlab.graph.layers import Attention, GATConv
from layerlab.graph.structure import Graph

# Above this many nodes the largest eigenvalue comes from Lanczos: dense solvers take time n^3 and memory n^2.
_DENSE_UP_TO = 2000

Attend: TypeAlias = Callable[[GATConv, Tensor, Graph], Attention]


# ------------------------------------------------------------------------------------------------- subjects


def _path(nodes: int) -> Graph:
    return Graph.from_edges(np.arange(nodes - 1), np.arange(1, nodes), num_nodes=nodes)


def _cycle(nodes: int) -> Graph:
    return Graph.from_edges(np.arange(nodes), (np.arange(nodes) + 1) % nodes)


def _complete(nodes: int) -> Graph:
    return Graph.from_edges(*np.triu_indices(nodes, k=1))


def _star(leaves: int) -> Graph:
    return Graph.from_edges(np.zeros(leaves, dtype=np.int64), np.arange(1, leaves + 1))


def _erdos_renyi(nodes: int, probability: float) -> Graph:
    """G(n, p) with a seed of its own: one fixed graph."""
    source, target = np.triu_indices(nodes, k=1)
    kept = np.random.default_rng(20260101).random(source.size) < probability
    return Graph.from_edges(source[kept], target[kept], num_nodes=nodes)


def _mixed() -> Graph:
    """A weighted triangle, an edge with a self-loop at one end, and three isolated nodes."""
    return Graph.from_edges([0, 1, 2, 3, 3], [1, 2, 0, 4, 3], num_nodes=8, weight=[0.5, 2.0, 1e-3, 7.0, 1.0])


def _directed() -> Graph:
    return Graph.from_edges([0, 1, 2, 0], [1, 2, 0, 3], directed=True)


def _negative_weight() -> Graph:
    return Graph.from_edges([0, 1, 2], [1, 2, 0], weight=[1.0, 1.0, -0.5])


def _cora() -> Graph:
    # Here, because a data set is read from disk only when a check asks for it.
    from layerlab.graph.datasets import load

    return load("cora").graph


# ----------------------------------------------------------------------------------------------- lambda-max


def _normalized_laplacian(graph: Graph) -> sp.csr_array:
    """D^(−1/2) (D − A) D^(−1/2), with D^(−1/2) = 0 at isolated nodes: their rows and columns are zero."""
    adjacency = graph.normalized_adjacency(self_loops=False, dtype=torch.float64).to_scipy()
    return sp.csr_array(sp.diags_array((graph.degrees() > 0).astype(np.float64)) - adjacency)


def _unnormalized_laplacian(graph: Graph) -> sp.csr_array:
    adjacency = graph.adjacency(dtype=torch.float64).to_scipy()
    return sp.csr_array(sp.diags_array(graph.degrees()) - adjacency)


def _largest_eigenvalue(matrix: sp.csr_array, generator: np.random.Generator) -> float:
    """Of a symmetric matrix: LAPACK, or above `_DENSE_UP_TO` rows Lanczos to machine precision."""
    rows = matrix.shape[0]
    if rows <= _DENSE_UP_TO:
        values = scipy.linalg.eigvalsh(matrix.toarray(), subset_by_index=[rows - 1, rows - 1])
    else:
        start = generator.standard_normal(rows)
        values = scipy.sparse.linalg.eigsh(matrix, k=1, which="LA", v0=start, return_eigenvectors=False)
    return float(values[0])


def _measure_lambda_max(
    graph: Graph,
    generator: np.random.Generator,
    *,
    laplacian: Callable[[Graph], sp.csr_array] = _normalized_laplacian,
) -> Measurement:
    if graph.num_nodes == 0:
        return Measurement.unmet_because("the graph has no node")
    if graph.directed:
        return Measurement.unmet_because("the graph is directed")
    if graph.weights is not None and (graph.weights < 0).any():
        return Measurement.unmet_because("a weight is negative")
    measured = _largest_eigenvalue(laplacian(graph), generator)
    return Measurement(measured, bound=2.0, slack=rounding("float64", graph.num_nodes, scale=2.0))


LAMBDA_MAX = Claim(
    id="graph.lambda-max",
    title="The spectrum of the normalised Laplacian ends at 2",
    source="Homework 4, question 3.2.1; Chung, Spectral Graph Theory (1997), lemma 1.7",
    statement="λ_max(L) ≤ 2 for the normalised Laplacian L = D^(−1/2) (D − A) D^(−1/2)",
    hypotheses=(
        "the graph is undirected and has at least one node",
        "weights are not negative",
        "D^(−1/2) is taken as 0 at isolated nodes, which adds an eigenvalue 0 for each",
    ),
    relation="<=",
    measure=_measure_lambda_max,
    subjects={
        "single-node": lambda: Graph.from_edges([], [], num_nodes=1),
        "path-50": lambda: _path(50),
        "cycle-6": lambda: _cycle(6),
        "cycle-7": lambda: _cycle(7),
        "complete-8": lambda: _complete(8),
        "star-20": lambda: _star(20),
        "mixed": _mixed,
        "random-300": lambda: _erdos_renyi(300, 0.02),
        "cora": _cora,
    },
    falsifiers={
        "unnormalised": Falsifier(
            "D − A in place of the normalised Laplacian",
            lambda: _complete(8),
            replaces={"laplacian": _unnormalized_laplacian},
        ),
        "directed": Falsifier("a directed graph", _directed, expected="hypotheses unmet"),
        "negative-weight": Falsifier("a negative weight", _negative_weight, expected="hypotheses unmet"),
    },
)


# ----------------------------------------------------------------------------------------- gat-coefficients

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


def _neighbourhood(graph: Graph) -> Tensor:
    """(n, n) bool: whether j has an edge to i, or is i."""
    mask = torch.eye(graph.num_nodes, dtype=torch.bool)
    sender = np.repeat(np.arange(graph.num_nodes), np.diff(graph.indptr))
    mask[torch.from_numpy(graph.indices.astype(np.int64)), torch.from_numpy(sender)] = True
    return mask


def _measure_gat_coefficients(
    graph: Graph, generator: np.random.Generator, *, attend: Attend = _shipped_attention
) -> Measurement:
    """Largest deviation from the definition, and of a row sum from 1, over heads and kinds of attention."""
    if graph.num_nodes == 0:
        return Measurement.unmet_because("the graph has no node")
    mask = _neighbourhood(graph)
    deviations, magnitude = [], 0.0
    for kind in ("per-head", "shared"):
        layer = _random_layer(kind, generator)
        x = torch.from_numpy(generator.standard_normal((graph.num_nodes, _IN)))
        with torch.no_grad():
            expected = [
                reference.gat_coefficients(x @ block.t(), mask, torch.cat([a_target, a_source]))
                for block, a_target, a_source in zip(
                    layer.weight.split(_OUT),
                    layer.att_target.expand(_HEADS, _OUT),
                    layer.att_source.expand(_HEADS, _OUT),
                    strict=True,
                )
            ]
            terms = x.abs() @ layer.weight.abs().t()
            vectors = layer.att_target.abs() + layer.att_source.abs()
            magnitude = max(magnitude, float((terms.view(-1, _HEADS, _OUT) * vectors).sum(2).max()))
            source, target, coefficients = attend(layer, x, graph)
            for head, definition in enumerate(expected):
                dense = torch.zeros_like(definition)
                # Accumulating, so that an edge returned twice shows.
                dense.index_put_((target, source), coefficients[:, head], accumulate=True)
                deviations.append((dense - definition).abs().max())
                deviations.append((dense.sum(1) - 1).abs().max())
    size = _IN + 2 * _OUT + int(mask.sum(1).max())
    # An error of δ in a score moves a coefficient by at most the factor e^(2δ) ≈ 1 + 2δ.
    slack = rounding("float64", size, scale=1.0, condition=1.0 + 2.0 * magnitude)
    return Measurement(float(torch.stack(deviations).max()), bound=0.0, slack=slack)


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
    measure=_measure_gat_coefficients,
    subjects={
        "single-node": lambda: Graph.from_edges([], [], num_nodes=1),
        "path-9": lambda: _path(9),
        "star-20": lambda: _star(20),
        "complete-8": lambda: _complete(8),
        "directed": _directed,
        "mixed": _mixed,
        "random-150": lambda: _erdos_renyi(150, 0.05),
    },
    falsifiers={
        "wrong-axis": Falsifier(
            "softmax over the edges that leave a node",
            lambda: _path(9),
            replaces={"attend": _softmax_over_sources},
        ),
        "no-leaky-relu": Falsifier(
            "LeakyReLU left out", lambda: _star(20), replaces={"attend": _no_leaky_relu}
        ),
        "swapped-halves": Falsifier(
            "[W h_j ‖ W h_i] in place of [W h_i ‖ W h_j]",
            lambda: _path(9),
            replaces={"attend": _swapped_halves},
        ),
    },
)

CLAIMS: tuple[Claim, ...] = (LAMBDA_MAX, GAT_COEFFICIENTS)
