"""``layerlab segment train``: a U-Net on a folder of images and masks, or on the built-in set."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from layerlab.cli import segment_data
from layerlab.cli import segment_options as options
from layerlab.cli.options import AsJson
from layerlab.cli.processes import Processes, bar_of, local_processes, speaks, start, together
from layerlab.cli.run_folder import typed

EPILOG = (
    "Example: layerlab segment train photos masks --class flower=1 --class rest=2-4 --ignore 0,5 --size 128\n\n"
    "Built-in data: layerlab segment train digits"
)


def train(
    images: options.ImagesOrDigits,
    masks: options.MasksOrNone = None,
    class_: options.Class = None,
    classes: options.ClassFile = None,
    ignore: options.Ignore = "",
    mask_suffix: options.MaskSuffix = "",
    stratify: options.Stratify = None,
    group: options.Group = None,
    validation: options.Validation = 0.2,
    test: options.Test = 0.0,
    count: Annotated[int, typer.Option(min=5, help="Images of the built-in set.")] = 500,
    skip: options.Skip = False,
    no_leak: options.NoLeak = False,
    size: Annotated[
        int | None,
        typer.Option(min=1, help="Pixels a side of the squares to train on. Default: 128; digits: 64."),
    ] = None,
    native: Annotated[
        bool,
        typer.Option(
            "--native",
            help="Cut squares from the images as they are. Else images are scaled first, the shorter side to --size.",
        ),
    ] = False,
    widths: Annotated[
        str, typer.Option(metavar="N,N,...", help="Channels of each level of the U-Net, the finest first.")
    ] = "16,32,64,128",
    skips: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="concatenate, add, gate, zero or off: one for all levels, or one a level: concatenate,off,off.",
        ),
    ] = "concatenate",
    norm: options.Norm = "batch",
    up: options.Up = "transpose",
    dropout: Annotated[float, typer.Option(min=0.0, max=0.99, help="Share that is dropped.")] = 0.0,
    epochs: Annotated[int | None, typer.Option(min=1, help="Largest number of epochs. Default: 30.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Squares a step.")] = 8,
    learning_rate: Annotated[
        float, typer.Option(min=1e-9, help="Of AdamW, at its height; it rises, then falls along a cosine.")
    ] = 3e-3,
    weight_decay: Annotated[
        float, typer.Option(min=0.0, help="Of AdamW, on weights of convolutions.")
    ] = 0.01,
    dice: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of Dice in the loss; the rest is cross-entropy.")
    ] = 0.5,
    weights: Annotated[
        str,
        typer.Option(
            metavar="WEIGHTS", help="Of the classes in the loss: equal, balanced, or one number a class."
        ),
    ] = "equal",
    augment: Annotated[
        str | None,
        typer.Option(
            help="none, photo (mirrored, turned a little, scaled, lighter or darker) or overhead (any orientation); "
            "needs pip install 'layerlab\\[images]'. Default: photo; digits: none."
        ),
    ] = None,
    patience: Annotated[
        int | None, typer.Option(min=0, help="Epochs without improvement after which to stop; 0: never.")
    ] = 10,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Of each process. Default: all cores, shared among them. The last digits of the result depend on it.",
        ),
    ] = None,
    processes: Processes = 1,
    out: Annotated[Path | None, typer.Option(help="Run folder. Default: runs/segment-IMAGES-SEED.")] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="Of split, weights, order and augmentation.")
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Train a U-Net, measure it on the validation images, and keep it in a run folder with report.html.

    Ctrl-C or a kill loses nothing: the same command goes on where it stopped. What is measured: whole images, scaled as
    in training, against masks scaled by nearest pixels.
    """
    from functools import partial

    import torch

    from layerlab.cli import progress
    from layerlab.cli.output import print_json, say
    from layerlab.lab.machine import available_cores
    from layerlab.lab.report.page import write
    from layerlab.segmentation.inspection import training_page
    from layerlab.segmentation.runs import train_run
    from layerlab.segmentation.settings import Settings

    built_in = segment_data.is_built_in(images, masks)
    settings = Settings(
        widths=tuple(segment_data.numbers(widths, "--widths", int)),
        skips=skips if "," not in skips else tuple(name.strip() for name in skips.split(",")),
        norm=norm,
        up=up,
        dropout=dropout,
        size=size or (64 if built_in else 128),
        resize=not native,
        batch=batch,
        epochs=epochs or 30,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        dice_share=dice,
        weights=weights
        if weights in ("equal", "balanced")
        else tuple(segment_data.numbers(weights, "--weights", float)),
        augment=augment or ("none" if built_in else "photo"),
        patience=patience or None,
        threads=threads or max(1, available_cores() // local_processes()),
    )
    wish = options.asked(
        class_, classes, ignore, mask_suffix, stratify, group, validation, test, skip, no_leak
    )
    title = segment_data.name_of(images, masks)
    folder = out or Path("runs") / f"segment-{title}-{seed}"
    try:
        start(processes)
        with (
            together(cuda=torch.cuda.is_available()) as ranks,
            bar_of(ranks, progress.epochs, f"U-Net on {title}") as bar,
        ):
            look = partial(segment_data.opened, images, masks, wish, settings.size, count)
            data, source = look() if ranks is None else ranks.everywhere(look)
            if speaks(ranks):
                segment_data.warn(data, seed)
            run = train_run(
                data,
                settings,
                out=folder,
                seed=seed,
                source=source,
                command=typed(),
                on_epoch=bar,
                group=ranks,
            )
    except KeyboardInterrupt:
        say(f"interrupted; what was trained is in {folder}: run the same command to go on")
        raise
    if not speaks(ranks):
        return
    page = write(training_page(run), folder / "report.html")
    results, config = run.meta["results"], run.meta["config"]
    if as_json:
        shown = {name: value for name, value in results.items() if name not in ("curves", "images")}
        print_json({"run": str(folder), "report": str(page), **config, **shown})
        return
    _print(results, config)
    say(
        f"epoch {results['best_epoch']} of {results['epochs']} kept, {results['parameters']:,} parameters, "
        f"{results['step_seconds']:.1f} s an epoch, {results['seconds']:.0f} s in all"
    )
    say(f"report: {page}")
    quoted = shlex.quote(str(folder))
    say(f"run folder: {folder}; predict with: layerlab segment predict {quoted} FOLDER --out OUT")


def _print(results: dict[str, Any], config: dict[str, Any]) -> None:
    from layerlab.cli.output import answer, print_table

    most = 40
    for part, measures in results["measures"].items():
        names = ("iou", "iou_per_image", "dice", "boundary_iou")
        rows = [
            [name, *(_shown(measures[key][index]) for key in names), f"{measures['images'][index]:,}"]
            for index, name in enumerate(config["classes"][:most])
        ]
        rows.append(["mean", *(_shown(measures[f"mean_{key}"]) for key in names), ""])
        print_table(
            f"{config['data']}, seed {config['seed']}: {part}",
            ["class", "IoU, pooled", "IoU, per image", "Dice", "boundary IoU", "images"],
            rows,
        )
        if len(config["classes"]) > most:
            answer(f"and {len(config['classes']) - most} more classes: --json or the report has them all")


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
