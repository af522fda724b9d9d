"""What `Graph.from_edges` refuses, merges and says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from layerlab.errors import UserError
from layerlab.graph.edges import index_dtype
from layerlab.graph.structure import Graph


@pytest.mark.parametrize(
    ("source", "target", "options", "message"),
    [
        ([0, 1], [1], {}, "one length, got 2 and 1"),
        ([0, -1, -2], [1, 2, 3], {}, "source of edge 1 is -1;"),
        ([0, 1], [1, -7], {}, "target of edge 1 is -7;"),
        ([0, 2**40], [1, 1], {}, "source of edge 1 is 1099511627776;"),
        (np.array([0, 2**64 - 1], dtype=np.uint64), [1, 1], {}, "source of edge 1 is 18446744073709551615;"),
        ([0, 1, 2], [1, 5, 9], {"num_nodes": 5}, "target of edge 1 is 5, but num_nodes=5 "),
        ([0, 5, 2], [1, 4, 9], {"num_nodes": 5}, "source of edge 1 is 5, but num_nodes=5 "),
        ([0], [0], {"num_nodes": 0}, "source of edge 0 is 0, but num_nodes=0 "),
        ([0.0, 1.0], [1, 2], {}, "source must hold integers (node positions), got float64"),
        ([0, 1], torch.tensor([1.0, 2.0]), {}, "target must hold integers (node positions), got float64"),
        ([True, False], [1, 2], {}, "source must hold integers (node positions), got bool"),
        (["a", "b"], [1, 2], {}, "source must hold integers"),
        ([0, 10**30], [1, 2], {}, "source must hold integers (node positions), got object"),
        ([[0, 1], [1, 0]], [1, 2], {}, "source must be one-dimensional, got an array of shape (2, 2)"),
        ([[0, 1], [1]], [1, 2], {}, "source must be a one-dimensional array of numbers"),
        (3, [1], {}, "source must be one-dimensional, got an array of shape ()"),
        ([0], [1], {"num_nodes": -1}, "num_nodes must be an integer from 0 to 2147483647, got -1"),
        ([0], [1], {"num_nodes": 2.0}, "num_nodes must be an integer from 0 to 2147483647, got 2.0"),
        ([0], [1], {"num_nodes": True}, "num_nodes must be an integer from 0 to 2147483647, got True"),
        ([0], [1], {"num_nodes": 2**31}, "num_nodes must be an integer from 0 to 2147483647"),
        ([0], [99_999_999], {}, "the largest index is 99999999, with 1 edge only"),
        ([0, 1], [1, 2], {"weight": [1.0, np.nan]}, "weight of edge 1 is nan"),
        ([0, 1], [1, 2], {"weight": [-np.inf, np.nan]}, "weight of edge 0 is -inf"),
        ([0, 1], [1, 2], {"weight": [1.0]}, "expected 2, got 1"),
        ([0, 1], [1, 2], {"weight": 1.0}, "weight must be one-dimensional"),
        ([0, 1], [1, 2], {"weight": [True, False]}, "weight must hold real numbers, got bool"),
        ([0, 1], [1, 2], {"weight": [1j, 2j]}, "weight must hold real numbers, got complex128"),
        ([0, 1], [1, 2], {"weight": ["1", "2"]}, "weight must hold real numbers"),
        ([0, 0], [1, 1], {"weight": [1e308, 1.5e308]}, "sum to infinity"),
    ],
)
def test_bad_input_is_refused_in_one_line(source, target, options, message) -> None:
    with pytest.raises(UserError) as caught:
        Graph.from_edges(source, target, **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_distant_index_must_be_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("layerlab.graph.edges._INFERRED_NODES", 150)
    assert Graph.from_edges([0], [149]).num_nodes == 150
    with pytest.raises(UserError, match=r"the largest index is 150, with 1 edge only; .* state num_nodes"):
        Graph.from_edges([0], [150])
    assert Graph.from_edges([0], [150], num_nodes=151).degrees()[150] == 1
    assert Graph.from_edges([0, 1], [150, 2]).num_nodes == 151  # 100 nodes an edge are believed


@pytest.mark.parametrize("convert", [list, tuple, np.array, torch.tensor, lambda v: np.array(v, np.uint8)])
def test_every_kind_of_array_gives_the_same_graph(convert) -> None:
    expected = Graph.from_edges([0, 2, 1], [1, 3, 2])
    assert Graph.from_edges(convert([0, 2, 1]), convert([1, 3, 2])) == expected


def test_weights_of_other_types_become_float64() -> None:
    for weight in (
        [1, 2],
        np.array([1, 2], np.float32),
        torch.tensor([1, 2], dtype=torch.bfloat16),
        torch.tensor([1.0, 2.0], requires_grad=True),
    ):
        g = Graph.from_edges([0, 1], [1, 2], weight=weight, directed=True)
        assert g.weights is not None
        assert g.weights.dtype == np.float64
        assert g.weights.tolist() == [1.0, 2.0]


def test_the_input_is_neither_kept_nor_changed() -> None:
    source, target, weight = np.array([1, 0]), np.array([2, 1]), np.array([0.5, 2.0])
    for directed in (True, False):
        g = Graph.from_edges(source, target, weight=weight, directed=directed)
        before = g.weights.tolist(), g.indices.tolist()
        source[:], target[:], weight[:] = 0, 0, 9.0
        assert (g.weights.tolist(), g.indices.tolist()) == before
        source[:], target[:], weight[:] = [1, 0], [2, 1], [0.5, 2.0]
    assert source.flags.writeable
    assert weight.flags.writeable


def test_duplicates_are_merged_and_said() -> None:
    arcs = Graph.from_edges([0, 0, 1, 0], [1, 1, 0, 1], directed=True)
    assert arcs.edges()[0].tolist() == [0, 1]
    assert arcs.notes == ("merged 2 duplicate edges",)
    edges = Graph.from_edges([0, 0, 1], [1, 1, 2])
    assert edges.num_edges == 2
    assert edges.notes == ("merged 1 duplicate edge",)


def test_listing_an_undirected_edge_in_both_directions_is_no_duplicate() -> None:
    assert Graph.from_edges([0, 1, 1, 2], [1, 0, 2, 1]).notes == ()
    # ... but when some edges are, and others are not, the list may have been meant as directed.
    assert Graph.from_edges([0, 1, 1], [1, 0, 2]).notes == ("1 of 2 edges listed in both directions",)
    # A loop has no other direction.
    assert Graph.from_edges([0, 1, 2], [1, 0, 2]).notes == ("1 self-loop",)


def test_equal_weights_restate_an_edge_and_other_weights_add_to_it() -> None:
    same = Graph.from_edges([0, 1, 0], [1, 0, 1], weight=[2.5, 2.5, 2.5])
    assert same.edges()[2].tolist() == [2.5]
    assert same.notes == ("merged 1 duplicate edge",)
    both = Graph.from_edges([0, 1, 1, 2], [1, 0, 2, 1], weight=[2.0, 3.0, 7.0, 7.0])
    assert both.edges()[2].tolist() == [5.0, 7.0]
    assert both.notes == ("1 edge listed with differing weights, which were summed",)
    parallel = Graph.from_edges([0, 0, 0, 1], [1, 1, 1, 1], weight=[2.0, 3.0, 2.0, 4.0], directed=True)
    assert parallel.edges()[2].tolist() == [5.0, 4.0]
    assert parallel.notes == (
        "merged 2 duplicate edges",
        "1 edge listed with differing weights, which were summed",
        "1 self-loop",
    )


def test_self_loops_and_isolated_nodes_are_reported() -> None:
    g = Graph.from_edges([0, 3, 3], [0, 3, 1], num_nodes=6)
    assert g.notes == ("2 self-loops", "3 isolated nodes")
    assert g.num_self_loops == 2
    assert g.isolated_nodes().tolist() == [2, 4, 5]


def test_index_type_follows_what_must_fit() -> None:
    assert index_dtype(10, 2**31 - 1) is np.int32
    assert index_dtype(2**31 - 1, 10) is np.int32
    assert index_dtype(10, 2**31) is np.int64
    assert index_dtype(2**31, 10) is np.int64
    g = Graph.from_edges(np.array([0], np.int64), np.array([1], np.int64))
    assert g.indices.dtype == g.indptr.dtype == np.int32


def test_wide_indices_are_used_and_kept_when_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    # A graph that really needs them would fill the memory: lower the limit instead.
    monkeypatch.setattr("layerlab.graph.edges.INT32_MAX", 6)
    narrow, wide = Graph.from_edges([0, 1], [1, 2]), Graph.from_edges([0, 1, 2, 3], [1, 2, 3, 4])
    assert narrow.indices.dtype == np.int32
    assert narrow.with_self_loops().indices.dtype == np.int64  # 4 + 3 entries
    assert wide.indices.dtype == wide.indptr.dtype == np.int64
    assert wide.adjacency().col.dtype == torch.int64
    arcs = Graph.from_edges([0, 1, 2, 3] * 2, [1, 2, 3, 4, 2, 3, 4, 0], directed=True)
    assert arcs.transpose().indices.dtype == arcs.transpose().indptr.dtype == np.int64
    assert arcs.transpose().normalized_adjacency().col.dtype == torch.int64
