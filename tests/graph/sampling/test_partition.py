"""Features that processes hold in parts: the same training, and parts that are what they are said to be."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from layerlab.errors import UserError
from layerlab.graph import Graph
from layerlab.graph.runs import train_run
from layerlab.graph.sampling.partition import check_partition, parts_of

from ...ranks import in_ranks
from .rank_training import NODES, train
from .same_training import expect_the_same

RANKS = Path(__file__).with_name("rank_training.py")
HAS_METIS = find_spec("pymetis") is not None


def test_two_processes_with_a_part_each_train_as_one_does() -> None:
    kinds = ["hash", "metis"] if HAS_METIS else ["hash"]
    first, second = in_ranks(2, RANKS, "in_parts", kinds)
    assert first.get("raised") is None
    for model in ("gcn", "gat", "mlp"):
        alone = train(None, model)
        for kind in kinds:
            assert first[f"{kind} {model}"] == second[f"{kind} {model}"]
            expect_the_same(first[f"{kind} {model}"], alone)
    assert first["rows"]
    assert second["rows"]
    # Each row lies in one process.
    assert first["held"][0] == first["held"][1]
    assert first["held"][0] + second["held"][0] == NODES
    assert 0.3 * NODES < first["held"][0] < 0.7 * NODES
    assert "whole columns of features" in first["error"]


@pytest.mark.parametrize("parts", [2, 3, 7])
def test_a_hash_spreads_nodes_evenly(parts: int) -> None:
    graph = Graph.from_edges([0], [1], num_nodes=10_000)
    found = parts_of(graph, "hash", parts)
    sizes = np.bincount(found, minlength=parts)
    assert len(sizes) == parts
    assert np.abs(sizes / 10_000 - 1 / parts).max() < 0.01
    # Of nodes with numbers side by side, too, such as a class's in a sorted table.
    assert np.abs(np.bincount(found[:1000], minlength=parts) / 1000 - 1 / parts).max() < 0.05


@pytest.mark.skipif(not HAS_METIS, reason="pymetis, an extra, is not installed")
@pytest.mark.parametrize("directed", [False, True])
def test_metis_cuts_few_edges(directed: bool) -> None:
    # Two rings of 50 with one edge between them, their nodes numbered by turns, and self-loops.
    ring = 2 * np.arange(50)
    source = np.concatenate([ring, ring + 1, [0], ring])
    target = np.concatenate([np.roll(ring, 1), np.roll(ring, 1) + 1, [1], ring])
    graph = Graph.from_edges(source, target, directed=directed)
    found = parts_of(graph, "metis", 2)
    assert sorted(np.bincount(found).tolist()) == [50, 50]
    assert len(set(found[ring].tolist())) == len(set(found[ring + 1].tolist())) == 1


def test_a_wrong_partition_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a partition of hash, metis, got 'random'"):
        check_partition("random")
    monkeypatch.setitem(sys.modules, "pymetis", None)
    with pytest.raises(UserError, match="needs pymetis: pip install"):
        check_partition("metis")
    with pytest.raises(UserError, match="over several processes"):
        train_run("cora", "gcn", out=tmp_path / "run", partition="hash")
    assert not (tmp_path / "run").exists()
