"""``layerlab segment predict``: masks and overlays of images by a trained network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from layerlab.cli.options import AsJson
from layerlab.cli.run_folder import typed

EPILOG = (
    "Example: layerlab segment predict runs/flowers photos --out masks\n\n"
    "A map at its own pixels: layerlab segment predict runs/roofs town.tif --out roofs --scale 1 --confidence"
)

_LISTED = 10  # rows of a table


def predict(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A folder that `layerlab segment train` made.")],
    images: Annotated[
        Path, typer.Argument(metavar="IMAGES", help="A folder of images, sub-folders included, or one image.")
    ],
    out: Annotated[Path, typer.Option(metavar="OUT", help="Folder for the results, not inside IMAGES.")],
    overlay: Annotated[
        bool, typer.Option("--overlay/--no-overlay", help="Draw every mask over its image, and report.html.")
    ] = True,
    confidence: Annotated[
        bool, typer.Option("--confidence", help="Write the probability of the class taken, 0 to 255.")
    ] = False,
    scale: Annotated[
        float | None,
        typer.Option(
            help="Pixels for the network along each pixel of the image; 1 takes images as they are. Default: the "
            "size that the training images were brought to."
        ),
    ] = None,
    tile: Annotated[
        int | None,
        typer.Option(
            help="Cut images into tiles of so many pixels a side. Default: 256 for those of over a million pixels.",
        ),
    ] = None,
    overlap: Annotated[float, typer.Option(help="Share of a side that tiles have in common.")] = 0.25,
    force: Annotated[bool, typer.Option("--force", help="Predict anew what is done.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write the masks of images, overlays to judge them by, and where the network is unsure.

    OUT/masks/NAME.png holds class indices, OUT/classes.csv says which is which. Run again, it does what is not done
    yet. Images that cannot be read are listed at the end, and the exit status is 1.
    """
    from layerlab.cli import progress
    from layerlab.cli.output import print_json, say
    from layerlab.lab.report.page import write
    from layerlab.segmentation.prediction.folder import Outputs, predict_folder
    from layerlab.segmentation.prediction.page import prediction_page
    from layerlab.segmentation.prediction.predictor import Predictor
    from layerlab.segmentation.runs import open_trained
    from layerlab.segmentation.tiles import Tiling

    predictor = Predictor(open_trained(run), scale=scale, tiling=Tiling(tile, overlap))
    try:
        with progress.share("predicting") as tell:
            folder = predict_folder(
                predictor,
                images,
                out,
                outputs=Outputs(overlay, confidence),
                force=force,
                command=typed(),
                tell=tell,
            )
    except KeyboardInterrupt:
        say(f"interrupted; what was predicted is in {out}: run the same command to go on")
        raise
    record = {"run": str(folder.path), **folder.meta["results"]}
    if overlay:
        record["report"] = str(write(prediction_page(folder), folder.path / "report.html"))
    if as_json:
        print_json(record)
    else:
        _print(record)
    if record["failed"]:
        say(f"{len(record['failed']):,} of the images could not be predicted")
        raise typer.Exit(1)


def _print(record: dict[str, Any]) -> None:
    from layerlab.cli.output import print_table, say
    from layerlab.segmentation.prediction.page import unsure_first

    total = len(record["images"])
    print_table(
        f"{total:,} images: {record['predicted']:,} predicted now, {record['kept']:,} done before",
        ["class", "of all pixels", "images"],
        [
            [entry["name"], f"{100 * entry['share']:.2f} %", f"{entry['images']:,}"]
            for entry in record["classes"]
        ],
    )
    least = unsure_first(record["images"])[:_LISTED]
    if least:
        print_table(
            "least confident" if total > 1 else "confidence",
            ["image", "confidence", "pixels", "seen at"],
            [
                [
                    image["name"],
                    f"{100 * image['confidence']:.1f} %",
                    f"{image['width']:,} x {image['height']:,}",
                    f"{image['working'][1]:,} x {image['working'][0]:,}",
                ]
                for image in least
            ],
        )
    for entry in record["failed"][:_LISTED]:
        say(f"  {entry['problem']}")
    if len(record["failed"]) > _LISTED:
        say(f"  and {len(record['failed']) - _LISTED:,} more, in {record['run']}/run.json")
    say(f"masks: {record['run']}/masks")
    if "report" in record:
        say(f"report: {record['report']}")
