"""What a race of skip connections says: means and paired differences with intervals, class by class, and a verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from layerlab.lab.race import CellResult
from layerlab.lab.statistics import estimate, paired_difference
from layerlab.segmentation.arms import DOCUMENT, comparisons

MEASURES = (
    "iou",
    "iou_per_image",
    "dice",
    "dice_per_image",
    "boundary_iou",
    "boundary_iou_per_image",
    "accuracy",
    "calibration_error",
)
"""Compared between arms; means over classes but for the last two."""

BY_CLASS = MEASURES[:6]

Cells = Mapping[str, CellResult]


def summarised(cells: Cells, classes: Sequence[str], raced: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """The results of a race, as JSON.

    Args:
        cells: what `layerlab.lab.race.race` returned of cells of `layerlab.segmentation.experiments`.
        classes: their names.
        raced: the skips of each arm, as `layerlab.segmentation.arms.arms` gives them.

    Returns:
        ``contestants`` (by arm: parameters, seconds, and for each metric n, mean, sd, low, high, values),
        ``differences`` (left, right, what, and for each metric n, mean, sd, low, high, wins), ``classes`` (by arm and
        measure: the means of every class over seeds), ``class_differences`` (with minus without, pooled IoU of every
        class), ``confusion`` and ``calibration`` (by arm, summed over seeds), ``verdict``. Intervals are of 95 per
        cent; with one seed there are none.
    """
    names = list(dict.fromkeys(cell["contestant"] for cell in cells.values()))
    seeds = sorted({cell["seed"] for cell in cells.values()})
    by_arm = {
        name: {cell["seed"]: cell for cell in cells.values() if cell["contestant"] == name} for name in names
    }
    metrics = [
        metric
        for metric in next(iter(cells.values()))["metrics"]
        if all(_known(cell["metrics"].get(metric)) for cell in cells.values())
    ]
    differences = [
        {
            "left": left,
            "right": right,
            "what": what,
            "metrics": {
                metric: _paired(*(_values(by_arm[arm], seeds, metric) for arm in (left, right)))
                for metric in metrics
            },
        }
        for left, right, what in comparisons(raced)
    ]
    contestants = {name: _contestant(by_arm[name], seeds, metrics) for name in names}
    return {
        "contestants": contestants,
        "differences": differences,
        "classes": {name: _by_class(list(by_arm[name].values())) for name in names},
        "class_differences": _class_differences(by_arm, seeds, len(classes)),
        "confusion": {
            name: np.sum(
                [cell["measures"]["validation"]["confusion"] for cell in by_arm[name].values()], axis=0
            ).tolist()
            for name in names
        },
        "calibration": {name: _pooled_bins(list(by_arm[name].values())) for name in names},
        "verdict": verdict(differences, contestants),
    }


def verdict(differences: Sequence[Mapping[str, Any]], contestants: Mapping[str, Any]) -> dict[str, Any]:
    """Whether the document's statement holds here: ``kind`` and one ``sentence``; empty without both arms.

    "holds": the interval of with minus without lies above 0; "refuted": below; "measured": it holds 0, or there is one
    seed and no interval.
    """
    pair = next((pair for pair in differences if (pair["left"], pair["right"]) == ("on", "off")), None)
    if pair is None:
        return {}
    found = pair["metrics"]["validation_iou"]
    left, right = (contestants[arm]["metrics"]["validation_iou"]["mean"] for arm in ("on", "off"))
    said = DOCUMENT["on"] - DOCUMENT["off"]
    if found["low"] is None:
        kind, opening = "measured", "One seed tells a difference, and not whether it is luck"
        interval = f"{found['mean']:+.3f}, one pair"
    else:
        kind = "holds" if found["low"] > 0 else "refuted" if found["high"] < 0 else "measured"
        opening = {
            "holds": "Here the U-Net is better with skip connections",
            "refuted": "Here the U-Net is better without skip connections",
            "measured": "Here no direction can be told (the interval holds 0)",
        }[kind]
        interval = (
            f"{found['mean']:+.3f} (95 % interval {found['low']:+.3f} to {found['high']:+.3f}, {found['wins']} of "
            f"{found['n']} pairs)"
        )
    sentence = (
        f"{opening}: mean validation IoU {left:.3f} with and {right:.3f} without, a difference of {interval}; the "
        f"document has about {DOCUMENT['on']:.2f} and {DOCUMENT['off']:.2f}, {said:+.2f}, one run each on other data."
    )
    return {"kind": kind, "sentence": sentence.replace("-0.", "−0.")}


def _known(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _values(by_seed: Mapping[int, CellResult], seeds: Sequence[int], metric: str) -> list[float]:
    return [float(by_seed[seed]["metrics"][metric]) for seed in seeds]


def _plain(numbers: Mapping[str, Any]) -> dict[str, Any]:
    """NaN, of an interval that is not there, as None: what a record gives back too."""
    return {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in numbers.items()
    }


def _paired(left: list[float], right: list[float]) -> dict[str, Any]:
    wins = sum(a > b for a, b in zip(left, right, strict=True))
    return {**_plain(asdict(paired_difference(left, right))), "wins": wins}


def _contestant(
    by_seed: Mapping[int, CellResult], seeds: Sequence[int], metrics: Sequence[str]
) -> dict[str, Any]:
    values = {metric: _values(by_seed, seeds, metric) for metric in metrics}
    cells = list(by_seed.values())
    return {
        "parameters": cells[0]["parameters"],
        "step_seconds": float(np.median([cell["step_seconds"] for cell in cells])),
        "seconds": math.fsum(cell["seconds"] for cell in cells),
        "metrics": {
            metric: {**_plain(asdict(estimate(numbers))), "values": numbers}
            for metric, numbers in values.items()
        },
    }


def _by_class(cells: Sequence[CellResult]) -> dict[str, Any]:
    """Every measure of the validation part, the mean over seeds: for each class, and ``mean_`` of it over classes."""
    parts = [cell["measures"]["validation"] for cell in cells]
    found: dict[str, Any] = {}
    for name in BY_CLASS:
        found[name] = [_mean(column) for column in zip(*(part[name] for part in parts), strict=True)]
        found[f"mean_{name}"] = _mean([part[f"mean_{name}"] for part in parts])
    found["images"] = [
        round(sum(column) / len(column)) for column in zip(*(p["images"] for p in parts), strict=True)
    ]
    return found


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None and _known(value)]
    return math.fsum(known) / len(known) if known else None


def _class_differences(
    by_arm: Mapping[str, Mapping[int, CellResult]], seeds: Sequence[int], classes: int
) -> list[dict[str, Any] | None]:
    """With minus without, pooled IoU; None for a class that some seed's validation part has not."""
    if not {"on", "off"} <= by_arm.keys():
        return []
    found: list[dict[str, Any] | None] = []
    for index in range(classes):
        left, right = (
            [by_arm[arm][seed]["measures"]["validation"]["iou"][index] for seed in seeds]
            for arm in ("on", "off")
        )
        found.append(_paired(left, right) if all(map(_known, [*left, *right])) else None)
    return found


def _pooled_bins(cells: Sequence[CellResult]) -> list[list[float | None]]:
    """``[pixels, mean confidence, share of right pixels]`` of every bin, over all seeds."""
    pooled = []
    for bins in zip(*(cell["measures"]["validation"]["calibration"] for cell in cells), strict=True):
        full = [entry for entry in bins if entry[0]]
        pixels = sum(entry[0] for entry in full)
        means = [
            math.fsum(entry[0] * entry[place] for entry in full) / pixels if pixels else None
            for place in (1, 2)
        ]
        pooled.append([pixels, *means])
    return pooled
