"""What the commands of ``layerlab model`` share: their options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

Subject = Annotated[
    str,
    typer.Argument(
        metavar="FILE.py:FACTORY",
        help="A function without arguments that returns a torch.nn.Module; also package.module:factory.",
    ),
]
InputShape = Annotated[
    list[str] | None,
    typer.Option(
        metavar="SHAPE",
        help="Random inputs, with the batch: 32,3,32,32. Several: give it again, x=8,16 by name. Integers below"
        " 100: 8,128:int100. A mask of ones: mask=8,128:bool. Default: example_inputs() beside the factory, the"
        " model's example_input_array, or what its first layer takes.",
    ),
]
Inputs = Annotated[
    Path | None,
    typer.Option(metavar="FILE.npz", help="Inputs from a numpy archive, named as forward names them."),
]
Output = Annotated[str | None, typer.Option(metavar="KEY", help="Which of several outputs: logits, 0, 1.0.")]
Train = Annotated[
    bool | None,
    typer.Option("--train/--eval", help="Mode of the model. Default: as the factory returns it."),
]
Dtype = Annotated[str | None, typer.Option(help="float32 or float64. Default: the model's.")]
Seed = Annotated[int, typer.Option(min=0, help="Of the factory, the inputs and the measurement.")]


def asked(
    input_shape: list[str] | None, inputs: Path | None, train: bool | None, dtype: str | None, seed: int
) -> dict[str, Any]:
    """The options that every command has, as fields of its settings."""
    return {
        "shapes": tuple(input_shape or ()),
        "file": None if inputs is None else str(inputs),
        "mode": None if train is None else "train" if train else "eval",
        "dtype": dtype,
        "seed": seed,
    }
