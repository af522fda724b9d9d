"""SGC trained at every depth: accuracy against K, with the spread over splits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

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
from layerlab.lab.training import fit

# Depths trained side by side: more gain no speed. And numbers of P^K X held at a time, all depths together (1 GiB).
_MOST_TOGETHER = 8
_MOST_NUMBERS = 2**28


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


class _Stack(nn.Module):
    """As many linear classifiers as there are depths, side by side in one tensor."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    def forward(self, x: Tensor) -> Tensor:
        """(depths, nodes, features) -> (depths, classes, nodes)."""
        # In this order the gradient is a product with x as it lies: several times faster than with x transposed.
        return torch.baddbmm(self.bias, self.weight, x.transpose(1, 2))


class _StackTask:
    """One SGC a depth, all trained at once: Adam works number by number, so each becomes what it becomes alone."""

    def __init__(
        self, dataset: NodeDataset, split: Split, settings: Settings, propagated: Sequence[Tensor]
    ) -> None:
        self.dataset, self.settings, self.split, self.propagated = dataset, settings, split, propagated
        self.labels = torch.from_numpy(dataset.labels.copy())
        self.x, y = self._part("train")
        self.targets = y.repeat(len(propagated), 1)

    def _part(self, name: str) -> tuple[Tensor, Tensor]:
        """(depths, nodes, features) and the labels of a part."""
        nodes = torch.from_numpy(getattr(self.split, name).copy())
        return torch.stack([x.index_select(0, nodes) for x in self.propagated]), self.labels[nodes]

    def build(self) -> nn.Module:
        one = build_model(self.settings, self.dataset.num_features, self.dataset.num_classes)
        weight, bias = (parameter.detach() for parameter in one.parameters())
        depths = len(self.propagated)
        return _Stack(weight.repeat(depths, 1, 1), bias.repeat(depths, 1).unsqueeze(2))

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        s = self.settings
        return torch.optim.Adam(
            model.parameters(), lr=s.learning_rate, weight_decay=s.weight_decay, fused=True
        )

    def batches(self, epoch: int) -> Iterable[Tensor]:
        return [self.x]

    def loss(self, model: nn.Module, batch: Tensor) -> Tensor:
        # The mean over the nodes, summed over the depths.
        return cross_entropy(model(batch), self.targets) * len(self.propagated)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        # Only the last epoch counts, and `accuracies` looks at that one.
        return {}

    def accuracies(self, model: nn.Module, part: str) -> NDArray[np.float64]:
        """(depths,) share of right answers on a part of the split; NaN where the part is empty."""
        x, y = self._part(part)
        with torch.no_grad():
            right = model(x).argmax(1) == y
        shares: NDArray[np.float64] = right.double().mean(1).numpy()
        return shares


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

    P^K X is built once, one product a step, and serves all splits; depths are trained several at a time. The model of
    split s starts from seed s, at every depth.
    Reference: Wu et al., Simplifying graph convolutional networks, ICML 2019.

    Args:
        dataset: with features and labels.
        depths: the K's, each once, >= 0.
        splits: who trains, chooses and is tested; None takes five, as `splits_for` makes them.
        settings: of an SGC that keeps its last epoch; None takes the paper's.
        progress: called with (depths done, depths in all), after every few depths.

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
    x, reached = normalise_rows(dataset.feature_matrix).to_dense(), 0
    together = max(1, min(_MOST_TOGETHER, _MOST_NUMBERS // max(1, x.numel())))
    for first in range(0, len(wanted), together):
        propagated = []
        for depth in wanted[first : first + together]:
            while reached < depth:
                x, reached = spmm(operator, x), reached + 1
            propagated.append(x)
        columns = slice(first, first + len(propagated))
        for number, split in enumerate(parts):
            task = _StackTask(dataset, split, chosen, propagated)
            model = fit(task, schedule_for(chosen), seed=number).model
            validation[number, columns] = task.accuracies(model, "validation")
            test[number, columns] = task.accuracies(model, "test")
        if progress is not None:
            progress(columns.stop, len(wanted))
    return DepthCurve(tuple(wanted), validation, test)
