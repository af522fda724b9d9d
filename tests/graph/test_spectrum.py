"""The spectral certificate against dense solvers, closed forms and networkx; its residuals, margins and notes."""

from __future__ import annotations

import json
import math
import re
import time

import networkx as nx
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from layerlab.errors import UserError
from layerlab.graph import ends, factor, lanczos
from layerlab.graph.spectrum import (
    Certificate,
    Eigenvalue,
    certificate,
    density,
    laplacian,
    normalized_laplacian,
    propagation,
)
from layerlab.graph.structure import Graph
from layerlab.lab.krylov import reach


def path(nodes: int) -> Graph:
    return Graph.from_edges(np.arange(nodes - 1), np.arange(1, nodes), num_nodes=nodes)


def cycle(nodes: int) -> Graph:
    return Graph.from_edges(np.arange(nodes), (np.arange(nodes) + 1) % nodes)


def complete(nodes: int) -> Graph:
    return Graph.from_edges(*np.triu_indices(nodes, k=1))


def star(leaves: int) -> Graph:
    return Graph.from_edges(np.zeros(leaves, dtype=np.int64), np.arange(1, leaves + 1))


def random_graph(nodes: int, edges: int, seed: int = 0) -> Graph:
    """A heavy-tailed random graph: a large component and some small ones."""
    generator = np.random.default_rng(seed)
    share = generator.pareto(2.0, nodes) + 1
    ends = generator.choice(nodes, (2, edges), p=share / share.sum())
    return Graph.from_edges(ends[0], ends[1], num_nodes=nodes)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Undirected, up to 14 nodes, with self-loops, weights, isolated nodes and several components."""
    nodes = draw(st.integers(1, 14))
    ids = st.integers(0, nodes - 1)
    pairs = draw(st.lists(st.tuples(ids, ids), max_size=20, unique_by=lambda pair: tuple(sorted(pair))))
    weights = st.lists(st.floats(1e-2, 1e2), min_size=len(pairs), max_size=len(pairs))
    source, target = [u for u, _ in pairs], [v for _, v in pairs]
    return Graph.from_edges(source, target, num_nodes=nodes, weight=draw(st.none() | weights))


def others(graph: Graph, self_loops: bool) -> np.ndarray:
    """Eigenvalues of P without one eigenvalue 1 for each component; an isolated node's 0 is its own."""
    values = np.linalg.eigvalsh(propagation(graph, self_loops).toarray())
    parts = nx.number_connected_components(nx.from_scipy_sparse_array(graph.adjacency().to_scipy()))
    isolated = 0 if self_loops else graph.isolated_nodes().size
    values = np.delete(values, np.argsort(np.abs(values), kind="stable")[:isolated])
    return values[: values.size - (parts - isolated)]


def exactly(found: Certificate, graph: Graph, accuracy: float) -> None:
    """Every number of ``found`` is what a dense solver says, to within ``accuracy``."""
    values = np.linalg.eigvalsh(normalized_laplacian(graph).toarray())
    parts = found.components
    assert found.zero_multiplicity == parts.count == np.count_nonzero(values < 1e-11)
    assert found.two_multiplicity == parts.bipartite_with_edge.sum() == np.count_nonzero(values > 2 - 1e-11)
    assert found.lambda_max is not None
    assert found.lambda_max.value == pytest.approx(values[-1], abs=accuracy)
    if graph.num_nodes > 1:
        assert found.lambda_2 is not None
        assert found.lambda_2.value == pytest.approx(values[1], abs=accuracy)
    if found.smallest_nonzero is not None:
        assert found.smallest_nonzero.value == pytest.approx(values[parts.count], abs=accuracy)
    for second, self_loops in ((found.second, False), (found.second_self_loops, True)):
        rest = others(graph, self_loops)
        assert (second is None) == (rest.size == 0)
        if second is not None:
            assert abs(second.value) == pytest.approx(np.abs(rest).max(), abs=accuracy)
    assert found.converged


def eigenvalues_of(found: Certificate) -> dict[str, Eigenvalue]:
    return {name: value for name, value in found._eigenvalues().items() if value is not None}


def residuals_are_true(found: Certificate, graph: Graph) -> None:
    for name, value in eigenvalues_of(found).items():
        looped = name.endswith("self_loops")
        matrix = propagation(graph, looped) if name.startswith("second") else normalized_laplacian(graph)
        assert value.vector is not None
        assert np.linalg.norm(value.vector) == pytest.approx(1.0, abs=1e-12)
        residual = np.linalg.norm(matrix @ value.vector - value.value * value.vector)
        if value.converged:
            assert residual == pytest.approx(value.residual, abs=1e-13), name
        else:  # that of another end or component, if it is larger
            assert residual <= value.residual + 1e-13, name


# ------------------------------------------------------------------------------------------------- matrices


def test_the_laplacians_are_those_of_networkx() -> None:
    graph = Graph.from_edges([0, 1, 2, 3], [1, 2, 0, 4], weight=[0.5, 2.0, 3.0, 7.0], num_nodes=6)
    other = nx.from_scipy_sparse_array(graph.adjacency().to_scipy())
    assert np.allclose(laplacian(graph).toarray(), nx.laplacian_matrix(other).toarray(), atol=1e-6)
    expected = nx.normalized_laplacian_matrix(other).toarray()
    assert np.allclose(normalized_laplacian(graph).toarray(), expected, atol=1e-7)


def test_a_self_loop_leaves_no_trace_in_the_laplacian() -> None:
    plain, looped = Graph.from_edges([0], [1]), Graph.from_edges([0, 0], [1, 0])
    assert (laplacian(plain) != laplacian(looped)).nnz == 0


# -------------------------------------------------------------------------------------------- dense: by size


@settings(derandomize=True, deadline=None, max_examples=150)
@given(graphs())
def test_small_graphs_are_exact_to_rounding(graph: Graph) -> None:
    found = certificate(graph)
    assert found.method == "dense"
    exactly(found, graph, accuracy=1e-12)
    residuals_are_true(found, graph)
    for value in eigenvalues_of(found).values():
        assert value.residual < 1e-12
        assert value.proven
        assert value.margin == 0


@pytest.mark.parametrize(
    ("graph", "lambda_2", "lambda_max", "second", "second_self_loops"),
    [
        (path(3), 1.0, 2.0, -1.0, 0.5),
        (cycle(8), 1 - math.cos(math.pi / 4), 2.0, -1.0, (1 + 2 * math.cos(math.pi / 4)) / 3),
        (cycle(9), 1 - math.cos(2 * math.pi / 9), 1 + math.cos(math.pi / 9), -math.cos(math.pi / 9), None),
        (complete(7), 7 / 6, 7 / 6, -1 / 6, 0.0),
        (star(30), 1.0, 2.0, -1.0, 0.5),
        (path(400), 1 - math.cos(math.pi / 399), 2.0, -1.0, None),
    ],
)
@pytest.mark.parametrize("dense_up_to", [1500, 0])
def test_graphs_whose_spectrum_is_known(
    graph: Graph,
    lambda_2: float,
    lambda_max: float,
    second: float,
    second_self_loops: float | None,
    dense_up_to: int,
) -> None:
    found = certificate(graph, dense_up_to=dense_up_to)
    values = eigenvalues_of(found)
    assert values["lambda_2"].value == pytest.approx(lambda_2, abs=1e-12)
    assert values["lambda_max"].value == pytest.approx(lambda_max, abs=1e-12)
    assert values["second"].value == pytest.approx(second, abs=1e-12)
    if second_self_loops is not None:
        assert values["second_self_loops"].value == pytest.approx(second_self_loops, abs=1e-12)
    assert found.gap == pytest.approx(1 - abs(second), abs=1e-12)


def test_a_bipartite_component_decides_the_upper_end() -> None:
    # A triangle, an edge, an isolated node and a lone self-loop.
    graph = Graph.from_edges([0, 1, 2, 3, 6], [1, 2, 0, 4, 6], num_nodes=7)
    found = certificate(graph)
    values = eigenvalues_of(found)
    assert (values["lambda_max"].value, values["second"].value) == (2.0, -1.0)
    assert values["lambda_2"].value == 0.0
    assert values["smallest_nonzero"].value == pytest.approx(1.5, abs=1e-14)
    assert (found.zero_multiplicity, found.two_multiplicity) == (4, 1)
    assert any("1 isolated node" in note for note in found.notes)


def test_a_hundred_thousand_components_take_seconds() -> None:
    graph = Graph.from_edges(np.arange(0, 200_000, 2), np.arange(1, 200_000, 2), num_nodes=200_003)
    begin = time.process_time()
    found = certificate(graph)
    assert time.process_time() - begin < 8
    assert (found.zero_multiplicity, found.two_multiplicity) == (100_003, 100_000)
    assert eigenvalues_of(found)["smallest_nonzero"].value == pytest.approx(2.0, abs=1e-15)


# ---------------------------------------------------------------------------------------- iterative: Lanczos


@pytest.mark.parametrize("seed", range(3))
def test_lanczos_finds_what_the_dense_solver_finds(seed: int) -> None:
    graph = random_graph(1200, 2600, seed)
    found = certificate(graph, dense_up_to=100, seed=seed)
    assert found.method == "lanczos"
    exactly(found, graph, accuracy=1e-10)
    residuals_are_true(found, graph)
    # The components are small enough for Sylvester's law.
    assert all(value.proven for value in eigenvalues_of(found).values())


@pytest.mark.parametrize("seed", range(3))
def test_lanczos_alone_stays_within_residual_and_margin(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ends, "_ENTRIES", 0)
    graph = random_graph(1200, 2600, seed)
    found = certificate(graph, dense_up_to=100, seed=seed)
    exactly(found, graph, accuracy=1e-10)
    second = eigenvalues_of(found)["second_self_loops"]
    assert not second.proven
    assert 0 < second.margin < 0.05


def test_several_large_components_each_have_their_ends() -> None:
    parts = [random_graph(300, 900, seed=1), path(301), cycle(303), complete(4)]
    blocks = sp.block_diag([part.adjacency().to_scipy() for part in parts]).tocoo()
    graph = Graph.from_edges(blocks.row, blocks.col, num_nodes=blocks.shape[0])
    # Nodes in random order, so that components are no ranges.
    order = np.random.default_rng(0).permutation(graph.num_nodes)
    source, target, _ = graph.edges()
    graph = Graph.from_edges(order[source], order[target], num_nodes=graph.num_nodes)
    found = certificate(graph, dense_up_to=100)
    exactly(found, graph, accuracy=1e-11)
    residuals_are_true(found, graph)


def test_a_long_cycle_needs_the_factorisation() -> None:
    # λ_2 = 1 − cos(2π/n) = 2e-7: plain Lanczos would need thousands of steps.
    nodes = 10_001
    found = certificate(cycle(nodes))
    values = eigenvalues_of(found)
    expected = 1 - math.cos(2 * math.pi / nodes)
    assert values["lambda_2"].value == pytest.approx(expected, abs=1e-13)
    assert values["lambda_2"].proven
    assert values["lambda_2"].margin < 0.01 * expected
    assert values["lambda_max"].value == pytest.approx(1 + math.cos(math.pi / nodes), abs=1e-12)
    assert found.converged


def test_what_does_not_converge_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ends, "_ENTRIES", 0)
    monkeypatch.setattr(ends, "_STEPS", 80)
    monkeypatch.setattr(ends, "_WORK", 0)
    graph = cycle(5001)
    found = certificate(graph)
    second = eigenvalues_of(found)["smallest_nonzero"]
    assert not second.converged
    assert not found.converged
    assert second.residual > 1e-8
    residuals_are_true(found, graph)
    # The statements still hold: an eigenvalue within the residual, none beyond the margin.
    exact = 1 - np.cos(2 * np.pi * np.arange(5001) / 5001)
    assert np.abs(exact - second.value).min() <= second.residual
    assert second.value - second.margin <= np.sort(exact)[1]
    pattern = r"smallest_nonzero: not converged, residual \d\.\de-\d\d"
    assert any(re.fullmatch(pattern, note) for note in found.notes)
    assert not found.to_dict()["smallest_nonzero"]["converged"]


def test_a_wrong_end_is_found_out() -> None:
    matrix = propagation(cycle(301), False)
    values, vectors = np.linalg.eigh(matrix.toarray())

    def claimed(index: int) -> ends.Found:
        return ends.Found(float(values[index]), 1e-14, vectors[:, index], True, 0.5, False)

    # Above the largest of the others lies the eigenvalue 1 alone; each other value stands twice.
    right, wrong = ends._proven(claimed(-2), "highest", matrix), ends._proven(claimed(-4), "highest", matrix)
    assert (right.proven, right.converged, wrong.proven, wrong.converged) == (True, True, False, False)
    right, wrong = ends._proven(claimed(0), "lowest", matrix), ends._proven(claimed(2), "lowest", matrix)
    assert (right.proven, right.converged, wrong.proven, wrong.converged) == (True, True, False, False)


def test_counts_of_eigenvalues_are_those_of_the_dense_solver() -> None:
    matrix = propagation(random_graph(300, 700), False)
    values = np.linalg.eigvalsh(matrix.toarray())
    for bound in (-0.7, -0.2, 0.1, 0.55, 0.9):
        found = factor.inertia(factor.factorise(matrix, bound))
        assert found is not None
        assert found.above == np.count_nonzero(values > bound)
        assert found.error < 1e-8


def test_the_cost_of_a_factorisation_is_bounded_beforehand() -> None:
    for graph in (path(500), star(500), cycle(500), random_graph(500, 900).with_self_loops()):
        matrix = propagation(graph, False)
        if graph.num_self_loops:
            matrix = propagation(complete(60), False)
        entries, multiplications = factor.cost(matrix)
        assert factor.factorise(matrix, 1.5).L.nnz <= entries <= multiplications
    assert factor.cost(propagation(path(500), False))[0] == 1000


def test_the_reach_of_lanczos_holds() -> None:
    # A spectrum with an outlier that is hard to see: the bound must cover what is missed.
    matrix = np.concatenate([np.linspace(0, 1, 20_000), [1.0005]])
    for seed in range(5):
        found = lanczos.extreme_eigenvalues(
            lambda x: matrix * x,
            lambda x: x,
            matrix.size,
            ["highest"],
            tolerance=1e-12,
            max_steps=60,
            generator=np.random.default_rng(seed),
        )["highest"]
        missed = 1.0005 - found.value
        assert 0 <= missed <= found.reach * 1.0005
        assert found.residual > 1e-6
        assert found.reach == reach(matrix.size, found.steps)


@pytest.mark.parametrize("seed", range(2))
def test_the_same_seed_gives_the_same_bits(seed: int) -> None:
    graph = random_graph(1000, 3000)
    one, two = (certificate(graph, dense_up_to=10, seed=seed) for _ in range(2))
    assert one.to_dict() == two.to_dict()


# ------------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("graph", "words"),
    [
        (Graph.from_edges([], [], num_nodes=0), "no node"),
        (Graph.from_edges([0, 1], [1, 2], directed=True), "directed"),
        (Graph.from_edges([0, 1, 2], [1, 2, 0], weight=[1.0, 1.0, -0.5]), "1 edge of negative weight"),
        (Graph.from_edges([0, 1], [1, 2], weight=[1.0, -3.0]), "degree of 2 nodes is negative"),
        (Graph.from_edges([0], [1], weight=[1e-320]), "float64"),
        (Graph.from_edges([0, 0], [1, 2], weight=[1e308, 1e308]), "float64"),
    ],
)
def test_graphs_without_such_a_spectrum_get_a_note(graph: Graph, words: str) -> None:
    found = certificate(graph)
    assert any(words in note for note in found.notes), found.notes
    assert eigenvalues_of(found) == {}
    assert (found.method, found.gap, found.zero_multiplicity) == ("none", None, None)
    assert found.components.labels.size == graph.num_nodes
    assert json.loads(json.dumps(found.to_dict()))["lambda_2"] is None


@pytest.mark.parametrize("loops", [[], [0, 1, 2]])
def test_without_edges_between_nodes_nothing_is_left_to_decay(loops: list[int]) -> None:
    found = certificate(Graph.from_edges(loops, loops, num_nodes=3))
    assert (found.second, found.second_self_loops, found.smallest_nonzero, found.gap) == (None,) * 4
    values = eigenvalues_of(found)
    assert (values["lambda_2"].value, values["lambda_max"].value) == (0.0, 0.0)
    assert (found.zero_multiplicity, found.two_multiplicity) == (3, 0)


def test_one_node_has_no_second_eigenvalue() -> None:
    found = certificate(Graph.from_edges([], [], num_nodes=1))
    assert found.lambda_2 is None
    assert any("one node" in note for note in found.notes)


def test_an_edge_of_weight_zero_is_noted() -> None:
    found = certificate(Graph.from_edges([0, 1], [1, 2], weight=[1.0, 0.0]))
    assert found.zero_multiplicity == found.components.count == 2
    assert any("1 edge of weight 0" in note for note in found.notes)


def test_an_edge_too_weak_for_float64_is_noted() -> None:
    triangles = ([0, 1, 2, 3, 4, 5, 0], [1, 2, 0, 4, 5, 3, 3])
    found = certificate(Graph.from_edges(*triangles, weight=[1.0] * 6 + [1e-20]))
    assert (found.components.count, found.zero_multiplicity) == (1, 2)
    assert any("too weak" in note for note in found.notes)


@pytest.mark.parametrize("tolerance", [0.0, 1.0, -1e-8, math.nan])
def test_a_tolerance_must_be_a_small_number(tolerance: float) -> None:
    with pytest.raises(UserError, match="tolerance"):
        certificate(path(3), tolerance=tolerance)


@pytest.mark.parametrize("graph", [random_graph(2000, 6000), cycle(2001)])
def test_progress_rises_from_nothing_to_one(graph: Graph) -> None:
    told: list[tuple[float, str]] = []
    certificate(graph, progress=lambda fraction, text: told.append((fraction, text)))
    fractions = [fraction for fraction, _ in told]
    assert fractions == sorted(fractions)
    assert (fractions[0], told[-1]) == (0.0, (1.0, "done"))
    assert any("Lanczos step" in text for _, text in told)


# -------------------------------------------------------------------------------------------------- density


def test_the_density_of_a_small_graph_counts_its_eigenvalues() -> None:
    graph = random_graph(200, 500)
    found = density(graph, bins=20)
    values = np.linalg.eigvalsh(propagation(graph).toarray())
    assert found.exact
    # One eigenvalue 1 a component may lie beyond 1 by rounding.
    expected = np.histogram(np.minimum(values, 1.0), found.edges)[0] / 200
    assert np.array_equal(found.mass, expected)


def test_an_estimated_density_is_near_the_exact_one() -> None:
    graph = random_graph(1200, 5000)
    exact = density(graph)
    found = density(graph, exact_up_to=0, probes=32)
    assert not found.exact
    assert found.mass.min() > -1e-12
    assert found.mass.sum() == pytest.approx(1.0, abs=1e-12)
    assert np.abs(np.cumsum(found.mass - exact.mass)).max() < 0.04
    # The mean eigenvalue is tr P / n.
    middle = (found.edges[1:] + found.edges[:-1]) / 2
    assert middle @ found.mass == pytest.approx(propagation(graph).diagonal().mean(), abs=0.01)
    again = density(graph, exact_up_to=0, probes=32)
    assert np.array_equal(found.mass, again.mass)


@pytest.mark.parametrize(
    "wrong",
    [{"bins": 0}, {"moments": 7}, {"moments": 0}, {"probes": 1}],
)
def test_density_needs_sensible_numbers(wrong: dict[str, int]) -> None:
    with pytest.raises(UserError, match="bins"):
        density(path(3), **wrong)


@pytest.mark.parametrize(
    "graph",
    [
        Graph.from_edges([], [], num_nodes=0),
        Graph.from_edges([0], [1], directed=True),
        Graph.from_edges([0], [1], weight=[-1.0]),
    ],
)
def test_density_needs_a_symmetric_matrix(graph: Graph) -> None:
    with pytest.raises(UserError, match="undirected"):
        density(graph)
