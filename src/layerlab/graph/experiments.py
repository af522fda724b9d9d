"""Node classification as a task for `layerlab.lab`: models by name, protocols, and the settings of the papers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from layerlab.errors import UserError
from layerlab.graph import course
from layerlab.graph.datasets import NodeDataset, load
from layerlab.graph.field import receptive_field
from layerlab.graph.layers import GraphLike, neighbourhoods
from layerlab.graph.models import GAT, GCN, MLP, SGC
from layerlab.graph.sparse import SparseMatrix
from layerlab.graph.splits import course_split, random_split
from layerlab.lab.race import CellResult, RunCell
from layerlab.lab.training import FitResult, Schedule, fit

PROTOCOLS = ("public", "random", "course")
MODELS = ("gcn", "gat", "sgc", "mlp")
# Choosing an epoch by its test metrics would be cheating.
MONITORS = ("validation_loss", "validation_accuracy")

# Far beyond anything useful; a run folder from elsewhere cannot ask for a model that fills the memory.
_WHOLE = {
    "hidden": (1, 100_000),
    "heads": (1, 1_000),
    "out_heads": (1, 1_000),
    "steps": (0, 1_000),
    "layers": (1, 1_000),
    "epochs": (1, 1_000_000_000),
    "patience": (1, 1_000_000_000),
}
# Name -> (test, what is expected).
_REAL: dict[str, tuple[Callable[[float], bool], str]] = {
    "dropout": (lambda value: 0 <= value < 1, "a number in [0, 1)"),
    "learning_rate": (lambda value: 0 < value <= 1e6, "a number above 0, at most a million"),
    "weight_decay": (lambda value: 0 <= value <= 1e6, "a number from 0 to a million"),
}


@dataclass(frozen=True)
class Settings:
    """Everything that decides a training run, apart from data, split and seed. All of it is recorded.

    Args:
        model: "gcn", "gat", "sgc" or "mlp".
        hidden: hidden width (per head for GAT); unused by SGC.
        heads: heads of GAT's hidden layer.
        out_heads: heads of GAT's output layer.
        steps: K of SGC.
        layers: number of layers of GCN, GAT and MLP.
        dropout: on features, and on attention coefficients for GAT.
        learning_rate: of Adam.
        weight_decay: the L2 penalty added to the gradient, as Adam's ``weight_decay``.
        decay_all: whether every parameter decays, or only those of the first layer.
        epochs: at most this many.
        patience: epochs without improvement of validation loss or accuracy after which training stops; None: never.
        monitor: metric whose best epoch is kept; None keeps the last.
        course: the course notebook's variants of GCN and GAT.

    Raises:
        UserError: a value of the wrong type or size.
    """

    model: str
    hidden: int = 16
    heads: int = 8
    out_heads: int = 1
    steps: int = 2
    layers: int = 2
    dropout: float = 0.5
    learning_rate: float = 0.01
    weight_decay: float = 5e-4
    decay_all: bool = True
    epochs: int = 200
    patience: int | None = None
    monitor: str | None = "validation_accuracy"
    course: bool = False

    def __post_init__(self) -> None:
        # Settings also come back from a run folder, which may be anybody's: nothing is taken on trust.
        _check_model(self.model)
        for name, (least, most) in _WHOLE.items():
            value = getattr(self, name)
            if name == "patience" and value is None:
                continue
            if not _is(value, int, np.integer) or not least <= value <= most:
                raise UserError(
                    f"setting {name}: expected a whole number from {least:,} to {most:,}, got {value!r}"
                )
        for name, (fits, expected) in _REAL.items():
            value = getattr(self, name)
            if not _is(value, int, float, np.integer, np.floating) or not fits(value):
                raise UserError(f"setting {name}: expected {expected}, got {value!r}")
        for name in ("decay_all", "course"):
            if not isinstance(getattr(self, name), bool):
                raise UserError(f"setting {name}: expected true or false, got {getattr(self, name)!r}")
        if self.monitor is not None and self.monitor not in MONITORS:
            raise UserError(
                f"setting monitor: expected one of {', '.join(MONITORS)} or nothing, got {self.monitor!r}"
            )
        if self.course and self.model in ("gcn", "gat") and self.layers != 2:
            raise UserError(f"setting layers: the course's models have two layers, got {self.layers}")


def _is(value: object, *kinds: type) -> bool:
    # To Python a bool is an int; as a setting it is a mistake.
    return isinstance(value, kinds) and not isinstance(value, bool)


def _check_model(model: object) -> None:
    if model not in MODELS:
        raise UserError(f"unknown model {model!r}; expected one of {', '.join(MODELS)}")


_PAPERS = {
    # Kipf and Welling 2017, section 5.2: 200 epochs, L2 on the first layer only.
    "gcn": Settings("gcn", decay_all=False),
    # Veličković et al. 2018, section 3.3: early stopping on validation loss and accuracy with a patience of 100.
    "gat": Settings("gat", hidden=8, dropout=0.6, learning_rate=0.005, epochs=1000, patience=100),
    # Wu et al. 2019, section 6.1: Adam, learning rate 0.2, 100 epochs, the last one counts; weight decay is tuned.
    "sgc": Settings("sgc", dropout=0.0, learning_rate=0.2, weight_decay=1.3e-5, epochs=100, monitor=None),
    "mlp": Settings("mlp", decay_all=False),
}
_COURSE = {
    # The notebook: Adam 0.01, decay 5e-4 on everything, 100 epochs, the last epoch counts.
    **{
        name: Settings(name, hidden=2 if name == "gat" else 16, epochs=100, monitor=None, course=True)
        for name in ("gcn", "gat", "mlp")
    },
    # The notebook has no SGC, and at its learning rate a linear model does not get off the ground in 100 epochs.
    "sgc": replace(_PAPERS["sgc"], course=True),
}


def settings_for(model: str, protocol: str, dataset: str) -> Settings:
    """The settings of the paper (or of the course) for a model, a protocol and a data set.

    Raises:
        UserError: unknown model or protocol.
    """
    _check_model(model)
    if protocol not in PROTOCOLS:
        raise UserError(f"unknown protocol {protocol!r}; expected one of {', '.join(PROTOCOLS)}")
    if protocol == "course":
        return _COURSE[model]
    return replace(_PAPERS[model], **_TUNED.get((model, dataset), {}))


_TUNED: dict[tuple[str, str], dict[str, Any]] = {
    # Veličković et al. 2018: eight output heads and stronger decay on PubMed's 60 labels.
    ("gat", "pubmed"): {"out_heads": 8, "learning_rate": 0.01, "weight_decay": 1e-3},
    # By validation accuracy over 5e-6, 1.3e-5, 3e-5, 1e-4, 2e-4 (scripts/tune_sgc.py; Cora's is the default).
    ("sgc", "citeseer"): {"weight_decay": 1e-4},
    ("sgc", "pubmed"): {"weight_decay": 1e-4},
}


def build_model(settings: Settings, features: int, classes: int) -> nn.Module:
    """The model that settings describe, with weights drawn from torch's generator."""
    s = settings
    if s.course and s.model in ("gcn", "gat"):
        if s.model == "gcn":
            return course.CourseGCN(features, s.hidden, classes, dropout=s.dropout)
        return course.CourseGAT(features, s.hidden, classes, heads=s.heads, dropout=s.dropout)
    builders: dict[str, Callable[[], nn.Module]] = {
        "gcn": lambda: GCN(features, s.hidden, classes, layers=s.layers, dropout=s.dropout),
        "gat": lambda: GAT(
            features,
            s.hidden,
            classes,
            heads=s.heads,
            out_heads=s.out_heads,
            layers=s.layers,
            dropout=s.dropout,
        ),
        "sgc": lambda: SGC(features, classes, steps=s.steps),
        "mlp": lambda: MLP(features, s.hidden, classes, layers=s.layers, dropout=s.dropout),
    }
    return builders[s.model]()


@dataclass(frozen=True)
class Parts:
    """Node positions of a run: what trains, what chooses, what is reported."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


def parts_for(dataset: NodeDataset, protocol: str, seed: int) -> Parts:
    """The nodes of each part under a protocol.

    "public" is the data set's own split whatever the seed; "random" a stratified 60/20/20 split a seed; "course"
    140 random training nodes a seed, with all others for validation *and* test, as the course does.

    Nodes whose label is unknown are in no part.

    Raises:
        UserError: the data set has no split of its own, too few labelled nodes, or a negative seed.
    """
    if seed < 0:
        raise UserError(f"expected a seed >= 0, got {seed}")
    if protocol == "public":
        if dataset.split is None:
            raise UserError(
                f"{dataset.name} has no split of its own; use --protocol random, or add a split column to nodes.csv"
            )
        return Parts(dataset.split.train, dataset.split.validation, dataset.split.test)
    if protocol == "random":
        split = random_split(dataset.labels, seed)
        return Parts(split.train, split.validation, split.test)
    if protocol == "course":
        labelled = np.flatnonzero(dataset.labels >= 0)
        if len(labelled) <= 140:
            raise UserError(
                f"the course protocol trains on 140 nodes, {dataset.name} has {len(labelled)} labelled ones; "
                "use --protocol random"
            )
        chosen = course_split(len(labelled), seed)
        rest = labelled[chosen.rest]
        return Parts(labelled[chosen.train], rest, rest)
    raise UserError(f"unknown protocol {protocol!r}; expected one of {', '.join(PROTOCOLS)}")


def normalise_rows(features: SparseMatrix) -> SparseMatrix:
    """Each row divided by the sum of its absolute values; rows of zeros stay.

    >>> normalise_rows(SparseMatrix.from_dense(torch.tensor([[1.0, 3.0], [0.0, 0.0]]))).to_dense().tolist()
    [[0.25, 0.75], [0.0, 0.0]]
    """
    # numpy adds one by one, whatever the number of threads.
    sizes = np.abs(features.values.double().numpy())
    sums = torch.from_numpy(np.bincount(features.row.numpy(), weights=sizes, minlength=features.shape[0]))
    scale = torch.where(sums > 0, 1.0 / sums, torch.zeros_like(sums))
    values = features.values.double() * scale.index_select(0, features.row)
    return features.with_values(values.to(features.dtype))


class NodeTask:
    """Full-batch node classification with cross-entropy, as `layerlab.lab.training.fit` wants it.

    Only the receptive field of the nodes in question is computed: the same loss and gradients as on the whole graph.
    """

    def __init__(self, dataset: NodeDataset, parts: Parts, settings: Settings) -> None:
        self.settings = settings
        self.dataset = dataset
        self.features = normalise_rows(dataset.features)
        self.labels = torch.from_numpy(dataset.labels.copy())
        self.parts = {
            name: torch.from_numpy(getattr(parts, name).copy()) for name in ("train", "validation", "test")
        }
        if not len(parts.train) or not len(parts.validation):
            empty = "validation" if len(parts.train) else "training"
            raise UserError(
                f"{dataset.name} has no {empty} nodes under this protocol; name some in the column split of nodes.csv, "
                "or label more nodes"
            )
        # Validation and test may be the same nodes (the course protocol): each is computed once.
        self.evaluated = torch.cat([self.parts["validation"], self.parts["test"]]).unique()
        self._reads: dict[str, tuple[Tensor | SparseMatrix, GraphLike | None]] = {}

    def build(self) -> nn.Module:
        model = build_model(self.settings, self.dataset.num_features, self.dataset.num_classes)
        if isinstance(model, SGC):
            # Propagation does not depend on the weights: once is enough.
            propagated = model.precompute(self.features, self.dataset.graph)
        for purpose, nodes in (("train", self.parts["train"]), ("evaluate", self.evaluated)):
            if isinstance(model, SGC):
                self._reads[purpose] = (propagated.index_select(0, nodes), None)
            elif isinstance(model, MLP):
                self._reads[purpose] = (self.features.rows(nodes), None)
            else:
                attends = isinstance(model, (GAT, course.CourseGAT))
                graph = self.dataset.graph
                operator = neighbourhoods(graph) if attends else graph.normalized_adjacency()
                field = receptive_field(operator, nodes, self.settings.layers)
                self._reads[purpose] = (self.features.rows(field.inputs), field.operators)
        return model

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        parameters = list(model.parameters())
        decaying = model if self.settings.decay_all else cast(nn.Module, model.first_layer)
        decay_ids = {id(p) for p in decaying.parameters()}
        groups = [
            {
                "params": [p for p in parameters if id(p) in decay_ids],
                "weight_decay": self.settings.weight_decay,
            },
            {"params": [p for p in parameters if id(p) not in decay_ids], "weight_decay": 0.0},
        ]
        return torch.optim.Adam(
            [group for group in groups if group["params"]], lr=self.settings.learning_rate, fused=True
        )

    def batches(self, epoch: int) -> Iterable[Tensor]:
        return [self.labels[self.parts["train"]]]

    def loss(self, model: nn.Module, batch: Tensor) -> Tensor:
        return nn.functional.cross_entropy(model(*self._reads["train"]), batch)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        logits = model(*self._reads["evaluate"])
        metrics = {}
        for name in ("validation", "test"):
            nodes = self.parts[name]
            if len(nodes):
                part = logits.index_select(0, torch.searchsorted(self.evaluated, nodes))
                labels = self.labels[nodes]
                metrics[f"{name}_loss"] = float(nn.functional.cross_entropy(part, labels))
                metrics[f"{name}_accuracy"] = int((part.argmax(1) == labels).sum()) / len(labels)
        return metrics


def schedule_for(settings: Settings) -> Schedule:
    """Epochs, monitor and patience; patience watches validation loss and accuracy both, as the GAT paper does."""
    watch = ("validation_loss", "validation_accuracy") if settings.patience is not None else ()
    return Schedule(settings.epochs, settings.monitor, settings.patience, watch)


def train(dataset: NodeDataset, settings: Settings, protocol: str, seed: int, **options: Any) -> FitResult:
    """Train one model on one split; ``options`` go to `layerlab.lab.training.fit`."""
    task = NodeTask(dataset, parts_for(dataset, protocol, seed), settings)
    return fit(task, schedule_for(settings), seed=seed, **options)


def fingerprint(dataset: NodeDataset) -> str:
    """A digest of graph, features, labels and split: what a resumed run must find unchanged."""
    digest = hashlib.sha256(str(dataset.features.shape).encode())
    graph, features = dataset.graph, dataset.features
    arrays: list[NDArray[Any] | None] = [graph.indptr, graph.indices, graph.weights, dataset.labels]
    arrays += [part.numpy() for part in (features.crow, features.col, features.values)]
    if dataset.split is not None:
        arrays += [dataset.split.train, dataset.split.validation, dataset.split.test]
    for array in arrays:
        if array is not None:
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


@lru_cache(maxsize=2)
def _loaded(data: str, expected: str) -> NodeDataset:
    # A process runs many cells on one data set. Its files may change meanwhile, or between two races.
    dataset = load(data)
    if fingerprint(dataset) != expected:
        raise UserError(
            f"the data set {data} has changed since the race began; race again with another --out"
        )
    return dataset


def _run_cell(
    data: str, expected: str, protocol: str, overrides: dict[str, dict[str, Any]], model: str, seed: int
) -> CellResult:
    dataset = _loaded(data, expected)
    settings = replace(settings_for(model, protocol, dataset.name), **overrides.get(model, {}))
    result = train(dataset, settings, protocol, seed)
    curves = {name: [round(epoch[name], 5) for epoch in result.history] for name in result.history[0]}
    return {
        "metrics": result.metrics,
        "best_epoch": result.best_epoch,
        "epochs": len(result.history),
        "parameters": result.parameters,
        "step_seconds": result.step_seconds,
        "seconds": result.seconds,
        "settings": asdict(settings),
        "curves": curves,
    }


def cells_of(
    data: str,
    protocol: str,
    overrides: dict[str, dict[str, Any]] | None = None,
    *,
    expected: str | None = None,
) -> RunCell:
    """What `layerlab.lab.race.race` runs: ``(model, seed) -> result`` on a data set under a protocol.

    Args:
        data: a data set's name or folder; every process loads it once.
        protocol: "public", "random" or "course".
        overrides: fields of `Settings` to change, by model.
        expected: the `fingerprint` that the data must have; None takes them as they are now.
    """
    return partial(_run_cell, data, expected or fingerprint(load(data)), protocol, overrides or {})
