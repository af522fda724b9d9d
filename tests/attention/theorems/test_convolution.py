"""The claims about convolution: on any taps, and every kind of damage is seen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_heads import convolutions, measured, signals

from layerlab.attention.convolution import RelativeAttention
from layerlab.attention.theorems.convolution import (
    CONV1D,
    CONV1D_EDGES_AS_PRINTED,
    CONV1D_SHIFT_AS_PRINTED,
    Convolution,
    PositionHead,
    Row,
    attend,
    by_definition,
    by_sign,
    by_tap,
)
from layerlab.attention.theorems.subjects import gaussian, vector


@settings(derandomize=True, deadline=None, max_examples=150)
@given(convolutions())
def test_attention_is_any_convolution(convolution: Convolution) -> None:
    assert measured(CONV1D, convolution).verdict == "holds"


@settings(derandomize=True, deadline=None, max_examples=80)
@given(convolutions())
def test_the_convolution_is_the_sum_that_it_says(convolution: Convolution) -> None:
    x = convolution.x.tolist()
    expected = [
        math.fsum(w * x[i - t] for t, w in convolution.taps.items() if 0 <= i - t < len(x))
        for i in range(len(x))
    ]
    assert torch.allclose(convolution.output(), vector(*expected), rtol=1e-12, atol=1e-9)
    layer = convolution.layer()
    assert (layer.weight.shape, layer.bias) == ((1, 1, 2 * convolution.reach + 1), None)


def test_taps_of_one_sign_take_one_head_and_of_both_two() -> None:
    assert len(by_sign({0: 1.0, 1: 2.0})) == len(by_sign({0: -1.0, 1: -2.0})) == 1
    assert len(by_sign({0: 1.0, 1: -2.0, 2: 3.0})) == 2
    assert len(by_tap({0: 1.0, 1: -2.0, 2: 0.0})) == 2
    assert by_sign({0: 0.0}) == []


@settings(derandomize=True, deadline=None, max_examples=60)
@given(signals(), st.floats(-3, 3))
def test_edge_rows_as_printed_are_three_times_a_sample(x: torch.Tensor, shift: float) -> None:
    if len(x) < 2:
        assert "sees no key" in str(measured(CONV1D_EDGES_AS_PRINTED, Row(x, 0)).unmet)
        return
    for i, neighbour, taps in ((0, float(x[1]), 1.0), (len(x) - 1, float(x[-2]), 2.0)):
        row = measured(CONV1D_EDGES_AS_PRINTED, Row(x, i))
        if row.unmet is None:
            assert (row.measured, row.bound) == (
                pytest.approx(3 * neighbour),
                pytest.approx(taps * neighbour),
            )
        else:
            assert "0 up to rounding" in row.unmet
    if len(x) > 2:
        inside = measured(CONV1D_SHIFT_AS_PRINTED, Row(x, 1, shift))
        if inside.unmet is None:
            assert inside.measured == pytest.approx(math.exp(shift) * inside.bound, rel=1e-6)


@pytest.mark.parametrize("damage", ["bias", "value", "offset"])
def test_every_kind_of_damage_is_seen(damage: str) -> None:
    def broken(taps: Mapping[int, float]) -> Sequence[PositionHead]:
        head, *others = by_sign(taps)
        biases, value = dict(head.biases), head.value
        if damage == "bias":
            biases[max(biases)] += 1e-9
        elif damage == "value":
            value *= 1 + 1e-9
        else:
            biases = {t + 1: p for t, p in biases.items()}
        return [PositionHead(biases, value), *others]

    convolution = Convolution(gaussian(20), {2: 1.0, 0: 3.0, -1: -0.5})
    assert measured(CONV1D, convolution).verdict == "holds"
    assert (
        measured(CONV1D, convolution, ways=(lambda given: by_definition(given, broken),)).verdict
        == "violated"
    )


def test_the_shipped_module_is_what_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    given = Convolution(gaussian(20), {2: 1.0, 0: 3.0, -1: -0.5})
    assert measured(CONV1D, given).verdict == "holds"
    shipped = RelativeAttention.forward
    monkeypatch.setattr(RelativeAttention, "forward", lambda *a: shipped(*a) * (1 + 1e-9))
    assert measured(CONV1D, given).verdict == "violated"


@pytest.mark.parametrize(
    ("subject", "why"),
    [
        (Convolution(gaussian(3), {}), "no tap"),
        (Convolution(gaussian(3), {2000: 1.0}), "beyond 1,000"),
        (Convolution(gaussian(3), {0: 1e-141}), "below 1e-140"),
        (Convolution(gaussian(3), {0: 1.0, 1: -1e-141}), "below 1e-140"),
        (Convolution(gaussian(3), {0: 1.0, 1: 1.5e140}), "above 1e140"),
        (Convolution(gaussian(3), {0: math.nan}), "not finite"),
        (Convolution(gaussian(3, 1), {0: 1.0}), "not a signal"),
        (Convolution(gaussian(3).float(), {0: 1.0}), "not float64"),
    ],
)
def test_unfit_convolutions_have_their_reason(subject: Convolution, why: str) -> None:
    assert why in str(measured(CONV1D, subject).unmet)


def test_the_longest_signal_and_the_outermost_taps_are_fit() -> None:
    assert Convolution(gaussian(1000), {-1000: 1e140, 0: -1e-140}).unmet() is None


def test_a_row_that_sees_no_token_is_0() -> None:
    assert attend(vector(5.0), PositionHead({3: 0.0}, 1.0), pads=0).tolist() == [0.0]


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (Row(gaussian(3), 3), "no row 3"),
        (Row(gaussian(3), -1), "no row -1"),
        (Row(gaussian(3), 1, shift=math.inf), "not between"),
        (Row(gaussian(3), 1, shift=-200.0), "not between"),
        (Row(gaussian(3), 1, shift=100.5), "not between"),
    ],
)
def test_unfit_rows_have_their_reason(row: Row, why: str) -> None:
    assert why in str(measured(CONV1D_EDGES_AS_PRINTED, row).unmet)
