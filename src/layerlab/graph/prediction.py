"""The class of every node of a data set, by a model that was trained and kept."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from layerlab.errors import UserError
from layerlab.graph.datasets import load
from layerlab.graph.runs import open_trained
from layerlab.graph.sampling.inference import infer
from layerlab.graph.sampling.inputs import Inputs
from layerlab.graph.sparse import SparseMatrix
from layerlab.lab.files import write_atomic
from layerlab.lab.training import one_thread

# Nodes of a graph whose layers are computed whole; of larger ones, and of features in files, in blocks.
_WHOLE = 1 << 17


@dataclass(frozen=True)
class Predictions:
    """The most probable class of every node of a data set.

    Args:
        node_ids: the data set's own ids.
        labels: the class names.
        probabilities: softmax probability of that class.
    """

    node_ids: Sequence[str]
    labels: tuple[str, ...]
    probabilities: tuple[float, ...]

    def write(self, path: Path) -> None:
        """As CSV with the columns id, label, probability; whole or not at all."""
        text = io.StringIO(newline="")
        table = csv.writer(text, lineterminator="\n")
        table.writerow(("id", "label", "probability"))
        table.writerows(
            (node, label, f"{probability:.6f}")
            for node, label, probability in zip(self.node_ids, self.labels, self.probabilities, strict=True)
        )
        write_atomic(path, text.getvalue().encode())


def predict_run(run_path: Path, data: str) -> Predictions:
    """Predict every node of a data set with a trained run.

    Args:
        run_path: a folder that `layerlab.graph.runs.train_run` made.
        data: a data set with the same feature columns; labels are not needed.

    Raises:
        UserError: not a training run, not finished, damaged, or the features do not fit.
    """
    trained = open_trained(run_path, lambda run: load(data, need_labels=False))
    dataset, model, classes = trained.dataset, trained.model, trained.classes
    with torch.no_grad(), one_thread():
        if isinstance(dataset.features, SparseMatrix) and dataset.num_nodes <= _WHOLE:
            logits = model(trained.features, dataset.graph)
        else:
            logits = infer(model, Inputs(dataset.features), dataset.graph)
        probabilities = torch.softmax(logits, dim=1)
    if not torch.isfinite(probabilities).all():
        raise UserError(
            "the model's output is not finite; its weights are damaged, train again", file=run_path
        )
    best = probabilities.max(dim=1)
    return Predictions(
        dataset.node_ids,
        tuple(classes[index] for index in best.indices.tolist()),
        tuple(best.values.tolist()),
    )
