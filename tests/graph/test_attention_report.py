"""The report on a trained GAT: whose coefficients it takes, what it says of them, and what it refuses."""

from __future__ import annotations

import csv
import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from layerlab.errors import UserError
from layerlab.graph.attention_findings import findings_of
from layerlab.graph.attention_measures import Correlation, Head
from layerlab.graph.attention_page import attention_page
from layerlab.graph.attention_report import (
    Layer,
    Replaced,
    attention_of,
    attention_report,
    with_mean,
)
from layerlab.graph.course import CourseGAT
from layerlab.graph.datasets import load
from layerlab.graph.layers import GATConv
from layerlab.graph.models import GAT
from layerlab.graph.prediction import predict_run
from layerlab.graph.runs import open_trained, train_run
from layerlab.graph.structure import Graph
from layerlab.lab.records import create_run
from layerlab.lab.report.page import render

CLUB = Path(__file__).parents[2] / "examples" / "graph_folder"
GRAPH = Graph.from_edges([0, 0, 0, 1, 4], [1, 2, 3, 2, 5], num_nodes=7)


def trained(path: Path, data: str | Path = CLUB, model: str = "gat", **changes: Any) -> Path:
    protocol = changes.pop("protocol", None)
    overrides = {"epochs": 5, "hidden": 3, "learning_rate": 0.1, **changes}
    train_run(str(data), model, out=path, protocol=protocol, overrides=overrides)
    return path


def edit(run: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    meta = json.loads((run / "run.json").read_text(encoding="utf-8"))
    change(meta["config"])
    (run / "run.json").write_text(json.dumps(meta), encoding="utf-8")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("attention") / "run")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A copy of the example's folder, to be changed."""
    return Path(shutil.copytree(CLUB, tmp_path / "club"))


def rewrite(data: Path, change: Callable[[dict[str, str]], dict[str, str]]) -> None:
    with (data / "nodes.csv").open(newline="", encoding="utf-8") as stream:
        rows = [change(row) for row in csv.DictReader(stream)]
    with (data / "nodes.csv").open("w", newline="", encoding="utf-8") as stream:
        table = csv.DictWriter(stream, list(rows[0]))
        table.writeheader()
        table.writerows(rows)


# ------------------------------------------------------------- the coefficients


@pytest.mark.parametrize(
    ("model", "heads"),
    [
        (lambda: GAT(4, 2, 3, heads=2, out_heads=1), [2, 1]),
        (lambda: GAT(4, 2, 3, heads=2, out_heads=3, layers=3), [2, 2, 3]),
        (lambda: GAT(4, 2, 3, out_heads=5, layers=1), [5]),
        (lambda: CourseGAT(4, 2, 3, heads=4), [4, 1]),
    ],
    ids=["paper", "averaged heads", "one layer", "course"],
)
def test_the_coefficients_are_those_the_model_uses(model: Callable[[], Any], heads: list[int]) -> None:
    torch.manual_seed(0)
    net, x = model(), torch.randn(7, 4)
    net.train()
    found = attention_of(net, x, GRAPH)
    assert net.training, "the model's mode was changed"
    assert not any(module._forward_pre_hooks for module in net.modules())
    assert [attention.coefficients.shape[1] for attention in found] == heads
    # The output again, from the coefficients alone.
    net.eval()
    convs = [module for module in net.modules() if isinstance(module, GATConv)]
    out = x
    for position, (conv, attention) in enumerate(zip(convs, found, strict=True)):
        out = torch.nn.functional.elu(out) if position else out
        z = (out @ conv.weight.T).view(7, conv.heads, -1)
        messages = attention.coefficients[..., None] * z[attention.source]
        sums = torch.zeros_like(z).index_add(0, attention.target, messages)
        out = sums.flatten(1) if conv.concat else sums.mean(1)
        out = out if conv.bias is None else out + conv.bias
    torch.testing.assert_close(out, net(x, GRAPH), rtol=1e-4, atol=1e-5)


def test_a_mean_in_place_of_attention() -> None:
    torch.manual_seed(0)
    net, x = GAT(4, 2, 3, heads=2).eval(), torch.randn(7, 4)
    before = [p.clone() for p in net.parameters()]
    uniform = 1 / np.array([4, 3, 3, 2, 2, 2, 1])
    for layer, replaced in ((0, [True, False]), (1, [False, True]), (None, [True, True])):
        for attention, flat in zip(attention_of(with_mean(net, layer), x, GRAPH), replaced, strict=True):
            expected = torch.from_numpy(uniform)[attention.target].float()[:, None]
            off = (attention.coefficients - expected).abs().max()
            assert (off < 1e-6) == flat
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))


# ------------------------------------------------------------------- the report


def test_the_report_of_a_run(run: Path) -> None:
    found = attention_report(run, str(CLUB), top=3, replicates=20)
    dataset = load(str(CLUB))
    assert (found.data, found.nodes, found.measured, found.edges) == ("graph_folder", 14, 14, 2 * 23 + 14)
    assert [(layer.layer, len(layer.heads)) for layer in found.layers] == [(1, 8), (2, 1)]
    recorded = json.loads((run / "run.json").read_text(encoding="utf-8"))["results"]["metrics"]
    assert (found.part, found.accuracy) == ("test", recorded["test_accuracy"])
    # gus and nils, who join the two clubs.
    assert found.notes == (
        "2 nodes have no label: their edges do not count for agreement",
        "all edges between labelled nodes are within a class: no correlation with agreement",
    )
    for layer in found.layers:
        assert [edge.lift for edge in layer.most] == sorted((e.lift for e in layer.most), reverse=True)
        assert [edge.lift for edge in layer.least] == sorted(edge.lift for edge in layer.least)
        assert layer.most[-1].lift >= layer.least[-1].lift
        assert len(layer.most) == len(layer.least) == 3
        assert all(edge.source != edge.target for edge in layer.most + layer.least)
    ids = list(dataset.node_ids)
    edge = found.layers[1].most[0]
    assert edge.source_class == {0: "poetry", 1: "sport", -1: None}[dataset.labels[ids.index(edge.source)]]
    sizes = dataset.graph.degrees() + 1
    assert edge.lift == pytest.approx(edge.coefficient * sizes[ids.index(edge.target)], abs=1e-5)
    whole = open_trained(run, lambda _: dataset)
    attentions = attention_of(whole.model, whole.features, dataset.graph)
    for layer, attention in zip(found.layers, attentions, strict=True):
        edge = layer.most[0]
        ends = (attention.source == ids.index(edge.source)) & (attention.target == ids.index(edge.target))
        assert attention.coefficients[ends].mean().item() == pytest.approx(edge.coefficient)
    json.dumps(found.to_dict(), allow_nan=False)


def test_no_edge_is_trusted_both_most_and_least(run: Path) -> None:
    layer = attention_report(run, str(CLUB), top=1000, replicates=2).layers[0]
    assert len(layer.most) == len(layer.least) == 23
    assert len({(edge.source, edge.target) for edge in layer.most + layer.least}) == 46


def test_what_the_model_predicts_with_means(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from layerlab.graph import attention_report as module

    asked: list[int | None] = []

    def flattened(model: Any, layer: int | None = None) -> Any:
        # A stand-in that always says the first class.
        asked.append(layer)
        other = with_mean(model, layer)
        with torch.no_grad():
            other.convs[-1].weight.zero_()
            other.convs[-1].bias.copy_(torch.tensor([1.0, 0.0]))
        return other

    monkeypatch.setattr(module, "with_mean", flattened)
    found = attention_report(run, str(CLUB), replicates=2)
    dataset, predicted = load(str(CLUB)), predict_run(run, str(CLUB))
    assert found.uniform.unchanged == np.mean([label == "poetry" for label in predicted.labels])
    assert dataset.split is not None
    assert found.uniform.accuracy == np.mean(dataset.labels[dataset.split.test] == 0)
    assert [layer.uniform for layer in found.layers] == [found.uniform] * 2
    assert asked == [0, 1, None]


@pytest.mark.parametrize("changes", [{"out_heads": 3}, {"layers": 3}, {"layers": 1, "out_heads": 2}])
def test_other_shapes_of_gat(tmp_path: Path, changes: dict[str, int]) -> None:
    found = attention_report(trained(tmp_path / "run", **changes), str(CLUB), replicates=2)
    assert len(found.layers) == changes.get("layers", 2)
    assert len(found.layers[-1].heads) == changes.get("out_heads", 1)


def test_the_course_gat_on_cora(tmp_path: Path) -> None:
    run = trained(tmp_path / "run", "cora", protocol="course", epochs=1, hidden=2)
    seen: list[float] = []
    found = attention_report(run, replicates=2, progress=lambda share, words: seen.append(share))
    assert (found.data, found.part, found.notes) == ("cora", "test", ())
    assert [len(layer.heads) for layer in found.layers] == [8, 1]
    recorded = json.loads((run / "run.json").read_text(encoding="utf-8"))["results"]["metrics"]
    assert found.accuracy == recorded["test_accuracy"]
    assert seen == sorted(seen)
    assert (seen[0], seen[-1]) == (0.0, 1.0)


def test_isolated_nodes_are_left_out(tmp_path: Path, data: Path) -> None:
    lines = (data / "edges.csv").read_text(encoding="utf-8").splitlines()
    (data / "edges.csv").write_text("\n".join(lines[:8]) + "\n", encoding="utf-8")
    found = attention_report(trained(tmp_path / "run", data), str(data), replicates=2)
    assert (found.nodes, found.measured, found.edges) == (14, 6, 14 + 14)


def test_a_graph_without_edges(tmp_path: Path, data: Path) -> None:
    (data / "edges.csv").write_text("source,target\n", encoding="utf-8")
    found = attention_report(trained(tmp_path / "run", data), str(data), replicates=2)
    assert found.measured == 0
    assert found.findings == ("no node has a neighbour besides itself: attention has nothing to choose from",)
    assert found.uniform.unchanged == 1
    record = found.to_dict()
    json.dumps(record, allow_nan=False)
    folder = create_run(tmp_path / "report", "graph-attention", "layerlab", {})
    folder.finish(record)
    assert "nothing to choose from" in render(attention_page(folder))


def test_data_without_labels_and_of_another_kind(run: Path, data: Path) -> None:
    rewrite(data, lambda row: {**row, "label": "", "split": ""})
    found = attention_report(run, str(data), replicates=2)
    assert found.notes == (
        "no labels: nothing is said of agreement and accuracy",
        "these are not the data of the training: no accuracy is given",
    )
    assert (found.part, found.accuracy, found.uniform.accuracy) == (None, None, None)
    assert all(head.agreement is None for layer in found.layers for head in layer.heads)
    assert found.layers[0].most[0].source_class is None
    assert not any("class" in sentence or "accuracy" in sentence for sentence in found.findings)


def test_one_label_less(run: Path, data: Path) -> None:
    labels = {"gus": "sport", "nils": "", "hana": "poetry"}
    rewrite(data, lambda row: {**row, "label": labels.get(row["id"], row["label"])})
    found = attention_report(run, str(data), replicates=30)
    assert found.notes[0] == "1 node has no label: their edges do not count for agreement"
    assert not any("within a class" in note for note in found.notes)
    assert any("label agreement" in sentence for sentence in found.findings)


# ------------------------------------------------------------------ the refusals


def test_the_run_of_another_model_is_refused(tmp_path: Path) -> None:
    other = trained(tmp_path / "run", model="gcn")
    with pytest.raises(
        UserError, match=r"run: expected the run of a gat, got one of a gcn; train one: .*gat$"
    ):
        attention_report(other, str(CLUB))


def test_a_folder_has_to_be_given_again(run: Path) -> None:
    with pytest.raises(
        UserError, match="trained on a folder named 'graph_folder': give the folder after the run"
    ):
        attention_report(run)


def test_a_name_that_is_none_is_a_folders(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    edit(copy, lambda config: config.update(data=["cora"]))
    with pytest.raises(UserError, match="give the folder after the run"):
        attention_report(copy)


def test_another_data_set_of_a_known_name_is_refused(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    edit(copy, lambda config: config.update(data="cora"))
    with pytest.raises(UserError, match="trained on other data than cora: give its folder after the run"):
        attention_report(copy)


def test_data_that_do_not_fit_are_refused(run: Path, data: Path) -> None:
    rewrite(data, lambda row: {**row, "more": "1"})
    with pytest.raises(UserError, match="trained on 3 features, club has 4"):
        attention_report(run, str(data))


@pytest.mark.parametrize(
    "change", [{"protocol": "secret"}, {"protocol": ["public"]}, {"seed": "0"}, {"seed": True}, {"seed": -1}]
)
def test_a_damaged_record_is_refused(run: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    edit(copy, lambda config: config.update(change))
    with pytest.raises(UserError):
        attention_report(copy, str(CLUB), replicates=2)


@pytest.mark.parametrize("wrong", [{"top": 0}, {"replicates": 1}])
def test_numbers_out_of_range_are_refused(run: Path, wrong: dict[str, int]) -> None:
    with pytest.raises(UserError, match="expected top >= 1 and replicates >= 2"):
        attention_report(run, str(CLUB), **wrong)


# ----------------------------------------------------------------- the sentences

NONE = Correlation(0.02, -0.05, 0.09)
PLAIN = Head(1, 0.99, (0.9,) * 21, 0.01, 0.03, 0.4, 0.31, 0.3, NONE, NONE, 1.0, 1.0)


def said(*heads: Head, accuracy: float | None = 0.8) -> list[str]:
    numbered = tuple(replace(head, head=number) for number, head in enumerate(heads, 1))
    change = Replaced(0.95, None if accuracy is None else 0.75)
    return list(findings_of([Layer(1, numbered, (), (), change)], change, accuracy, "test", 9))


def test_a_head_that_is_a_mean_is_called_one() -> None:
    assert said(PLAIN) == [
        "the head of layer 1 attends almost uniformly: GAT does there what a mean would do "
        "(entropy 0.990 of the possible, 3.0% of the weight lies elsewhere than a mean puts it)",
        "layer 1: no clear correlation of the weight with label agreement (rank correlation +0.02; "
        "no interval leaves out 0)",
        "layer 1: no clear correlation of the weight with the sender's degree (rank correlation +0.02; "
        "no interval leaves out 0)",
        "layer 1: a node's own message gets 0.310, where a mean would give it 0.300",
        "with a mean in place of attention, 95.0% of the predictions stay; test accuracy is 75.0% instead of 80.0%",
    ]


def test_heads_are_told_apart() -> None:
    sharp, between = replace(PLAIN, entropy=0.4, moved=0.6), replace(PLAIN, entropy=0.9, moved=0.2)
    sentences = said(PLAIN, sharp, between, replace(PLAIN, entropy=0.98, moved=0.01))
    assert [sentence.split(" (")[0] for sentence in sentences[:3]] == [
        "heads 1 and 4 of layer 1 attend almost uniformly: GAT does there what a mean would do",
        "head 2 of layer 1 attends sharply: few neighbours decide",
        "head 3 of layer 1 weighs the neighbours: more than a mean, less than a choice",
    ]
    assert "(entropy 0.980 to 0.990 of the possible, 1.0% to 3.0% of" in sentences[0]
    assert said(sharp, sharp)[0].startswith("all 2 heads of layer 1 attend sharply")


def test_what_a_head_favours_is_said_when_it_is_clear() -> None:
    liking = replace(PLAIN, agreement=Correlation(0.3, 0.2, 0.4), agreeing=1.2, disagreeing=0.7)
    shunning = replace(PLAIN, degree=Correlation(-0.4, -0.5, -0.3))
    sentences = said(liking, shunning)
    assert (
        "head 1 of layer 1 gives more to neighbours of the node's own class: 1.20 times the uniform weight, others "
        "get 0.70 (rank correlation with label agreement +0.30)"
    ) in sentences
    assert (
        "head 2 of layer 1 gives less to neighbours of high degree "
        "(rank correlation with the sender's degree -0.40)"
    ) in sentences
    assert not any("no clear" in sentence for sentence in sentences)
    assert sum("rank correlation" in sentence for sentence in sentences) == 2


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Correlation(0.05, 0.01, 0.09), "+0.05; 1 of 1 intervals leaves out 0"),
        (Correlation(0.6, -0.1, 0.9), "+0.60; no interval leaves out 0"),
    ],
    ids=["sure but small", "large but unsure"],
)
def test_what_is_not_clear_is_not_claimed(found: Correlation, words: str) -> None:
    assert f"with label agreement (rank correlation {words})" in said(replace(PLAIN, agreement=found))[1]


def test_what_is_not_known_is_not_spoken_of() -> None:
    nothing = Correlation(math.nan, math.nan, math.nan)
    sentences = said(replace(PLAIN, agreement=None, degree=nothing), accuracy=None)
    assert [sentence.split(" (")[0] for sentence in sentences] == [
        "the head of layer 1 attends almost uniformly: GAT does there what a mean would do",
        "layer 1: a node's own message gets 0.310, where a mean would give it 0.300",
        "with a mean in place of attention, 95.0% of the predictions stay",
    ]
