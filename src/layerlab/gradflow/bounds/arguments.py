"""What a rule for an operation is given and what it says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from layerlab.gradflow.flow import Seen
from layerlab.lab.models.nested import leaves

Scope: TypeAlias = Literal["any input", "these inputs", "unknown"]
Combine: TypeAlias = Literal["sum", "rss"]
Factor: TypeAlias = float | Callable[[], float]


@dataclass(frozen=True, eq=False)
class Law:
    """How much an operation can amplify a change of each of its arguments.

    Attributes:
        factors: by the argument's name; numbers, or functions where they only depend on weights.
        reason: in a few words.
        scope: "any input", or "these inputs" where the factors depend on what the inputs are.
        combine: how the arguments' contributions add: "sum", or "rss" (root of the sum of squares) where they go to
            different entries of the result.
    """

    factors: Mapping[str, Factor]
    reason: str
    scope: Scope = "any input"
    combine: Combine = "sum"


class Arguments:
    """The arguments of an operation by their names, defaults included.

    Attributes:
        dependents: name and tensor of each argument that depends on the input, in order; several of one name are
            the tensors of a list.
    """

    def __init__(self, seen: Seen) -> None:
        self.seen = seen
        self._names = [argument.name for argument in seen.schema.arguments]
        self._values = seen.named()
        named = [
            (self._names[int(path[1])] if path[0] == 0 else str(path[1]), tensor)
            for path, tensor in leaves((seen.args, dict(seen.kwargs)))
        ]
        self.dependents = [pair for pair, depends in zip(named, seen.depends, strict=True) if depends]
        self._depends = {name for name, _ in self.dependents}

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def get(self, name: str, default: Any = None) -> Any:
        """The value, or ``default`` where the operation has no such argument or it is None."""
        value = self._values.get(name)
        return default if value is None else value

    def depends(self, name: str) -> bool:
        """Whether the argument, or a tensor in it, depends on the input."""
        return name in self._depends

    def scope(self, *names: str) -> Scope:
        """ "any input" if none of these depends on the input."""
        return "these inputs" if any(self.depends(name) for name in names) else "any input"

    def again(self, name: str, value: Any) -> Any:
        """The result of the operation with another value of one argument."""
        position = self._names.index(name)
        args, kwargs = list(self.seen.args), dict(self.seen.kwargs)
        if position < len(args):
            args[position] = value
        else:
            kwargs[name] = value
        return self.seen.function(*args, **kwargs)


Rule: TypeAlias = Callable[[Arguments], Law | Callable[[Any], Law] | None]
"""Says what holds for an operation; None where it knows nothing; a function where it needs the result."""


def numbers(value: Any) -> Tensor:
    """A tensor or number as float64."""
    return torch.as_tensor(value).detach().double()


def largest(tensor: Tensor) -> float:
    """max |t|, 0 for an empty tensor."""
    return float(tensor.abs().max()) if tensor.numel() else 0.0


def repeats(shape: torch.Size, out: torch.Size | tuple[int, ...]) -> float:
    """How much broadcasting from ``shape`` to ``out`` amplifies: the root of the copies of each entry."""
    count = 1
    for dim in range(1, len(out) + 1):
        if dim > len(shape) or shape[-dim] != out[-dim]:
            count *= out[-dim]
    return float(count) ** 0.5


def scaled(coefficients: Any, shape: torch.Size, out: torch.Size | tuple[int, ...]) -> float:
    """Norm of x ↦ c ⊙ x with x of ``shape`` and c broadcast to ``out``: the largest root of Σ c² over copies of an
    entry."""
    squares = numbers(coefficients).square().expand(out)
    squares = squares.sum_to_size(shape) if tuple(shape) != tuple(out) else squares
    return largest(squares) ** 0.5


def copies_in_view(tensor: Tensor) -> int:
    """How often, at most, a place in memory appears in a view: more than once after ``expand`` or ``unfold``.

    >>> copies_in_view(torch.ones(3, 1).expand(3, 4))
    4
    """
    count, rest = 1, []
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        if size > 1 and stride == 0:
            count *= size
        elif size > 1:
            rest.append((stride, size))
    reach = 0
    for stride, size in sorted(rest):
        if stride <= reach:
            places = torch.zeros((), dtype=torch.int64)
            for stride, size in rest:
                places = places[..., None] + stride * torch.arange(size)
            return count * int(places.flatten().bincount().max())
        reach += stride * (size - 1)
    return count
