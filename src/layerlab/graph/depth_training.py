"""SGC trained at every depth: accuracy against K, with the spread over splits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from layerlab.errors import UserError
from layerlab.graph.node_data import NodeDataset, Split
from layerlab.graph.ops import spmm
from layerlab.graph.settings import Settings, settings_for
from layerlab.graph.splits import random_split, resampled_split
from layerlab.graph.task import build_model, normalise_rows, schedule_for
from layerlab.lab.training import fit, stream_seed


@dataclass(frozen=True, eq=False)
class DepthCurve:
    """Accuracy of models of several depths on several splits.

    Attributes:
        depths: the K's, ascending.
        validation, test: (splits, depths), shares from 0 to 1.
    """

    depths: tuple[int, ...]
    validation: NDArray[np.float64]
    test: NDArray[np.float64]

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean validation accuracy at each depth."""
        means: NDArray[np.float64] = self.validation.mean(axis=0)
        return means

    @property
    def standard_error(self) -> NDArray[np.float64]:
        """Standard error of ``mean`` over the splits; NaN with one split."""
        count = self.validation.shape[0]
        if count < 2:
            return np.full(len(self.depths), np.nan)
        errors: NDArray[np.float64] = self.validation.std(axis=0, ddof=1) / np.sqrt(count)
        return errors

    @property
    def best(self) -> int:
        """The depth of the highest mean validation accuracy, the smallest of equals."""
        return self.depths[int(self.mean.argmax())]

    def near_best(self) -> tuple[int, ...]:
        """The depths whose mean is at least the best one's minus the best one's standard error.

        Reference: the one-standard-error rule of Breiman et al., Classification and regression trees, 1984.
        With one split there is no standard error, and only depths of equal mean count.
        """
        at = int(self.mean.argmax())
        error = self.standard_error[at]
        floor = self.mean[at] - (0.0 if np.isnan(error) else error)
        return tuple(k for k, value in zip(self.depths, self.mean, strict=True) if value >= floor)

    def distance(self, depth: int) -> int:
        """How far a predicted depth is from the closest of `near_best`; 0 or 1 counts as hit."""
        return min(abs(depth - near) for near in self.near_best())

    def to_dict(self) -> dict[str, Any]:
        """Everything for JSON."""
        return {
            "depths": list(self.depths),
            "validation": self.validation.tolist(),
            "test": self.test.tolist(),
            "best": self.best,
            "near_best": list(self.near_best()),
        }


class _SplitsTask:
    """One SGC a split, all trained at once: Adam works number by number, so each becomes what it becomes alone."""

    def __init__(
        self, dataset: NodeDataset, splits: Sequence[Split], settings: Settings, propagated: Tensor
    ) -> None:
        self.dataset, self.settings, self.propagated = dataset, settings, propagated
        self.labels = torch.from_numpy(dataset.labels.copy())
        self.splits = splits
        train = [torch.from_numpy(split.train.copy()) for split in splits]
        self.examples = [(propagated.index_select(0, nodes), self.labels[nodes]) for nodes in train]

    def build(self) -> nn.Module:
        models = nn.ModuleList()
        for number in range(len(self.splits)):
            # As `fit` does before it builds the model of this seed.
            torch.manual_seed(stream_seed(number, 0))
            models.append(build_model(self.settings, self.dataset.num_features, self.dataset.num_classes))
        return models

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        s = self.settings
        return torch.optim.Adam(
            model.parameters(), lr=s.learning_rate, weight_decay=s.weight_decay, fused=True
        )

    def batches(self, epoch: int) -> Iterable[list[tuple[Tensor, Tensor]]]:
        return [self.examples]

    def loss(self, model: nn.Module, batch: list[tuple[Tensor, Tensor]]) -> Tensor:
        models = cast(Iterable[nn.Module], model)
        losses = [cross_entropy(one(x, None), y) for one, (x, y) in zip(models, batch, strict=True)]
        return torch.stack(losses).sum()

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        # Only the last epoch counts, and `accuracies` looks at that one.
        return {}

    def accuracies(self, model: nn.Module, part: str) -> NDArray[np.float64]:
        """Share of right answers on a part of each split; NaN where the part is empty."""
        shares = []
        with torch.no_grad():
            for one, split in zip(cast(Iterable[nn.Module], model), self.splits, strict=True):
                nodes = torch.from_numpy(getattr(split, part).copy())
                answers = one(self.propagated.index_select(0, nodes), None).argmax(1)
                right = int((answers == self.labels[nodes]).sum())
                shares.append(right / len(nodes) if len(nodes) else np.nan)
        return np.array(shares)


def splits_for(dataset: NodeDataset, count: int) -> tuple[Split, ...]:
    """The data set's own split and ``count - 1`` of the same sizes; without an own one, 60/20/20 by seed.

    Args:
        dataset: with labels.
        count: number of splits, at least 1.

    Raises:
        UserError: a count below 1, or no labelled node.
    """
    if count < 1:
        raise UserError(f"expected at least one split, got {count}")
    if dataset.split is None:
        return tuple(random_split(dataset.labels, seed) for seed in range(count))
    own = dataset.split
    return (own, *(resampled_split(dataset.labels, own, seed) for seed in range(1, count)))


def train_depths(
    dataset: NodeDataset,
    depths: Sequence[int] = range(1, 33),
    *,
    splits: Sequence[Split] | None = None,
    settings: Settings | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> DepthCurve:
    """Train SGC (logistic regression on P^K X) at every depth K, on every split.

    P^K X is built once, one product a step, and serves all splits. The model of split s starts from seed s.
    Reference: Wu et al., Simplifying graph convolutional networks, ICML 2019.

    Args:
        dataset: with features and labels.
        depths: the K's, each once, >= 0.
        splits: who trains, chooses and is tested; None takes five, as `splits_for` makes them.
        settings: of an SGC that keeps its last epoch; None takes the paper's.
        progress: called with (depths done, depths in all).

    Returns:
        Validation and test accuracy by split and depth; test is NaN where a split tests nothing.

    Raises:
        UserError: no depths, one that is negative or repeated, settings of another model, a split without
            training or validation nodes, or training that diverges.

    >>> from layerlab.graph.generate import cycle_model
    >>> curve = train_depths(cycle_model(80, classes=2, signal=2.0), depths=[1, 4])
    >>> curve.depths, curve.validation.shape
    ((1, 4), (5, 2))
    """
    wanted = sorted(depths)
    if not wanted or wanted[0] < 0 or len(set(wanted)) < len(wanted):
        raise UserError(f"expected depths >= 0, each once, got {list(depths)}")
    chosen = settings or settings_for("sgc", "public", dataset.name)
    if chosen.model != "sgc" or chosen.monitor is not None:
        raise UserError(
            f"expected settings of an SGC that keeps its last epoch, got {chosen.model}, monitor {chosen.monitor}"
        )
    parts = splits_for(dataset, 5) if splits is None else tuple(splits)
    if not parts or not all(split.train.size and split.validation.size for split in parts):
        raise UserError(
            "expected splits that each have training and validation nodes; one is missing or empty"
        )
    validation, test = np.empty((2, len(parts), len(wanted)))
    operator = dataset.graph.normalized_adjacency()
    propagated, reached = normalise_rows(dataset.features).to_dense(), 0
    for column, depth in enumerate(wanted):
        while reached < depth:
            propagated, reached = spmm(operator, propagated), reached + 1
        here = replace(chosen, steps=depth)
        task = _SplitsTask(dataset, parts, here, propagated)
        model = fit(task, schedule_for(here)).model
        validation[:, column] = task.accuracies(model, "validation")
        test[:, column] = task.accuracies(model, "test")
        if progress is not None:
            progress(column + 1, len(wanted))
    return DepthCurve(tuple(wanted), validation, test)
