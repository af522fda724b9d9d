"""The test of bias: how often it errs, and what it does with constants."""

from __future__ import annotations

import math

import pytest
import torch

from layerlab.errors import UserError
from layerlab.estimators.bias import bias_test


def noise(count: int, *shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_unbiased_estimators_fail_as_rarely_as_promised() -> None:
    level, tests = 0.05, 800
    failed = sum(
        not bias_test(noise(40, 5, seed=seed), torch.zeros(5), level=level).passed for seed in range(tests)
    )
    # Bonferroni of independent coordinates is all but sharp: 1 - (1 - level / 5)^5 = 0.049.
    assert abs(failed / tests - 0.049) < 4 * math.sqrt(0.049 * 0.951 / tests)


def test_a_bias_is_found_where_it_is_and_measured() -> None:
    estimates = noise(2000, 3, 2)
    estimates[:, 1, 1] += 0.25
    found = bias_test(estimates, torch.zeros(3, 2))
    assert not found.passed and found.at == 3 and found.p < 1e-9 and found.repetitions == 2000
    assert abs(found.bias - 0.25) < 5 / math.sqrt(2000)
    assert abs(found.norm - 0.25) < 5 / math.sqrt(2000)


def test_the_error_of_the_reference_counts() -> None:
    estimates = noise(2000, 1) + 0.25
    assert bias_test(estimates, torch.zeros(1), torch.full((1,), 0.25)).passed
    assert not bias_test(estimates, torch.zeros(1), torch.full((1,), 0.01)).passed


def test_constant_estimates_are_on_the_spot_or_off() -> None:
    estimates = torch.full((50, 2), 0.1 + 0.2, dtype=torch.float64)
    assert bias_test(estimates, torch.full((2,), 0.3, dtype=torch.float64)).passed
    off = bias_test(estimates, torch.tensor([0.3, 0.31], dtype=torch.float64))
    assert not off.passed and off.z == math.inf and off.p == 0 and off.at == 1


def test_too_few_repetitions() -> None:
    with pytest.raises(UserError, match="at least 8 repetitions"):
        bias_test(noise(7, 1), torch.zeros(1))


def test_a_reference_of_another_shape_or_a_level_that_is_none_is_refused() -> None:
    estimates = noise(10, 3)
    with pytest.raises(
        UserError, match=r"expected a reference of the shape of an estimate, \(3,\), got \(1,\)"
    ):
        bias_test(estimates, torch.zeros(1))
    with pytest.raises(UserError, match=r"expected a reference_error of the shape .*, got \(2,\)"):
        bias_test(estimates, torch.zeros(3), torch.ones(2))
    for level in (0.0, 1.0, math.nan):
        with pytest.raises(UserError, match="expected a level between 0 and 1"):
            bias_test(estimates, torch.zeros(3), level=level)
