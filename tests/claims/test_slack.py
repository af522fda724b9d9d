"""How wide a slack is, and why."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from layerlab.claims import (
    DefectiveClaimError,
    confidence,
    rounding,
)


@pytest.mark.parametrize(
    "dtype",
    [torch.float64, torch.float32, torch.float16, torch.bfloat16, np.float32, np.dtype("float64"), "float16"],
)
def test_rounding_uses_the_epsilon_of_the_dtype(dtype: Any) -> None:
    epsilon = torch.finfo(dtype).eps if isinstance(dtype, torch.dtype) else float(np.finfo(dtype).eps)
    made = rounding(dtype, size=7, scale=3.0, condition=2.0)
    assert made.value == epsilon * 7 * 3.0 * 2.0
    assert made.scale == 3.0
    assert "7 operations" in made.reason
    assert "amplified by 2" in made.reason


def test_rounding_covers_a_sum_in_bad_order_and_not_much_more() -> None:
    terms = np.concatenate([[2.0**24], np.ones(1000)]).astype(np.float32)
    one_by_one = np.float32(0)
    for term in terms:
        one_by_one += term
    error, slack = (
        abs(float(one_by_one) - float(2**24 + 1000)),
        rounding("float32", 1001, float(2**24 + 1000)),
    )
    assert 0 < error <= slack.value < 3 * error


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("int64", 1, 1.0), "not for int64"),
        (("float64", 0, 1.0), "at least 1"),
        (("float16", 1024, 1.0), "widen"),
    ],
)
def test_rounding_refuses_what_says_nothing(arguments: tuple[Any, ...], match: str) -> None:
    with pytest.raises(DefectiveClaimError, match=match):
        rounding(*arguments)
    with pytest.raises(DefectiveClaimError, match="at least 1"):
        rounding("float64", 1, 1.0, condition=0.5)


def test_confidence_covers_at_its_level() -> None:
    # 1000 means of 100 fair coins: about 50 of them leave a 95 per cent interval (sd 7).
    means = np.random.default_rng(0).integers(0, 2, (1000, 100)).mean(1)
    made = confidence(0.5, n=100, level=0.95)
    assert 25 <= int((abs(means - 0.5) > made.value).sum()) <= 75
    assert made.scale == 0.5
    assert made.reason == "0.95 confidence with n = 100 fixed in advance"


@pytest.mark.parametrize(("n", "level"), [(29, 0.95), (100, 0.5), (100, 1.0), (100, 95.0)])
def test_confidence_refuses_small_samples_and_odd_levels(n: int, level: float) -> None:
    with pytest.raises(DefectiveClaimError):
        confidence(1.0, n=n, level=level)
