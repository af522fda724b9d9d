"""How deep an SGC should be, said before one is trained: from graph, features and training labels alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerlab.errors import UserError
from layerlab.graph.node_data import NodeDataset, Split
from layerlab.graph.ops import spmm
from layerlab.graph.task import normalise_rows

Floats = NDArray[np.float64]

# Ridge penalty per training node, on rows of features that sum to 1. It stands for the step budget of SGC's training:
# what 100 steps of Adam cannot amplify, the penalty suppresses.
PENALTY = 2.5e-5
HALVINGS = 10
# Standard deviation of the kernel that the score is smoothed with, in units of log(K + 1). All three were chosen on
# development graphs (scripts/choose_depth_score.py).
SMOOTHING = 0.2
# More nodes would cost time and tell little more.
_MOST_TRAINING = 1000


@dataclass(frozen=True, eq=False)
class DepthPrediction:
    """Scores of the depths, and the one to take.

    Attributes:
        depths: the K's, ascending.
        held_out: (halvings, depths) accuracy of either half's classifier on the other half's labels.
        score: (depths) mean held-out accuracy, smoothed over neighbouring depths.
        best: the depth of the highest score.
        plausible: the depths whose score is within one standard error of the best one's (that of the paired
            difference over the halvings, smoothed alike).
    """

    depths: tuple[int, ...]
    held_out: Floats
    score: Floats
    best: int
    plausible: tuple[int, ...]

    @property
    def layers(self) -> tuple[int, int]:
        """Fewest and most layers to try in a GCN or GAT: from 2 to 4, but no more than ``best``.

        An SGC of K steps trains as easily as one of none. A GCN or GAT without residual connections does not: beyond
        a few layers its gradients and its features fade together, on any graph (Kipf and Welling, ICLR 2017, appendix
        B), so a slowly smoothing graph lets them use no more than four.
        """
        return max(1, min(2, self.best)), max(1, min(4, self.best))

    def to_dict(self) -> dict[str, Any]:
        """For JSON, means over the halvings."""
        return {
            "depths": list(self.depths),
            "held_out": self.held_out.mean(axis=0).tolist(),
            "score": self.score.tolist(),
            "best": self.best,
            "plausible": list(self.plausible),
            "layers": list(self.layers),
        }


def _halves(
    labels: NDArray[np.int64], count: int, generator: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(count, n/2) positions of either half, every class shared as evenly as it can be."""
    left, right = [], []
    for _ in range(count):
        # Ordered by class, at random within one: every other node goes left. The first side is drawn too.
        order = generator.permutation(labels.size)
        order = order[np.argsort(labels[order], kind="stable")]
        order = order[: labels.size - labels.size % 2]
        first = int(generator.integers(2))
        left.append(order[first::2])
        right.append(order[1 - first :: 2])
    return np.stack(left), np.stack(right)


def _ridge_answers(
    known: Floats, chosen: NDArray[np.int64], asked: NDArray[np.int64], targets: Floats, penalty: float
) -> NDArray[np.int64]:
    """Classes that ridge regressions with an intercept give to ``asked``, one regression a row of ``chosen``.

    In inner products: all regressions share them, and features are usually more than training nodes.

    Args:
        known: (n, d). chosen, asked: (b, h), (b, m) the rows of ``known`` that each regression learns from and is asked
            for. targets: (b, h, classes).

    Returns:
        (b, m).
    """
    # Around a common point first: late layers' rows differ only in the last digits.
    rows = known - known.mean(axis=0)
    inner = rows @ rows.T
    gram = inner[chosen[:, :, None], chosen[:, None, :]]
    across = inner[asked[:, :, None], chosen[:, None, :]]
    own = gram.mean(axis=1, keepdims=True)
    gram_centred = gram - own - own.transpose(0, 2, 1) + own.mean(axis=2, keepdims=True)
    across_centred = across - across.mean(axis=2, keepdims=True) - own + own.mean(axis=2, keepdims=True)
    gram_centred[:, np.arange(gram.shape[1]), np.arange(gram.shape[1])] += penalty * gram.shape[1]
    mean = targets.mean(axis=1, keepdims=True)
    return (across_centred @ np.linalg.solve(gram_centred, targets - mean) + mean).argmax(axis=2)


def _smoother(depths: Sequence[int]) -> Floats:
    """(depths, depths) weights of each depth's neighbours, in rows of sum 1.

    In log(K + 1), since one layer more changes much at K = 1 and next to nothing at K = 30.
    """
    place = np.log1p(np.array(depths, dtype=np.float64))
    weights: Floats = np.exp(-((place[:, None] - place) ** 2) / (2 * SMOOTHING**2))
    return weights / weights.sum(axis=1, keepdims=True)


def predict_depth(
    dataset: NodeDataset,
    depths: Sequence[int] = range(1, 33),
    *,
    split: Split | None = None,
    seed: int = 0,
) -> DepthPrediction:
    """The depth K at which SGC will do best, from graph, features and the training nodes' labels.

    The training nodes are halved at random, ten times. Ridge regression from P^K X to the classes is solved on either
    half and asked for the other's labels. The score is this held-out accuracy, smoothed over the depths with Gaussian
    weights w in log(K + 1), of standard deviation 0.2:

        score(K) = Σ_k w(K, k) · held-out accuracy(k) / Σ_k w(K, k)

    Labels are few, so a single depth's accuracy is rough; neighbouring depths nearly compute the same, and share their
    evidence. The penalty is a fixed one: it suppresses what SGC's 100 training steps could not amplify either, so a
    signal that propagation has made too small to be learnt counts as lost. Neither validation nor test labels are read.

    References: Stone, Cross-validatory choice and assessment of statistical predictions, JRSS B 1974; Nadaraya, On
    estimating regression, Theory of Probability and its Applications 1964 (the smoothing).

    Args:
        dataset: with features and labels.
        depths: the K's to choose from, each once, >= 0.
        split: whose training nodes' labels are read; None takes the data set's own.
        seed: of the halvings (and of a sample where there are more than 1,000 training nodes).

    Returns:
        The scores and the depth of the highest one.

    Raises:
        UserError: no split, fewer than four training nodes or two classes among them, or wrong depths.

    >>> from layerlab.graph.generate import cycle_model
    >>> predict_depth(cycle_model(400, signal=3.0), depths=[1, 8]).best
    8
    """
    wanted = sorted(depths)
    if not wanted or wanted[0] < 0 or len(set(wanted)) < len(wanted):
        raise UserError(f"expected depths >= 0, each once, got {list(depths)}")
    chosen = split or dataset.split
    if chosen is None:
        raise UserError(f"{dataset.name} has no split: say which nodes' labels may be read")
    generator = np.random.default_rng(seed)
    train = generator.permutation(chosen.train)[:_MOST_TRAINING]
    labels = dataset.labels[train]
    if train.size < 4 or np.unique(labels).size < 2:
        raise UserError(
            f"expected at least four training nodes and two classes among them, got {train.size} nodes, "
            f"{np.unique(labels).size} classes"
        )
    left, right = _halves(labels, HALVINGS, generator)
    targets = np.eye(dataset.num_classes)[labels]
    operator = dataset.graph.normalized_adjacency()
    propagated, reached = normalise_rows(dataset.feature_matrix).to_dense(), 0
    held_out = np.empty((HALVINGS, len(wanted)))
    for column, depth in enumerate(wanted):
        while reached < depth:
            propagated, reached = spmm(operator, propagated), reached + 1
        known = propagated.numpy()[train].astype(np.float64)
        right_ones = [
            _ridge_answers(known, half, other, targets[half], PENALTY) == labels[other]
            for half, other in ((left, right), (right, left))
        ]
        held_out[:, column] = np.concatenate(right_ones, axis=1).mean(axis=1)
    smoothed = held_out @ _smoother(wanted).T
    # Accuracies are few fractions, so depths often tie, and a machine's rounding must not decide between them.
    score = smoothed.mean(axis=0).round(12)
    at = int(score.argmax())
    # Paired: the same halves at every depth. Halvings overlap, so this is a rough scale and no test.
    error = (smoothed - smoothed[:, [at]]).std(axis=0, ddof=1) / np.sqrt(HALVINGS)
    plausible = tuple(
        depth for depth, near in zip(wanted, score >= score[at] - error - 1e-12, strict=True) if near
    )
    return DepthPrediction(tuple(wanted), held_out, score, wanted[at], plausible)
