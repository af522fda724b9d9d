"""A model that a user names, built, with inputs to call it with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from layerlab.errors import UserError
from layerlab.lab.models.example_inputs import inferred, own_example, suits
from layerlab.lab.models.input_file import read_inputs
from layerlab.lab.models.input_shapes import InputShape, drawn
from layerlab.lab.subjects import build_module

Mode = Literal["train", "eval"]

DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class Request:
    """How a model is to be built and called; every field is JSON.

    Attributes:
        shapes: inputs by shape, see `layerlab.lab.models.input_shapes.InputShape.parse`.
        file: inputs from an ``.npz``.
        mode: "train" or "eval"; as the factory returns it by default.
        dtype: "float32" or "float64"; the model's own by default.
        seed: of the factory and the inputs.
    """

    shapes: tuple[str, ...] = ()
    file: str | None = None
    mode: Mode | None = None
    dtype: str | None = None
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Subject:
    """A model ready to be measured.

    Attributes:
        name: as the user gave it.
        model: the module.
        inputs: for it.
        mode: "train", "eval", or "mixed" where its parts differ.
        dtype: of its first weight.
        guessed: whether the inputs are what its first layer takes, nobody having said.
        notes: what was chosen for the user, in sentences.
    """

    name: str
    model: nn.Module
    inputs: Any
    mode: str
    dtype: torch.dtype
    guessed: bool
    notes: tuple[str, ...]


def load_subject(name: str, request: Request) -> Subject:
    """Builds the model that ``name`` names (see `layerlab.lab.subjects`) and finds inputs for it.

    The random number generators of torch are seeded, so that the same command measures the same model.

    Raises:
        UserError: the factory or the inputs cannot be had; settings that contradict each other.
    """
    if request.shapes and request.file:
        raise UserError("give --input-shape or --inputs, not both")
    if request.dtype is not None and request.dtype not in DTYPES:
        raise UserError(f"expected --dtype {' or '.join(DTYPES)}, got {request.dtype!r}")
    with torch.random.fork_rng():
        torch.manual_seed(request.seed)
        model = build_module(name)
        if any(parameter.is_meta for parameter in model.parameters()):
            raise UserError(
                f"the weights of {name} are on the meta device, without numbers; build it on the CPU"
            )
        if request.dtype is not None:
            model.to(DTYPES[request.dtype])
        if request.mode is not None:
            model.train(request.mode == "train")
        dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
        inputs, notes, guessed = _inputs(name, model, dtype, request)
    modes = {module.training for module in model.modules()}
    mode = "mixed" if len(modes) == 2 else "train" if modes.pop() else "eval"
    if request.mode is None:
        notes.append(f"in {mode} mode, as the factory returns it (--train or --eval for the other)")
    return Subject(name, model, suits(inputs, model, dtype), mode, dtype, guessed, tuple(notes))


def _inputs(name: str, model: nn.Module, dtype: torch.dtype, request: Request) -> tuple[Any, list[str], bool]:
    """Inputs, remarks on them, and whether they are a guess."""
    if request.shapes:
        shapes = [InputShape.parse(text) for text in request.shapes]
        return (
            drawn(shapes, dtype, request.seed),
            [f"random inputs: {', '.join(shape.described() for shape in shapes)}"],
            False,
        )
    if request.file is not None:
        inputs, notes = read_inputs(request.file, model, dtype)
        return inputs, [f"inputs from {request.file}", *notes], False
    if (example := own_example(name, model)) is not None:
        inputs, source = example
        return inputs, [f"inputs from {source}"], False
    shape, why = inferred(model)
    return (
        drawn([shape], dtype, request.seed),
        [f"inputs chosen here, {shape.described()}: {why} (--input-shape for others)"],
        True,
    )
