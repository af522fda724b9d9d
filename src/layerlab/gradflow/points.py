"""Where in a model a Jacobian begins and ends."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Literal

from torch import nn

from layerlab.errors import UserError

_SPELLING = re.compile(r"(?P<module>[^:#]+?)(#(?P<call>\d+))?(:(?P<side>input|output))?")


@dataclass(frozen=True)
class Point:
    """The input or output of one call of a module.

    A module called several times (a shared layer) has several points. Of several tensors there, the first with
    floating-point numbers is meant.

    Attributes:
        module: its name in ``model.named_modules()``; "" is the model itself.
        side: "input" or "output".
        call: which of its calls in one forward pass, from 0.
    """

    module: str
    side: Literal["input", "output"] = "output"
    call: int = 0

    def __str__(self) -> str:
        if not self.module:
            return self.side
        return (
            self.module + (f"#{self.call}" if self.call else "") + (":input" if self.side == "input" else "")
        )

    @staticmethod
    def parse(text: str | Point) -> Point:
        """``"input"``, ``"output"``, ``"layers.3"``, ``"layers.3:input"``, ``"layers.3#1:input"``.

        Raises:
            UserError: another spelling.

        >>> Point.parse("layers.3#1:input")
        Point(module='layers.3', side='input', call=1)
        >>> str(Point.parse("output"))
        'output'
        """
        if isinstance(text, Point):
            return text
        if text == "input":
            return Point("", "input")
        if text == "output":
            return Point("", "output")
        found = _SPELLING.fullmatch(text)
        if found is None:
            raise UserError(
                f"expected a point like 'input', 'output', 'layers.3', 'layers.3:input' or 'layers.3#1', got {text!r}"
            )
        side: Literal["input", "output"] = "input" if found["side"] == "input" else "output"
        return Point(found["module"], side, int(found["call"] or 0))

    def module_in(self, model: nn.Module) -> nn.Module:
        """The module of that name.

        Raises:
            UserError: there is none; names a similar one.
        """
        modules = dict(model.named_modules(remove_duplicate=False))
        if self.module not in modules:
            near = difflib.get_close_matches(self.module, modules, 3, 0.0)
            raise UserError(
                f"the model has no module {self.module!r}; for instance {', '.join(filter(None, near))}"
            )
        return modules[self.module]


INPUT = Point("", "input")
OUTPUT = Point("", "output")
