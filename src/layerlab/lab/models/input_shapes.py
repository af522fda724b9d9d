"""Inputs by their shape: ``32,3,32,32``, ``tokens=8,128:int100``, ``mask=8,128:bool``."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from layerlab.errors import UserError

LARGEST = 1 << 28
"""Entries that an input may have."""

_SPELLING = re.compile(
    r"(?:(?P<name>[A-Za-z_]\w*)\s*=)?\s*(?P<shape>\d+(?:\s*,\s*\d+)*)\s*(?::(?:(?P<bool>bool)|int(?P<below>\d+)))?"
)
_FORM = "[NAME=]SIZE,SIZE,...[:intN or :bool], as in 32,3,32,32 or tokens=8,128:int100"


@dataclass(frozen=True)
class InputShape:
    """One input, not drawn yet.

    Attributes:
        name: the argument of ``forward``; None for the next positional one.
        shape: with the batch.
        below: draw integers 0, …, below − 1; None for real numbers.
        mask: all True.
    """

    name: str | None
    shape: tuple[int, ...]
    below: int | None = None
    mask: bool = False

    @staticmethod
    def parse(text: str) -> InputShape:
        """Reads ``[NAME=]SIZE,SIZE,...``; ``:intN`` makes integers below N, ``:bool`` a mask that hides nothing.

        Raises:
            UserError: another spelling, a size of 0, an input that is too large.

        >>> InputShape.parse("tokens=8,128:int100")
        InputShape(name='tokens', shape=(8, 128), below=100, mask=False)
        """
        found = _SPELLING.fullmatch(text.strip())
        if found is None:
            raise UserError(f"expected an input shape {_FORM}, got {text!r}")
        shape = tuple(int(size) for size in found["shape"].split(","))
        below = None if found["below"] is None else int(found["below"])
        if 0 in shape or below == 0:
            raise UserError(f"the input shape {text!r} has a 0: there would be nothing to measure")
        if math.prod(shape) > LARGEST or (below or 0) > 2**62:
            raise UserError(
                f"the input shape {text!r} asks for too much: at most {LARGEST:,} entries; take fewer"
            )
        return InputShape(found["name"], shape, below, found["bool"] is not None)

    def draw(self, dtype: torch.dtype, generator: torch.Generator) -> Tensor:
        """Standard normal numbers of ``dtype``, integers, or a mask."""
        if self.mask:
            return torch.ones(self.shape, dtype=torch.bool)
        if self.below is not None:
            return torch.randint(self.below, self.shape, generator=generator)
        return torch.randn(self.shape, generator=generator, dtype=torch.float64).to(dtype)

    def described(self) -> str:
        """In words, for people."""
        size = " × ".join(map(str, self.shape))
        kind = (
            "ones"
            if self.mask
            else "random numbers"
            if self.below is None
            else f"integers below {self.below}"
        )
        return f"{f'{self.name}: ' if self.name else ''}{size} {kind}"


def drawn(
    shapes: Sequence[InputShape], dtype: torch.dtype, seed: int
) -> tuple[Tensor, ...] | dict[str, Tensor]:
    """Seeded inputs: a tuple of positional arguments, or all of them by name.

    Raises:
        UserError: some are named and some are not, or one is named twice.

    >>> drawn([InputShape.parse("2,3")], torch.float32, 0)[0].shape
    torch.Size([2, 3])
    """
    generator = torch.Generator().manual_seed(seed)
    tensors = [shape.draw(dtype, generator) for shape in shapes]
    names = [shape.name for shape in shapes]
    if not any(names):
        return tuple(tensors)
    if not all(names) or len(set(names)) < len(names):
        given = ", ".join(name or "one without a name" for name in names)
        raise UserError(f"name every input once, or none of them; got {given}")
    return {str(name): tensor for name, tensor in zip(names, tensors, strict=True)}
