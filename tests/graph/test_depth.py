"""Decay of energy and distance: prediction against products, against formulas read edge by edge, and at its ends."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from layerlab.errors import UserError
from layerlab.graph.depth import Decay, decay, label_signal
from layerlab.graph.generate import block_model, cycle_model
from layerlab.graph.sparse import SparseMatrix
from layerlab.graph.store import StoredFeatures
from layerlab.graph.structure import Graph


def _patchwork() -> Graph:
    """A random part with a self-loop and weights, a bipartite part, and two isolated nodes."""
    generator = np.random.default_rng(0)
    source = np.concatenate([generator.integers(0, 20, 40), [0, 20, 21, 22]])
    target = np.concatenate([generator.integers(0, 20, 40), [0, 21, 22, 23]])
    weight = generator.uniform(0.5, 2.0, source.size)
    return Graph.from_edges(source, target, weight=weight, num_nodes=26)


def _by_hand(graph: Graph, x: np.ndarray, depth: int, self_loops: bool) -> tuple[list[float], list[float]]:
    """Energy as a sum over pairs of nodes; the limit from numpy's eigenvectors of eigenvalue 1."""
    a = graph.adjacency(torch.float64).to_dense().numpy()
    if self_loops:
        a = a + np.diag((np.diag(a) == 0).astype(float))
    d = a.sum(axis=1)
    x = x * (d > 0)[:, None]
    root = np.divide(1, np.sqrt(d), out=np.zeros_like(d), where=d > 0)
    p = root[:, None] * a * root
    values, vectors = np.linalg.eigh(p)
    limit = vectors[:, values > 1 - 1e-9]
    energies, distances = [], []
    for k in range(depth + 1):
        now = np.linalg.matrix_power(p, k) @ x
        scaled = now * root[:, None]
        gaps = ((scaled[:, None] - scaled[None]) ** 2).sum(axis=2)
        energies.append(float((a * gaps).sum() / 2))
        distances.append(float(np.linalg.norm(now - limit @ (limit.T @ x))))
    return energies, distances


@pytest.mark.parametrize("self_loops", [True, False])
@pytest.mark.parametrize("dense_up_to", [100, 0])
def test_prediction_and_measurement_agree_with_the_definitions(self_loops: bool, dense_up_to: int) -> None:
    graph, x = _patchwork(), np.random.default_rng(1).standard_normal((26, 3))
    got = decay(graph, x, depth=12, self_loops=self_loops, dense_up_to=dense_up_to)
    energies, distances = _by_hand(graph, x, 12, self_loops)
    assert got.method == ("dense" if dense_up_to else "columns")
    for curve in (got.energy, got.measured_energy):
        np.testing.assert_allclose(curve, energies, rtol=1e-9)
    for curve in (got.distance, got.measured_distance):
        np.testing.assert_allclose(curve, distances, rtol=1e-9)
    assert got.difference < 1e-9
    assert (got.energy_error == 0).all()
    assert (got.distance_error == 0).all()
    assert bool(got.notes) is not self_loops
    assert got.oscillates is not self_loops


def test_the_limit_share_counts_every_component() -> None:
    graph = _patchwork()
    degrees = graph.with_self_loops().degrees()
    on_limit = np.sqrt(degrees) * np.repeat([1.0, -3.0, 0.5, 2.0], [20, 4, 1, 1])
    flat = decay(graph, on_limit[:, None], depth=3)
    assert flat.limit_share == pytest.approx(1)
    assert np.abs(flat.measured_energy).max() < 1e-20
    assert np.abs(flat.energy).max() < 1e-20
    assert flat.rate == 0
    mixed = on_limit / np.linalg.norm(on_limit)
    other = np.random.default_rng(0).standard_normal(26)
    other -= mixed * (mixed @ other)
    assert decay(graph, other[:, None]).limit_share < 0.5


def test_random_combinations_are_within_their_error() -> None:
    data = block_model(600, features=80, signal=1.5, seed=2)
    exact = decay(data.graph, data.features, depth=20)
    rough = decay(data.graph, data.features, depth=20, dense_up_to=0)
    assert (exact.method, rough.method) == ("dense", "probes")
    np.testing.assert_allclose(rough.measured_energy, exact.measured_energy)
    assert rough.energy[0] == pytest.approx(exact.energy[0])
    for name in ("energy", "distance"):
        error = getattr(rough, f"{name}_error")
        off = np.abs(getattr(rough, name) - getattr(exact, name))
        assert (off[1:] < 4 * error[1:]).all()
        assert (error[1:] > 0).all()
        assert (error < 0.5 * getattr(exact, name)).all()


def test_the_stated_error_is_the_spread_over_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("layerlab.graph.depth._STEPS", 5)  # Exact up to K = 4.
    data = block_model(80, features=60, signal=1.5, seed=2)
    exact = decay(data.graph, data.features, depth=3)
    scores: dict[str, list[float]] = {"energy": [], "distance": []}
    for seed in range(40):
        rough = decay(data.graph, data.features, depth=3, dense_up_to=0, seed=seed)
        for name, found in scores.items():
            off = getattr(rough, name)[3] - getattr(exact, name)[3]
            found.append(off / getattr(rough, f"{name}_error")[3])
    for found in scores.values():
        assert 0.7 < np.sqrt(np.mean(np.square(found))) < 1.4


def test_lanczos_predicts_far_beyond_its_steps() -> None:
    data = cycle_model(400, features=4, seed=0)
    exact = decay(data.graph, data.features)
    found = decay(data.graph, data.features, dense_up_to=0)
    for depth in (100, 400):
        assert found.distance_share(depth) == pytest.approx(exact.distance_share(depth), rel=0.05)


def test_an_eigenvector_decays_at_its_own_eigenvalue() -> None:
    cycle = Graph.from_edges(np.arange(12), (np.arange(12) + 1) % 12)
    wave = np.cos(2 * np.pi * np.arange(12) * 2 / 12)[:, None]
    eigenvalue = (1 + 2 * np.cos(2 * np.pi * 2 / 12)) / 3
    got = decay(cycle, wave, depth=5)
    # The larger eigenvalue of frequency 1 is not in the features, so it is not their rate.
    assert got.rate == pytest.approx(eigenvalue)
    assert got.energy_share(3) == pytest.approx(eigenvalue**6)
    assert got.distance_share(3) == pytest.approx(eigenvalue**3)
    assert got.half_life == pytest.approx(math.log(0.5) / (2 * math.log(eigenvalue)), rel=1e-5)
    assert got.layers_until(0.01, "distance") == pytest.approx(
        math.log(0.01) / math.log(eigenvalue), rel=1e-5
    )


def test_a_bipartite_graph_without_self_loops_swings_for_ever() -> None:
    star = Graph.from_edges([0, 0, 0], [1, 2, 3])
    got = decay(star, np.array([[1.0], [0.0], [0.0], [0.0]]), self_loops=False)
    assert got.oscillates
    assert got.layers_until(0.01) == math.inf
    assert got.to_dict()["hundredth_after"] == {"energy": None, "distance": None}
    assert not decay(star, np.array([[1.0], [0.0], [0.0], [0.0]])).oscillates


def test_white_noise_stands_in_for_missing_features() -> None:
    graph = _patchwork()
    got = decay(graph, seed=3)
    assert got.energy[0] > 0
    np.testing.assert_array_equal(got.energy, decay(graph, seed=3).energy)
    assert not np.array_equal(got.energy, decay(graph, seed=4).energy)


@pytest.mark.parametrize(
    ("graph", "features"),
    [
        (Graph.from_edges([], [], num_nodes=0), np.zeros((0, 2))),
        (Graph.from_edges([], [], num_nodes=3), np.ones((3, 2))),
        (Graph.from_edges([0], [1]), np.zeros((2, 2))),
        (Graph.from_edges([0], [1]), np.zeros((2, 0))),
    ],
)
@pytest.mark.parametrize("dense_up_to", [0, 10])
def test_nothing_to_lose_is_no_error(graph: Graph, features: np.ndarray, dense_up_to: int) -> None:
    got = decay(graph, features, depth=2, dense_up_to=dense_up_to)
    assert got.energy == pytest.approx(0)
    assert (got.rate, got.difference, got.layers_until(0.01), got.half_life) == (0, 0, 0, 0)
    json.dumps(got.to_dict(), allow_nan=False)


def test_sparse_features_are_read_alike() -> None:
    x = torch.randn(26, 3, generator=torch.Generator().manual_seed(0))
    sparse = decay(_patchwork(), SparseMatrix.from_dense(x))
    np.testing.assert_allclose(sparse.energy, decay(_patchwork(), x.numpy()).energy)


def test_the_measurement_of_many_numbers_is_taken_on_combinations(monkeypatch: pytest.MonkeyPatch) -> None:
    data = block_model(200, features=80, seed=2)
    whole = decay(data.graph, data.features, depth=6, dense_up_to=0)
    monkeypatch.setattr("layerlab.graph.depth._MEASURED_WHOLE", 1000)
    sketched = decay(data.graph, data.features, depth=6, dense_up_to=0)
    assert "random combinations" in sketched.notes[-1]
    # Measured and predicted on the same combinations, they agree to rounding.
    assert sketched.difference < 1e-9
    assert sketched.measured_energy == pytest.approx(whole.measured_energy, rel=0.5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: decay(Graph.from_edges([0], [1], directed=True)), "undirected"),
        (lambda: decay(Graph.from_edges([0, 1], [1, 2], weight=[2.0, -1.0])), "weights >= 0, got -1"),
        (lambda: decay(Graph.from_edges([0], [1]), [[1.0]]), "2 rows"),
        (lambda: decay(Graph.from_edges([0], [1]), [1.0, 2.0]), "two dimensions"),
        (lambda: decay(Graph.from_edges([0], [1]), [[1.0], [math.nan]]), "finite"),
        (lambda: decay(Graph.from_edges([0], [1]), depth=-1), "depth -1"),
        (lambda: decay(Graph.from_edges([0], [1]), probes=1), "probes 1"),
        (lambda: decay(Graph.from_edges([0], [1])).layers_until(1.0), "below 1"),
    ],
)
def test_what_has_no_decay_is_refused(call: object, message: str) -> None:
    assert callable(call)
    with pytest.raises(UserError, match=message):
        call()


def test_sparse_features_too_wide_to_be_dense_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: object) -> None:
        raise MemoryError

    features = SparseMatrix.from_dense(torch.eye(3))
    monkeypatch.setattr("scipy.sparse.csr_array.toarray", full)
    with pytest.raises(UserError, match="3 x 3 numbers do not fit into memory; give fewer columns"):
        decay(Graph.from_edges([0, 1], [1, 2]), features)


def test_labels_become_a_centred_signal() -> None:
    signal = label_signal([5, 2, 2, -1])
    np.testing.assert_allclose(signal.sum(axis=0), 0, atol=1e-15)
    np.testing.assert_allclose(signal[:3], [[-2 / 3, 2 / 3], [1 / 3, -1 / 3], [1 / 3, -1 / 3]])
    assert (signal[3] == 0).all()
    assert label_signal([-1, -1]).shape == (2, 0)


def test_homophilous_labels_outlast_noise() -> None:
    data = block_model(400, homophily=0.9, signal=0.0, seed=1)
    noise: Decay = decay(data.graph, data.features)
    classes = decay(data.graph, label_signal(data.labels))
    assert classes.distance_share(4) > 2 * noise.distance_share(4)


def test_energy_that_is_gone_at_once_is_gone_after_no_layer() -> None:
    # Every eigenvalue off the limit is 0: what is left drops to nothing just above depth 0.
    pairs = Graph.from_edges(np.arange(0, 20, 2), np.arange(1, 20, 2))
    assert decay(pairs, depth=2).layers_until(0.01) == pytest.approx(0.0, abs=1e-5)


def test_features_in_files_decay_as_those_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    path = Graph.from_edges(np.arange(59), np.arange(1, 60))
    whole = generator.standard_normal((60, 40)).astype(np.float32)
    stored = StoredFeatures((whole[:, :25], whole[:, 25:]))
    exact = decay(path, whole, depth=6)
    assert np.array_equal(decay(path, stored, depth=6).energy, exact.energy)
    monkeypatch.setattr("layerlab.graph.depth._MEASURED_WHOLE", 100)
    monkeypatch.setattr("layerlab.graph.depth._ROWS", 17)
    large = decay(path, stored, depth=6, probes=24)
    assert any("24 random combinations" in note for note in large.notes)
    # A sum of squares over 24 random combinations has a relative standard deviation of about sqrt(2 / 24).
    assert large.measured_energy == pytest.approx(exact.measured_energy, rel=0.35)
    few = decay(path, StoredFeatures((whole[:, :3], whole[:, 3:5])), depth=6)
    assert few.measured_energy == pytest.approx(decay(path, whole[:, :5], depth=6).measured_energy)
    assert not few.notes


@pytest.mark.parametrize("layers", [300, 700_000, 999_000])
def test_a_hundredth_is_found_up_to_a_million_layers(layers: int) -> None:
    nothing, one = np.zeros(1), np.ones(1)
    rate = np.array([0.01 ** (1 / (2 * layers))])
    slow = Decay(np.arange(1), one, one, nothing, nothing, one, one, rate, one, 0.0, "dense", True)
    assert slow.layers_until(0.01) == pytest.approx(layers, rel=1e-5)
    slower = replace(slow, eigenvalues=np.array([0.01 ** (1 / 2.1e6)]))
    assert slower.layers_until(0.01) == math.inf
