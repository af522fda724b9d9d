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
        UserError: the fractions are not that, or no node has a label.

    >>> random_split([0] * 10 + [1] * 5 + [-1], seed=0).sizes
    (9, 3, 3)
    """
    if min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-9:
        raise UserError(f"expected three positive fractions that sum to 1, got {fractions}")
    classes = np.asarray(labels)
    if not (classes != UNKNOWN).any():
        raise UserError("expected at least one labelled node to split, got none")
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
