"""``layerlab segment race``: the skip connections of a U-Net on trial, over paired seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from layerlab.cli import segment_data
from layerlab.cli import segment_options as options
from layerlab.cli.options import AsJson, On, listed
from layerlab.cli.run_folder import typed

EPILOG = (
    "Example: layerlab segment race digits --seeds 3\n\n"
    "Your own folder: layerlab segment race photos masks --class flower=1 --class rest=2-4 --ignore 0,5 --arms on,off"
)

# Of the tables: what a column shows. Broken by hand, or a terminal of 80 columns would break within words.
_COLUMNS = {
    "IoU": "validation_iou",
    "IoU,\nper\nimage": "validation_iou_per_image",
    "Dice": "validation_dice",
    "boundary": "validation_boundary_iou",
    "ECE": "validation_calibration_error",
    "stem\ngrad.": "stem_gradient",
}
_MOST_CLASSES = 30


def race(
    images: options.ImagesOrDigits,
    masks: options.MasksOrNone = None,
    arms: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="Comma-separated: on, off, zero (nothing crosses, parameters as on), only-0, without-0, ... (level 0 "
            "is the finest); levels: all of these; all.",
        ),
    ] = "all",
    seeds: Annotated[int, typer.Option(min=1, help="Seeds 0, 1, ..., N - 1 for every arm.")] = 3,
    class_: options.Class = None,
    classes: options.ClassFile = None,
    ignore: options.Ignore = "",
    mask_suffix: options.MaskSuffix = "",
    stratify: options.Stratify = None,
    group: options.Group = None,
    validation: options.Validation = 0.2,
    test: options.Test = 0.0,
    skip: options.Skip = False,
    no_leak: options.NoLeak = False,
    size: Annotated[
        int | None,
        typer.Option(min=1, help="Pixels a side of the squares to train on. Default: 128; digits: 48."),
    ] = None,
    widths: Annotated[
        str | None,
        typer.Option(metavar="N,N,...", help="Channels of each level. Default: 16,32,64,128; digits: less."),
    ] = None,
    norm: options.Norm = "batch",
    up: options.Up = "transpose",
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Of every arm; none stops early. Default: 30; digits: less.")
    ] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Squares a step. Default: 8; digits: 4.")] = None,
    learning_rate: Annotated[
        float | None, typer.Option(min=1e-9, help="Of AdamW, at its height. Default: 0.003; digits: 0.01.")
    ] = None,
    augment: Annotated[
        str | None,
        typer.Option(
            help="none, photo or overhead, as in segment train; needs pip install 'layerlab\\[images]'. "
            "Default: photo; digits: none."
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Trainings at a time, each on one thread; the number of cores by default."),
    ] = None,
    on: On = "local",
    out: Annotated[Path | None, typer.Option(help="Run folder. Default: runs/segment-race-IMAGES.")] = None,
    as_json: AsJson = False,
) -> None:
    """Train the same U-Net with, without and with single skip connections, and compare them pair by pair.

    A seed gives every arm the same split, batches and initial values. Ctrl-C or a kill loses nothing but seconds: the
    same command goes on, and more --arms or --seeds widen a race. The folder also gets report.html.
    """
    from dataclasses import replace

    from layerlab.cli import progress
    from layerlab.cli.output import answer, print_json, print_table, say
    from layerlab.lab.cluster.executor import opened
    from layerlab.lab.race import cell_key
    from layerlab.lab.report.page import write
    from layerlab.segmentation.arms import chosen
    from layerlab.segmentation.experiments import BUILT_IN, race_run, under_way
    from layerlab.segmentation.inspection.race_page import race_page
    from layerlab.segmentation.settings import Settings

    built_in = segment_data.is_built_in(images, masks)
    given: dict[str, Any] = {
        "size": size,
        "widths": None if widths is None else tuple(segment_data.numbers(widths, "--widths", int)),
        "epochs": epochs,
        "batch": batch,
        "learning_rate": learning_rate,
        "augment": augment,
    }
    start = BUILT_IN if built_in else Settings(augment="photo", patience=None)
    settings = replace(
        start,
        norm=norm,
        up=up,
        **{name: value for name, value in given.items() if value is not None},
    )
    wish = options.asked(
        class_, classes, ignore, mask_suffix, stratify, group, validation, test, skip, no_leak
    )
    data, source = segment_data.opened(images, masks, wish, settings.size)
    segment_data.warn(data, 0)
    names = list(chosen(listed(arms), len(settings.widths)))
    folder = out or Path("runs") / f"segment-race-{data.name}"
    keys = [cell_key(name, seed) for seed in range(seeds) for name in names]

    def look(key: str) -> tuple[float, str]:
        found = under_way(folder, key)
        if not found:
            return 0.0, ""
        return found["epoch"] / found["epochs"], f"{key}: IoU {found['validation_iou']:.3f}"

    try:
        with (
            opened(on, jobs) as workers,
            progress.parts(f"{data.name}, {len(keys)} trainings", keys, look) as done,
        ):
            run, results = race_run(
                data,
                settings,
                arms=names,
                seeds=range(seeds),
                out=folder,
                source=source,
                jobs=jobs,
                workers=workers,
                command=typed(),
                on_cell=lambda cell: done(cell_key(cell["contestant"], cell["seed"])),
            )
    except KeyboardInterrupt:
        say(f"interrupted; what was trained is in {folder}: run the same command to go on")
        raise
    page = write(race_page(run), folder / "report.html")
    if as_json:
        print_json({"run": str(folder), "report": str(page), **results})
        return
    for title, columns, rows, left in _tables(results, list(data.classes)):
        print_table(title, columns, rows, left=left)
    if results["verdict"]:
        answer(results["verdict"]["sentence"])
    say(f"report: {page}")


def _tables(results: dict[str, Any], classes: list[str]) -> list[tuple[str, list[str], list[list[str]], int]]:
    """The tables of a race, as text: arms, paired differences, classes."""
    seeds = len(results["seeds"])
    many = f"{seeds} seeds" if seeds > 1 else "one seed"
    standings = []
    for name, entry in results["contestants"].items():
        means = [entry["metrics"].get(metric, {}).get("mean") for metric in _COLUMNS.values()]
        standings.append(
            [name, *map(_shown, means), f"{entry['parameters']:,}", f"{entry['seconds'] / seeds:.1f}"]
        )
    tables = [
        (
            f"{results['data']}, {many}: means over classes and seeds, validation part (IoU: pooled; boundary: "
            "boundary IoU; ECE: calibration error; stem grad.: norm of the first layer's gradient)",
            ["arm", *_COLUMNS, "params", "s a\nseed"],
            standings,
            1,
        )
    ]
    rows = []
    for pair in results["differences"]:
        pooled, boundary = (pair["metrics"][f"validation_{name}"] for name in ("iou", "boundary_iou"))
        rows.append(
            [
                f"{pair['left']} - {pair['right']}",
                f"{pooled['mean']:+.3f}",
                _interval(pooled),
                f"{pooled['wins']}/{pooled['n']}",
                f"{boundary['mean']:+.3f}",
                _interval(boundary),
            ]
        )
    if rows:
        columns = ["pair", "IoU", "95 % interval", "wins", "boundary", "95 % interval"]
        tables.append(("Paired differences of mean IoU, pooled", columns, rows, 1))
    if results["class_differences"]:
        on, off = (results["classes"][arm] for arm in ("on", "off"))
        by_class = [
            [
                name,
                *(_shown(arm[key][index]) for key in ("iou", "iou_per_image") for arm in (on, off)),
                "-" if found is None else f"{found['mean']:+.3f}",
                "-" if found is None else _interval(found),
            ]
            for index, (name, found) in enumerate(zip(classes, results["class_differences"], strict=True))
        ]
        columns = [
            "class",
            "pooled,\non",
            "off",
            "per\nimage,\non",
            "off",
            "on - off,\npooled",
            "95 % interval",
        ]
        tables.append(("IoU by class", columns, by_class[:_MOST_CLASSES], 1))
    return tables


def _interval(found: dict[str, Any]) -> str:
    return "-" if found["low"] is None else f"{found['low']:+.2f} to {found['high']:+.2f}"


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
