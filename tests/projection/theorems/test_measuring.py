"""What the claims about projections measure, where one of many numbers decides."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.random_projection import johnson_lindenstrauss_min_dim

from layerlab.claims import Claim, Measurement, confidence
from layerlab.projection import tails
from layerlab.projection.bounds import most, rademacher_count
from layerlab.projection.theorems import (
    ALMOST_ORTHOGONAL,
    CHI_SQUARE,
    CLASSIC,
    COUNTS,
    EIGHT,
    FLOORS,
    IMPLIED,
    JL,
    KERDOCK,
    MOMENTS,
    RADEMACHER,
    REFUSAL,
    SCIKIT_LEARN,
    UNIT_AS_PRINTED,
)
from layerlab.projection.theorems.codes import Request, Signs
from layerlab.projection.theorems.dimensions import Grid, TwoValues, _cubic, enumerated
from layerlab.projection.theorems.floors import Asked, _mean_cosine, _sic
from layerlab.projection.theorems.lemma import Cloud, Single, by_eight, classic_pair, document_points


def measured(claim: Claim, subject: object, **replaced: object) -> Measurement:
    return claim.measure(subject, np.random.default_rng(0), **replaced)


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


@pytest.mark.parametrize(("factor", "off"), [(1.0, 0.0), (0.5, 1.0), (1.5, 1.0)])
def test_one_pair_that_is_too_near_or_too_far_is_a_failure(factor: float, off: float) -> None:
    cloud = Cloud(np.array([[1.0, 0.0], [0.0, 1.0], [9.0, 9.0]]), 0.5, dim=2, failure=0.1)

    def one_pair(given: Cloud, points: np.ndarray, dim: int, generator: np.random.Generator) -> np.ndarray:
        images = points.copy()
        images[:2] = 0.5 + factor * (images[:2] - 0.5)
        return images

    found = measured(JL, cloud, project=one_pair, draws=30)
    assert found.measured == off
    assert found.bound == 0.1
    assert found.slack.value == pytest.approx(confidence(0.3, 30, 0.999999).value, rel=1e-12)


def test_the_documents_dimension_has_the_failure_that_tails_leave() -> None:
    cloud = by_eight(np.eye(12), 0.25)
    assert cloud.dim == tails.document_dimension(12, 0.25)
    assert cloud.failure == tails.failure(12, cloud.dim, 0.25)


@pytest.mark.parametrize(
    ("square", "off"), [(1.0, False), (1.3, False), (0.7, False), (1.5, True), (0.5, True)]
)
def test_a_squared_length_is_off_above_and_below(square: float, off: bool) -> None:
    single = Single(np.array([3.0, -4.0]), 4, 0.4)

    def rows(x: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
        # The mean of four squares is what counts; one draw of four is as it should be.
        images = np.tile([0.0, 0.0, 0.0, 2.0], count // 4).reshape(-1, 4)
        images[: len(images) * 3 // 4] *= square**0.5
        return np.asarray(5.0 * images.ravel())

    found = measured(CHI_SQUARE, single, rows=rows, draws=40)
    assert found.measured == (0.75 if off else 0.0)
    p = tails.pair_failure(4, 0.4)
    assert found.bound == p
    assert found.slack == confidence((p * (1 - p)) ** 0.5, 40, 0.999999)


def test_the_documents_points_are_0_and_the_unit_vectors() -> None:
    assert document_points(3).tolist() == [[0, 0], [1, 0], [0, 1]]


def test_the_classic_bound_of_one_pair() -> None:
    assert classic_pair(100, 0.6) == pytest.approx(2 * np.exp(-100 * (0.18 - 0.072) / 2), rel=1e-14)
    assert classic_pair(1, 0.1) == 1.0


# ------------------------------------------------------------------------------------------------------------ grids


def test_the_largest_logarithm_of_the_grid_counts() -> None:
    grid = Grid((10, 1_000), (0.3,))
    by_hand = [np.log(tails.pair_failure(n, 0.3)) - np.log(2) + n * (0.045 - 0.009) / 2 for n in (10, 1_000)]
    found = measured(CLASSIC, grid)
    assert (found.measured, found.bound) == (pytest.approx(max(by_hand), rel=1e-12), 0)
    # 1,000 times 0.9 leaves float64's tails: only the other is left.
    assert measured(CLASSIC, Grid((10, 10**6), (0.3,))).measured == pytest.approx(by_hand[0], rel=1e-12)


@pytest.mark.parametrize("at", [(1, 0.05), (20, 0.5)])
def test_one_place_of_the_grid_above_its_bound_is_seen(at: tuple[int, float]) -> None:
    law = TwoValues(2.0, 0.0, 0.5)

    def proved(dim: int, eps: float) -> float:
        return enumerated(law, dim, eps) * (0.5 if (dim, eps) == at else 2.0)

    found = measured(MOMENTS, law, proved=proved)
    assert (found.measured, found.bound) == (pytest.approx(np.log(2), rel=1e-12), 0)


def test_a_law_of_two_values_is_summed_with_both() -> None:
    # Three rows of 3 or 1/3, of probability 1/4: ratios 1/3, 11/9, 19/9, 3.
    law = TwoValues(3.0, 1 / 3, 0.25)
    assert enumerated(law, 3, 0.5) == pytest.approx(27 / 64 + 9 / 64 + 1 / 64, rel=1e-14)
    # 1 + 2/9 is not beyond 2/9, up to rounding.
    assert enumerated(law, 3, 2 / 9) == enumerated(law, 3, 0.5)
    assert enumerated(law, 3, 2 / 9 - 1e-9) == pytest.approx(1.0, rel=1e-14)


def test_the_worst_union_bound_of_the_grid_counts() -> None:
    grid = Grid((5, 100), (0.1,))
    small = {5: 200, 100: 5_000}
    found = measured(IMPLIED, grid, dimension=lambda count, eps: small[count])
    assert found.measured == max(tails.failure(count, dim, 0.1) for count, dim in small.items())
    assert found.bound == pytest.approx(0.1117, abs=5e-5)


def test_the_least_number_of_pairs_of_the_grid_counts() -> None:
    dims = {3: 20, 100: 300}
    expected = {count: count * (count - 1) / 2 * tails.pair_failure(dim, 0.4) for count, dim in dims.items()}
    for counts in ((3, 100), (100, 3)):
        found = measured(EIGHT, Grid(counts, (0.4,)), dimension=lambda count, eps: dims[count])
        assert found.measured == pytest.approx(min(expected.values()), rel=1e-12)


# ------------------------------------------------------------------------------------------------ codes and floors


@pytest.mark.parametrize("length", [0.5, 1.5])
def test_one_vector_that_is_no_unit_vector_is_seen(length: float) -> None:
    def make(given: Request, seed: int) -> torch.Tensor:
        return torch.diag(torch.tensor([1.0, length, 1.0], dtype=torch.float64))

    assert measured(UNIT_AS_PRINTED, Request(3, 0.5), make=make).measured == 0.5


@pytest.mark.parametrize("coherence", [0.0, 1.0, 1.5])
def test_a_coherence_of_nothing_or_1_is_unmet(coherence: float) -> None:
    assert "trivial" in str(measured(ALMOST_ORTHOGONAL, Request(10, coherence, 2)).unmet)


def test_fewer_or_more_vectors_than_promised_are_unmet() -> None:
    for count in (2, 40):
        found = measured(
            ALMOST_ORTHOGONAL, Request(1_000, 0.5), make=lambda given, seed, count=count: torch.eye(count)
        )
        assert found.unmet == "fewer vectors than promised"
    # Where a number is asked for, it is that one.
    few = measured(ALMOST_ORTHOGONAL, Request(1_000, 0.5, 3), make=lambda given, seed: torch.eye(3))
    assert few.unmet is None
    assert few.measured < 1e-12


@pytest.mark.parametrize(("dim", "coherence"), [(1_000, 0.3), (10, 0.1), (3, 0.9)])
def test_counts_are_bounded_by_signs_and_by_floors(dim: int, coherence: float) -> None:
    found = measured(COUNTS, Request(dim, coherence))
    assert found.bound == min(rademacher_count(dim, coherence), most(dim, coherence))


def test_a_draw_fails_with_one_pair_beyond_on_either_side() -> None:
    class Dice:
        """Two vectors of R^8: equal, opposite, and different in one sign, in turn."""

        def __init__(self) -> None:
            self.draw = 0

        def integers(self, low: int, high: int, shape: tuple[int, int]) -> np.ndarray:
            assert (low, high, shape) == (0, 2, (2, 8))
            bits = np.ones(shape, dtype=np.int64)
            bits[1, : (0, 8, 1)[self.draw % 3]] = 0
            self.draw += 1
            return bits

    assert rademacher_count(8, 0.9, 0.2) == 2
    found = RADEMACHER.measure(Signs(8, 0.9, 0.2), Dice(), draws=30)
    assert found.measured == pytest.approx(2 / 3, rel=1e-15)
    assert found.bound == 0.2
    assert found.slack.value == pytest.approx(confidence(0.4, 30, 0.999999).value, rel=1e-12)
    assert measured(RADEMACHER, Signs(2, 0.1, 0.2)).unmet == "there is no pair"


def test_four_lines_of_the_complex_plane_are_equiangular() -> None:
    lines = _sic()
    cosines = (lines @ lines.mH).abs()
    assert torch.allclose(cosines, torch.full((4, 4), 3**-0.5).double().fill_diagonal_(1.0), atol=1e-14)
    assert _mean_cosine(lines) == pytest.approx(3**-0.5, rel=1e-12)


def test_no_floor_is_unmet_and_missing_lines_are() -> None:
    assert "no floor" in str(measured(FLOORS, lambda: torch.eye(4)).unmet)
    right = KERDOCK.measure(4, np.random.default_rng(0))
    assert (right.measured, right.bound) == (pytest.approx(0.5, abs=1e-14), 0.5)
    assert measured(KERDOCK, 4, lines=lambda dim: torch.eye(4)).unmet == "lines are missing"


def test_a_refusal_must_name_the_floor() -> None:
    asked = Asked(2, 4, 0.7)
    right = measured(REFUSAL, asked)
    assert (right.measured, right.bound) == (1, 1)
    for words in (None, "", "no", "no, not at all"):
        assert measured(REFUSAL, asked, refusal=lambda _, words=words: words).measured == 0
    assert "no floor excludes it" in str(measured(REFUSAL, Asked(2, 4, 0.8)).unmet)


@pytest.mark.parametrize("x", [np.zeros(2), np.array([np.inf, 1.0]), np.array([np.nan, 1.0])])
def test_a_vector_without_a_direction_is_no_counterexample(x: np.ndarray) -> None:
    assert (
        CHI_SQUARE.measure(Single(x, 5, 0.5), np.random.default_rng(0), draws=100).unmet
        == "x is 0, or not finite"
    )
