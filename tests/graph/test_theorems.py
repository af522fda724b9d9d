"""The graph claims: they hold where they should, on any graph, and each fails when its subject is broken."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from layerlab.catalogue import catalogue
from layerlab.claims import Claim, Outcome, check
from layerlab.graph import theorems
from layerlab.graph.layers import Attention, GATConv
from layerlab.graph.structure import Graph

ROOT = Path(__file__).parents[2]


def measured(claim: Claim, graph: Graph, seed: int = 0, **replaced: object) -> Outcome:
    return Outcome(claim.relation, claim.measure(graph, np.random.default_rng(seed), **replaced), seed)


@st.composite
def graphs(draw: st.DrawFn, directed: bool = False) -> Graph:
    """Up to 12 nodes: isolated ones, self-loops, weights and disconnected parts included."""
    nodes = draw(st.integers(1, 12))
    ids = st.integers(0, nodes - 1)
    pairs = draw(st.lists(st.tuples(ids, ids), max_size=30, unique_by=lambda pair: tuple(sorted(pair))))
    weights = st.lists(st.floats(1e-3, 1e3), min_size=len(pairs), max_size=len(pairs))
    return Graph.from_edges(
        [u for u, _ in pairs],
        [v for _, v in pairs],
        num_nodes=nodes,
        weight=draw(st.none() | weights) if pairs else None,
        directed=directed,
    )


@pytest.mark.parametrize("claim", theorems.CLAIMS, ids=lambda claim: claim.id)
def test_every_graph_claim_comes_out_as_expected(claim: Claim) -> None:
    result = check(claim, seed=0)
    assert [entry.to_dict() for entry in result.checked if not entry.as_expected] == []


@pytest.mark.parametrize("claim", theorems.CLAIMS, ids=lambda claim: claim.id)
def test_falsifiers_do_not_hang_on_the_seed(claim: Claim) -> None:
    small = {"path": lambda: theorems._path(4)}
    for seed in range(1, 21):
        assert check(claim, seed, small).as_expected, seed


def test_the_catalogue_has_the_graph_claims_under_their_domain() -> None:
    assert [claim for claim in catalogue() if claim.startswith("graph.")] == [c.id for c in theorems.CLAIMS]
    assert {claim.id.split(".")[0] for claim in theorems.CLAIMS} == {"graph"}


def test_the_theory_page_tells_every_graph_claim() -> None:
    page = (ROOT / "docs" / "theory" / "graph.md").read_text(encoding="utf-8")
    assert re.findall(r"^## `(graph\.[^`]+)`", page, flags=re.MULTILINE) == [c.id for c in theorems.CLAIMS]
    for claim in theorems.CLAIMS:
        assert all(f"`{name}`" in page for name in claim.falsifiers), claim.id


# ------------------------------------------------------------------------------------------------ lambda-max


@pytest.mark.parametrize(
    ("graph", "expected"),
    [
        (theorems._path(7), 2.0),
        (theorems._cycle(10), 2.0),
        (theorems._cycle(9), 1 + math.cos(math.pi / 9)),
        (theorems._complete(6), 6 / 5),
        (theorems._star(5), 2.0),
        (Graph.from_edges([], [], num_nodes=3), 0.0),
        (Graph.from_edges([0], [0]), 0.0),
        # A triangle beside an edge and an isolated node: the edge is bipartite.
        (Graph.from_edges([0, 1, 2, 3], [1, 2, 0, 4], num_nodes=6), 2.0),
    ],
)
def test_lambda_max_of_graphs_whose_spectrum_is_known(graph: Graph, expected: float) -> None:
    outcome = measured(theorems.LAMBDA_MAX, graph)
    assert outcome.measured == pytest.approx(expected, abs=1e-14)
    assert outcome.verdict == "holds"


@settings(derandomize=True, deadline=None, max_examples=60)
@given(graphs())
def test_lambda_max_holds_on_any_undirected_graph(graph: Graph) -> None:
    assert measured(theorems.LAMBDA_MAX, graph).verdict == "holds"


def test_lanczos_finds_what_the_dense_solver_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = theorems._erdos_renyi(200, 0.05)
    dense = measured(theorems.LAMBDA_MAX, graph).measured
    monkeypatch.setattr(theorems, "_DENSE_UP_TO", 100)
    assert measured(theorems.LAMBDA_MAX, graph).measured == pytest.approx(dense, abs=1e-12)


@pytest.mark.parametrize(
    ("graph", "reason"),
    [
        (Graph.from_edges([], [], num_nodes=0), "no node"),
        (theorems._directed(), "directed"),
        (theorems._negative_weight(), "negative"),
    ],
)
def test_lambda_max_names_the_hypothesis_that_fails(graph: Graph, reason: str) -> None:
    outcome = measured(theorems.LAMBDA_MAX, graph)
    assert outcome.verdict == "hypotheses unmet"
    assert reason in str(outcome.unmet)


def test_the_bound_is_really_needed_of_the_normalisation() -> None:
    # D − A of the complete graph on n nodes has largest eigenvalue n; a normalisation slightly off fails too.
    broken = {"laplacian": theorems._unnormalized_laplacian}
    assert measured(theorems.LAMBDA_MAX, theorems._complete(9), **broken).measured == pytest.approx(9.0)
    slightly = {"laplacian": lambda graph: theorems._normalized_laplacian(graph) * (1 + 1e-12)}
    assert measured(theorems.LAMBDA_MAX, theorems._path(5), **slightly).verdict == "violated"


# ------------------------------------------------------------------------------------------ gat-coefficients


@settings(derandomize=True, deadline=None, max_examples=40)
@given(graphs() | graphs(directed=True), st.integers(0, 2**32))
def test_gat_coefficients_hold_on_any_graph(graph: Graph, seed: int) -> None:
    outcome = measured(theorems.GAT_COEFFICIENTS, graph, seed)
    assert outcome.verdict == "holds"
    assert outcome.slack < 1e-11


def test_gat_coefficients_need_a_node() -> None:
    outcome = measured(theorems.GAT_COEFFICIENTS, Graph.from_edges([], [], num_nodes=0))
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
        return _spread(theorems._shipped_attention(layer, x, graph), what)

    outcome = measured(theorems.GAT_COEFFICIENTS, theorems._path(6), attend=attend)
    assert outcome.verdict == "violated"


def test_gat_coefficients_see_a_row_sum_that_drifts() -> None:
    star = theorems._star(20)
    slack = measured(theorems.GAT_COEFFICIENTS, star).slack

    def attend(layer: GATConv, x: torch.Tensor, graph: Graph) -> Attention:
        # Each coefficient is within the slack, their sum over the 21 neighbours of the centre is not.
        source, target, coefficients = theorems._shipped_attention(layer, x, graph)
        return Attention(source, target, coefficients + slack / 2)

    outcome = measured(theorems.GAT_COEFFICIENTS, star, attend=attend)
    assert outcome.verdict == "violated"
    assert outcome.measured == pytest.approx(21 * slack / 2, rel=0.1)


def test_a_check_leaves_torchs_global_generator_alone() -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    measured(theorems.GAT_COEFFICIENTS, theorems._path(4))
    assert torch.equal(before, torch.get_rng_state())
