"""Means and intervals against scipy, closed forms and repeated sampling."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from layerlab.errors import UserError
from layerlab.lab.statistics import Estimate, estimate, paired_difference, single_run_interval

SAMPLES = [
    [0.81, 0.82],
    [0.693, 0.71, 0.65, 0.7, 0.72],
    [-3.0, 0.0, 1e3, 4.5],
    np.random.default_rng(0).normal(0.8, 0.01, 20).tolist(),
    [1e9, 1e9 + 1, 1e9 + 2],
]


@pytest.mark.parametrize("level", [0.5, 0.95, 0.99])
@pytest.mark.parametrize("values", SAMPLES)
def test_the_estimate_is_students_of_scipy(values: list[float], level: float) -> None:
    found = estimate(values, level)
    assert found.n == len(values)
    assert found.mean == pytest.approx(np.mean(values), rel=1e-14)
    assert found.sd == pytest.approx(np.std(values, ddof=1), rel=1e-12)
    low, high = stats.t.interval(level, len(values) - 1, np.mean(values), stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-12)


def test_two_values_in_closed_form() -> None:
    # With one degree of freedom Student's distribution is Cauchy's: t = tan(pi * (p - 1/2)).
    found = estimate([1.0, 3.0], 0.9)
    half = math.tan(math.pi * 0.45) * math.sqrt(2) / math.sqrt(2)
    assert (found.mean, found.sd) == (2.0, math.sqrt(2))
    assert (found.low, found.high) == pytest.approx((2 - half, 2 + half), rel=1e-12)
    assert single_run_interval([1.0, 3.0], 0.9) == pytest.approx(
        (2 - half * 3**0.5, 2 + half * 3**0.5), rel=1e-12
    )


def test_one_value_has_a_mean_and_nothing_else() -> None:
    found = estimate([0.5])
    assert (found.n, found.mean) == (1, 0.5)
    assert all(math.isnan(value) for value in (found.sd, found.low, found.high))
    assert not found.contains(0.5)
    with pytest.raises(UserError, match="at least two"):
        single_run_interval([0.5])


@pytest.mark.parametrize("value", [0.1, 0.81, 1 / 3, -1e9 / 7, 0.0])
@pytest.mark.parametrize("n", [2, 3, 7, 20])
def test_equal_values_have_exactly_no_spread(value: float, n: int) -> None:
    assert estimate([value] * n) == Estimate(n, value, 0.0, value, value)
    assert single_run_interval([value] * n) == (value, value)
    assert paired_difference([value] * n, [value] * n) == Estimate(n, 0.0, 0.0, 0.0, 0.0)


def test_the_interval_includes_its_ends() -> None:
    found = Estimate(3, 2.0, 1.0, 1.0, 3.0)
    assert [found.contains(value) for value in (0.999, 1.0, 2.0, 3.0, 3.001, math.nan)] == [
        False,
        True,
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize("values", [[], [math.nan], [0.5, math.nan], [0.5, math.inf], [-math.inf, 1.0]])
def test_nothing_and_what_is_not_finite_are_refused(values: list[float]) -> None:
    for function in (estimate, single_run_interval):
        with pytest.raises(UserError, match="at least one value, all finite"):
            function(values)
    with pytest.raises(UserError, match="at least one value, all finite"):
        paired_difference(values, [0.5] * len(values))


@pytest.mark.parametrize("level", [95, 1.0, 0.0, -0.5, math.nan])
def test_a_level_that_is_no_share_is_refused(level: float) -> None:
    for function in (estimate, single_run_interval):
        with pytest.raises(UserError, match="between 0 and 1"):
            function([0.5, 0.6], level)
    with pytest.raises(UserError, match="between 0 and 1"):
        paired_difference([0.5, 0.6], [0.5, 0.5], level)


def test_paired_differences_are_left_minus_right_and_narrower_than_separate_samples() -> None:
    draw = np.random.default_rng(3)
    split = draw.normal(0.8, 0.05, 12)
    left, right = split + draw.normal(0.01, 0.005, 12), split + draw.normal(0.0, 0.005, 12)
    found = paired_difference(left.tolist(), right.tolist(), 0.9)
    reference = stats.ttest_rel(left, right).confidence_interval(0.9)
    assert (found.low, found.high) == pytest.approx((reference.low, reference.high), rel=1e-10)
    separate = stats.ttest_ind(left, right).confidence_interval(0.9)
    assert (found.high - found.low) * 4 < separate.high - separate.low
    mirrored = paired_difference(right.tolist(), left.tolist(), 0.9)
    assert (mirrored.mean, mirrored.low, mirrored.high) == pytest.approx(
        (-found.mean, -found.high, -found.low)
    )


@pytest.mark.parametrize(("left", "right"), [([1.0], [1.0, 2.0]), ([1.0, 2.0], [1.0]), ([], [1.0])])
def test_pairs_of_different_length_are_refused(left: list[float], right: list[float]) -> None:
    with pytest.raises(UserError, match=f"as many values on both sides, got {len(left)} and {len(right)}"):
        paired_difference(left, right)


# 4000 intervals that each cover with probability p: the share that does has the sd sqrt(p (1 - p) / 4000), 0.0034
# for p = 0.95. Four of them leave 0.014 on either side. At n = 3 it would be 0.91 with n for n - 1 degrees of freedom,
# 0.93 with the sd divided by n, 0.81 with the normal 1.96, and 0.84 with the mean's interval for a single run.
REPETITIONS = 4000


@pytest.mark.parametrize(("n", "level"), [(3, 0.95), (5, 0.95), (20, 0.95), (5, 0.8)])
def test_intervals_cover_as_often_as_they_say(n: int, level: float) -> None:
    draws = np.random.default_rng(n).normal(0.7, 0.04, (REPETITIONS, n + 1))
    mean_covered = next_covered = 0
    for row in draws:
        values = row[:n].tolist()
        mean_covered += estimate(values, level).contains(0.7)
        low, high = single_run_interval(values, level)
        next_covered += low <= row[n] <= high
    tolerance = 4 * math.sqrt(level * (1 - level) / REPETITIONS)
    assert mean_covered / REPETITIONS == pytest.approx(level, abs=tolerance)
    assert next_covered / REPETITIONS == pytest.approx(level, abs=tolerance)
