"""The length from which a mechanism pays, on mechanisms whose times are known."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch
from torch import Tensor

from layerlab.attention import crossover as module
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


def test_a_disturbed_length_is_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds: dict[int, int] = {}

    def disturbed(attention: Mechanism, setting: Setting, n: int, *given: Any) -> tuple[float, float, float]:
        rounds[n] = rounds.get(n, 0) + 1
        # At 32 something came between, the first time: it would seem to pay there already.
        return 90e-6 if n == 32 and rounds[n] == 1 else n * 1e-6, 50e-6, 0.0

    monkeypatch.setattr(module, "_least", disturbed)
    found = crossover(lambda length: Instant(), SMALL, longest=128)
    assert rounds == {32: 2, 64: 2, 128: 1}
    assert found.softmax == pytest.approx((32e-6, 64e-6, 128e-6)) and found.length == 50


def test_measuring_ends_when_the_time_is_spent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_least", lambda attention, setting, n, *given: (1.0, 2.0, 1.0))
    found = crossover(lambda length: Instant(), SMALL, seconds=33.0, longest=2048)
    # A length may cost 4 x (4 x 1 + 2 x 2) = 32 s.
    assert found.lengths == (32, 64)
    found = crossover(lambda length: Instant(), SMALL, seconds=1.0, longest=2048, own=(100,))
    assert found.lengths == (32, 64, 100)


def test_it_ends_after_two_clear_wins_from_256_on(monkeypatch: pytest.MonkeyPatch) -> None:
    ratios = {32: 2.0, 64: 2.0, 128: 1.0, 256: 2.0, 512: 1.0, 1024: 2.0, 2048: 2.0, 4096: 2.0}
    monkeypatch.setattr(module, "_least", lambda attention, setting, n, *given: (1e-6 * ratios[n], 1e-6, 0.0))
    assert crossover(lambda length: Instant(), SMALL, longest=4096).lengths[-1] == 2048


def test_softmax_is_timed_as_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def looking(q: Tensor, k: Tensor, v: Tensor, **given: Any) -> Tensor:
        asked.append(given)
        return v.repeat_interleave(2, 1) * 1

    monkeypatch.setattr(module, "scaled_dot_product_attention", looking)
    crossover(lambda length: Instant(), Setting(1, 4, 2, 8, 8, causal=True), seconds=0.1, longest=32)
    assert asked and all(given == {"is_causal": True, "enable_gqa": True} for given in asked)


def test_a_batch_that_no_length_fits_beside_is_told_and_nothing_is_made() -> None:
    found = crossover("linear", Setting(batch=1 << 20), own=(20,))
    assert found.lengths == () and found.speed(20) is None
    assert found.sentence() == (
        "linear was not timed: its batch of 1,048,576 is too large to time here; give a smaller one"
    )


def test_a_time_that_is_no_number_is_refused() -> None:
    with pytest.raises(UserError, match="a time above 0, got 32 and nan"):
        crossover("linear", SMALL, seconds=float("nan"), longest=32)


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
