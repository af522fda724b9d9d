"""``layerlab model``: what gradients and attention do in your own model."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from layerlab.cli import model_attention, model_linearize
from layerlab.cli import model_options as options
from layerlab.cli.options import AsJson, Report
from layerlab.cli.run_folder import begun, finished, slug

app = typer.Typer(
    help="Inspect a model of yours: gradients beside the bounds of theory, and attention, layer by layer.",
    epilog="Example: layerlab model inspect examples/deep_sigmoid.py:model",
    no_args_is_help=True,
)


@app.command(
    epilog="Example: layerlab model inspect net.py:model --input-shape 32,3,32,32 --report\n\n"
    "Tokens: layerlab model inspect net.py:gpt --input-shape 4,128:int50000 --loss cross-entropy"
)
def inspect(
    subject: options.Subject,
    input_shape: options.InputShape = None,
    inputs: options.Inputs = None,
    wrt: Annotated[
        list[str] | None, typer.Option(metavar="INPUT", help="Which of several inputs to differentiate.")
    ] = None,
    output: options.Output = None,
    loss: Annotated[
        str | None,
        typer.Option(
            help="mse or cross-entropy (random targets), or FILE.py:FUNCTION of the output. Default: random directions."
        ),
    ] = None,
    layers: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN", help="Cut the way only at modules of these names; * and ? as in a shell."
        ),
    ] = None,
    budget: Annotated[
        int, typer.Option(min=8, help="Products with a Jacobian for each singular value of a large layer.")
    ] = 40,
    tolerance: Annotated[
        float, typer.Option(min=1e-12, max=0.5, help="Relative residual at which its search ends.")
    ] = 0.01,
    train: options.Train = None,
    remedy: Annotated[
        bool, typer.Option("--remedy/--no-remedy", help="Try remedies on copies, where something is wrong.")
    ] = True,
    dtype: options.Dtype = None,
    seed: options.Seed = 0,
    report: Report = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the report. Default: runs/inspect-FILE-FACTORY.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure every layer's Jacobian and the gradient through it: where it vanishes or explodes, and why.

    Runs the model's own code, and no other. The model is left as it is; nothing is trained.
    """
    from layerlab.cli import progress
    from layerlab.cli.model_table import print_profile
    from layerlab.cli.output import print_json, say
    from layerlab.gradflow.inspection.inspection import Settings
    from layerlab.gradflow.inspection.inspection import inspect as look
    from layerlab.lab.models.subject import load_subject
    from layerlab.lab.subjects import notice

    say(notice(subject))
    settings = Settings(
        **options.asked(input_shape, inputs, train, dtype, seed),
        wrt=tuple(wrt or ()),
        output=output,
        loss=loss,
        layers=tuple(layers or ()),
        budget=budget,
        tolerance=tolerance,
        remedy=remedy,
    )
    folder = (out or Path("runs") / f"inspect-{slug(subject)}") if report or out is not None else None
    with begun(folder, "model-inspection", {"subject": subject, **asdict(settings)}) as run:
        built = load_subject(subject, settings.request())
        with progress.share(f"inspecting {slug(subject)}") as tell:
            found = look(built, settings, tell)
        record = found.to_dict()
        if run is not None:
            from layerlab.gradflow.inspection.page import profile_page

            record |= finished(run, record, profile_page)
    if as_json:
        print_json(record)
        return
    print_profile(record)
    if "report" in record:
        say(f"report: {record['report']}")


app.command(epilog=model_attention.EPILOG)(model_attention.attention)

app.command(epilog=model_linearize.EPILOG)(model_linearize.linearize)
