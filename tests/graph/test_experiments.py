"""The experiments: what a fingerprint tells, and the cells of a race."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from communities import communities
from torch import nn

from layerlab.errors import UserError
from layerlab.graph import experiments
from layerlab.graph.datasets import Split
from layerlab.graph.experiments import cells_of, fingerprint
from layerlab.graph.sparse import SparseMatrix
from layerlab.graph.structure import Graph

CLUB = Path(__file__).parents[2] / "examples" / "graph_folder"


# ----------------------------------------------------------------- fingerprint


def test_the_fingerprint_tells_what_changed() -> None:
    data = communities()
    assert data.split is not None
    other_labels = data.labels.copy()
    other_labels[3] = 1 - other_labels[3]
    source, target, _ = data.graph.edges()
    values = data.features.values.clone()
    values[0] += 1
    moved = Split(data.split.train, data.split.test, data.split.validation)
    wider = SparseMatrix.from_dense(nn.functional.pad(data.features.to_dense(), (0, 1)))
    variants = [
        data,
        replace(data, labels=other_labels),
        replace(data, graph=Graph.from_edges(source[1:], target[1:], num_nodes=data.num_nodes)),
        replace(
            data,
            graph=Graph.from_edges(
                source, target, num_nodes=data.num_nodes, weight=np.full(len(source), 2.0)
            ),
        ),
        replace(data, features=data.features.with_values(values)),
        replace(data, features=wider),
        replace(data, split=moved),
        replace(data, split=None),
    ]
    assert len({fingerprint(variant) for variant in variants}) == len(variants)
    assert fingerprint(data) == fingerprint(replace(communities(), name="renamed"))


# ----------------------------------------------------------------------- cells


def test_a_cell_is_picklable_and_says_what_it_ran() -> None:
    run_cell = pickle.loads(pickle.dumps(cells_of(str(CLUB), "public", {"gcn": {"epochs": 2, "hidden": 3}})))
    cell = run_cell("gcn", 1)
    assert cell["settings"]["epochs"] == 2
    assert cell["settings"]["hidden"] == 3
    assert cell["epochs"] == len(cell["curves"]["validation_loss"]) == 2
    assert cell["parameters"] == 3 * 3 + 3 + 3 * 2 + 2
    assert cell["metrics"]["test_accuracy"] == run_cell("gcn", 1)["metrics"]["test_accuracy"]
    assert cell["step_seconds"] > 0


def test_data_that_change_under_a_race_are_refused(tmp_path: Path) -> None:
    for name in ("nodes.csv", "edges.csv"):
        (tmp_path / name).write_text((CLUB / name).read_text(encoding="utf-8"), encoding="utf-8")
    overrides = {"mlp": {"epochs": 1}}
    first = cells_of(str(tmp_path), "public", overrides)
    first("mlp", 0)
    nodes = (
        (tmp_path / "nodes.csv")
        .read_text(encoding="utf-8")
        .replace("ada,poetry,train,9", "ada,poetry,train,8")
    )
    (tmp_path / "nodes.csv").write_text(nodes, encoding="utf-8")
    changed = cells_of(str(tmp_path), "public", overrides)
    changed("mlp", 0)
    experiments._loaded.cache_clear()
    with pytest.raises(UserError, match="has changed since the race began"):
        first("mlp", 1)
