"""Everything that can be said of a graph before a model is trained on it, and with training how right it was."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from layerlab.errors import UserError
from layerlab.graph.datasets import load
from layerlab.graph.density import Density, density
from layerlab.graph.depth import Decay, decay, label_signal
from layerlab.graph.depth_advice import advice
from layerlab.graph.depth_prediction import DepthPrediction, predict_depth
from layerlab.graph.depth_training import DepthCurve, train_depths
from layerlab.graph.homophily import Homophily, homophily
from layerlab.graph.known import KNOWN
from layerlab.graph.node_data import NodeDataset, Split
from layerlab.graph.sources import load_graph
from layerlab.graph.spectrum import Certificate, certificate
from layerlab.graph.splits import random_split
from layerlab.graph.structure import Graph

Progress = Callable[[float, str], None]

# Shares of the whole at which each step begins; training is counted apart.
_STEPS = {"spectrum": 0.0, "density": 0.5, "features": 0.6, "labels": 0.8, "depth": 0.85}
# Random combinations of columns that the decay is told by; of a graph with more stored entries than that, fewer.
_PROBES, _FEWER, _LARGE = 24, 16, 1 << 26


@dataclass(frozen=True, eq=False)
class Inspection:
    """What a graph says of the models to come.

    Attributes:
        name: of the data.
        graph: the graph.
        certificate: components and the ends of the spectrum.
        density: of the spectrum of P with self-loops; None where it is not real.
        features: how propagation smooths the features (white noise where there are none); None likewise.
        labels: how it would smooth the labels; None without labels.
        homophily: of the labels; None without.
        prediction: the depth scores; None where there is nothing to predict from.
        curve: SGC's accuracy by depth; None unless trained.
        findings: all this in sentences.
        notes: what is missing, and why.
    """

    name: str
    graph: Graph
    certificate: Certificate
    density: Density | None
    features: Decay | None
    labels: Decay | None
    homophily: Homophily | None
    prediction: DepthPrediction | None
    curve: DepthCurve | None
    findings: tuple[str, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        parts = {
            "spectrum": self.certificate,
            "features": self.features,
            "labels": self.labels,
            "homophily": self.homophily,
            "prediction": self.prediction,
            "training": self.curve,
        }
        found = self.density
        sizes, counts = np.unique(self.certificate.components.sizes, return_counts=True)
        return {
            "data": self.name,
            "graph": summary(self.graph),
            **{name: None if part is None else part.to_dict() for name, part in parts.items()},
            "density": None
            if found is None
            else {
                "edges": found.edges.tolist(),
                "mass": found.mass.tolist(),
                "error": found.error.tolist(),
                "exact": found.exact,
            },
            "component_sizes": sizes.tolist(),
            "component_counts": counts.tolist(),
            "findings": list(self.findings),
            "notes": list(self.notes),
        }


def summary(graph: Graph) -> dict[str, Any]:
    """Size, kind and degrees of a graph, for JSON."""
    degree = graph.degrees("in")
    return {
        "nodes": graph.num_nodes,
        "edges": graph.num_edges,
        "directed": graph.directed,
        "weighted": graph.weighted,
        "self_loops": graph.num_self_loops,
        "degrees": dict(zip(("least", "median", "mean", "greatest"), _spread(degree), strict=True)),
        "notes": list(graph.notes),
    }


def _spread(degree: np.ndarray[Any, np.dtype[np.float64]]) -> tuple[float, ...]:
    if not degree.size:
        return (0.0, 0.0, 0.0, 0.0)
    return (float(degree.min()), float(np.median(degree)), float(degree.mean()), float(degree.max()))


def load_subject(data: str | Path) -> NodeDataset | Graph:
    """What there is to inspect: a data set by name or folder, else the graph of an ``.npz`` or an edge list.

    Raises:
        UserError: nothing there by that name, or whatever the reader has to say about it.
    """
    if str(data) in KNOWN or Path(data).is_dir():
        return load(data, need_labels=False)
    return load_graph(data)


def inspect(
    subject: NodeDataset | Graph,
    *,
    name: str | None = None,
    train: bool = False,
    depths: Sequence[int] = range(1, 33),
    seed: int = 0,
    progress: Progress | None = None,
    training_progress: Callable[[int, int], None] | None = None,
) -> Inspection:
    """Certificate, decay, homophily and predicted depth of a graph; on request the depths are trained.

    Args:
        subject: a data set, or a graph alone, whose features are then white noise.
        name: of the data; that of the data set by default.
        train: whether to train SGC at every depth, on five splits, and compare it with the prediction.
        depths: the K's that are predicted for and trained.
        seed: of everything that is random.
        progress: called with the fraction done and a few words.
        training_progress: called with the depths trained and the depths in all.

    Raises:
        UserError: training was asked for, and there is nothing to train on; or wrong depths.

    >>> found = inspect(Graph.from_edges([0, 1, 2], [1, 2, 3]), name="path")
    >>> found.certificate.components.count, found.prediction
    (1, None)
    >>> print(found.findings[0])
    bipartite: propagation without self-loops oscillates for ever; use self-loops, or an even K
    """
    tell = progress or (lambda fraction, text: None)
    data = subject if isinstance(subject, NodeDataset) else None
    graph = subject.graph if isinstance(subject, NodeDataset) else subject
    split = None if data is None else split_of(data, seed)
    if train and (data is None or split is None):
        raise UserError("nothing to train on: --train needs a data set with features and labels")

    spectrum = certificate(
        graph, seed=seed, progress=lambda share, text: tell(_STEPS["density"] * share, text)
    )
    notes = list(spectrum.notes)
    found: Density | None = None
    features: Decay | None = None
    labels: Decay | None = None
    if spectrum.lambda_max is not None:
        tell(_STEPS["density"], "density of the spectrum")
        found = density(graph, seed=seed)
        tell(_STEPS["features"], "decay of the features")
        probes = _PROBES if graph.indices.size <= _LARGE else _FEWER
        given = None if data is None else data.features
        features = decay(graph, given, depth=max(depths, default=0), probes=probes, seed=seed)
        notes += features.notes
        if data is None:
            notes.append("no features given: the decay is that of white noise")
        elif (signal := label_signal(data.labels)).size:
            tell(_STEPS["labels"], "decay of the labels")
            labels = decay(graph, signal, depth=max(depths, default=0), probes=probes, seed=seed)
    mixing = None if data is None else homophily(graph, data.labels)
    prediction: DepthPrediction | None = None
    if data is not None and split is not None:
        tell(_STEPS["depth"], "predicting the depth")
        try:
            prediction = predict_depth(data, depths, split=split, seed=seed)
        except UserError as error:
            notes.append(f"no depth is predicted: {error}")
    elif data is not None:
        notes.append("no depth is predicted: no labels to predict from")
    curve = None
    if train and data is not None:
        tell(1.0, "training")
        curve = train_depths(data, depths, progress=training_progress)
    findings = advice(
        spectrum.components,
        features=features,
        labels=labels,
        homophily=mixing,
        prediction=prediction,
        curve=curve,
    )
    title = name or (data.name if data is not None else "graph")
    tell(1.0, "done")
    return Inspection(
        *(title, graph, spectrum, found, features, labels, mixing, prediction, curve, findings, tuple(notes))
    )


def split_of(data: NodeDataset, seed: int) -> Split | None:
    """The data set's own split, else 60/20/20 by seed; None where too few nodes have labels."""
    if data.split is not None:
        return data.split
    if (data.labels >= 0).sum() < 4:
        return None
    return random_split(data.labels, seed)
