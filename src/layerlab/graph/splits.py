"""Random splits of a graph's nodes. Each is a function of its arguments and its seed alone."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from layerlab.errors import UserError
from layerlab.graph.node_data import UNKNOWN, Split


class CourseSplit(NamedTuple):
    """The course's two parts: the nodes that train and all others. It has no test part of its own."""

    train: NDArray[np.int64]
    rest: NDArray[np.int64]


def course_split(num_nodes: int, seed: int, train: int = 140) -> CourseSplit:
    """The course's split: in a random permutation of the nodes the first ``train`` train, the rest validate.

    It is not balanced over classes, and the course evaluates its "test" on the nodes that validate. So it
    is no `Split`, whose parts are disjoint: whoever uses it must say that validation and test are one.

    Args:
        num_nodes: number of nodes, at least 2.
        seed: of numpy's default generator.
        train: how many train, from 1 to ``num_nodes - 1``.

    Returns:
        Two sorted int64 arrays of node positions, which together are all nodes.

    Raises:
        UserError: ``train`` leaves no node in one of the parts.

    >>> parts = course_split(10, seed=0, train=3)
    >>> parts.train.tolist(), parts.rest.size
    ([2, 4, 6], 7)
    """
    if not 0 < train < num_nodes:
        raise UserError(f"expected between 1 and {num_nodes - 1} training nodes of {num_nodes}, got {train}")
    order = np.random.default_rng(seed).permutation(num_nodes)
    return CourseSplit(np.sort(order[:train]), np.sort(order[train:]))


def random_split(
    labels: ArrayLike, seed: int, fractions: tuple[float, float, float] = (0.6, 0.2, 0.2)
) -> Split:
    """A random split that keeps each class's share in every part.

    Within a class of n labelled nodes, validation and test take round(fraction x n) each and training takes
    the rest, but at least one node. Nodes with unknown labels are in no part.

    Args:
        labels: ``(nodes,)``, integers; -1 is unknown.
        seed: of numpy's default generator.
        fractions: of train, validation and test; positive, summing to 1.

    Raises:
        UserError: the fractions or labels are not that, or no node has a label.

    >>> random_split([0] * 10 + [1] * 5 + [-1], seed=0).sizes
    (9, 3, 3)
    """
    if len(fractions) != 3 or not (min(fractions) > 0 and abs(sum(fractions) - 1) <= 1e-9):
        raise UserError(f"expected three positive fractions that sum to 1, got {fractions}")
    classes = _classes(labels)
    generator = np.random.default_rng(seed)
    parts: tuple[list[NDArray[np.int64]], ...] = ([], [], [])
    for label in np.unique(classes[classes != UNKNOWN]):
        members = generator.permutation(np.flatnonzero(classes == label))
        validation = round(fractions[1] * members.size)
        test = min(round(fractions[2] * members.size), members.size - validation)
        if validation + test == members.size:
            # A class that no training node shows cannot be learnt: one of its nodes trains.
            validation, test = (validation, test - 1) if test else (validation - 1, test)
        for part, taken in zip(
            parts, np.split(members, [members.size - validation - test, members.size - test]), strict=True
        ):
            part.append(taken)
    return Split(*(np.concatenate(part) for part in parts))


def few_label_split(
    labels: ArrayLike, seed: int, *, per_class: int = 20, validation: int = 500, test: int = 1000
) -> Split:
    """A random split of the kind of Planetoid's: a few training nodes of every class, then validation and test.

    Where fewer nodes than ``validation + test`` are left, a third of them validates and the rest tests; a class
    with fewer than two nodes for every training node trains on half of its nodes (at least one).

    Reference: Yang, Cohen and Salakhutdinov, Revisiting semi-supervised learning with graph embeddings, ICML 2016.

    Args:
        labels: ``(nodes,)``, integers; -1 is unknown, and in no part.
        seed: of numpy's default generator.
        per_class: training nodes of every class, at least 1.
        validation, test: nodes of these parts, from all classes together.

    Raises:
        UserError: other labels, no node has one, or a number below 1.

    >>> few_label_split([0] * 60 + [1] * 40, seed=0, per_class=5, validation=30, test=60).sizes
    (10, 30, 60)
    """
    if min(per_class, validation, test) < 1:
        raise UserError(
            f"expected at least one node a class and a part, got {per_class}, {validation}, {test}"
        )
    classes = _classes(labels)
    members = {int(label): int((classes == label).sum()) for label in np.unique(classes[classes != UNKNOWN])}
    wanted = {label: min(per_class, max(count // 2, 1)) for label, count in members.items()}
    left = sum(members.values()) - sum(wanted.values())
    if left < validation + test:
        validation, test = left // 3, left - left // 3
    return _drawn(classes, wanted, validation, test, seed)


def resampled_split(labels: ArrayLike, split: Split, seed: int) -> Split:
    """Another random split of the same sizes, with as many training nodes of each class.

    Args:
        labels: ``(nodes,)``, integers; -1 is unknown, and in no part.
        split: the one to imitate.
        seed: of numpy's default generator.

    >>> labels = [0, 1] * 10
    >>> split = resampled_split(labels, Split([0, 2, 1], [3, 4], [5]), seed=0)
    >>> split.sizes, sum(labels[node] for node in split.train)
    ((3, 2, 1), 1)
    """
    classes = np.asarray(labels)
    trained, counts = np.unique(classes[split.train], return_counts=True)
    wanted = {int(label): int(count) for label, count in zip(trained, counts, strict=True)}
    return _drawn(classes, wanted, split.validation.size, split.test.size, seed)


def _classes(labels: ArrayLike) -> NDArray[np.int64]:
    """The labels, of which at least one is known; NaN among them would be a class without a node."""
    classes = np.asarray(labels)
    if classes.ndim != 1 or (classes.size and (classes.dtype.kind not in "iu" or classes.min() < UNKNOWN)):
        raise UserError(
            "expected a list of whole-number labels from -1 (unknown) on, "
            f"got shape {classes.shape}, {classes.dtype}"
        )
    if not (classes != UNKNOWN).any():
        raise UserError("expected at least one labelled node to split, got none")
    return classes


def _drawn(
    classes: NDArray[np.int64], wanted: dict[int, int], validation: int, test: int, seed: int
) -> Split:
    """``wanted`` training nodes of each class, and as many of the others as the parts take."""
    generator = np.random.default_rng(seed)
    train = np.concatenate(
        [generator.permutation(np.flatnonzero(classes == label))[:count] for label, count in wanted.items()]
    )
    rest = generator.permutation(np.setdiff1d(np.flatnonzero(classes != UNKNOWN), train))
    return Split(train, rest[:validation], rest[validation : validation + test])
