"""How good a predicted mask is: counts of one image, their sums, and the measures made of them.

Every measure is a ratio of counts, so images are counted one by one (`count`) and measured together, in two ways
that answer different questions and are never mixed:

- *pooled*: the counts of all images are added first. A large object weighs more than a small one.
- *per image*: the ratio of every image, then their mean over the images in which the class occurs, in the target or
  in the prediction. Every image weighs the same; a class that is invented in an image without it counts as 0 there.

Pixels whose target is `IGNORE` are in no count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerlab.errors import UserError
from layerlab.segmentation.dataset import IGNORE

BINS = 15
"""Bins of confidence, as in Guo et al. (2017)."""

BAND = 0.02
"""Width of the boundary as a share of the image's diagonal, as in Cheng et al. (2021) for COCO."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Counts:
    """What is counted in one image, or in several after adding.

    Attributes:
        confusion: int64 ``(classes, classes)``: pixels by target (row) and prediction (column).
        boundary: int64 ``(classes, 2)``: pixels in the intersection and in the union of both boundary regions;
            zeros when they were not asked for.
        calibration: float64 ``(bins, 3)``: pixels, sum of their confidences, correct ones; zeros without
            confidences.
    """

    confusion: Ints
    boundary: Ints
    calibration: Floats

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.confusion + other.confusion,
            self.boundary + other.boundary,
            self.calibration + other.calibration,
        )


def count(
    target: NDArray[np.integer[Any]],
    prediction: NDArray[np.integer[Any]],
    classes: int,
    *,
    confidence: NDArray[np.floating[Any]] | None = None,
    boundary: bool = True,
) -> Counts:
    """Everything that the measures need to know of one image.

    Args:
        target: ``(h, w)``, classes ``0 ... classes - 1`` and `IGNORE`.
        prediction: ``(h, w)``, classes ``0 ... classes - 1``; any value where the target is `IGNORE`.
        classes: number of them, from 1 to 255.
        confidence: ``(h, w)`` in [0, 1]: the probability of the predicted class.
        boundary: whether to count boundary regions, which takes longer than the rest.

    Raises:
        UserError: shapes differ, a value is no class, or a confidence is not in [0, 1].

    >>> counts = count(np.array([[0, 1, 255]]), np.array([[0, 0, 1]]), 2)
    >>> counts.confusion.tolist()
    [[1, 0], [1, 0]]
    """
    matrix = confusion(target, prediction, classes)
    regions = np.zeros((classes, 2), np.int64)
    if boundary:
        regions = boundary_counts(target, prediction, classes)
    bins = np.zeros((BINS, 3))
    if confidence is not None:
        bins = calibration_counts(target, prediction, confidence)
    return Counts(matrix, regions, bins)


def confusion(target: NDArray[np.integer[Any]], prediction: NDArray[np.integer[Any]], classes: int) -> Ints:
    """Pixels by target (row) and prediction (column), without those of target `IGNORE`.

    Args:
        target: ``(h, w)``, classes ``0 ... classes - 1`` and `IGNORE`.
        prediction: ``(h, w)``, classes ``0 ... classes - 1``.
        classes: number of them, from 1 to 255.

    Returns:
        int64 ``(classes, classes)``.

    Raises:
        UserError: shapes differ, or a value is no class.

    >>> confusion(np.array([[0, 1], [1, 255]]), np.array([[0, 0], [1, 1]]), 2).tolist()
    [[1, 0], [1, 1]]
    """
    kept = _kept(target, prediction)
    rows, columns = target[kept].astype(np.int64), prediction[kept].astype(np.int64)
    for name, values in (("target", rows), ("prediction", columns)):
        if values.size and not 0 <= values.min() <= values.max() < classes:
            wrong = values.min() if values.min() < 0 else values.max()
            raise UserError(
                f"expected classes 0 to {classes - 1} in the {name}, got {wrong}; map the mask's values to classes"
            )
    return np.bincount(rows * classes + columns, minlength=classes * classes).reshape(classes, classes)


def iou(matrix: Ints) -> Floats:
    """Intersection over union of every class, the Jaccard index: ``TP / (TP + FP + FN)``.

    Args:
        matrix: int64 ``(classes, classes)``, see `confusion`.

    Returns:
        float64 ``(classes,)``; NaN for a class that occurs neither in the target nor in the prediction.

    >>> iou(np.array([[2, 0, 0], [1, 1, 0], [0, 0, 0]])).round(3).tolist()
    [0.667, 0.5, nan]
    """
    hits = np.diagonal(matrix)
    return _ratio(hits, matrix.sum(0) + matrix.sum(1) - hits)


def dice(matrix: Ints) -> Floats:
    """Dice coefficient of every class, its F1: ``2 TP / (2 TP + FP + FN)``; NaN as in `iou`.

    Dice (1945); ``dice = 2 iou / (1 + iou)`` for one matrix, but not for means of several.

    >>> dice(np.array([[2, 0], [1, 1]])).round(3).tolist()
    [0.8, 0.667]
    """
    return _ratio(2 * np.diagonal(matrix), matrix.sum(0) + matrix.sum(1))


def accuracy(matrix: Ints) -> float:
    """Share of pixels whose class is right; NaN without pixels.

    >>> accuracy(np.array([[2, 0], [1, 1]]))
    0.75
    """
    return float(_ratio(np.trace(matrix), matrix.sum()))


def boundary_width(height: int, width: int) -> int:
    """The width d of boundary regions in pixels: 2 % of the diagonal, at least 1.

    >>> boundary_width(128, 128), boundary_width(1, 1)
    (4, 1)
    """
    return max(1, round(BAND * math.hypot(height, width)))


def boundary_counts(
    target: NDArray[np.integer[Any]], prediction: NDArray[np.integer[Any]], classes: int
) -> Ints:
    """Pixels in the intersection and the union of the boundary regions of target and prediction, by class.

    The boundary region of a class is what an erosion by a square of ``2 d + 1`` pixels takes away from its mask: the
    pixels within d of its contour, inside. As in the authors' program the image's edge is a contour, and distances
    are those of a chess king. Where the target is `IGNORE`, both masks are taken to end, so that a perfect prediction
    scores 1 whatever it says there; the side of a contour that an ignored band covers is then given away.

    Cheng, Girshick, Dollár, Berg, Kirillov: Boundary IoU (CVPR 2021), equation 2.

    Args:
        target: ``(h, w)``, classes ``0 ... classes - 1`` and `IGNORE`.
        prediction: ``(h, w)``, classes ``0 ... classes - 1``.
        classes: number of them.

    Returns:
        int64 ``(classes, 2)``; zeros for a class that occurs in neither.

    Raises:
        UserError: shapes differ.

    >>> edge = np.zeros((60, 60), int); edge[:, 30:] = 1
    >>> moved = np.zeros((60, 60), int); moved[:, 31:] = 1
    >>> counts = boundary_counts(edge, moved, 2)
    >>> (counts[:, 0] / counts[:, 1]).round(2).tolist(), iou(confusion(edge, moved, 2)).round(2).tolist()
    ([0.71, 0.71], [0.97, 0.97])
    """
    kept = _kept(target, prediction)
    distance = boundary_width(*target.shape)
    counts = np.zeros((classes, 2), np.int64)
    # bincount: a sort of the values, which np.unique does, takes several times as long.
    occurring = np.bincount(target[kept], minlength=classes) + np.bincount(
        prediction[kept], minlength=classes
    )
    for index in np.flatnonzero(occurring[:classes]):
        left, right = (_boundary((mask == index) & kept, distance) for mask in (target, prediction))
        counts[index] = np.count_nonzero(left & right), np.count_nonzero(left | right)
    return counts


def _boundary(mask: NDArray[np.bool_], distance: int) -> NDArray[np.bool_]:
    from scipy.ndimage import minimum_filter1d

    eroded = mask.view(np.uint8)
    for axis in (0, 1):
        eroded = minimum_filter1d(eroded, 2 * distance + 1, axis=axis, mode="constant", cval=0)
    return mask & (eroded == 0)


def calibration_counts(
    target: NDArray[np.integer[Any]],
    prediction: NDArray[np.integer[Any]],
    confidence: NDArray[np.floating[Any]],
) -> Floats:
    """Pixels, sum of confidences and correct pixels in `BINS` bins of equal width.

    Bin b holds the confidences in ``[b / 15, (b + 1) / 15)``, the last one 1 too.

    Args:
        target: ``(h, w)``, classes and `IGNORE`.
        prediction: ``(h, w)``, classes.
        confidence: ``(h, w)`` in [0, 1]: the probability of the predicted class.

    Returns:
        float64 ``(bins, 3)``.

    Raises:
        UserError: shapes differ, or a confidence is not in [0, 1].
    """
    kept = _kept(target, prediction)
    if confidence.shape != target.shape:
        raise UserError(f"expected confidences of shape {target.shape}, got {confidence.shape}")
    # Sums of probabilities in float32 may exceed 1 by a few units in the last place.
    values = confidence[kept].astype(np.float64)
    if values.size and not -1e-5 <= values.min() <= values.max() <= 1 + 1e-5:
        raise UserError(
            f"expected confidences in [0, 1], got {values.min():g} to {values.max():g}; apply softmax first"
        )
    values = values.clip(0, 1)
    places = np.minimum((values * BINS).astype(np.int64), BINS - 1)
    right = target[kept] == prediction[kept]
    return np.stack(
        [np.bincount(places, weights, minlength=BINS) for weights in (None, values, right)], axis=1
    ).astype(np.float64)


def calibration_error(bins: Floats) -> float:
    """Expected calibration error: ``sum over bins of (n_b / N) |accuracy_b - mean confidence_b|``.

    Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks (ICML 2017), equation 3, over pixels.

    Args:
        bins: float64 ``(bins, 3)``, see `calibration_counts`.

    Returns:
        From 0 (calibrated) to 1; NaN without pixels.

    >>> calibration_error(calibration_counts(np.array([[0, 0]]), np.array([[0, 1]]), np.array([[0.75, 0.75]])))
    0.25
    """
    return float(_ratio(np.abs(bins[:, 2] - bins[:, 1]).sum(), bins[:, 0].sum()))


def mean_known(values: Floats, axis: int | None = None) -> Any:
    """Mean of what is not NaN, NaN where nothing is; numpy's own warns then.

    >>> mean_known(np.array([1.0, np.nan, 2.0])), mean_known(np.array([np.nan]))
    (1.5, nan)
    """
    known = ~np.isnan(values)
    mean = _ratio(np.where(known, values, 0.0).sum(axis), known.sum(axis))
    return mean if axis is not None else float(mean)


def measure(images: Sequence[Counts]) -> dict[str, Any]:
    """The measures of several images, pooled and per image (see the module).

    Args:
        images: counts of each.

    Returns:
        Plain JSON but for NaN, which stands for "occurs nowhere". By class, a list each: ``iou``, ``iou_per_image``,
        ``dice``, ``dice_per_image``, ``boundary_iou``, ``boundary_iou_per_image`` and ``images`` (how many images
        the class occurs in, in target or prediction). Means over the classes that occur: the same names with
        ``mean_`` before. ``accuracy``, ``calibration_error`` and ``pixels``; ``confusion``; ``calibration``, one
        ``[pixels, mean confidence, accuracy]`` a bin.

    Raises:
        UserError: no image.

    >>> good = count(np.array([[0, 1]]), np.array([[0, 1]]), 2)
    >>> bad = count(np.array([[0, 0, 0, 0]]), np.array([[0, 0, 1, 1]]), 2)
    >>> found = measure([good, bad])
    >>> [round(value, 3) for value in found["iou"]], found["iou_per_image"], found["images"]
    ([0.6, 0.333], [0.75, 0.5], [2, 2])
    """
    if not images:
        raise UserError("expected at least one image to measure, got none")
    total = images[0]
    for counts in images[1:]:
        total = total + counts
    by_image = {
        "iou": np.stack([iou(counts.confusion) for counts in images]),
        "dice": np.stack([dice(counts.confusion) for counts in images]),
        "boundary_iou": np.stack([boundary_iou(counts.boundary) for counts in images]),
    }
    pooled = {
        "iou": iou(total.confusion),
        "dice": dice(total.confusion),
        "boundary_iou": boundary_iou(total.boundary),
    }
    found: dict[str, Any] = {}
    for name, values in pooled.items():
        per_image = mean_known(by_image[name], axis=0)
        found[name], found[f"{name}_per_image"] = values.tolist(), per_image.tolist()
        found[f"mean_{name}"] = mean_known(values)
        found[f"mean_{name}_per_image"] = mean_known(per_image)
    found["images"] = (~np.isnan(by_image["iou"])).sum(0).tolist()
    found["accuracy"] = accuracy(total.confusion)
    found["calibration_error"] = calibration_error(total.calibration)
    found["pixels"] = int(total.confusion.sum())
    found["confusion"] = total.confusion.tolist()
    sizes = total.calibration[:, 0]
    found["calibration"] = [
        [int(size), float(_ratio(confident, size)), float(_ratio(right, size))]
        for size, confident, right in zip(sizes, *total.calibration.T[1:], strict=True)
    ]
    return found


def boundary_iou(counts: Ints) -> Floats:
    """IoU of the boundary regions of every class, see `boundary_counts`; NaN for a class without any."""
    return _ratio(counts[:, 0], counts[:, 1])


def _ratio(over: Any, under: Any) -> Floats:
    # 0 / 0 is NaN, without a warning. Nothing else is divided by 0: what is above is part of what is below.
    over, under = np.asarray(over, np.float64), np.asarray(under, np.float64)
    return np.divide(over, under, out=np.full(under.shape, np.nan), where=under > 0)


def _kept(target: NDArray[Any], prediction: NDArray[Any]) -> NDArray[np.bool_]:
    if target.ndim != 2 or target.shape != prediction.shape:
        raise UserError(
            f"expected target and prediction of one shape (h, w), got {target.shape} and {prediction.shape}"
        )
    return np.asarray(target != IGNORE)
