"""What the attention of a trained GAT does: how far from uniform, along with what, and whether it matters."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from layerlab.errors import UserError
from layerlab.graph.attention_findings import findings_of
from layerlab.graph.attention_measures import Edges, Head, lift, measure_heads
from layerlab.graph.datasets import load
from layerlab.graph.experiments import fingerprint
from layerlab.graph.known import KNOWN
from layerlab.graph.layers import Attention, GATConv, neighbourhoods
from layerlab.graph.node_data import NodeDataset
from layerlab.graph.runs import TrainedRun, open_trained
from layerlab.graph.sparse import SparseMatrix
from layerlab.graph.structure import Graph
from layerlab.graph.task import parts_for
from layerlab.lab.records import RunFolder
from layerlab.lab.training import one_thread

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class TrustedEdge:
    """One edge and its attention, the mean over the heads of a layer.

    Attributes:
        source, target: the ids of the node that sends and the node that weighs.
        source_class, target_class: their classes, None where unknown.
        coefficient: the weight of the message.
        lift: coefficient times neighbours of the target, itself included: 1 is what a mean gives.
    """

    source: str
    target: str
    source_class: str | None
    target_class: str | None
    coefficient: float
    lift: float


@dataclass(frozen=True)
class Replaced:
    """What the model does with a mean in place of attention.

    Attributes:
        unchanged: share of the nodes whose predicted class stays.
        accuracy: on `AttentionReport.part`; None without.
    """

    unchanged: float
    accuracy: float | None


@dataclass(frozen=True)
class Layer:
    """The attention of one layer.

    Attributes:
        layer: its number, from 1.
        heads: each of them, measured.
        most, least: the edges between different nodes with the greatest and the smallest lift.
        uniform: the model with this layer's attention replaced by a mean.
    """

    layer: int
    heads: tuple[Head, ...]
    most: tuple[TrustedEdge, ...]
    least: tuple[TrustedEdge, ...]
    uniform: Replaced


@dataclass(frozen=True)
class AttentionReport:
    """What the attention of a trained GAT does on a graph.

    Attributes:
        data: name of the data.
        fingerprint: their digest.
        nodes: of the graph.
        measured: nodes with two neighbours or more, themselves included: the others have no choice.
        edges: messages in a layer, self-loops included.
        part: the nodes that accuracy is of ("test" or "validation" of the training's split); None on other data or
            without labels.
        accuracy: of the model as trained, there.
        layers: from the features on.
        uniform: the model with a mean in place of attention in every layer.
        findings: all this in sentences.
        notes: what is missing, and why.
    """

    data: str
    fingerprint: str
    nodes: int
    measured: int
    edges: int
    part: str | None
    accuracy: float | None
    layers: tuple[Layer, ...]
    uniform: Replaced
    findings: tuple[str, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON; what is not defined is None."""
        record: dict[str, Any] = _plain(asdict(self))
        return record


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, tuple):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def attention_of(model: nn.Module, x: Tensor | SparseMatrix, graph: Graph) -> list[Attention]:
    """The coefficients of every `GATConv` of a model, in the order in which they run; in evaluation mode.

    Args:
        model: takes ``(x, graph)``.
        x: features, as the model takes them.
        graph: the graph.

    >>> from layerlab.graph.models import GAT
    >>> _ = torch.manual_seed(0)
    >>> first, last = attention_of(GAT(3, 2, 4), torch.ones(2, 3), Graph.from_edges([0], [1]))
    >>> first.coefficients.shape, last.coefficients.tolist()
    (torch.Size([4, 8]), [[0.5], [0.5], [0.5], [0.5]])
    """
    found: list[Attention] = []

    def keep(conv: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any]) -> None:
        found.append(conv.forward(*inputs, **options, return_attention=True)[1])

    hooks = [
        module.register_forward_pre_hook(keep, with_kwargs=True)
        for module in model.modules()
        if isinstance(module, GATConv)
    ]
    training = model.training
    try:
        with torch.no_grad(), one_thread():
            model.eval()(x, neighbourhoods(graph, x.dtype))
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return found


def with_mean(model: nn.Module, layer: int | None = None) -> nn.Module:
    """A copy of the model in which a layer (from 0; None: every one) averages its neighbours: all scores are 0."""
    copied = copy.deepcopy(model)
    convs = [module for module in copied.modules() if isinstance(module, GATConv)]
    with torch.no_grad():
        for conv in convs if layer is None else [convs[layer]]:
            conv.att_target.zero_()
            conv.att_source.zero_()
    return copied


def attention_report(
    run_path: Path,
    data: str | None = None,
    *,
    top: int = 10,
    replicates: int = 200,
    seed: int = 0,
    progress: Progress | None = None,
) -> AttentionReport:
    """Entropy, correlations and trusted edges of a trained GAT, layer by layer and head by head.

    Args:
        run_path: a folder that ``layerlab graph train DATA --model gat`` made.
        data: a data set's name or folder with the same feature columns; the training's own when None, where that
            has a name. Labels are not needed.
        top: trusted edges a layer, at either end.
        replicates: draws of the bootstrap behind every interval.
        seed: of the draws.
        progress: called with the fraction done and a few words.

    Raises:
        UserError: not a finished run of a GAT, damaged, data that do not fit, or numbers below 1 and 2.
    """
    if top < 1 or replicates < 2:
        raise UserError(f"expected top >= 1 and replicates >= 2, got {top} and {replicates}")
    tell = progress or (lambda fraction, text: None)
    tell(0.0, "reading the run")
    trained = open_trained(run_path, lambda run: _data_of(run, data), model="gat")
    dataset, model = trained.dataset, trained.model
    found = attention_of(model, trained.features, dataset.graph)
    if not all(bool(torch.isfinite(attention.coefficients).all()) for attention in found):
        raise UserError("the attention is not finite; the weights are damaged, train again", file=run_path)
    edges = Edges(found[0].source.numpy(), found[0].target.numpy(), dataset.num_nodes)
    part, nodes = _scored(trained)
    predictions = _predict(model, trained)

    def replaced(layer: int | None) -> Replaced:
        other = _predict(with_mean(model, layer), trained)
        return Replaced(_share(other == predictions), _accuracy(other, dataset, nodes))

    layers = []
    for number, attention in enumerate(found):
        coefficients = attention.coefficients.double().numpy()
        heads = measure_heads(
            *(coefficients, edges, dataset.labels),
            replicates=replicates,
            seed=seed,
            on_replicate=_counter(tell, number, len(found), 2 * replicates),
        )
        most, least = _trusted(coefficients.mean(axis=1), edges, dataset, top)
        layers.append(Layer(number + 1, heads, most, least, replaced(number)))
    everywhere, accuracy = replaced(None), _accuracy(predictions, dataset, nodes)
    tell(1.0, "done")
    measured = int((edges.sizes > 1).sum())
    return AttentionReport(
        *(dataset.name, fingerprint(dataset), dataset.num_nodes, measured, len(edges.source), part, accuracy),
        tuple(layers),
        everywhere,
        findings_of(layers, everywhere, accuracy, part, measured),
        _notes(trained, edges),
    )


def _counter(tell: Progress, layer: int, layers: int, steps: int) -> Callable[[], None]:
    """What tells the progress of one layer when called after each of its steps."""
    done = 0

    def count() -> None:
        nonlocal done
        done += 1
        tell((layer + done / steps) / layers, f"layer {layer + 1}: intervals")

    return count


def _data_of(run: RunFolder, data: str | None) -> NodeDataset:
    """The data that were asked for, or those of the training."""
    if data is not None:
        return load(data, need_labels=False)
    name = run.meta["config"].get("data")
    if not isinstance(name, str) or name not in KNOWN:
        raise UserError(
            f"the run was trained on a folder named {name!r}: give the folder after the run", file=run.path
        )
    dataset = load(name)
    if not _is_its_own(run, dataset):
        raise UserError(
            f"the run was trained on other data than {name}: give its folder after the run, or {name} itself "
            "to look at the attention there",
            file=run.path,
        )
    return dataset


def _is_its_own(run: RunFolder, dataset: NodeDataset) -> bool:
    return bool(run.meta["config"].get("fingerprint") == fingerprint(dataset))


def _notes(trained: TrainedRun, edges: Edges) -> tuple[str, ...]:
    """What is missing from the report, and why."""
    labels, notes = trained.dataset.labels, []
    known = (edges.source != edges.target) & (labels[edges.source] >= 0) & (labels[edges.target] >= 0)
    agree = labels[edges.source[known]] == labels[edges.target[known]]
    if not (labels >= 0).any():
        notes.append("no labels: nothing is said of agreement and accuracy")
    elif (unknown := int((labels < 0).sum())) > 0:
        notes.append(
            f"{unknown:,} node{'s have' if unknown > 1 else ' has'} no label: their edges do not count for agreement"
        )
    if agree.size and agree.all() == agree.any():
        notes.append(
            f"{'all' if agree.all() else 'no'} edges between labelled nodes are within a class: "
            "no correlation with agreement"
        )
    if not _is_its_own(trained.run, trained.dataset):
        notes.append("these are not the data of the training: no accuracy is given")
    return tuple(notes)


def _scored(trained: TrainedRun) -> tuple[str | None, NDArray[np.int64]]:
    """The part of the nodes that accuracy is measured on, and their positions; none on other data."""
    dataset, config = trained.dataset, trained.run.meta["config"]
    if not _is_its_own(trained.run, dataset):
        return None, np.empty(0, np.int64)
    protocol, seed = config.get("protocol"), config.get("seed")
    if not isinstance(protocol, str) or type(seed) is not int:
        raise UserError(
            f"expected a protocol and a seed, got {protocol!r} and {seed!r}; train again, into another folder",
            file=trained.run.path / "run.json",
        )
    parts = parts_for(dataset, protocol, seed)
    part = "test" if len(parts.test) else "validation"
    return part, getattr(parts, part)


def _predict(model: nn.Module, trained: TrainedRun) -> NDArray[np.int64]:
    with torch.no_grad(), one_thread():
        predicted: NDArray[np.int64] = model(trained.features, trained.dataset.graph).argmax(dim=1).numpy()
    return predicted


def _share(hits: NDArray[np.bool_]) -> float:
    return float(hits.mean()) if hits.size else 1.0


def _accuracy(predictions: NDArray[np.int64], dataset: NodeDataset, nodes: NDArray[np.int64]) -> float | None:
    return float((predictions[nodes] == dataset.labels[nodes]).mean()) if nodes.size else None


def _trusted(
    coefficients: NDArray[np.float64], edges: Edges, dataset: NodeDataset, top: int
) -> tuple[tuple[TrustedEdge, ...], tuple[TrustedEdge, ...]]:
    """The edges of the greatest and of the smallest lift, each from the extreme inwards; no edge in both."""
    lifts = lift(coefficients, edges)
    proper = np.flatnonzero(edges.source != edges.target)
    order = proper[np.argsort(-lifts[proper], kind="stable")]
    count = min(top, len(order) // 2)

    def named(node: int) -> str | None:
        label = int(dataset.labels[node])
        return dataset.class_names[label] if label >= 0 else None

    def described(edge: int) -> TrustedEdge:
        source, target = int(edges.source[edge]), int(edges.target[edge])
        return TrustedEdge(
            *(dataset.node_ids[source], dataset.node_ids[target], named(source), named(target)),
            float(coefficients[edge]),
            float(lifts[edge]),
        )

    most, least = order[:count], order[len(order) - count :][::-1]
    return tuple(map(described, most)), tuple(map(described, least))
