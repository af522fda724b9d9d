"""``layerlab model``: where gradients vanish or explode in your own model."""

from __future__ import annotations

import contextlib
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from layerlab.gradflow.inspection.inspection import Settings
    from layerlab.lab.records import RunFolder

app = typer.Typer(
    help="Inspect a model of yours: gradients, layer by layer, beside the bounds of theory.",
    epilog="Example: layerlab model inspect examples/deep_sigmoid.py:model",
    no_args_is_help=True,
)


@app.callback()
def _group() -> None:
    # With a callback typer keeps the command's name while there is only one.
    pass


@app.command(
    epilog="Example: layerlab model inspect net.py:model --input-shape 32,3,32,32 --report\n\n"
    "Tokens: layerlab model inspect net.py:gpt --input-shape 4,128:int50000 --loss cross-entropy"
)
def inspect(
    subject: Annotated[
        str,
        typer.Argument(
            metavar="FILE.py:FACTORY",
            help="A function without arguments that returns a torch.nn.Module; also package.module:factory.",
        ),
    ],
    input_shape: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SHAPE",
            help="Random inputs, with the batch: 32,3,32,32. Several: give it again, x=8,16 by name. Integers below"
            " 100: 8,128:int100. A mask of ones: mask=8,128:bool. Default: example_inputs() beside the factory, the"
            " model's example_input_array, or what its first layer takes.",
        ),
    ] = None,
    inputs: Annotated[
        Path | None,
        typer.Option(metavar="FILE.npz", help="Inputs from a numpy archive, named as forward names them."),
    ] = None,
    wrt: Annotated[
        list[str] | None, typer.Option(metavar="INPUT", help="Which of several inputs to differentiate.")
    ] = None,
    output: Annotated[
        str | None, typer.Option(metavar="KEY", help="Which of several outputs: logits, 0, 1.0.")
    ] = None,
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
    train: Annotated[
        bool | None,
        typer.Option("--train/--eval", help="Mode of the model. Default: as the factory returns it."),
    ] = None,
    remedy: Annotated[
        bool, typer.Option("--remedy/--no-remedy", help="Try remedies on copies, where something is wrong.")
    ] = True,
    dtype: Annotated[str | None, typer.Option(help="float32 or float64. Default: the model's.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the factory, the inputs and the measurement.")] = 0,
    report: Annotated[bool, typer.Option("--report", help="Write report.html with the figures.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the report. Default: runs/inspect-FILE-FACTORY.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
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
        shapes=tuple(input_shape or ()),
        file=None if inputs is None else str(inputs),
        wrt=tuple(wrt or ()),
        output=output,
        loss=loss,
        layers=tuple(layers or ()),
        budget=budget,
        tolerance=tolerance,
        mode=None if train is None else "train" if train else "eval",
        dtype=dtype,
        remedy=remedy,
        seed=seed,
    )
    folder = (out or Path("runs") / f"inspect-{_slug(subject)}") if report or out is not None else None
    with _begun(folder, subject, settings) as run:
        built = load_subject(subject, settings.request())
        with progress.share(f"inspecting {_slug(subject)}") as tell:
            found = look(built, settings, tell)
        record = found.to_dict()
        if run is not None:
            record |= _write(run, record)
    if as_json:
        print_json(record)
        return
    print_profile(record)
    if "report" in record:
        say(f"report: {record['report']}")


def _slug(subject: str) -> str:
    """``examples/deep_sigmoid.py:model`` as part of a folder's name: ``deep_sigmoid-model``."""
    where, _, name = subject.rpartition(":")
    return re.sub(r"[^A-Za-z0-9._-]+", "-", f"{Path(where).name.removesuffix('.py')}-{name}")


@contextlib.contextmanager
def _begun(folder: Path | None, subject: str, settings: Settings) -> Iterator[RunFolder | None]:
    """The folder of the run, made before the work, so that a place that cannot be written is told at once; taken back
    if the work fails or is interrupted."""
    from layerlab.lab.records import create_run

    if folder is None:
        yield None
        return
    there = folder.exists()
    run = create_run(
        folder, "model-inspection", ["layerlab", *sys.argv[1:]], {"subject": subject, **asdict(settings)}
    )
    try:
        yield run
    except BaseException:
        if not there:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _write(run: RunFolder, record: dict[str, Any]) -> dict[str, str]:
    """The record and its page in the folder; where they are."""
    from layerlab.gradflow.inspection.page import profile_page
    from layerlab.lab.report.page import write

    run.finish(record)
    page = write(profile_page(run), run.path / "report.html")
    return {"run": str(run.path), "report": str(page)}
