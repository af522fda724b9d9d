"""The graph claims as a whole: they come out as expected, on any graph, in any kind of trouble, and are told."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from random_graphs import graphs, measured

from layerlab.claims import Claim, check
from layerlab.graph import theorems
from layerlab.graph.lanczos import Ritz
from layerlab.graph.structure import Graph
from layerlab.graph.theorems import spectra, subjects

from ...registers import checked_as_expected, is_in_the_catalogue, is_told_on_its_page

CLAIMS = pytest.mark.parametrize("claim", theorems.CLAIMS, ids=lambda claim: claim.id)


@CLAIMS
def test_every_graph_claim_comes_out_as_expected(claim: Claim) -> None:
    checked_as_expected(claim, 0)


@CLAIMS
def test_falsifiers_do_not_hang_on_the_seed(claim: Claim) -> None:
    for seed in range(1, 6):
        assert check(claim, seed, {"path": lambda: subjects.path(4)}).as_expected, seed


@CLAIMS
@settings(derandomize=True, deadline=None, max_examples=30)
@given(graph=graphs())
def test_no_graph_violates_a_true_claim(claim: Claim, graph: Graph) -> None:
    verdict = measured(claim, graph).verdict
    if claim.expected == "holds":
        # Which hypotheses may fail on these graphs is tested claim by claim.
        assert verdict != "violated"


def with_weight(weight: float) -> Graph:
    return Graph.from_edges([0, 1, 2], [1, 2, 3], weight=[1.0, weight, 2.0])


@CLAIMS
@pytest.mark.parametrize(
    "graph",
    [
        subjects.bare(0),
        subjects.bare(1),
        subjects.bare(7),
        Graph.from_edges([0], [0]),
        Graph.from_edges([0, 1], [0, 1]),
        subjects.path(2),
        subjects.directed(),
        subjects.negative_weight(),
        Graph.from_edges([0, 1], [1, 0], weight=[-1.0, -2.0]),
        *map(with_weight, (0.0, 1e-300, 1e300, 1e-139, 1e139, 5e-324)),
        Graph.from_edges([0, 0, 0], [1, 1, 0], weight=[1.0, 2.0, 0.0]),
        subjects.complete(40),
        subjects.star(400),
        subjects.bare(1500),
        subjects.star(1500),
    ],
    ids=repr,
)
def test_no_graph_is_too_strange(claim: Claim, graph: Graph) -> None:
    outcome = measured(claim, graph)
    if claim.expected == "holds":
        assert outcome.verdict in ("holds", "hypotheses unmet")
    if graph.num_nodes == 0:
        assert outcome.unmet == "the graph has no node"
    if graph.directed and claim.id != "graph.gat-coefficients":
        assert outcome.unmet == "the graph is directed"


@CLAIMS
def test_an_eigensolver_that_does_not_converge_is_a_reason_not_a_number(
    claim: Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spectra, "DENSE_UP_TO", 10)
    monkeypatch.setattr(spectra, "_STEPS", 3)
    outcome = measured(claim, subjects.erdos_renyi(60, 0.1))
    solver_free = {"graph.quadratic-form", "graph.power", "graph.gat-coefficients"}
    if claim.id in solver_free:
        assert outcome.verdict == "holds"
    elif "leading-eigenvector" in claim.id:
        assert outcome.verdict == "hypotheses unmet"
    else:
        assert outcome.unmet is not None
        assert re.match(r"Lanczos did not converge within 3 steps \(residual \d\.\de-\d\d\)", outcome.unmet)


@CLAIMS
def test_a_residual_that_is_not_a_number_is_no_convergence(
    claim: Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(apply: object, project: object, rows: int, ends: tuple[str, ...], **_: object) -> object:
        return {end: Ritz(0.5, np.nan, np.full(rows, np.nan), 7, 1.0) for end in ends}

    monkeypatch.setattr(spectra, "DENSE_UP_TO", 10)
    monkeypatch.setattr(spectra, "extreme_eigenvalues", broken)
    outcome = measured(claim, subjects.cycle(61))
    assert outcome.verdict == ("hypotheses unmet" if claim.id.split(".")[1] in USES_ENDS else outcome.verdict)
    assert outcome.verdict != "violated" or claim.expected == "refuted"


USES_ENDS = {
    *("lambda-min", "components", "lambda-max", "adjacency-interval", "bipartite-two"),
    *("oversmoothing", "oversmoothing-with-loops"),
}


@CLAIMS
def test_lanczos_comes_to_the_verdicts_and_numbers_of_the_dense_solver(
    claim: Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "leading-eigenvector" in claim.id:
        pytest.skip("it is dense work and says so; test_bipartite checks that")
    for graph in (
        subjects.erdos_renyi(120, 0.02),
        subjects.near_bipartite(12, 15),
        subjects.union(subjects.star(30), subjects.complete(30), subjects.bare(3), subjects.path(20)),
        subjects.complete(40),
        subjects.cycle(80),
    ):
        monkeypatch.setattr(spectra, "DENSE_UP_TO", 1000)
        dense = measured(claim, graph)
        monkeypatch.setattr(spectra, "DENSE_UP_TO", 10)
        iterative = measured(claim, graph)
        assert (dense.verdict, iterative.verdict) == ("holds", "holds")
        assert iterative.measured == pytest.approx(dense.measured, abs=1e-9)
        assert iterative.bound == pytest.approx(dense.bound, abs=1e-9)


def test_the_catalogue_has_the_graph_claims_under_their_domain() -> None:
    is_in_the_catalogue("graph", theorems.CLAIMS)


def test_the_register_of_claims_is_complete() -> None:
    ids = {claim.id for claim in theorems.CLAIMS}
    named = (
        "quadratic-form lambda-min components lambda-max adjacency-interval bipartite-two power oversmoothing"
    )
    assert {f"graph.{name}" for name in (*named.split(), "gat-coefficients")} <= ids


def test_the_theory_page_tells_every_graph_claim() -> None:
    is_told_on_its_page("graph", theorems.CLAIMS)
