"""``layerlab segment check``: what is in a folder of images and masks, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from layerlab.cli import segment_options as options
from layerlab.cli.options import AsJson

EPILOG = (
    "Example: layerlab segment check photos masks --class flower=1 --class rest=2-4 --ignore 0,5 --stratify block:80 "
    "--report\n\nMasks beside images: layerlab segment check data data --mask-suffix _mask"
)
_MOST_FINDINGS, _MOST_PROBLEMS, _MOST_CLASSES = 30, 20, 40


def check(
    images: options.Images,
    masks: options.Masks,
    class_: options.Class = None,
    classes: options.ClassFile = None,
    ignore: options.Ignore = "",
    mask_suffix: options.MaskSuffix = "",
    stratify: options.Stratify = None,
    group: options.Group = None,
    validation: options.Validation = 0.2,
    test: options.Test = 0.0,
    no_leak: options.NoLeak = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the split whose leaks are looked for.")] = 0,
    report: Annotated[
        bool, typer.Option("--report", help="Write report.html with masks drawn over images.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the report. Default: runs/check-IMAGES.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Read every image and mask once and tell what to know before training: problems of files, classes and their
    shares, suspicious mask values, images that are there twice, and leaks between the parts of the split.

    Ends with status 1 if training would refuse the folder.
    """
    from layerlab.cli import progress
    from layerlab.cli.output import print_json, say
    from layerlab.cli.run_folder import begun
    from layerlab.segmentation.check import check as look

    asked = options.asked(
        class_, classes, ignore, mask_suffix, stratify, group, validation, test, skip=False, no_leak=no_leak
    )
    folder = (out or Path("runs") / f"check-{images.resolve().name}") if report or out is not None else None
    config = {
        "images": str(images),
        "masks": str(masks),
        "classes": None if asked.classes is None else asked.classes.to_dict(),
        "ignore": ignore,
        "stratify": stratify,
        "group": group,
        "validation": validation,
        "test": test,
        "seed": seed,
    }
    with begun(folder, "segmentation-check", config) as run:
        with progress.share("reading images and masks") as tell:
            checked = look(
                images,
                masks,
                asked,
                seed=seed,
                progress=lambda done, of: tell(done / of, f"{done:,} of {of:,}"),
            )
        record = checked.record
        if run is not None:
            from layerlab.lab.report.page import write
            from layerlab.segmentation.check_page import check_page

            run.finish(record)
            page = write(check_page(run, checked), run.path / "report.html")
            record = {**record, "run": str(run.path), "report": str(page)}
    if as_json:
        print_json(record)
    else:
        _print(record)
        if "report" in record:
            say(f"report: {record['report']}")
    if any(finding["severity"] == "error" for finding in record["findings"]):
        raise typer.Exit(1)


def _print(record: dict[str, Any]) -> None:
    from layerlab.cli.output import answer, print_table

    parts = record["parts"]
    split = (
        ""
        if parts is None
        else "; " + ", ".join(f"{count:,} {part}" for part, count in parts.items() if count)
    )
    title = f"{record['name']}: {record['usable']:,} usable of {record['pairs']:,} pairs{split}"
    if record["shares"]:
        names = [part for part in ("all", "train", "validation", "test") if part in record["shares"][0]]
        rows = [
            [
                row["class"],
                ",".join(record["classes"]["classes"].get(row["class"], []))[:40],
                *(f"{100 * row[part]['share']:.2f}" for part in names),
                f"{row['all']['images']:,}",
            ]
            for row in record["shares"][:_MOST_CLASSES]
        ]
        print_table(title, ["class", "values", *(f"{part}, %" for part in names), "images"], rows, left=2)
        ignored = ",".join(record["classes"]["ignore"])
        answer(
            f"ignored: {100 * record['ignored']:.2f} % of the pixels{f' (values {ignored})' if ignored else ''}"
        )
        if record["classes"]["inferred"]:
            answer(
                f"classes were inferred: {record['classes']['inferred']}; --class and --ignore say otherwise"
            )
    else:
        answer(title)
    if len(record["problems"]) > 1:
        files = [
            [Path(problem["file"]).name, problem["words"]] for problem in record["problems"][:_MOST_PROBLEMS]
        ]
        print_table(
            f"{len(record['problems']):,} files with problems", ["file", "what is wrong"], files, left=2
        )
        if len(record["problems"]) > _MOST_PROBLEMS:
            answer(f"and {len(record['problems']) - _MOST_PROBLEMS:,} more: --json or --report has them all")
    for finding in record["findings"][:_MOST_FINDINGS]:
        files_named = ", ".join(finding["files"][:3]) + (" ..." if finding["count"] > 3 else "")
        answer(
            f"  {finding['severity']}: {finding['words']}{f' [{files_named}]' if finding['files'] else ''}"
        )
    if not record["findings"]:
        answer("  nothing found that would stop or mislead a training")
