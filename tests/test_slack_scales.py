"""No slack is narrower than rounding needs: its scale is that of the numbers compared, its size that of their sums.

The subjects are made so that what is largest is negative, or stands among small numbers, and differs from 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from layerlab.attention.theorems.convolution import Convolution, Row
from layerlab.attention.theorems.costs import Cost
from layerlab.attention.theorems.kernel import Kernel
from layerlab.attention.theorems.low_rank import Ranked
from layerlab.attention.theorems.pooling import Pool
from layerlab.attention.theorems.pooling_printed import Window
from layerlab.attention.theorems.subjects import Head, column, gaussian, random_head, vector
from layerlab.catalogue import catalogue
from layerlab.claims import Measurement
from layerlab.estimators.pairs import Arm, DisArm
from layerlab.estimators.theorems.subjects import Bits, toy
from layerlab.graph.structure import Graph
from layerlab.graph.theorems.subjects import path, star

EPSILON = 2.0**-52


def measured(claim: str, subject: Any, **replaced: Any) -> Measurement:
    found = catalogue()[claim].measure(subject, np.random.default_rng(0), **replaced)
    assert found.unmet is None
    return found


def nothing(*given: Any, **named: Any) -> torch.Tensor:
    """In the place of a block: 0, so that what is measured is the number itself."""
    return torch.zeros((), dtype=torch.float64)


# A claim, a subject, and the blocks in whose place 0 is put: what is compared is no larger than the scale.
COMPARED: list[tuple[str, Callable[[], Any], dict[str, Any]]] = [
    (
        "attention.kernel-linear",
        lambda: Kernel(Head(column(1.0), column(1.0), vector(-5.0, 0.1)[None]), "elu"),
        {"forms": (nothing,)},
    ),
    (
        "attention.conv1d",
        lambda: Convolution(vector(-2.0, 0.1), {0: 3.0}),
        {"ways": (nothing,)},
    ),
    (
        "attention.low-rank-svd",
        lambda: Ranked(Head(column(1.0), column(1.0), column(-5.0)), 1),
        {"apply": lambda *factors: torch.zeros(1, 1, dtype=torch.float64)},
    ),
    (
        "attention.projection",
        lambda: Ranked(Head(column(2.0), column(3.0), column(-5.0)), 1),
        {"attend": nothing},
    ),
    (
        "attention.kernel-sign-as-printed",
        lambda: Kernel(Head(column(-3.0, 0.1), column(3.0), column(1.0)), "identity"),
        {},
    ),
    ("attention.conv1d-shift-as-printed", lambda: Row(vector(0.1, -5.0, 0.1, -5.0), 2, 1.0), {}),
    ("attention.conv1d-edges-as-printed", lambda: Row(vector(-5.0, 0.1), 1), {}),
    ("estimators.closed-form", lambda: toy(0.1, (0.1, -3.0)), {"form": lambda problem, a: np.zeros(2)}),
    (
        "estimators.unbiased",
        lambda: toy(0.5, (0.1, -3.0), f=lambda a: -100 * a),
        {"estimator": lambda problem, a: np.zeros(2)},
    ),
    (
        "estimators.unbiased",
        lambda: toy(0.5, (-3.0,), f=lambda a: -100 * (1 - a)),
        {"estimator": lambda problem, a: np.zeros(1)},
    ),
    ("estimators.variance", lambda: toy(0.25, (-30.0,)), {}),
    ("estimators.baseline", lambda: (toy(0.5, (-30.0,)), -100.0), {}),
    ("estimators.baseline", lambda: (toy(0.5, (0.01,)), -1.0), {}),
    ("estimators.best-baseline", lambda: toy(0.5, (30.0,)), {"best": lambda mu: -1.0}),
    ("estimators.best-baseline", lambda: toy(0.5, (0.01,)), {"best": lambda mu: -1.0}),
    ("estimators.slow-learning", lambda: toy(1e-3, (3.0,)), {}),
    ("estimators.loo-variance", lambda: Bits((0.5,), lambda x: -100 * x[:, 0]), {"formula": nothing}),
    *(
        (
            "estimators.disarm-variance",
            lambda size=size: Bits((0.5,), lambda x: size * x[:, 0]),
            {"estimator": Arm(), "rival": DisArm()},
        )
        for size in (0.01, 100.0)
    ),
]


@pytest.mark.parametrize(("claim", "subject", "replaced"), COMPARED, ids=[claim for claim, *_ in COMPARED])
def test_the_scale_of_a_slack_is_not_below_the_numbers_compared(
    claim: str, subject: Callable[[], Any], replaced: dict[str, Any]
) -> None:
    found = measured(claim, subject(), **replaced)
    largest = max(abs(found.measured), abs(found.bound))
    assert 0 < largest <= (found.slack.scale or 0.0) * (1 + 1e-12)


# A claim, a subject, and how many roundings in a row an honest computation makes at least.
ROUNDINGS: list[tuple[str, Callable[[], Any], float]] = [
    ("attention.kernel-linear", lambda: Kernel(random_head(5, keys=300), "elu"), 300),
    ("attention.kernel-linear", lambda: Kernel(random_head(5, 100), "elu"), 100),
    # A feature is exp(-18), off by 18 roundings, in the numerator and in the denominator.
    (
        "attention.kernel-linear",
        lambda: Kernel(Head(column(1.0), column(-18.0, 1.0), column(1.0, 2.0)), "elu"),
        2 * 18,
    ),
    ("attention.low-rank-svd", lambda: Ranked(random_head(2, keys=60), 2), 60),
    ("attention.low-rank-svd", lambda: Ranked(random_head(60, keys=2), 2), 60),
    ("attention.projection", lambda: Ranked(random_head(3, 2, keys=60), 2), 60),
    ("attention.projection", lambda: Ranked(random_head(60, 2, keys=3), 2), 60),
    ("attention.conv1d", lambda: Convolution(gaussian(50), dict.fromkeys(range(-20, 21), 1.0)), 41),
    # exp(log w) is off by log w roundings.
    ("attention.conv1d", lambda: Convolution(gaussian(9), {0: 1.0, 1: 1e-100}), 230),
    ("attention.conv1d-shift-as-printed", lambda: Row(gaussian(9), 4, -50.0), 50),
    ("attention.max-pool", lambda: Pool(gaussian(300), 100, 2.0), 201),
    ("attention.own-query-pool", lambda: Pool(gaussian(300), 100, 2.0), 201),
    ("attention.max-pool-weights-as-printed", lambda: Window(0.1 * gaussian(201), 1.0), 201),
    ("attention.max-pool-weights-as-printed", lambda: Window(vector(-200.0, 1.0, 1.0), 1.0), 200),
    # Logarithms of counts up to 2^38.
    ("attention.softmax-cost", lambda: Cost("operations", "n"), 38),
    # Scores are sums of products of magnitude 22, of five and of three of them, and a coefficient moves twice as much.
    ("graph.gat-coefficients", lambda: path(9), 2 * 22 * (5 + 3)),
    # And 21 of them are added up.
    ("graph.gat-coefficients", lambda: star(20), 2 * 22 * 21),
    ("graph.leading-eigenvector", lambda: Graph.from_edges([0, 1, 2], [1, 2, 3], weight=[1e-6] * 3), 8),
    # The gap to the next eigenvalue is 0.002.
    ("graph.leading-eigenvector", lambda: path(50), 50 / 0.002),
    # 200 layers, in each the sum over 20 neighbours, and the inverse of the shortest distance measured.
    ("graph.oversmoothing", lambda: star(20), 200 * 20 * 1000),
]


@pytest.mark.parametrize(("claim", "subject", "roundings"), ROUNDINGS)
def test_a_slack_covers_the_roundings_of_the_longest_sum(
    claim: str, subject: Callable[[], Any], roundings: float
) -> None:
    slack = measured(claim, subject()).slack
    assert slack.value >= EPSILON * roundings * (slack.scale or 0.0)


def test_the_scale_of_a_pool_is_its_largest_score() -> None:
    for name, pool, scale in (
        ("max-pool", Pool(vector(-5.0, -1.0), 1, 2.0), 2.0 * 5.0),
        ("own-query-pool", Pool(vector(-5.0, -1.0), 1, 3.0), 9.0 * 5.0 * 5.0),
        # Samples themselves are rounded, where scores are smaller.
        ("own-query-pool", Pool(vector(-5.0, -1.0), 1, 0.1), 5.0),
        ("max-pool", Pool(vector(-5.0, -1.0), 1, 0.01), 1.0),
    ):
        assert measured(f"attention.{name}", pool).slack.scale == pytest.approx(scale, rel=1e-14)


def test_the_exponent_of_random_features_is_counted_with_all_terms() -> None:
    kernel = Kernel(random_head(4, d=3), "random")
    phi, x = kernel.map, torch.tensor([[1.0, -2.0, 0.5], [0.1, 0.0, 0.2]], dtype=torch.float64)
    rows = [[abs(number) * phi.root for number in row] for row in x.tolist()]
    expected = max(
        sum(y * abs(w) for y, w in zip(row, direction, strict=True)) + sum(y * y for y in row) / 2
        for row in rows
        for direction in phi.directions.double().tolist()
    )
    assert kernel.exponent(x) == pytest.approx(3 * expected, rel=1e-12)
    assert Kernel(random_head(4), "elu").exponent(-x) == 2.0
    assert Kernel(random_head(4), "elu").exponent(x) == 2.0
