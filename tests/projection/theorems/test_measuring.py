"""What the claims about projections measure, where one of many numbers decides."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.random_projection import johnson_lindenstrauss_min_dim

from layerlab.projection.theorems import JL, SCIKIT_LEARN
from layerlab.projection.theorems.dimensions import Grid, TwoValues, _cubic, enumerated
from layerlab.projection.theorems.lemma import Cloud


def test_one_dimension_above_scikit_learns_is_enough_to_violate() -> None:
    def above_once(count: int, eps: float) -> int:
        return int(johnson_lindenstrauss_min_dim(count, eps=eps)) + (1 if count == 100 else -3)

    grid = Grid((10, 100, 1_000), (0.1,))
    assert SCIKIT_LEARN.measure(grid, np.random.default_rng(0), dimension=above_once).measured == 1


def test_probabilities_are_enumerated_by_hand() -> None:
    # Two rows of 2 or 0, each with probability 1/2: the mean is 0, 1 or 2 with probabilities 1/4, 1/2, 1/4.
    fair = TwoValues(2.0, 0.0, 0.5)
    assert enumerated(fair, 2, 0.5) == pytest.approx(0.5, rel=1e-14)
    assert enumerated(fair, 2, 1.0) == 0.0
    assert enumerated(fair, 1, 0.5) == pytest.approx(1.0, rel=1e-14)


def test_the_rate_of_the_cubic_bound() -> None:
    assert _cubic(0.6) == pytest.approx(0.18 - 0.072, rel=1e-14)


@pytest.mark.parametrize(
    ("points", "eps", "reason"),
    [
        ([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]], 0.5, "two points are equal"),
        ([[1.0, 0.0]], 0.5, "a single point has no distances"),
        ([[1.0, 0.0], [0.0, 1.0]], 1.0, "eps = 1.0 is not between 0 and 1"),
        ([[1.0, 0.0], [0.0, 1.0]], 0.0, "eps = 0.0 is not between 0 and 1"),
    ],
)
def test_the_hypothesis_that_fails_is_named(points: list[list[float]], eps: float, reason: str) -> None:
    cloud = Cloud(np.array(points), eps, dim=4, failure=0.1)
    assert JL.measure(cloud, np.random.default_rng(0)).unmet == reason


def test_points_on_opposite_sides_are_apart_and_near_ones_are_not() -> None:
    # x and -x: their difference is 2x, their sum is 0; the identity keeps all distances, half of it none.
    cloud = Cloud(np.array([[3.0, 4.0], [-3.0, -4.0], [1.0, 1.0]]), 0.5, dim=2, failure=0.1)

    def kept(factor: float) -> float:
        def project(given: Cloud, points: np.ndarray, dim: int, generator: np.random.Generator) -> np.ndarray:
            return factor * points

        return JL.measure(cloud, np.random.default_rng(0), project=project).measured

    assert (kept(1.0), kept(0.5)) == (0.0, 1.0)
