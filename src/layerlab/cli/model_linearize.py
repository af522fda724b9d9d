"""``layerlab model linearize``: attention of your own model made linear, where that pays and costs little."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from layerlab.cli import model_options as options
from layerlab.cli.options import AsJson
from layerlab.cli.run_folder import slug, typed

EPILOG = "Example: layerlab model linearize examples/transformer.py:model --max-error 0.02 --out linear"


def linearize(
    subject: options.Subject,
    out: Annotated[Path, typer.Option(metavar="NEW", help="Folder to write; it must not be there yet.")],
    max_error: Annotated[
        float, typer.Option(help="Relative error of the output that is allowed: |y' - y| / |y|.")
    ] = 0.02,
    input_shape: options.InputShape = None,
    inputs: options.Inputs = None,
    output: options.Output = None,
    mechanism: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="What may stand in the place of softmax: linear, linear-relu, linear-random, hedgehog (fitted); again"
            " for several. Default: all.",
        ),
    ] = None,
    dtype: options.Dtype = None,
    seed: options.Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Exchange softmax attention for linear attention, as far as the output bears it; write weights and torch code.

    Fits feature maps to the layers' own weights, without labels, predicts the error of every swap, makes the largest
    set of swaps within the allowed error, and measures: the error, on inputs held out too, and the time. Writes
    nothing, and exits with status 1, where no swap is faster at this length on this machine or the error is larger.
    """
    from layerlab.attention.linearize.candidates import MAPS
    from layerlab.attention.linearize.linearization import Settings
    from layerlab.attention.linearize.linearization import linearize as run
    from layerlab.attention.linearize.writing import check_free, usage, write_folder
    from layerlab.cli import progress
    from layerlab.cli.linearize_table import print_linearization
    from layerlab.cli.output import print_json, say
    from layerlab.lab.models.subject import load_subject
    from layerlab.lab.subjects import notice

    say(notice(subject))
    check_free(out)
    settings = Settings(
        shapes=tuple(input_shape or ()),
        file=None if inputs is None else str(inputs),
        output=output,
        max_error=max_error,
        mechanisms=tuple(mechanism or MAPS),
        dtype=dtype,
        seed=seed,
    )
    built = load_subject(subject, settings.request())
    with progress.share(f"linearizing {slug(subject)}") as tell:
        found = run(built, settings, tell)
    record = found.to_dict()
    if found.refused is None:
        folder = write_folder(found, out, typed())
        record |= {"written": str(folder), "usage": usage(subject)}
    if as_json:
        print_json(record)
    else:
        print_linearization(record)
    if found.refused is not None:
        say(f"refused: {found.refused}")
        raise typer.Exit(1)
    say(f"written: {out}")
