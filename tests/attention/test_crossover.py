"""The length from which a mechanism pays, on mechanisms whose times are known."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch
from torch import Tensor

from layerlab.attention.calls import AttentionCall
from layerlab.attention.crossover import Crossover, Setting, _crossing, crossover
from layerlab.attention.mechanisms import Mechanism
from layerlab.errors import UserError

SMALL = Setting(1, 2, 2, 8, 8)


class Instant(Mechanism):
    """Next to nothing."""

    name = "instant"

    def forward(self, q: Tensor, k: Tensor, v: Tensor, **given: Any) -> Tensor:
        return v[..., : q.shape[2], :] * 1


class Waiting(Instant):
    """Longer than any softmax of these sizes."""

    name = "waiting"

    def forward(self, q: Tensor, k: Tensor, v: Tensor, **given: Any) -> Tensor:
        time.sleep(0.05)
        return super().forward(q, k, v)


class Impossible(Instant):
    """Never."""

    name = "impossible"
    not_causal = "it is not"


def test_a_mechanism_that_never_pays() -> None:
    found = crossover(lambda length: Waiting(), SMALL, seconds=1.0, longest=128)
    assert found.length is None and found.lengths[-1] <= 128
    assert "not faster than softmax up to" in found.sentence()
    speed = found.speed(found.lengths[-1])
    assert speed is not None and speed < 1


def test_a_mechanism_that_pays() -> None:
    found = crossover(lambda length: Instant(), Setting(4, 4, 4, 32, 32), seconds=3.0, longest=2048)
    assert found.length is not None and found.length < 2048 and found.lengths[-1] >= 256
    # It has won long before.
    assert found.lengths[-1] < 2048 or len(found.lengths) == 7
    assert min(found.softmax) > 0 and min(found.other) > 0


def test_own_lengths_are_measured_even_beyond_the_end() -> None:
    found = crossover(lambda length: Instant(), SMALL, own=(100, 300), seconds=0.2, longest=512)
    assert {100, 300} <= set(found.lengths)


def test_gradients_are_timed_with_grouped_heads() -> None:
    seen: list[tuple[bool, tuple[int, ...], torch.dtype]] = []

    class Looking(Instant):
        def forward(self, q: Tensor, k: Tensor, v: Tensor, **given: Any) -> Tensor:
            seen.append((q.requires_grad, tuple(k.shape), q.dtype))
            return q + k.mean() + v.mean()

    setting = Setting(2, 4, 2, 8, 8, "float64", True)
    found = crossover(lambda length: Looking(), setting, backward=True, seconds=0.1, longest=32)
    assert found.backward and set(seen) == {(True, (2, 2, 32, 8), torch.float64)}


def test_what_cannot_be_is_told() -> None:
    found = crossover(lambda length: Impossible(), Setting(1, 1, 1, 4, 4, causal=True), longest=64)
    assert found.lengths == () and found.reason is not None and found.speed(32) is None
    assert found.sentence() == f"impossible was not timed: {found.reason}"


@pytest.mark.parametrize(
    ("ratios", "length"),
    [
        ([(32, 2.0), (64, 4.0)], 32),
        ([(32, 0.5), (64, 0.9)], None),
        ([(32, 0.25), (64, 0.5), (256, 2.0)], 128),
        ([(32, 2.0), (64, 0.5), (128, 2.0)], 91),
        ([(32, 0.5), (64, 2.0), (128, 0.9)], None),
    ],
)
def test_the_crossing_is_where_it_stays_faster(ratios: list[tuple[int, float]], length: int | None) -> None:
    assert _crossing([(n, ratio, 1.0) for n, ratio in ratios]) == length


def test_speed_between_lengths_is_interpolated_in_logarithms() -> None:
    found = Crossover("x", SMALL, False, 1, (32, 64, 128), (1.0, 2.0, 8.0), (4.0, 2.0, 2.0), 64)
    assert found.speed(32) == pytest.approx(0.25) and found.speed(128) == pytest.approx(4.0)
    assert found.speed(round(64 * 2**0.5)) == pytest.approx(2.0, rel=0.02)
    assert found.speed(31) is None and found.speed(129) is None


def test_the_setting_of_a_call() -> None:
    q, k, v = torch.ones(3, 4, 7, 5), torch.ones(3, 2, 9, 5), torch.ones(3, 2, 9, 6)
    call = AttentionCall("", "", "", 0, "", q, k, v, None, True, 1.0, 0.0, lambda: v)
    assert Setting.of(call) == Setting(3, 4, 2, 5, 6, "float32", True)
    drawn = Setting.of(call).drawn(11, gradients=False)
    assert [tuple(t.shape) for t in drawn] == [(3, 4, 11, 5), (3, 2, 11, 5), (3, 2, 11, 6)]


@pytest.mark.parametrize("wrong", [{"longest": 16}, {"seconds": 0.0}])
def test_no_room_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match="expected a longest length of at least 32 and a time above 0"):
        crossover("linear", SMALL, **wrong)
