"""The claims about D − A: on any graph, against networkx, and each kind of damage is seen."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from random_graphs import graphs, measured

from layerlab.graph.components import components
from layerlab.graph.convert import to_networkx
from layerlab.graph.matrices import laplacian
from layerlab.graph.structure import Graph
from layerlab.graph.theorems import COMPONENTS, LAMBDA_MIN, QUADRATIC_FORM, spectra, subjects
from layerlab.graph.theorems.laplacian import _least_positive, _scaled

ANY = settings(derandomize=True, deadline=None, max_examples=60)


@ANY
@given(graphs())
def test_the_claims_hold_on_any_undirected_graph(graph: Graph) -> None:
    for claim in (QUADRATIC_FORM, LAMBDA_MIN, COMPONENTS):
        outcome = measured(claim, graph)
        assert outcome.verdict == "holds", claim.id
        assert outcome.slack < 1e-12


@ANY
@given(graphs())
def test_components_are_those_of_networkx(graph: Graph) -> None:
    assert measured(COMPONENTS, graph).measured == nx.number_connected_components(to_networkx(graph))


@pytest.mark.parametrize("entry", [(0, 0), (0, 1), (5, 6)])
def test_the_quadratic_form_sees_one_entry_off(entry: tuple[int, int]) -> None:
    def off(graph: Graph) -> sp.csr_array:
        matrix = laplacian(graph).tolil()
        matrix[entry] *= 1 + 1e-9
        return sp.csr_array(matrix)

    outcome = measured(QUADRATIC_FORM, subjects.path(9), matrix=off)
    assert outcome.verdict == "violated"


def test_the_quadratic_form_needs_no_sign_of_weights_but_a_direction_less_graph() -> None:
    assert measured(QUADRATIC_FORM, subjects.negative_weight()).verdict == "holds"
    assert measured(QUADRATIC_FORM, subjects.directed()).unmet == "the graph is directed"


def test_the_quadratic_form_must_hold_for_every_x() -> None:
    class Mostly:
        """Constant x, for which any multiple of L gives 0, but for one."""

        def standard_normal(self, shape: tuple[int, int]) -> np.ndarray:
            x = np.ones(shape)
            x[:, -1] = np.arange(len(x))
            return x

    # Light edges are no smaller a matter: the difference is relative.
    for weight in (1.0, 1e-9):
        path = Graph.from_edges(np.arange(8), np.arange(1, 9), weight=[weight] * 8)
        found = QUADRATIC_FORM.measure(path, Mostly(), matrix=lambda graph: 1.5 * laplacian(graph))
        assert found.measured > 1e-3


@pytest.mark.parametrize("shift", [1e-12, -1e-12, 1.0])
def test_lambda_min_sees_a_shift(shift: float) -> None:
    outcome = measured(
        LAMBDA_MIN, subjects.path(9), matrix=lambda g: laplacian(g) + shift * sp.eye_array(g.num_nodes)
    )
    assert outcome.verdict == "violated"


def test_lambda_min_sees_that_1_is_no_eigenvector_although_0_is_an_eigenvalue() -> None:
    # S L S has the eigenvalue 0 and no negative one, but another kernel.
    # Beside the star an edge, whose rows add up to 0.
    for graph in (subjects.star(4), subjects.union(subjects.star(4), subjects.path(2))):
        outcome = measured(LAMBDA_MIN, graph, matrix=lambda g: _scaled(laplacian(g))[0])
        assert outcome.verdict == "violated"


def test_lambda_min_sees_a_negative_eigenvalue_of_a_large_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    # L + t (1 1ᵀ/n − I): rows still sum to 0, all other eigenvalues move down by t, beyond 0 for the smallest.
    monkeypatch.setattr(spectra, "DENSE_UP_TO", 10)

    def lowered(graph: Graph) -> sp.csr_array:
        n = graph.num_nodes
        return sp.csr_array(laplacian(graph).toarray() + 0.5 * (np.full((n, n), 1 / n) - np.eye(n)))

    assert measured(LAMBDA_MIN, subjects.cycle(40)).verdict == "holds"
    assert measured(LAMBDA_MIN, subjects.cycle(40), matrix=lowered).verdict == "violated"


@pytest.mark.parametrize("dense_up_to", [10, 1000])
def test_components_are_counted_both_ways(monkeypatch: pytest.MonkeyPatch, dense_up_to: int) -> None:
    monkeypatch.setattr(spectra, "DENSE_UP_TO", dense_up_to)
    graph = subjects.union(subjects.cycle(30), subjects.star(20), subjects.bare(4))
    assert measured(COMPONENTS, graph).measured == 6
    for replaced in ("edge-added", "edge-removed"):
        broken = dict(COMPONENTS.falsifiers[replaced].replaces)
        forest = subjects.union(subjects.path(30), subjects.star(20))
        assert measured(COMPONENTS, forest, **broken).verdict == "violated", replaced


def test_a_long_path_is_connected_although_its_second_eigenvalue_is_small() -> None:
    outcome = measured(COMPONENTS, subjects.path(900))
    assert (outcome.measured, outcome.verdict) == (1, "holds")


def test_weights_that_float64_cannot_tell_from_none_are_no_violation() -> None:
    joined = COMPONENTS.falsifiers["undecidable"].subject()
    assert "float64 cannot tell them apart" in str(measured(COMPONENTS, joined).unmet)
    # Nor is the right count, where a light edge joins what is joined already, a matter of doubt.
    light = Graph.from_edges([0, 1, 2], [1, 2, 0], weight=[1.0, 1.0, 1e-30])
    assert measured(COMPONENTS, light).verdict == "holds"
    # An edge of weight 0 joins nothing, and so does none at all.
    apart = Graph.from_edges([0, 1, 2, 3, 4, 5, 0], [1, 2, 0, 4, 5, 3, 3], weight=[1.0] * 6 + [0.0])
    assert measured(COMPONENTS, apart).measured == 2
    assert measured(COMPONENTS, apart).verdict == "holds"
    # It is no light edge either, that would leave a wrong count undecided.
    assert measured(COMPONENTS, apart, count=lambda _: 1).verdict == "violated"


@ANY
@given(graphs())
def test_scaling_keeps_the_number_of_zero_eigenvalues(graph: Graph) -> None:
    matrix = laplacian(graph)
    scaled, root = _scaled(matrix)
    assert np.abs(scaled @ root).max() < 1e-13 * max(1.0, root.max())
    assert scaled.diagonal() == pytest.approx((matrix.diagonal() > 0).astype(float), rel=1e-14)
    values = np.linalg.eigvalsh(scaled.toarray())
    assert np.count_nonzero(np.abs(values) < 1e-13) == nx.number_connected_components(to_networkx(graph))


def test_a_heavy_self_loop_leaves_no_rounding_behind() -> None:
    graph = Graph.from_edges([0, 0], [0, 1], weight=[255.0, 1.9])
    for claim in (QUADRATIC_FORM, LAMBDA_MIN, COMPONENTS):
        assert measured(claim, graph).verdict == "holds", claim.id
        assert measured(claim, Graph.from_edges([0, 0], [0, 1], weight=[1e20, 1.0])).verdict == "holds"


def test_the_largest_component_says_how_small_an_eigenvalue_may_be() -> None:
    graph = subjects.union(subjects.path(10), subjects.path(2), subjects.bare(1))
    assert _least_positive(graph, components(graph)) == 1 / 100
    assert (
        _least_positive(graph, components(graph)) < np.sort(np.linalg.eigvalsh(laplacian(graph).toarray()))[3]
    )
