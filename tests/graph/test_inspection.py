"""An inspection: what it finds, what it says of what is missing, and its page."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from layerlab.errors import UserError
from layerlab.graph.depth import decay
from layerlab.graph.generate import block_model
from layerlab.graph.inspection import inspect, load_subject, split_of
from layerlab.graph.inspection_page import inspection_page
from layerlab.graph.node_data import NodeDataset
from layerlab.graph.sparse import SparseMatrix
from layerlab.graph.structure import Graph
from layerlab.lab.records import create_run
from layerlab.lab.report.page import render


def blocks(**changes: object) -> NodeDataset:
    return block_model(200, homophily=0.8, degree=6.0, signal=2.0, seed=1, **changes)


def bare(graph: Graph, labels: object) -> NodeDataset:
    features = SparseMatrix.from_dense(torch.eye(graph.num_nodes))
    ids = tuple(str(node) for node in range(graph.num_nodes))
    return NodeDataset("bare", graph, features, np.asarray(labels), ("a", "b"), ids, None, "made here")


def page_of(record: dict[str, object], folder: Path) -> str:
    run = create_run(folder, "graph-inspection", "layerlab graph inspect", {})
    run.finish(record)
    return render(inspection_page(run))


def test_everything_is_found_and_drawn(tmp_path: Path) -> None:
    data = blocks()
    heard: list[float] = []
    trained: list[tuple[int, int]] = []
    found = inspect(
        *(data,),
        train=True,
        depths=range(1, 5),
        progress=lambda share, words: heard.append(share),
        training_progress=lambda done, depths: trained.append((done, depths)),
    )
    assert found.certificate.components.count >= 1
    assert found.homophily is not None and found.homophily.kind == "homophilous"
    assert found.labels is not None and found.features is not None and found.density is not None
    assert found.prediction is not None and found.prediction.depths == (1, 2, 3, 4)
    assert found.curve is not None and trained[-1] == (4, 4)
    assert heard == sorted(heard) and heard[-1] == 1.0
    record = json.loads(json.dumps(found.to_dict()))
    assert record["graph"]["nodes"] == 200 and record["training"]["best"] == found.curve.best
    html = page_of(record, tmp_path / "run")
    for words in ("Accuracy against depth", "How propagation smooths", "Eigenvalues with the bound", "K = "):
        assert words in html
    assert "mathdefault" not in html


def test_a_graph_alone_is_inspected_with_white_noise(tmp_path: Path) -> None:
    found = inspect(Graph.from_edges([0, 1, 2], [1, 2, 0]), name="triangle")
    assert found.homophily is None and found.prediction is None and found.labels is None
    assert any("white noise" in note for note in found.notes)
    assert "triangle" in page_of(found.to_dict(), tmp_path / "run")
    with pytest.raises(UserError, match="nothing to train on"):
        inspect(Graph.from_edges([0], [1]), train=True)


@pytest.mark.parametrize(
    "graph",
    [
        Graph.from_edges([], [], num_nodes=0),
        Graph.from_edges([], [], num_nodes=1),
        Graph.from_edges([], [], num_nodes=5),
        Graph.from_edges([0], [0]),
        Graph.from_edges([0, 1], [1, 2], directed=True),
        Graph.from_edges([0, 1], [1, 2], weight=[1.0, -2.0]),
        Graph.from_edges(np.zeros(50, int), np.arange(1, 51)),
        Graph.from_edges(np.arange(0, 60, 2), np.arange(1, 60, 2)),
    ],
    ids=["empty", "one node", "no edges", "a loop", "directed", "negative", "star", "pairs"],
)
def test_odd_graphs_are_inspected_and_drawn(graph: Graph, tmp_path: Path) -> None:
    found = inspect(graph, depths=range(1, 4))
    assert found.notes or found.density is not None
    page_of(json.loads(json.dumps(found.to_dict(), allow_nan=False)), tmp_path / "run")


def test_too_few_labels_are_said_and_no_error(tmp_path: Path) -> None:
    path = Graph.from_edges([0, 1, 2], [1, 2, 3])
    none = inspect(bare(path, [-1, -1, -1, -1]), depths=[1, 2])
    assert none.prediction is None and any("no labels" in note for note in none.notes)
    one_class = inspect(bare(path, [0, 0, 0, 0]), depths=[1, 2])
    assert any("no depth is predicted" in note for note in one_class.notes)
    for found in (none, one_class):
        page_of(json.loads(json.dumps(found.to_dict(), allow_nan=False)), tmp_path / found.notes[-1][:5])
    with pytest.raises(UserError, match="nothing to train on"):
        inspect(bare(path, [-1, -1, -1, -1]), train=True)


def test_an_own_split_is_kept_and_another_one_follows_the_seed() -> None:
    data = blocks()
    assert split_of(data, 0) is data.split
    path = Graph.from_edges(np.arange(19), np.arange(1, 20))
    mine = bare(path, np.arange(20) % 2)
    first, second = split_of(mine, 0), split_of(mine, 1)
    assert first is not None and second is not None
    assert set(first.train.tolist()) != set(second.train.tolist())


def test_the_same_seed_gives_the_same_record() -> None:
    data = blocks()
    first, again = (inspect(data, depths=range(1, 4), seed=3).to_dict() for _ in range(2))
    assert first == again


def test_subjects(tmp_path: Path) -> None:
    assert isinstance(load_subject("cora"), NodeDataset)
    edges = tmp_path / "friends.csv"
    edges.write_text("ann,bob\nbob,eve\n")
    subject = load_subject(edges)
    assert isinstance(subject, Graph) and subject.num_nodes == 3
    with pytest.raises(UserError, match="there is no"):
        load_subject(tmp_path / "nowhere")


@pytest.mark.parametrize(("large", "probes"), [(1 << 26, 24), (100, 16)])
def test_a_large_graphs_decay_is_told_by_fewer_combinations(
    large: int, probes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("layerlab.graph.inspection._LARGE", large)
    taken: list[object] = []

    def remembered(*given: object, **options: object) -> object:
        taken.append(options["probes"])
        return decay(*given, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("layerlab.graph.inspection.decay", remembered)
    inspect(blocks())
    assert taken == [probes, probes]
