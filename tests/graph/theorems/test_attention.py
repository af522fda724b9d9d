"""The claim about attention coefficients: on any graph, against the dense twin, and every kind of damage is seen."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import graphs, measured

from layerlab.graph import reference
from layerlab.graph.layers import Attention, GATConv
from layerlab.graph.structure import Graph
from layerlab.graph.theorems import GAT_COEFFICIENTS, subjects
from layerlab.graph.theorems.attention import _by_definition, _neighbourhoods, _shipped_attention


@settings(derandomize=True, deadline=None, max_examples=40)
@given(graphs() | graphs(directed=True), st.integers(0, 2**32))
def test_the_definition_is_that_of_the_dense_twin(graph: Graph, seed: int) -> None:
    generator = np.random.default_rng(seed)
    z = torch.from_numpy(generator.standard_normal((graph.num_nodes, 3)))
    a = torch.from_numpy(generator.standard_normal(6))
    receiver, sender = _neighbourhoods(graph)
    mask = torch.zeros(graph.num_nodes, graph.num_nodes, dtype=torch.bool)
    mask[torch.from_numpy(receiver), torch.from_numpy(sender)] = True
    arcs = {(v, u) for u in range(graph.num_nodes) for v in graph.indices[slice(*graph.indptr[u : u + 2])]}
    assert {*zip(receiver.tolist(), sender.tolist(), strict=True)} == arcs | {
        (v, v) for v in range(graph.num_nodes)
    }
    dense = reference.gat_coefficients(z, mask, a)[receiver, sender].numpy()
    assert np.abs(_by_definition(z, receiver, sender, a) - dense).max() < 1e-14


def test_the_definition_stands_scores_beyond_the_range_of_exp() -> None:
    receiver, sender = np.array([0, 0, 1]), np.array([0, 1, 1])
    z, a = torch.tensor([[800.0], [801.0]], dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    found = _by_definition(z, receiver, sender, a)
    assert found.tolist() == pytest.approx([1 / (1 + np.e), np.e / (1 + np.e), 1.0])


def test_a_graph_far_too_large_for_a_dense_matrix_is_checked() -> None:
    generator = np.random.default_rng(0)
    graph = Graph.from_edges(*generator.integers(0, 200_000, (2, 100_000)), num_nodes=200_000)
    assert measured(GAT_COEFFICIENTS, graph).verdict == "holds"


@settings(derandomize=True, deadline=None, max_examples=40)
@given(graphs() | graphs(directed=True), st.integers(0, 2**32))
def test_gat_coefficients_hold_on_any_graph(graph: Graph, seed: int) -> None:
    outcome = measured(GAT_COEFFICIENTS, graph, seed)
    assert outcome.verdict == "holds"
    assert outcome.slack < 1e-11


def test_gat_coefficients_need_a_node() -> None:
    outcome = measured(GAT_COEFFICIENTS, Graph.from_edges([], [], num_nodes=0))
    assert outcome.verdict == "hypotheses unmet"


def _spread(attention: Attention, what: str) -> Attention:
    source, target, coefficients = attention
    match what:
        case "one coefficient off by 1e-9":
            coefficients = coefficients.clone()
            coefficients[0, -1] += 1e-9
        case "an edge left out":
            source, target, coefficients = source[1:], target[1:], coefficients[1:]
        case "an edge returned twice":
            again = torch.arange(-1, len(source))
            source, target, coefficients = source[again], target[again], coefficients[again]
        case "transposed edges":
            source, target = target, source
        case "heads exchanged":
            coefficients = coefficients.flip(1)
        case "not a number":
            coefficients = torch.full_like(coefficients, torch.nan)
    return Attention(source, target, coefficients)


@pytest.mark.parametrize(
    "what",
    [
        "one coefficient off by 1e-9",
        "an edge left out",
        "an edge returned twice",
        "transposed edges",
        "heads exchanged",
        "not a number",
    ],
)
def test_gat_coefficients_see_every_kind_of_damage(what: str) -> None:
    def attend(layer: GATConv, x: torch.Tensor, graph: Graph) -> Attention:
        return _spread(_shipped_attention(layer, x, graph), what)

    outcome = measured(GAT_COEFFICIENTS, subjects.path(6), attend=attend)
    assert outcome.verdict == "violated"


def test_gat_coefficients_see_a_row_sum_that_drifts() -> None:
    star = subjects.star(20)
    slack = measured(GAT_COEFFICIENTS, star).slack

    def attend(layer: GATConv, x: torch.Tensor, graph: Graph) -> Attention:
        # Each coefficient is within the slack, their sum over the 21 neighbours of the centre is not.
        source, target, coefficients = _shipped_attention(layer, x, graph)
        return Attention(source, target, coefficients + slack / 2)

    outcome = measured(GAT_COEFFICIENTS, star, attend=attend)
    assert outcome.verdict == "violated"
    assert outcome.measured == pytest.approx(21 * slack / 2, rel=0.1)


def test_a_check_leaves_torchs_global_generator_alone() -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    measured(GAT_COEFFICIENTS, subjects.path(4))
    assert torch.equal(before, torch.get_rng_state())


def test_a_measurement_hangs_on_its_own_generator_alone() -> None:
    slacks = []
    for torch_seed, seed in ((7, 0), (8, 0), (8, 1)):
        torch.manual_seed(torch_seed)
        # The slack is that of the largest score that the weights give.
        slacks.append(measured(GAT_COEFFICIENTS, subjects.path(4), seed).slack)
    assert slacks[0] == slacks[1] != slacks[2]
