"""A graph from whatever a person has."""

from __future__ import annotations

from pathlib import Path

import pytest

from layerlab.errors import UserError
from layerlab.graph.npz import to_npz
from layerlab.graph.sources import edge_list, load_graph
from layerlab.graph.structure import Graph


def test_a_known_name_comes_before_a_file_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cora").write_text("0 1\n")
    assert load_graph("cora").num_nodes == 2708
    assert load_graph("./cora").num_nodes == 2


def test_a_folder_needs_no_labels(tmp_path: Path) -> None:
    (tmp_path / "edges.csv").write_text("source,target\na,b\nb,c\n")
    (tmp_path / "nodes.csv").write_text("id,label,x\na,,1\nb,,2\nc,,3\nd,,4\n")
    assert load_graph(tmp_path) == Graph.from_edges([0, 1], [1, 2], num_nodes=4)


def test_an_archive_keeps_direction_and_nodes(tmp_path: Path) -> None:
    graph = Graph.from_edges([0, 1], [1, 0], num_nodes=5, weight=[0.5, 2.0], directed=True)
    to_npz(graph, tmp_path / "mine.npz")
    assert load_graph(tmp_path / "mine.npz") == graph


@pytest.mark.parametrize(
    ("text", "source", "target", "nodes"),
    [
        # Whole numbers in their order; nodes that do not occur are not there.
        ("10\t2\n2\t7\n", [2, 0], [0, 1], 3),
        ("source,target\n1,2\n2,3\n", [0, 1], [1, 2], 3),
        # Other ids in the order in which they occur, along lines.
        ("zoe,ann\nann,10\n", [0, 1], [1, 2], 3),
        ("007,7\n", [0], [1], 2),
    ],
)
def test_the_ids_of_an_edge_list_become_nodes(
    tmp_path: Path, text: str, source: list[int], target: list[int], nodes: int
) -> None:
    file = tmp_path / "edges.txt"
    file.write_text(text)
    assert load_graph(file) == Graph.from_edges(source, target, num_nodes=nodes)


def test_weights_repeats_and_loops_of_an_edge_list(tmp_path: Path) -> None:
    file = tmp_path / "edges.csv"
    file.write_text("a,b,0.5\nb,a,0.5\nb,b,3\n")
    graph = edge_list(file)
    assert graph == Graph.from_edges([0, 1], [1, 1], weight=[0.5, 3.0])
    assert "1 self-loop" in graph.notes
    file.write_text("source,target\n")
    assert edge_list(file).num_nodes == 0


def test_what_is_wrong_is_said_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"expected a data set \(cora, .* there is no 'nowhere'"):
        load_graph("nowhere")
    file = tmp_path / "edges.csv"
    file.write_text("a,b\nc\n")
    with pytest.raises(UserError, match=r"edges\.csv.*2"):
        load_graph(file)
    (tmp_path / "broken.npz").write_bytes(b"PK nothing")
    with pytest.raises(UserError, match=r"broken\.npz"):
        load_graph(tmp_path / "broken.npz")


def test_ids_of_any_length_stand_in_their_order(tmp_path: Path) -> None:
    file = tmp_path / "edges.csv"
    # Python's int refuses words of more than 4,300 digits.
    file.write_text(f"{'9' * 5000},10\n10,9\n")
    assert edge_list(file) == Graph.from_edges([0, 1], [1, 2])
