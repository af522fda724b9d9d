"""Settings of unknown origin: numbers of the right kind, within their range."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from layerlab.errors import UserError
from layerlab.lab.settings import Between, check_real, check_whole


@pytest.mark.parametrize("value", [1, 1_000, np.int64(7)])
def test_a_whole_number_within_its_range_passes(value: Any) -> None:
    check_whole(SimpleNamespace(steps=value), {"steps": (1, 1_000)})


@pytest.mark.parametrize("value", [0, 1_001, True, 2.0, "2", None, float("nan")])
def test_another_value_for_a_whole_number_is_refused_by_name(value: Any) -> None:
    with pytest.raises(
        UserError, match=f"setting steps: expected a whole number from 1 to 1,000, got {value}|'2'"
    ):
        check_whole(SimpleNamespace(steps=value), {"steps": (1, 1_000)}, may_be_none=("patience",))


def test_none_passes_where_it_may() -> None:
    check_whole(SimpleNamespace(patience=None), {"patience": (1, 9)}, may_be_none=("patience",))


@pytest.mark.parametrize("value", [0, 0.5, np.float32(0.25), np.int8(0)])
def test_a_real_number_within_its_range_passes(value: Any) -> None:
    check_real(SimpleNamespace(rate=value), {"rate": Between(0, 1, without=1)})


@pytest.mark.parametrize("value", [-1e-9, 1, 1.5, float("nan"), float("inf"), False, "0.5", None, 1j])
def test_another_value_for_a_real_number_is_refused_by_name(value: Any) -> None:
    with pytest.raises(UserError, match="setting rate: expected a number of at least 0 and below 1, got"):
        check_real(SimpleNamespace(rate=value), {"rate": Between(0, 1, without=1)})


def test_a_range_tells_its_ends() -> None:
    assert str(Between(0, 1_000_000, without=0)) == "a number above 0 and at most 1,000,000"
    assert 0.0 not in Between(0, 1, without=0)
    assert 1 in Between(0, 1, without=0)
