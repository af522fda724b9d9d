"""``layerlab model attention``: what the attention of your own model does, and what could stand in its place."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from layerlab.cli import model_options as options
from layerlab.cli.options import AsJson, Report
from layerlab.cli.run_folder import begun, finished, slug

EPILOG = (
    "Example: layerlab model attention examples/transformer.py:model --report\n\n"
    "Tokens: layerlab model attention net.py:gpt --input-shape 2,1024:int50000 --eval"
)


def attention(
    subject: options.Subject,
    input_shape: options.InputShape = None,
    inputs: options.Inputs = None,
    output: options.Output = None,
    mechanism: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="What to try in the place of softmax: linear, linear-relu, linear-random, hedgehog, nystrom,"
            " linformer, low-rank; again for several. Default: all but the last.",
        ),
    ] = None,
    max_error: Annotated[
        float, typer.Option(min=0.0, help="Relative error of the output up to which a swap is advised.")
    ] = 0.02,
    examples: Annotated[
        int, typer.Option(min=1, help="Heads are measured on at most so many of the batch.")
    ] = 8,
    budget: Annotated[
        float, typer.Option(min=1.0, help="Seconds for singular values; half as many for timing.")
    ] = 60.0,
    backward: Annotated[
        bool, typer.Option("--backward", help="Time the gradients too, as training needs them.")
    ] = False,
    train: options.Train = None,
    dtype: options.Dtype = None,
    seed: options.Seed = 0,
    report: Report = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the report. Default: runs/attention-FILE-FACTORY.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure every head: entropy, rank, locality; predict and time what could replace softmax, and rank the layers.

    Runs the model's own code, and no other. The model is left as it is; nothing is trained.
    """
    from layerlab.attention.inspection.measure import MECHANISMS, Settings
    from layerlab.attention.inspection.measure import inspect as look
    from layerlab.cli import progress
    from layerlab.cli.attention_table import print_attention
    from layerlab.cli.output import print_json, say
    from layerlab.lab.models.subject import load_subject
    from layerlab.lab.subjects import notice

    say(notice(subject))
    settings = Settings(
        **options.asked(input_shape, inputs, train, dtype, seed),
        output=output,
        mechanisms=tuple(mechanism or MECHANISMS),
        max_error=max_error,
        examples=examples,
        budget=budget,
        backward=backward,
    )
    folder = (out or Path("runs") / f"attention-{slug(subject)}") if report or out is not None else None
    with begun(folder, "model-attention", {"subject": subject, **asdict(settings)}) as run:
        built = load_subject(subject, settings.request())
        with progress.share(f"attention of {slug(subject)}") as tell:
            found = look(built, settings, tell)
        record = found.to_dict()
        if run is not None:
            from layerlab.attention.inspection.page import attention_page

            record |= finished(run, record, attention_page)
    if as_json:
        print_json(record)
        return
    print_attention(record)
    if "report" in record:
        say(f"report: {record['report']}")
