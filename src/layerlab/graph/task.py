"""Node classification as `layerlab.lab.training` wants it: the model, the split, the loss and the evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from layerlab.errors import UserError
from layerlab.graph import course
from layerlab.graph.field import receptive_field
from layerlab.graph.layers import GraphLike, neighbourhoods
from layerlab.graph.loss import cross_entropy, scores
from layerlab.graph.model_loss import ModelLoss
from layerlab.graph.models import GAT, GCN, MLP, SGC
from layerlab.graph.node_data import NodeDataset
from layerlab.graph.settings import PROTOCOLS, Settings
from layerlab.graph.sparse import SparseMatrix
from layerlab.graph.splits import course_split, random_split
from layerlab.lab.schedule import Schedule


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


class Judged:
    """The labels of a run, and which nodes are asked for them: what full and mini-batches have in common.

    Raises:
        UserError: no training or no validation nodes.
    """

    def __init__(self, dataset: NodeDataset, parts: Parts) -> None:
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
        self._places = {
            name: (torch.searchsorted(self.evaluated, nodes), self.labels[nodes])
            for name, nodes in self.parts.items()
            if name != "train" and len(nodes)
        }

    def metrics(self, logits: Tensor) -> dict[str, float]:
        """Loss and accuracy of each part; ``logits`` are those of `evaluated`."""
        metrics = {}
        for name, (places, labels) in self._places.items():
            metrics[f"{name}_loss"], metrics[f"{name}_accuracy"] = scores(logits, places, labels)
        return metrics


def optimizer_of(model: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    """Adam, with the weight decay on every parameter or on those of the first layer alone."""
    parameters = list(model.parameters())
    decaying = model if settings.decay_all else cast(nn.Module, model.first_layer)
    decay_ids = {id(p) for p in decaying.parameters()}
    groups = [
        {
            "params": [p for p in parameters if id(p) in decay_ids],
            "weight_decay": settings.weight_decay,
        },
        {"params": [p for p in parameters if id(p) not in decay_ids], "weight_decay": 0.0},
    ]
    return torch.optim.Adam(
        [group for group in groups if group["params"]], lr=settings.learning_rate, fused=True
    )


class NodeTask:
    """Full-batch node classification with cross-entropy, as `layerlab.lab.training.fit` wants it.

    Only the receptive field of the nodes in question is computed: the same loss and gradients as on the whole graph.
    """

    def __init__(self, dataset: NodeDataset, parts: Parts, settings: Settings) -> None:
        self.settings = settings
        self.dataset = dataset
        self.features = normalise_rows(dataset.feature_matrix)
        self._judged = Judged(dataset, parts)
        self.parts, self.labels, self.evaluated = (
            self._judged.parts,
            self._judged.labels,
            self._judged.evaluated,
        )
        self._train_labels = self.labels[self.parts["train"]]
        self._reads: dict[str, tuple[Tensor | SparseMatrix, GraphLike | None]] = {}

    def build(self) -> nn.Module:
        model = build_model(self.settings, self.dataset.num_features, self.dataset.num_classes)
        for purpose, nodes in (("train", self.parts["train"]), ("evaluate", self.evaluated)):
            if isinstance(model, SGC) and purpose == "train":
                # Propagation does not depend on the weights: once is enough. An evaluation takes less time with its
                # few classes propagated than with the many entries of propagated features.
                self._reads[purpose] = (self._propagated(nodes), None)
            elif isinstance(model, MLP):
                self._reads[purpose] = (self.features.rows(nodes), None)
            else:
                attends = isinstance(model, (GAT, course.CourseGAT))
                graph = self.dataset.graph
                depth = self.settings.steps if isinstance(model, SGC) else self.settings.layers
                operator = neighbourhoods(graph) if attends else graph.normalized_adjacency()
                field = receptive_field(operator, nodes, depth)
                self._reads[purpose] = (self.features.rows(field.inputs), field.operators)
        self._loss = ModelLoss(model, *self._reads["train"])
        return model

    def _propagated(self, nodes: Tensor) -> Tensor | SparseMatrix:
        """The rows ``nodes`` of ``P^K X``: sparse where that takes less memory, 8 bytes an entry against 4."""
        field = receptive_field(self.dataset.graph.normalized_adjacency(), nodes, self.settings.steps)
        x = self.features.rows(field.inputs)
        for operator in field.operators:
            x = operator.product(x)
        return x if 2 * x.nnz < len(nodes) * x.shape[1] else x.to_dense()

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        return optimizer_of(model, self.settings)

    def batches(self, epoch: int) -> Iterable[Tensor]:
        return [self._train_labels]

    def loss(self, model: nn.Module, batch: Tensor) -> Tensor:
        if model is self._loss.model:
            return self._loss(batch)
        return cross_entropy(model(*self._reads["train"]), batch)

    def backward(self, model: nn.Module, batch: Tensor) -> float:
        if model is self._loss.model:
            return self._loss.backward(batch)
        loss = self.loss(model, batch)
        loss.backward()
        return loss.item()

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        return self._judged.metrics(model(*self._reads["evaluate"]))


def schedule_for(settings: Settings) -> Schedule:
    """Epochs, monitor and patience.

    Patience watches validation loss and accuracy both, as the GAT paper does; between epochs of equal validation
    accuracy the one of lower validation loss is kept.
    """
    watch = ("validation_loss", "validation_accuracy") if settings.patience is not None else ()
    tie_break = "validation_loss" if settings.monitor == "validation_accuracy" else None
    return Schedule(settings.epochs, settings.monitor, settings.patience, watch, tie_break)
