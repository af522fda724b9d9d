"""The page of a race of skip connections: verdict, differences, levels, single images, classes, gradients.

Draws what the run folder holds, and computes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from layerlab.errors import UserError
from layerlab.lab.damage import drawing_from
from layerlab.lab.records import RunFolder
from layerlab.lab.report import figures
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
from layerlab.lab.report.race import environment_section, interval, number
from layerlab.segmentation.arms import DOCUMENT, label, of_level
from layerlab.segmentation.cases import RaceCase, read_cases
from layerlab.segmentation.inspection import race_curves
from layerlab.segmentation.inspection.sheet import Row, sheet
from layerlab.segmentation.inspection.training_page import class_table, confusion_map, settings_table

Results = Mapping[str, Any]

_STANDINGS = {
    "IoU, pooled": "validation_iou",
    "IoU, per image": "validation_iou_per_image",
    "Dice, pooled": "validation_dice",
    "boundary IoU, pooled": "validation_boundary_iou",
    "calibration error": "validation_calibration_error",
    "stem gradient": "stem_gradient",
}
_CAPTIONS = {
    "worst": "The validation images with the lowest mean IoU with skips, worst first",
    "helped": "Of the others, the images that the skips help most",
    "harmed": "Of the others, the images that the skips harm most",
}


def race_page(run: RunFolder) -> Page:
    """The page of one race, drawn from its folder.

    Raises:
        UserError: the race is not finished, or its records or pictures are damaged.
    """
    if "results" not in run.meta:
        raise UserError("the race is not finished; run its command again to go on", file=run.path)
    with drawing_from(run.path, "remove the folder and race again"):
        return _page(run)


def _page(run: RunFolder) -> Page:
    results, config = run.meta["results"], run.meta["config"]
    cells = {
        key: cell
        for key, cell in run.read_cells().items()
        if cell.get("contestant") in results["contestants"] and cell.get("seed") in results["seeds"]
    }
    sections = [
        Section("Differences", "differences", differences(results)),
        Section("Level by level", "levels", _levels(results)),
        Section("Single images", "images", _pictures(read_cases(run.path), config["classes"], results)),
        Section("Arms", "arms", standings(results)),
        Section("Classes", "classes", _classes(results, config["classes"])),
        Section("Confusion", "confusion", _confusion(results, config["classes"])),
        Section("Training", "training", race_curves.curves(cells)),
        Section("Gradient at the first layer", "gradient", race_curves.gradients(results, cells)),
        Section("Calibration", "calibration", race_curves.calibration(results)),
        Section("Settings", "settings", [settings_table("What all arms share", config["settings"])]),
        environment_section(run.meta),
    ]
    seeds = len(results["seeds"])
    return Page(
        f"Skip connections on trial: {config['data']}",
        f"{config['images']:,} images, {len(config['classes'])} classes; {len(results['arms'])} arms, "
        f"{seeds} {'seeds' if seeds > 1 else 'seed'} each; the arms of a seed share split, batches and initial values.",
        [*_verdict(results), KeyFigures(_key_figures(results)), strip(results)],
        [section for section in sections if section.blocks],
    )


def _verdict(results: Results) -> list[Block]:
    found = results["verdict"]
    return [Callout(found["kind"], f"{found['sentence']}")] if found else []


def _key_figures(results: Results) -> list[KeyFigure]:
    figures_ = []
    for arm in ("on", "off"):
        if arm in results["contestants"]:
            mean = results["contestants"][arm]["metrics"]["validation_iou"]["mean"]
            said = f"the document: about {100 * DOCUMENT[arm]:.0f} %, other data"
            figures_.append(
                KeyFigure(f"{100 * mean:.1f} %", f"mean validation IoU, pooled, {label(arm)}", said)
            )
    for pair in results["differences"]:
        if (pair["left"], pair["right"]) == ("on", "off"):
            for metric, words in (
                ("validation_iou", "mean IoU, pooled"),
                ("validation_boundary_iou", "boundary IoU, pooled"),
            ):
                found = pair["metrics"][metric]
                points = f"{100 * found['mean']:+.1f}".replace("-", "−")
                figures_.append(KeyFigure(points, f"points of {words}: with − without", _span(found)))
    seconds = sum(entry["seconds"] for entry in results["contestants"].values())
    return figures_ or [KeyFigure(f"{seconds:.0f} s", "of training")]


def _span(found: Mapping[str, Any]) -> str:
    if found["low"] is None:
        return "one pair: no interval"
    low, high = (f"{100 * found[end]:+.1f}".replace("-", "−") for end in ("low", "high"))
    return f"95 % interval {low} to {high}"


def strip(results: Results, reference: Sequence[Mapping[str, Any]] = ()) -> Figure:
    """Every seed of every arm; ``reference`` as `layerlab.lab.report.figures.accuracy_strip` takes it."""
    groups = []
    for name, entry in results["contestants"].items():
        found = entry["metrics"]["validation_iou"]
        spread = {
            side: None if found[side] is None else 100 * found[side] for side in ("mean", "low", "high")
        }
        groups.append({"label": label(name), "values": [100 * value for value in found["values"]], **spread})
    return figures.accuracy_strip(
        groups,
        reference,
        "mean validation IoU, pooled, per cent",
        caption="One seed an arm: its value, without an interval."
        if all(group["low"] is None for group in groups)
        else "A dot is one seed; below it the mean with its 95 per cent interval. Arms share their seeds, so their "
        "differences are known better than these intervals say: see [differences](#differences).",
    )


def differences(results: Results) -> list[Block]:
    """Forest plot and table of the paired differences; nothing without a pair. Their section is ``differences``."""
    pairs = results["differences"]
    if not pairs:
        return []
    rows: list[list[str | Cell]] = []
    for pair in pairs:
        cells: list[str | Cell] = [f"{label(pair['left'])} − {label(pair['right'])}", pair["what"]]
        for metric in (
            "validation_iou",
            "validation_iou_per_image",
            "validation_dice",
            "validation_boundary_iou",
        ):
            found = pair["metrics"][metric]
            cells.append(_difference(found))
        pooled = pair["metrics"]["validation_iou"]
        rows.append([*cells, Cell(f"{pooled['wins']} of {pooled['n']}", pooled["wins"])])
    columns = ("IoU, pooled", "IoU, per image", "Dice, pooled", "boundary IoU, pooled", "wins")
    table = Table(
        "Paired differences of means over classes, with 95 per cent intervals: same seed, same data",
        [Column("Pair"), Column("what it says"), *(Column(name, "right") for name in columns)],
        rows,
        [
            "An interval holds for one difference at a time; of twenty, one may miss by chance. Wins: seeds in which "
            "the left one has the higher pooled IoU.",
            "The zero control is the same function of its live parameters as the arm without skips (check: "
            "`layerlab claims check segmentation.zero-control`): they differ by initial values and chance.",
        ],
    )
    drawn = [
        {
            "label": f"{label(pair['left'])} − {label(pair['right'])}",
            **{name: 100 * pair["metrics"]["validation_iou"][name] for name in ("mean", "low", "high")},
        }
        for pair in pairs
        if pair["metrics"]["validation_iou"]["low"] is not None
    ]
    if not drawn:
        return [table]
    figure = figures.paired_differences(
        drawn,
        "difference in mean validation IoU, points",
        caption="Mean paired difference with its 95 per cent interval; hollow where it holds zero.",
    )
    return [figure, table]


def _difference(found: Mapping[str, Any]) -> Cell:
    """Mean and interval in one cell, sorted by the mean."""
    mean = number(found["mean"], 3, sign=True)
    if found["low"] is None:
        return mean
    return Cell(f"{mean.text} ({interval(found['low'], found['high'], 3, sign=True).text})", found["mean"])


def _levels(results: Results) -> list[Block]:
    """Which level matters: alone, and left out."""
    skips = len(next(iter(results["arms"].values())))
    if skips < 2:
        return []
    rows: list[list[str | Cell]] = []
    for level in range(skips):
        row: list[str | Cell] = [f"level {level}{', the finest' if level == 0 else ''}"]
        for left, right in of_level(results["arms"], level):
            pair = next((p for p in results["differences"] if (p["left"], p["right"]) == (left, right)), None)
            found = None if pair is None else pair["metrics"]["validation_iou"]
            row.append(Cell("–") if found is None else _difference(found))
        rows.append(row)
    if all(cell.text == "–" for row in rows for cell in row[1:] if isinstance(cell, Cell)):
        return []
    columns = ("alone, over none", "all, over all but this")
    return [
        Table(
            "What each level's skip brings: difference in mean validation IoU, pooled, with its 95 per cent interval",
            [Column("Skip"), *(Column(name, "right") for name in columns)],
            rows,
            [
                "A level that brings much alone and little on top of the others carries what they carry too.",
                "With two skips, level 0 alone is all but level 1: such an arm is trained once.",
            ],
        )
    ]


def _pictures(cases: Sequence[RaceCase], classes: Sequence[str], results: Results) -> list[Block]:
    blocks: list[Block] = []
    for group, caption in _CAPTIONS.items():
        rows = [
            Row(
                case.name,
                case.image,
                case.target,
                case.predictions,
                [f"IoU {value:.3f}" for value in case.iou],
            )
            for case in cases
            if case.group == group
        ]
        if rows:
            contestants = (label("on"), label("off"))
            seed = f"{caption}; seed {min(results['seeds'])}"
            blocks.append(sheet(rows, classes, contestants=contestants, caption=seed))
    return blocks


def standings(results: Results, said: Mapping[str, float] | None = None) -> list[Block]:
    """One row an arm; with ``said``, a document's IoU of some arms, beside ours with its interval."""
    rows: list[list[str | Cell]] = []
    for name, entry in results["contestants"].items():
        metrics = entry["metrics"]
        pooled = metrics["validation_iou"]
        beside: list[str | Cell] = []
        if said is not None:
            beside = [
                Cell(f"about {said[name]:.2f}", said[name]) if name in said else "–",
                interval(pooled["low"], pooled["high"], 3),
            ]
        means = [number(metrics[key]["mean"], 3) if key in metrics else "–" for key in _STANDINGS.values()]
        rows.append(
            [
                label(name),
                ", ".join(results["arms"][name]),
                *beside,
                *means,
                *([number(metrics["test_iou"]["mean"], 3)] if "test_iou" in metrics else []),
                Cell(f"{entry['parameters']:,}", entry["parameters"]),
                number(entry["step_seconds"], 2),
                number(entry["seconds"], 0),
            ]
        )
    tested = (
        ["test IoU, pooled"]
        if any("test_iou" in e["metrics"] for e in results["contestants"].values())
        else []
    )
    beside_names = () if said is None else ("the document’s IoU", "95 % interval of ours")
    columns = (*beside_names, *_STANDINGS, *tested, "parameters", "s an epoch", "s in all")
    return [
        Table(
            "Every arm: means over classes and seeds",
            [Column("Arm"), Column("skips, finest first"), *(Column(name, "right") for name in columns)],
            rows,
            [
                "Validation part, at the epoch of the best validation IoU: that choice flatters every arm alike"
                + ("; the test part decided nothing." if tested else "."),
                "Stem gradient: the norm of the gradient at the first convolution's weights, geometric mean over "
                "epochs. Seconds of an epoch: its steps alone, median; in all: with evaluation, over all seeds.",
            ],
        )
    ]


def _classes(results: Results, classes: Sequence[str]) -> list[Block]:
    blocks: list[Block] = []
    if results["class_differences"]:
        on, off = (results["classes"][arm] for arm in ("on", "off"))
        rows: list[list[str | Cell]] = []
        for index, (name, found) in enumerate(zip(classes, results["class_differences"], strict=True)):
            row: list[str | Cell] = [name]
            row += [number(arm[key][index], 3) for key in ("iou", "iou_per_image") for arm in (on, off)]
            row += (
                ["–", "–"]
                if found is None
                else [
                    number(found["mean"], 3, sign=True),
                    interval(found["low"], found["high"], 3, sign=True),
                ]
            )
            rows.append(row)
        columns = (
            *("pooled, with", "pooled, without", "per image, with", "per image, without"),
            *("with − without, pooled", "95 % interval"),
        )
        blocks.append(
            Table(
                "IoU by class: means over seeds",
                [Column("class"), *(Column(name, "right") for name in columns)],
                rows,
            )
        )
    return blocks + [
        class_table(results["classes"][arm], classes, f"validation ({label(arm)}, mean over seeds)")
        for arm in ("on", "off")
        if arm in results["classes"]
    ]


def _confusion(results: Results, classes: Sequence[str]) -> list[Block]:
    blocks: list[Block] = []
    for arm in ("on", "off"):
        if arm in results["confusion"]:
            blocks += [
                Text(f"**{label(arm).capitalize()}**, all seeds together:"),
                confusion_map({"confusion": results["confusion"][arm]}, classes),
            ]
    return blocks
