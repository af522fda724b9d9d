"""What the commands of ``layerlab segment`` share: the options that say how a folder is to be read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from layerlab.segmentation.folder_set import Asked, FolderSet

Images = Annotated[Path, typer.Argument(metavar="IMAGES", help="Folder of images: PNG, JPEG, TIFF or BMP.")]
Masks = Annotated[
    Path,
    typer.Argument(
        metavar="MASKS",
        help="Folder of masks of the same names: class indices, palettes, colours, or 0 and 255.",
    ),
]
ImagesOrDigits = Annotated[
    str,
    typer.Argument(
        metavar="IMAGES", help="Folder of images, or digits: the built-in set, which needs no masks."
    ),
]
MasksOrNone = Annotated[
    Path | None, typer.Argument(metavar="MASKS", help="Folder of masks of the same names.")
]
Class = Annotated[
    list[str] | None,
    typer.Option(
        "--class",
        metavar="NAME=VALUES",
        help="A class and its mask values: flower=1, rest=2-4, sky=#87ceeb, other=* (all other values). Give it again "
        "for the next class. Default: every value is a class.",
    ),
]
ClassFile = Annotated[
    Path | None,
    typer.Option(
        "--classes",
        metavar="FILE",
        help='The same from a file: .json ({"classes": {"flower": [1]}, "ignore": [0]}) or .csv (value,name or '
        "r,g,b,name; the name ignore ignores).",
    ),
]
Ignore = Annotated[
    str, typer.Option(metavar="VALUES", help="Mask values that count nowhere: 0,5 (or * for all others).")
]
MaskSuffix = Annotated[
    str, typer.Option(metavar="TEXT", help="What masks' names end in that images' do not: _mask.")
]
Stratify = Annotated[
    str | None,
    typer.Option(
        metavar="GROUPS",
        help="Split within groups, so that each is in every part. block:80 (by the last number in the name), folder, "
        "or a regular expression: its first bracket is the group.",
    ),
]
Group = Annotated[
    str | None,
    typer.Option(
        metavar="GROUPS",
        help="Hold out whole groups, none of which is cut: to learn what new ones would give. As --stratify.",
    ),
]
Validation = Annotated[float, typer.Option(metavar="SHARE", help="Of the images, to validate on.")]
Test = Annotated[float, typer.Option(metavar="SHARE", help="Of the images, to be measured at the end only.")]
Skip = Annotated[
    bool, typer.Option("--skip", help="Leave out files with problems (they are told) instead of stopping.")
]

NoLeak = Annotated[
    bool,
    typer.Option(
        "--no-leak", help="Keep images that are there twice, or nearly, in one part (reads all images first)."
    ),
]

Norm = Annotated[str, typer.Option(help="batch, instance, group or none.")]
Up = Annotated[str, typer.Option(help="transpose, bilinear or nearest.")]


def asked(
    class_: list[str] | None,
    classes: Path | None,
    ignore: str,
    mask_suffix: str,
    stratify: str | None,
    group: str | None,
    validation: float,
    test: float,
    skip: bool,
    no_leak: bool = False,
) -> Asked:
    """How the folder is to be read.

    Without --stratify and --group, folders train/ and val/ say the split where there are such.
    """
    from layerlab.errors import UserError
    from layerlab.segmentation.class_files import read_classes
    from layerlab.segmentation.folder_set import Asked
    from layerlab.segmentation.masks import Classes
    from layerlab.segmentation.split import Split

    if class_ and classes is not None:
        raise UserError("expected one of --class and --classes, got both; leave one out")
    if stratify is not None and group is not None:
        raise UserError("expected one of --stratify and --group, got both; leave one out")
    mapping = Classes.parse(class_, ignore) if class_ else None
    if classes is not None:
        mapping = read_classes(classes, ignore)
    split = None
    if group is not None:
        split = Split("group", group, validation, test)
    elif stratify is not None:
        split = Split("stratify", stratify, validation, test)
    elif (validation, test) != (0.2, 0.0):
        split = Split("stratify", "", validation, test)
    return Asked(mapping, ignore, split, mask_suffix, skip, no_leak)


def opened(images: Path, masks: Path, wish: Asked) -> FolderSet:
    """The set of images, read with a bar; tells what was inferred and left out."""
    from layerlab.cli import progress
    from layerlab.cli.output import say
    from layerlab.segmentation.folder_set import folder

    with progress.share("reading masks") as tell:
        found = folder(images, masks, wish, progress=lambda done, of: tell(done / of, f"{done:,} of {of:,}"))
    if found.mapping.inferred:
        shown = ", ".join(found.classes[:12]) + (" ..." if len(found.classes) > 12 else "")
        say(f"classes inferred: {shown} ({found.mapping.inferred}); --class and --ignore say otherwise")
    for problem in found.left_out[:10]:
        say(f"left out: {problem}")
    if len(found.left_out) > 10:
        say(f"left out: {len(found.left_out) - 10:,} more")
    return found
