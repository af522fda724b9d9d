"""What the claims' eigenvalues rest on: the ends of the spectrum, multiplicities, and what float64 can tell."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from random_graphs import graphs

from layerlab.graph.components import components
from layerlab.graph.matrices import normalized_laplacian
from layerlab.graph.structure import Graph
from layerlab.graph.theorems import spectra, subjects
from layerlab.graph.theorems.spectra import Span


@settings(derandomize=True, deadline=None, max_examples=150)
@given(graphs())
def test_no_other_eigenvalue_comes_nearer_to_0_or_2_than_the_resolution(graph: Graph) -> None:
    known = components(graph)
    values = np.linalg.eigvalsh(normalized_laplacian(graph).toarray())
    least = spectra.resolution(graph, known)
    zeros, twos = known.count, int(known.bipartite_with_edge.sum())
    assert (values[zeros:] > least).all()
    assert (values[: values.size - twos] < 2 - least).all()


def test_the_resolution_of_known_graphs() -> None:
    assert spectra.resolution(subjects.bare(3), components(subjects.bare(3))) == 1.0
    # w / (2 n vol): a path of 4 nodes, volume 6, beside smaller components.
    graph = Graph.from_edges([0, 1, 2, 4], [1, 2, 3, 5], weight=[0.5, 0.5, 0.5, 0.5])
    assert spectra.resolution(graph, components(graph)) == pytest.approx(0.5 / (2 * 4 * 3))


@pytest.mark.parametrize("dense_up_to", [1, 1000])
@pytest.mark.parametrize("shift", [-3.0, 0.0, 0.5, 4.0])
def test_ends_leave_out_what_is_known_wherever_it_lies(
    monkeypatch: pytest.MonkeyPatch, dense_up_to: int, shift: float
) -> None:
    monkeypatch.setattr(spectra, "DENSE_UP_TO", dense_up_to)
    generator = np.random.default_rng(0)
    basis, _ = np.linalg.qr(generator.standard_normal((60, 60)))
    values = np.linspace(0.0, 1.0, 60) + shift
    # The first two vectors are known, on two "components"; they belong to eigenvalues far outside and inside.
    basis[:, 0], basis[:, 1] = np.repeat([1, 0], 30), np.repeat([0, 1], 30)
    basis, _ = np.linalg.qr(basis)
    values[:2] = [7.0, shift + 0.3]
    matrix = sp.csr_array(basis * values @ basis.T)
    span = Span(np.repeat([0, 1], 30), np.ones(60))
    found = spectra.ends(matrix, ("lowest", "highest"), generator, span.project)
    assert isinstance(found, dict)
    for end, at in (("lowest", 2), ("highest", 59)):
        assert found[end].value == pytest.approx(values[at], abs=1e-9)
        assert abs(found[end].vector @ basis[:, at]) == pytest.approx(1.0, abs=1e-9)
        assert found[end].residual < 1e-8


@pytest.mark.parametrize("at", [0.0, -2.0])
@pytest.mark.parametrize(("dense_up_to", "expected"), [(1, 3), (1000, 4)])
def test_multiplicity_counts_what_is_there(
    monkeypatch: pytest.MonkeyPatch, dense_up_to: int, expected: int, at: float
) -> None:
    monkeypatch.setattr(spectra, "DENSE_UP_TO", dense_up_to)
    # Four times the lowest, of which the span knows two: "at least one more" without the dense solver.
    matrix = sp.diags_array(np.r_[np.zeros(4), np.linspace(1, 2, 30)] + at).tocsr()
    unit = np.zeros(34)
    unit[[0, 1]] = 1.0
    labels = np.r_[0, 1, np.full(32, 2)]
    found = spectra.multiplicity(matrix, at, "lowest", Span(labels, unit), 2.0, np.random.default_rng(0))
    assert isinstance(found, tuple)
    assert found[0] == expected


def test_a_span_projects_on_each_component_and_knows_its_eigenvectors() -> None:
    span = Span(np.array([0, 0, 1, 2]), np.array([3.0, 4.0, 2.0, 0.0]))
    assert span.dimension == 2
    assert span.project(np.array([1.0, 1.0, 5.0, 7.0])) == pytest.approx([0.84, 1.12, 5.0, 0.0])
    matrix = sp.diags_array([2.0, 2.0, 3.0, 0.0]).tocsr()
    for eigenvalue, count in ((2.0, 1), (3.0, 1), (0.0, 0)):
        assert span.eigenvectors(matrix, eigenvalue, 1e-12).dimension == count
    assert span.eigenvectors(matrix, 3.0, 1e-12).values.tolist() == [0.0, 0.0, 1.0, 0.0]


def test_a_computed_eigenvalue_is_off_by_two_roundings_a_row() -> None:
    assert spectra.tolerance(10, 3.0) == 2 * 10 * 3.0 * 2.0**-52


def test_row_norm() -> None:
    assert spectra.row_norm(sp.csr_array(np.array([[1.0, -2.0], [-2.0, 0.5]]))) == 3.0
    assert spectra.row_norm(sp.csr_array((3, 3))) == 0.0
