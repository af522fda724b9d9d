"""Splits drawn at random: the course's, and one that keeps the classes' shares."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layerlab.errors import UserError
from layerlab.graph.splits import course_split, few_label_split, random_split


@settings(derandomize=True, deadline=None, max_examples=50)
@given(st.integers(2, 60), st.integers(0, 2**32), st.data())
def test_the_courses_split_is_a_partition(nodes: int, seed: int, data: st.DataObject) -> None:
    train = data.draw(st.integers(1, nodes - 1))
    parts = course_split(nodes, seed, train)
    assert parts.train.size == train
    assert sorted([*parts.train.tolist(), *parts.rest.tolist()]) == list(range(nodes))
    again = course_split(nodes, seed, train)
    np.testing.assert_array_equal(parts.train, again.train)


def test_the_courses_split_depends_on_its_seed_and_prefers_no_node() -> None:
    assert course_split(2708, 0).train.size == 140
    assert course_split(2708, 0).train.tolist() != course_split(2708, 1).train.tolist()
    often = np.zeros(10)
    for seed in range(2000):
        often[course_split(10, seed, train=3).train] += 1
    # Each count is binomial(2000, 0.3): sd 20.5. Five of those leave a chance of 6e-6 over ten nodes.
    assert np.abs(often - 600).max() < 5 * 20.5
    for train in (0, 10, -1):
        with pytest.raises(UserError, match="expected between 1 and 9 training nodes of 10"):
            course_split(10, 0, train)


@settings(derandomize=True, deadline=None, max_examples=100)
@given(st.lists(st.integers(-1, 3), min_size=1, max_size=60), st.integers(0, 2**32))
def test_a_random_split_keeps_the_classes_shares(labels: list[int], seed: int) -> None:
    known = np.flatnonzero(np.array(labels) >= 0)
    if not known.size:
        with pytest.raises(UserError, match="at least one labelled node"):
            random_split(labels, seed)
        return
    split = random_split(labels, seed)
    everything = np.concatenate([split.train, split.validation, split.test])
    np.testing.assert_array_equal(np.sort(everything), known)
    for label in set(labels) - {-1}:
        count = labels.count(label)
        parts = (split.train, split.validation, split.test)
        mine = [sum(labels[node] == label for node in part) for part in parts]
        assert mine[0] >= 1
        assert all(abs(got - share * count) <= 1.5 for got, share in zip(mine, (0.6, 0.2, 0.2), strict=True))
    np.testing.assert_array_equal(split.test, random_split(labels, seed).test)


def test_a_random_split_depends_on_its_seed_and_checks_its_fractions() -> None:
    labels = [0, 1] * 50
    assert random_split(labels, 0).train.tolist() != random_split(labels, 1).train.tolist()
    assert random_split(labels, 0, (0.1, 0.4, 0.5)).sizes == (10, 40, 50)
    # Of two nodes, rounding would leave none to train; of one node, it would leave it to the test.
    assert random_split([0, 0, 1], 0, (0.1, 0.45, 0.45)).sizes == (2, 1, 0)
    assert random_split([0, 1, 1], 0, (0.1, 0.1, 0.8)).sizes == (2, 0, 1)
    for fractions in (
        *((0.5, 0.5, 0.5), (1.2, -0.1, -0.1), (1.0, 0.0, 0.0), (0.5, 0.5), (0.25,) * 4, ()),
        *((math.nan, 0.5, 0.5), (0.5, math.nan, 0.5)),
    ):
        with pytest.raises(UserError, match="three positive fractions"):
            random_split(labels, 0, fractions)


@pytest.mark.parametrize(
    "labels", [[0.0, 1.0, math.nan], [[0, 1], [1, 0]], [0, 1, -2], ["a", "b"], [True, False]]
)
def test_labels_that_are_none_are_refused(labels: list[object]) -> None:
    for split in (random_split, few_label_split):
        with pytest.raises(UserError, match="expected a list of whole-number labels"):
            split(labels, 0)
