"""The page of a training run: worst cases first, measures by class, confusion, curves, calibration.

Draws what the run folder holds, and computes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from layerlab.errors import UserError
from layerlab.lab.damage import drawing_from
from layerlab.lab.records import RunFolder
from layerlab.lab.report.charts import line_chart
from layerlab.lab.report.heatmap import heat_map
from layerlab.lab.report.page import (
    Block,
    Callout,
    Cell,
    Column,
    Figure,
    KeyFigure,
    KeyFigures,
    Page,
    Section,
    Table,
    Text,
)
from layerlab.lab.report.race import environment_section, number
from layerlab.segmentation.inspection.sheet import Row, sheet
from layerlab.segmentation.worst import WorstCase, read_worst

Measures = Mapping[str, Any]

# A larger confusion matrix cannot be read; the classes of the most pixels are drawn.
_MOST_CLASSES = 30


def training_page(run: RunFolder) -> Page:
    """The page of one training run, drawn from its folder.

    Raises:
        UserError: the run is not finished, or its record or pictures are damaged.
    """
    if "results" not in run.meta:
        raise UserError("the training is not finished; run its command again to go on", file=run.path)
    with drawing_from(run.path / "run.json", "remove it and train again"):
        return _page(run)


def _page(run: RunFolder) -> Page:
    results, config = run.meta["results"], run.meta["config"]
    classes, measures = config["classes"], results["measures"]["validation"]
    parts = {name: len(names) for name, names in config["images"].items() if names}
    cases = read_worst(run)
    settings = {
        **config["settings"],
        "seed": config["seed"],
        "data, fingerprint": config["fingerprint"][:16],
    }
    sections = [
        Section("Worst cases", "worst", _worst(cases, classes, len(results["images"]))) if cases else None,
        Section("Classes", "classes", [class_table(measures, classes), *_test(results, classes)]),
        Section("Confusion", "confusion", [confusion_map(measures, classes)]),
        Section("Training", "training", _curves(results)),
        Section("Calibration", "calibration", _calibration(measures)),
        Section("Settings", "settings", [settings_table("What decided the training", settings)]),
        environment_section(run.meta),
    ]
    return Page(
        f"A U-Net on {config['data']}",
        ", ".join(f"{count:,} {name} images" for name, count in parts.items())
        + f"; {len(classes)} classes. Measured on whole images at working size, best epoch.",
        [KeyFigures(_key_figures(measures, results)), *_warnings(measures, classes)],
        [section for section in sections if section is not None],
    )


def class_table(measures: Measures, classes: Sequence[str], part: str = "validation") -> Table:
    """IoU, Dice and boundary IoU of every class, pooled and per image, with their means."""
    names = ("iou", "iou_per_image", "dice", "boundary_iou", "boundary_iou_per_image")
    columns = (
        "IoU, pooled",
        "IoU, per image",
        "Dice, pooled",
        "boundary IoU, pooled",
        "boundary IoU, per image",
    )
    rows: list[Sequence[str | Cell]] = [
        [name, *(number(measures[key][index], 3) for key in names), f"{measures['images'][index]:,}"]
        for index, name in enumerate(classes)
    ]
    rows.append(["**mean**", *(number(measures[f"mean_{key}"], 3) for key in names), ""])
    return Table(
        f"The {part} part, class by class",
        [Column("class"), *(Column(name, "right") for name in (*columns, "images"))],
        rows,
        [
            "Pooled: the pixels of all images counted together, so that large objects weigh more. Per image: the mean "
            "over the images in which the class occurs, in target or prediction. Boundary IoU: of the pixels within "
            "2 % of the diagonal from the contour. A dash: the class occurs nowhere; it is in no mean.",
        ],
    )


def confusion_map(measures: Measures, classes: Sequence[str]) -> Figure:
    """How the pixels of every class are predicted, each row summing to 100 per cent."""
    matrix = measures["confusion"]
    sizes = [sum(row) for row in matrix]
    drawn = sorted(sorted(range(len(classes)), key=lambda index: -sizes[index])[:_MOST_CLASSES])
    shares = [
        [100 * matrix[row][column] / sizes[row] if sizes[row] else None for column in drawn] for row in drawn
    ]
    names = [str(classes[index]) for index in drawn]
    some = f" The {_MOST_CLASSES} classes of the most pixels." if len(drawn) < len(classes) else ""
    return heat_map(
        shares,
        rows=names,
        columns=names,
        title="Confusion matrix",
        caption="Of the pixels of a class (row), the share that is predicted as another (column): a right prediction "
        f"lies on the diagonal. A crossed-out row has no pixels.{some}",
        unit="per cent of the row's pixels",
        xlabel="prediction",
        limits=(0.0, 100.0),
    )


def settings_table(title: str, settings: Mapping[str, Any]) -> Table:
    """One row a setting."""
    rows = [
        [name, ", ".join(map(str, value)) if isinstance(value, list) else str(value)]
        for name, value in settings.items()
    ]
    return Table(title, [Column("setting"), Column("value", "right")], rows)


def _key_figures(measures: Measures, results: Mapping[str, Any]) -> list[KeyFigure]:
    epoch = f"epoch {results['best_epoch']} of {results['epochs']}"
    return [
        KeyFigure(_percent(measures["mean_iou"]), "mean validation IoU, pooled", epoch),
        KeyFigure(_percent(measures["mean_iou_per_image"]), "mean validation IoU, per image"),
        KeyFigure(_percent(measures["mean_boundary_iou"]), "mean boundary IoU, pooled"),
        KeyFigure(_percent(measures["calibration_error"]), "calibration error", "of the confidence a pixel"),
    ]


def _warnings(measures: Measures, classes: Sequence[str]) -> list[Block]:
    absent = [name for index, name in enumerate(classes) if not sum(measures["confusion"][index])]
    if not absent:
        return []
    named = ", ".join(absent[:8]) + (" ..." if len(absent) > 8 else "")
    return [
        Callout(
            "note",
            f"No validation pixel is of the class {named}: nothing is known of how well it would be found.",
        )
    ]


def _worst(cases: Sequence[WorstCase], classes: Sequence[str], images: int) -> list[Block]:
    rows = [
        Row(case.name, case.image, case.target, [case.prediction], [f"IoU {_plain(case.iou)}"])
        for case in cases
    ]
    return [
        sheet(
            rows,
            classes,
            caption=f"The {len(rows)} of {images:,} validation images with the lowest mean IoU over the classes that "
            "occur in them, worst first",
        )
    ]


def _test(results: Mapping[str, Any], classes: Sequence[str]) -> list[Block]:
    if "test" not in results["measures"]:
        return []
    table = class_table(results["measures"]["test"], classes, "test")
    return [table, Text("The test part decided nothing: neither the epoch nor when to stop.")]


def _curves(results: Mapping[str, Any]) -> list[Block]:
    curves = results["curves"]
    epochs = list(range(1, results["epochs"] + 1))

    def curve(label: str, name: str) -> dict[str, Any]:
        return {"label": label, "x": epochs, "mean": curves[name]}

    best = [{"label": "kept", "x": results["best_epoch"]}]
    blocks: list[Block] = [
        line_chart(
            [curve("training", "loss"), curve("validation", "validation_loss")],
            "cross-entropy and Dice",
            title="Loss",
            caption="The loss. That of training is of augmented squares, while the weights change; that of validation "
            "of whole images, after the epoch.",
            decimals=3,
            marks=best,
        ),
        line_chart(
            [curve("validation", "validation_iou")],
            "mean IoU, pooled",
            title="Mean validation IoU",
            caption="Mean over the classes of the IoU pooled over the validation images; its best epoch is kept.",
            decimals=3,
            marks=best,
        ),
    ]
    if "stem_gradient" in curves:
        blocks.append(
            line_chart(
                [curve("first convolution", "stem_gradient")],
                "norm of the gradient",
                title="Gradient at the first layer",
                caption="How much gradient reaches the first layer of the encoder: the Euclidean norm for its weights, "
                "mean over the epoch's steps.",
                decimals=2,
                scale="log",
            )
        )
    return blocks


def _calibration(measures: Measures) -> list[Block]:
    bins = [entry for entry in measures["calibration"] if entry[0]]
    if not bins:
        return []
    least = bins[0][1]
    chart = line_chart(
        [
            {"label": "found", "x": [entry[1] for entry in bins], "mean": [entry[2] for entry in bins]},
            {"label": "calibrated", "x": [least, 1.0], "mean": [least, 1.0]},
        ],
        "share of right pixels",
        xlabel="mean confidence",
        title="Reliability",
        caption="Of the pixels predicted with a confidence (the probability of the predicted class), the share that is "
        "right; below the line the network is too sure of itself.",
        decimals=2,
    )
    rows: list[Sequence[str | Cell]] = [
        [f"{confident:.3f}", number(right, 3), Cell(f"{size:,}", size)] for size, confident, right in bins
    ]
    columns = [Column("mean confidence"), Column("right", "right"), Column("pixels", "right")]
    return [chart, Table("The bins of the figure", columns, rows)]


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


def _plain(value: float) -> str:
    # An image of ignored pixels only has none: NaN, which is not itself.
    return f"{value:.3f}" if value == value else "none"
