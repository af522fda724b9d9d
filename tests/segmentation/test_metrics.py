"""Measures of masks: against slow twins pixel by pixel, and worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from layerlab.errors import UserError
from layerlab.segmentation import metrics
from layerlab.segmentation.dataset import IGNORE
from layerlab.segmentation.metrics import Counts, count, measure


def masks(
    seed: int, shape: tuple[int, int], classes: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float32]]:
    """A blocky target with ignored pixels, a prediction that is right in most places, its confidence."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, classes, (shape[0] // 5 + 1, shape[1] // 5 + 1))
    target = np.kron(small, np.ones((5, 5), int))[: shape[0], : shape[1]].astype(np.uint8)
    prediction = np.where(rng.random(shape) < 0.8, target, rng.integers(0, classes, shape)).astype(np.uint8)
    target[rng.random(shape) < 0.1] = IGNORE
    return target, prediction, rng.random(shape).astype(np.float32)


def slow_iou(target: NDArray[np.uint8], prediction: NDArray[np.uint8], index: int) -> float:
    pixels = [(int(t), int(p)) for t, p in zip(target.flat, prediction.flat, strict=True) if t != IGNORE]
    both = sum(t == index and p == index for t, p in pixels)
    either = sum(t == index or p == index for t, p in pixels)
    return both / either if either else math.nan


def slow_region(mask: NDArray[np.bool_], distance: int) -> set[tuple[int, int]]:
    """Pixels of a mask that have something else, or the outside, within a king's distance."""
    height, width = mask.shape
    region = set()
    for y, x in zip(*np.nonzero(mask), strict=True):
        around = [
            (y + down, x + across)
            for down in range(-distance, distance + 1)
            for across in range(-distance, distance + 1)
        ]
        if any(not (0 <= v < height and 0 <= u < width and mask[v, u]) for v, u in around):
            region.add((int(y), int(x)))
    return region


@pytest.mark.parametrize(("shape", "classes"), [((23, 17), 3), ((1, 1), 2), ((40, 9), 11), ((1, 30), 1)])
def test_counts_equal_slow_twins(shape: tuple[int, int], classes: int) -> None:
    target, prediction, confidence = masks(0, shape, classes)
    counts = count(target, prediction, classes, confidence=confidence)
    expected = [slow_iou(target, prediction, index) for index in range(classes)]
    assert np.array_equal(metrics.iou(counts.confusion), expected, equal_nan=True)
    distance = metrics.boundary_width(*shape)
    for index in range(classes):
        left, right = (
            slow_region((mask == index) & (target != IGNORE), distance) for mask in (target, prediction)
        )
        assert counts.boundary[index].tolist() == [len(left & right), len(left | right)]
    for index, (size, confident, right_ones) in enumerate(counts.calibration):
        low, high = index / metrics.BINS, (index + 1) / metrics.BINS
        inside = (target != IGNORE) & (confidence >= low) & ((confidence < high) | (high == 1.0))
        assert size == inside.sum()
        assert right_ones == (inside & (target == prediction)).sum()
        assert confident == pytest.approx(confidence[inside].astype(float).sum())


def test_wider_boundaries_equal_the_slow_twin() -> None:
    target, prediction, _ = masks(1, (90, 70), 2)
    target = np.sort(target, axis=1)  # large regions: a band of 2 pixels does not fill them
    assert metrics.boundary_width(90, 70) == 2
    counts = metrics.boundary_counts(target, prediction, 2)
    for index in range(2):
        left, right = (slow_region((mask == index) & (target != IGNORE), 2) for mask in (target, prediction))
        assert counts[index].tolist() == [len(left & right), len(left | right)]
        assert len(left) < (target == index).sum()


def test_measures_worked_by_hand() -> None:
    target = np.array([[0, 0, 1, 1], [0, 0, 1, 255]])
    prediction = np.array([[0, 1, 1, 1], [0, 0, 0, 0]])
    found = measure([count(target, prediction, 3)])
    # Class 0: 3 hits, 1 missed, 1 invented; class 1: 2 hits, 1 missed, 1 invented; class 2 nowhere.
    assert found["confusion"] == [[3, 1, 0], [1, 2, 0], [0, 0, 0]]
    assert found["iou"][:2] == [3 / 5, 2 / 4]
    assert math.isnan(found["iou"][2])
    assert found["dice"][:2] == [6 / 8, 4 / 6]
    assert found["mean_iou"] == pytest.approx((3 / 5 + 2 / 4) / 2)
    assert found["accuracy"] == 5 / 7
    assert found["images"] == [1, 1, 0]
    assert found["pixels"] == 7


def test_pooled_and_per_image_differ_as_defined() -> None:
    large = count(np.zeros((1, 8), int), np.array([[0] * 6 + [1] * 2]), 2)
    small = count(np.array([[1, 1]]), np.array([[1, 1]]), 2)
    found = measure([large, small])
    assert found["iou"] == [6 / 8, 2 / 4]
    # Class 0 occurs in the first image only, class 1 in both: invented in the first.
    assert found["iou_per_image"] == [6 / 8, (0 + 1) / 2]
    assert found["dice_per_image"][1] == 0.5
    assert found["dice"][1] == 4 / 6
    assert found["images"] == [1, 2]
    assert found["mean_iou_per_image"] == pytest.approx((6 / 8 + 1 / 2) / 2)


def test_ignored_pixels_are_in_no_measure() -> None:
    target, prediction, confidence = masks(2, (20, 20), 3)
    other = np.where(target == IGNORE, 2 - prediction, prediction)
    assert (other != prediction).any()
    one, two = (count(target, p, 3, confidence=confidence) for p in (prediction, other))
    for left, right in zip(vars(one).values(), vars(two).values(), strict=True):
        assert np.array_equal(left, right)


@pytest.mark.parametrize(
    "target", [np.full((3, 3), IGNORE), np.zeros((0, 4), int)], ids=["all ignored", "empty"]
)
def test_nothing_to_count_is_nan_and_no_warning(target: NDArray[np.int64]) -> None:
    nothing = np.zeros(target.shape, int)
    found = measure([count(target, nothing, 2, confidence=nothing.astype(float))])
    assert found["pixels"] == 0
    for name in ("mean_iou", "mean_dice_per_image", "mean_boundary_iou", "accuracy", "calibration_error"):
        assert math.isnan(found[name])


def test_one_pixel() -> None:
    found = measure([count(np.array([[1]]), np.array([[1]]), 2, confidence=np.array([[1.0]]))])
    assert found["boundary_iou"][1] == found["iou"][1] == 1.0
    assert found["calibration_error"] == 0.0
    assert found["calibration"][-1] == [1, 1.0, 1.0]


def test_a_perfect_prediction_scores_one_whatever_it_says_where_nothing_counts() -> None:
    target, _, confidence = masks(3, (31, 22), 4)
    prediction = np.where(target == IGNORE, 3, target)
    found = measure([count(target, prediction, 4, confidence=np.ones_like(confidence))])
    assert found["iou"] == found["boundary_iou"] == found["dice"] == [1.0] * 4
    assert found["calibration_error"] == 0.0


def test_calibration_error_worked_by_hand() -> None:
    target = np.zeros((1, 4), int)
    prediction = np.array([[0, 0, 1, 0]])
    confidence = np.array([[0.95, 0.95, 0.95, 0.5]])
    # Three pixels at 0.95 of which two are right, one at 0.5 that is right.
    expected = 3 / 4 * abs(2 / 3 - 0.95) + 1 / 4 * abs(1 - 0.5)
    found = measure([count(target, prediction, 2, confidence=confidence)])
    assert found["calibration_error"] == pytest.approx(expected)


def test_counts_add() -> None:
    one, two = (count(*masks(seed, (12, 12), 3)[:2], 3) for seed in (4, 5))
    together = one + two
    assert isinstance(together, Counts)
    assert (together.confusion == one.confusion + two.confusion).all()
    assert (together.boundary == one.boundary + two.boundary).all()
    assert together.boundary.sum() > 0


def test_wrong_input_is_refused() -> None:
    square = np.zeros((2, 2), int)
    with pytest.raises(UserError, match="one shape"):
        count(square, np.zeros((2, 3), int), 2)
    with pytest.raises(UserError, match="in the target, got 2"):
        count(square + 2, square, 2)
    with pytest.raises(UserError, match="in the prediction, got -1"):
        count(square, square - 1, 2)
    with pytest.raises(UserError, match="apply softmax"):
        count(square, square, 2, confidence=np.full((2, 2), 3.0))
    with pytest.raises(UserError, match="confidences of shape"):
        count(square, square, 2, confidence=np.zeros((3, 2)))
    with pytest.raises(UserError, match="at least one image"):
        measure([])
