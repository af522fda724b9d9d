"""What happened while the arms of a race trained: learning curves, the gradient at the first layer, calibration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from layerlab.lab.race import CellResult, mean_curves
from layerlab.lab.report import charts
from layerlab.lab.report.page import Block, Cell, Column, Table
from layerlab.lab.report.race import number
from layerlab.segmentation.arms import label

_DRAWN = 6
"""Curves in a figure; more cannot be told apart."""


def _drawn(cells: Mapping[str, CellResult]) -> dict[str, CellResult]:
    names = list(dict.fromkeys(cell["contestant"] for cell in cells.values()))
    # With, without and the control first, then single levels as far as there is room.
    wanted = sorted(names, key=lambda name: "-" in name)[:_DRAWN]
    return {key: cell for key, cell in cells.items() if cell["contestant"] in wanted}


def curves(cells: Mapping[str, CellResult]) -> list[Block]:
    """Validation IoU and training loss against the epoch."""
    drawn = _drawn(cells)
    blocks: list[Block] = []
    for metric, words, title in (
        ("validation_iou", "mean IoU, pooled", "Mean validation IoU"),
        ("loss", "cross-entropy and Dice", "Training loss"),
    ):
        lines = [{"label": label(name), **curve} for name, curve in mean_curves(drawn, metric).items()]
        caption = "Mean over seeds with its 95 per cent interval."
        blocks.append(charts.line_chart(lines, words, title=title, caption=f"{title}. {caption}", decimals=3))
    return blocks


def gradients(results: Mapping[str, Any], cells: Mapping[str, CellResult]) -> list[Block]:
    """The norm of the gradient at the first layer, with its means."""
    drawn = {key: cell for key, cell in _drawn(cells).items() if "stem_gradient" in cell["curves"]}
    if not drawn:
        return []
    lines = [
        {"label": label(name), "x": curve["x"], "mean": curve["mean"]}
        for name, curve in mean_curves(drawn, "stem_gradient").items()
    ]
    chart = charts.line_chart(
        lines,
        "norm of the gradient",
        title="Gradient at the first layer",
        caption="Euclidean norm of the gradient at the first convolution's weights, mean over an epoch's steps and "
        "over seeds. The document gives “instability in gradients” as a reason: a curve far below the others would be "
        "one that vanishes.",
        decimals=2,
        scale="log",
    )
    rows: list[list[str | Cell]] = []
    for name, entry in results["contestants"].items():
        found = [
            entry["metrics"].get(f"stem_gradient{suffix}", {}).get("mean")
            for suffix in ("_first", "_last", "")
        ]
        rows.append([label(name), *(number(float("nan") if value is None else value, 4) for value in found)])
    columns = ("first epoch", "last epoch", "geometric mean over epochs")
    table = Table(
        "The gradient at the first layer: means over seeds",
        [Column("Arm"), *(Column(name, "right") for name in columns)],
        rows,
    )
    return [chart, table]


def calibration(results: Mapping[str, Any]) -> list[Block]:
    """How often pixels are right at each confidence, with skips and without."""
    lines: list[dict[str, Any]] = []
    for arm in ("on", "off"):
        bins = [entry for entry in results["calibration"].get(arm, []) if entry[0]]
        if bins:
            lines.append(
                {"label": label(arm), "x": [entry[1] for entry in bins], "mean": [entry[2] for entry in bins]}
            )
    if not lines:
        return []
    least = min(line["x"][0] for line in lines)
    lines.append({"label": "calibrated", "x": [least, 1.0], "mean": [least, 1.0]})
    return [
        charts.line_chart(
            lines,
            "share of right pixels",
            xlabel="mean confidence",
            title="Reliability",
            caption="Of the pixels predicted with a confidence, the share that is right, all seeds together; below the "
            "line the network is too sure of itself.",
            decimals=2,
        )
    ]
