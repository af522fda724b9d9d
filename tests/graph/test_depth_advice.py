"""The sentences: each appears where it is true, and only there."""

from __future__ import annotations

import numpy as np
import pytest

from layerlab.graph.components import components
from layerlab.graph.depth import decay, label_signal
from layerlab.graph.depth_advice import advice
from layerlab.graph.depth_prediction import DepthPrediction
from layerlab.graph.depth_training import DepthCurve
from layerlab.graph.generate import block_model, cycle_model
from layerlab.graph.homophily import homophily
from layerlab.graph.structure import Graph

TRIANGLE = Graph.from_edges([0, 1, 2], [1, 2, 0])


def _said(graph: Graph, **given: object) -> str:
    return "\n".join(advice(components(graph), **given))  # type: ignore[arg-type]


def _prediction(best: int, plausible: tuple[int, ...]) -> DepthPrediction:
    flat = np.full((2, 8), 0.5)
    return DepthPrediction(tuple(range(1, 9)), flat, flat[0], best, plausible)


def _curve(best: int) -> DepthCurve:
    accuracy = np.full((1, 8), 0.5)
    accuracy[0, best - 1 : best + 1] = 0.75
    return DepthCurve(tuple(range(1, 9)), accuracy, accuracy)


def test_a_plain_graph_needs_no_words() -> None:
    assert _said(TRIANGLE) == ""


def test_components_isolated_nodes_and_bipartite_parts_are_told() -> None:
    graph = Graph.from_edges([0, 1, 2, 3], [1, 2, 0, 4], num_nodes=6)
    said = _said(graph)
    assert "2 components with edges" in said
    assert "1 isolated node:" in said
    assert "bipartite in 1 of 2 components" in said
    assert _said(Graph.from_edges([0], [1])).startswith(
        "bipartite: propagation without self-loops oscillates"
    )


def test_the_decay_is_put_in_layers() -> None:
    cycle = Graph.from_edges(np.arange(12), (np.arange(12) + 1) % 12)
    wave = np.cos(2 * np.pi * np.arange(12) * 2 / 12)[:, None]
    said = _said(cycle, features=decay(cycle, wave))
    # The wave's eigenvalue is 2/3: the energy halves in log(1/2) / (2 log(2/3)) = 0.85 layers, and the distance
    # falls to a hundredth in log(0.01) / log(2/3) = 11.4.
    assert "halves every 0.9 layers" in said
    assert "a hundredth is left after 5.7 layers" in said
    assert "beyond K = 12 less than 1%" in said


def test_what_never_decays_is_told() -> None:
    pair = Graph.from_edges([0], [1])
    x = np.array([[1.0], [0.0]])
    assert "changes sign layer by layer" in _said(pair, features=decay(pair, x, self_loops=False))
    assert "at their limit from the start" in _said(pair, features=decay(pair, np.ones((2, 1))))


@pytest.mark.parametrize(("share", "word"), [(0.9, "more noise than signal"), (0.0, "the signal first")])
def test_signal_and_noise_are_weighed(share: float, word: str) -> None:
    data = block_model(400, classes=4, homophily=share, signal=0.0, degree=8.0, seed=1)
    features, labels = decay(data.graph, data.features), decay(data.graph, label_signal(data.labels))
    assert word in _said(data.graph, features=features, labels=labels)


def test_homophily_is_told() -> None:
    data = cycle_model(80)
    assert "homophilous:" in _said(data.graph, homophily=homophily(data.graph, data.labels))


def test_prediction_and_training_are_compared() -> None:
    assert "K = 4; 3 to 6 may do as well" in _said(TRIANGLE, prediction=_prediction(4, (3, 4, 6)))
    assert "K = 4\n" in _said(TRIANGLE, prediction=_prediction(4, (4,)))
    near = _said(TRIANGLE, prediction=_prediction(4, (4,)), curve=_curve(5))
    assert "trained, K = 5 is best (75.0%" in near
    assert "are K = 5-6: the prediction K = 4 is within 1 of them" in near
    assert "K = 3 is 2 off" in _said(TRIANGLE, prediction=_prediction(3, (3,)), curve=_curve(5))


@pytest.mark.parametrize(
    ("best", "words"),
    [(1, "try 1 layer"), (2, "try 2 layers"), (3, "try 2 to 3 layers"), (8, "try 2 to 4 layers")],
)
def test_a_gcn_is_told_how_many_layers(best: int, words: str) -> None:
    assert _said(TRIANGLE, prediction=_prediction(best, (best,))).endswith(words)
