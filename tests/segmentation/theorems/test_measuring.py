"""What the claims about skip connections measure, with trainings and gradients of which the numbers are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from layerlab.claims import Claim, Measurement
from layerlab.lab.statistics import estimate, paired_difference
from layerlab.segmentation.theorems import benefit, detail, gradients, subjects
from layerlab.segmentation.theorems.detail import BOTTLENECK, CONTROL, Seen, narrowest
from layerlab.segmentation.theorems.gradients import REASON, STEM, Depth
from layerlab.segmentation.theorems.subjects import Trial
from layerlab.segmentation.unet import UNet


def measured(claim: Claim, subject: object, **replaced: object) -> Measurement:
    return claim.measure(subject, np.random.default_rng(0), **replaced)


# ---------------------------------------------------------------------------------------------------------- benefit


@pytest.mark.parametrize(
    ("claim", "end", "bound"),
    [(benefit.SKIPS, "low", 0.1), (benefit.FINEST, "low", 0.05), (benefit.ALWAYS, "high", 0.1)],
    ids=lambda value: getattr(value, "id", None),
)
@pytest.mark.parametrize("replaced", [{}, {"seeds": 5}])
def test_an_end_of_the_interval_of_paired_differences_is_compared(
    monkeypatch: pytest.MonkeyPatch, claim: Claim, end: str, bound: float, replaced: dict[str, int]
) -> None:
    trained: list[tuple[str, int]] = []

    def iou(draw: object, skips: str, seed: int) -> float:
        assert draw is subjects.strokes
        trained.append((skips, seed))
        return (0.8 if skips == "gate" else 0.6) + 1e-3 * (len(trained) % 3) ** 2

    monkeypatch.setattr(benefit, "trained_iou", iou)
    found = measured(claim, Trial(subjects.strokes, "gate", "zero"), **replaced)
    count = replaced.get("seeds", 3)
    left, right = trained[:count], trained[count:]
    assert [skips for skips, _ in trained] == ["gate"] * count + ["zero"] * count
    # Paired, and no seed twice.
    assert [seed for _, seed in left] == [seed for _, seed in right]
    assert len({seed for _, seed in left}) == count
    values = [base + 1e-3 * (k % 3) ** 2 for k, base in enumerate([0.8] * count + [0.6] * count, start=1)]
    expected = paired_difference(values[:count], values[count:])
    assert (found.measured, found.bound, found.slack.value) == (getattr(expected, end), bound, 0)


def test_trials_are_those_that_are_named() -> None:
    assert [(t.with_skips, t.without) for t in (make() for make in benefit.SKIPS.subjects.values())] == [
        ("concatenate", "off"),
        ("concatenate", "zero"),
    ]
    (finest,) = (make() for make in benefit.FINEST.subjects.values())
    assert (finest.with_skips, finest.without) == (("concatenate", "zero"), ("zero", "concatenate"))


# -------------------------------------------------------------------------------------------------------- gradients


@pytest.mark.parametrize(("claim", "end"), [(STEM, "high"), (REASON, "low")], ids=["stem", "reason"])
def test_an_end_of_the_interval_of_logarithms_is_compared(
    monkeypatch: pytest.MonkeyPatch, claim: Claim, end: str
) -> None:
    asked: list[tuple[object, ...]] = []

    def gradient(widths: object, norm: str, skips: str, seed: int) -> float:
        asked.append((widths, norm, skips, seed))
        return (3.0 if skips == "zero" else 7.0) + (len(asked) % 5)

    monkeypatch.setattr(gradients, "stem_gradient", gradient)
    found = measured(claim, Depth(4, "group", "zero"))
    assert len(asked) == 2 * 16
    assert [skips for _, _, skips, _ in asked] == ["zero", "concatenate"] * 16
    assert {(widths, norm) for widths, norm, _, _ in asked} == {((8, 8, 8, 8), "group")}
    seeds = [seed for *_, seed in asked]
    assert seeds[::2] == seeds[1::2]
    assert len(set(seeds)) == 16
    logarithms = [math.log((3 + k % 5) / (7 + (k + 1) % 5)) for k in range(1, 33, 2)]
    expected = estimate(logarithms, 0.999)
    assert found.measured == pytest.approx(getattr(expected, end), rel=1e-12)
    assert (found.bound, found.slack.value) == (0, 0)
    if claim is STEM:
        swapped = measured(claim, Depth(4, "group", "zero"), order=gradients._swapped, networks=16)
        assert swapped.measured > 0


# ----------------------------------------------------------------------------------------------------------- detail


@pytest.mark.parametrize(
    ("seen", "least"),
    [
        # 4 channels of 16, 8 and 4 places a side.
        (Seen((4, 4, 4), "off"), 4 * 4 * 4),
        (Seen((4, 4, 4), "concatenate"), 4 * 16 * 16),
        (Seen((4, 2, 4), ("off", "concatenate")), 2 * 8 * 8),
        (Seen((4, 2, 4), ("zero", "gate")), 2 * 8 * 8),
        (Seen((4, 2, 4), ("add", "off")), 4 * 16 * 16),
        # A side of 13 is 7 and 4 when halved; the narrowest need not be the deepest.
        (Seen((4, 4, 4), "off", side=13), 4 * 4 * 4),
        (Seen((4, 1, 9), "off", side=13), 1 * 7 * 7),
    ],
)
def test_the_narrowest_place_by_hand(seen: Seen, least: int) -> None:
    assert narrowest(seen.network(), seen.side) == least


def test_a_bound_that_says_nothing_is_unmet() -> None:
    seen = Seen((4, 4), "off", side=4)
    assert measured(BOTTLENECK, seen, crossing=lambda net, side: 2 * 4 * 4).unmet is not None
    found = measured(BOTTLENECK, seen, crossing=lambda net, side: 2 * 4 * 4 - 1)
    assert (found.bound, found.slack.value) == (31, 0)


def test_the_rank_is_that_of_the_outputs_in_the_image() -> None:
    images = torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    # Two channels that are one another's double: as many degrees of freedom as one has values.
    assert detail._rank(lambda x: torch.stack([x[:, 0], 2 * x[:, 0]], 1), images) == 9  # type: ignore[arg-type]
    assert detail._rank(lambda x: x**2, images) == 18  # type: ignore[arg-type]


@pytest.mark.parametrize("off", [1e-6, -1e-6, 0.0])
def test_one_logit_off_either_way_is_seen(off: float) -> None:
    def copy(net: UNet, control: UNet) -> None:
        detail._from_below(net, control)
        with torch.no_grad():
            net.head.bias[0] += off

    found = measured(CONTROL, Seen((4, 8), "zero"), copy=copy)
    assert found.measured == pytest.approx(abs(off), abs=1e-12)
    assert (found.measured > found.slack.value) == (off != 0)
    control = Seen((4, 8), "zero").network()
    images = torch.from_numpy(np.random.default_rng(0).standard_normal((2, control.channels, 16, 16)))
    with torch.no_grad():
        largest = float(control(images).abs().max())
    assert found.slack.scale == pytest.approx(largest, rel=1e-12)
    # 9 numbers a channel, of two maps, through up to four convolutions a level, whose errors the later ones amplify.
    assert found.slack.value >= 99 * 2.0**-52 * 9 * 2 * 8 * 4 * 2 * largest


# --------------------------------------------------------------------------------------------------------- subjects


def test_noise_is_normal_about_the_mask() -> None:
    for draw, deviation in ((subjects.strokes, 0.25), (subjects.blocks, 0.5)):
        images, masks = draw(np.random.default_rng(3), 200, 16)
        assert masks.shape == (200, 16, 16)
        noise = images[:, 0] - masks
        assert abs(noise.mean()) < 0.02
        assert noise.std() == pytest.approx(deviation, rel=0.02)


def test_a_stroke_runs_from_one_of_its_ends_to_the_other() -> None:
    class Ends:
        """Draws one corner and the other, and noise of 0."""

        def integers(self, low: int, high: int, shape: tuple[int, ...]) -> np.ndarray:
            assert (low, high, shape) == (0, 8, (1, 4, 4, 1))
            return np.tile(np.array([0, 0, 7, 7]).reshape(1, 1, 4, 1), (1, 4, 1, 1))

        def normal(self, mean: float, deviation: float, shape: tuple[int, ...]) -> np.ndarray:
            return np.zeros(shape)

    images, masks = subjects.strokes(Ends(), 1, 8)  # type: ignore[arg-type]
    assert np.array_equal(masks[0], np.eye(8, dtype=np.uint8))
    assert np.array_equal(images[0, 0], np.eye(8, dtype=np.float32))


def test_frozen_norms_are_drawn_and_the_same_every_time() -> None:
    nets = [subjects.frozen((4, 8), "off") for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(*(net.state_dict().values() for net in nets), strict=True))
    norms = [module for module in nets[0].modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert norms
    for norm in norms:
        assert norm.running_mean is not None and norm.running_var is not None
        assert -0.5 <= float(norm.running_mean.min()) < float(norm.running_mean.max()) <= 0.5
        assert 0.5 <= float(norm.running_var.min()) < float(norm.running_var.max()) <= 1.5
    assert not nets[0].training
    assert nets[0].head.weight.dtype == torch.float64


def test_a_short_training_learns_and_hangs_on_its_own_seed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subjects, "STEPS", 20)
    monkeypatch.setattr(subjects, "BATCH", 8)
    found = []
    for torch_seed, seed in ((1, 0), (2, 0), (2, 1)):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(torch_seed)
            found.append(subjects.trained_iou(subjects.blocks, "concatenate", seed))
    assert found[0] == found[1] != found[2]
    assert min(found) > 0.6
