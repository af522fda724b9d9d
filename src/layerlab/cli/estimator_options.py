"""What the commands of ``layerlab estimator`` share: the options that name a function and what it takes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from torch import Tensor

    from layerlab.estimators.space import Space

Subject = Annotated[
    str,
    typer.Argument(
        metavar="FILE.py:FUNC",
        help="A function that takes a batch of n samples (a torch tensor, a row each) and returns n numbers; also"
        " package.module:func.",
    ),
]
Bits = Annotated[int | None, typer.Option(metavar="N", help="It takes N variables that are 0 or 1.")]
Categories = Annotated[
    str | None, typer.Option(metavar="DxK", help="It takes D variables of K values: 4x8; each 0 to K - 1.")
]
Gaussian = Annotated[int | None, typer.Option(metavar="D", help="It takes D real numbers.")]
Single = Annotated[
    bool, typer.Option("--single", help="The function takes one sample and returns one number.")
]
Workers = Annotated[
    int, typer.Option(min=0, help="Processes that call the function; each loads its file. 0: here.")
]
Timeout = Annotated[
    float | None,
    typer.Option(metavar="SECONDS", help="End an evaluation that takes longer (in a process of its own)."),
]
Probability = Annotated[
    float | None, typer.Option(metavar="P", help="Every bit is 1 with this probability. Default: 0.5.")
]
Parameters = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Parameters of the distribution from .json or .npy: logits, probabilities, or mean and std. Default: fair"
        " bits, uniform categories, a standard normal distribution.",
    ),
]
Seed = Annotated[int, typer.Option(min=0, help="Of all that is drawn.")]

# What torch says where a batch is taken for one number or one sample.
_OF_ONE_SAMPLE = ("f returned the shape ()", "converted to", "Boolean value of Tensor")


def space(bits: int | None, categories: str | None, gaussian: int | None) -> Space:
    """The space that exactly one of the three options names."""
    from layerlab.estimators.space import Space

    return Space.parse(bits, categories, gaussian)


def parameters(space: Space, probability: float | None, file: Path | None) -> Tensor:
    """The parameters that one of the two options names, or the default ones."""
    one_of(probability=probability, parameters=file)
    if probability is not None:
        return space.at_probability(probability)
    return space.default() if file is None else space.read(file)


def one_of(**given: object) -> None:
    """At most one of these options is given."""
    from layerlab.errors import UserError

    names = [f"--{name.replace('_', '-')}" for name, value in given.items() if value is not None]
    if len(names) > 1:
        raise UserError(f"expected one of {' and '.join(names)}, got both; leave one out")


@contextlib.contextmanager
def function(
    subject: str, single: bool, workers: int, timeout: float | None
) -> Iterator[Callable[[Tensor], Any]]:
    """The function that ``FILE.py:FUNC`` names, of a batch of samples; in other processes where that is asked."""
    from layerlab.errors import UserError
    from layerlab.estimators.calls import single as batched
    from layerlab.estimators.inspection.processes import in_processes
    from layerlab.lab.subjects import load

    if timeout is not None and not 0 < timeout < float("inf"):
        raise UserError(f"expected a time limit above 0 s, got {timeout:g}; leave it out for no limit")
    if workers or timeout is not None:
        with in_processes(subject, single, workers, timeout) as f:
            yield f
        return
    found = load(subject)
    if not callable(found):
        raise UserError(
            f"{subject} is of type {type(found).__name__}; expected a function of a batch of samples"
        )
    yield batched(found) if single else found


@contextlib.contextmanager
def hinting(single: bool) -> Iterator[None]:
    """Adds --single to the message of a function that does not know what to do with a batch."""
    from layerlab.errors import UserError

    try:
        yield
    except UserError as error:
        if single or not any(words in str(error) for words in _OF_ONE_SAMPLE):
            raise
        raise UserError(f"{error}; a function of one sample needs --single") from error
